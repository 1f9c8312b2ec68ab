-- TCP: what programs receive
--
-- A row is a call that took bytes out of a connection; looks without taking (MSG_PEEK) are not in it.
--
-- group: network
-- needs: tcp_recv
-- by: comm
-- metric: tcp_rx = rate(bytes) bytes neutral : Bytes that were received.
-- metric: tcp_receives = rate() calls neutral : How many calls received them.
SELECT ts, comm, bytes
FROM tcp_recv
