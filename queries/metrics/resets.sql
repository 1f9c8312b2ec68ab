-- TCP resets
--
-- A row is a reset that was sent or received. One that answers a segment without a socket (a connection to a port where nobody listens)
-- has no task.
--
-- group: network
-- needs: tcp_reset
-- by: comm
-- by: way
-- metric: resets = rate() resets lower : How many resets.
SELECT ts, comm, way
FROM tcp_reset
