-- Inbound TCP connections: rate, time in the listener's queue
--
-- A row is a connection that a program accepted. Of one that was established before the window, the time in the queue is not known.
--
-- group: network
-- needs: tcp_accept
-- by: comm
-- by: lport
-- metric: accepts = rate() connections neutral : How many connections were accepted.
-- metric: accept_queue = quantiles(queued_ns) ns lower : From established to accepted.
SELECT ts, comm, CAST(lport AS VARCHAR) AS lport, queued_ns
FROM tcp_accept
