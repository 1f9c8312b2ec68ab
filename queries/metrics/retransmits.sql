-- TCP retransmits
--
-- A row is a segment that was sent again; several that leave as one (GSO) are one row.
--
-- group: network
-- needs: tcp_retransmit
-- by: comm
-- by: raddr
-- metric: retransmits = rate() segments lower : How many segments were sent again.
SELECT ts, comm, raddr
FROM tcp_retransmit
