-- TCP: what programs send
--
-- A row is a call that put bytes into a connection: payload, not what retransmits and headers add.
--
-- group: network
-- needs: tcp_send
-- by: comm
-- metric: tcp_tx = rate(bytes) bytes neutral : Bytes that were sent.
-- metric: tcp_sends = rate() calls neutral : How many calls sent them.
SELECT ts, comm, bytes
FROM tcp_send
