-- TCP retransmits per MiB that was sent
--
-- A row is a segment that was sent again, or a call that sent bytes. Segments of the handshake (SYN) carry none and are left out. A call
-- counts for the thread that made it, a segment for the one that opened the connection.
--
-- group: network
-- needs: tcp_retransmit, tcp_send
-- by: comm
-- metric: retransmits_per_mib = ratio(scaled_segments, sent_bytes) segments lower : Segments that were sent again, per MiB that was sent.
SELECT ts, comm, CAST(1048576 AS BIGINT) AS scaled_segments, CAST(0 AS BIGINT) AS sent_bytes
FROM tcp_retransmit
WHERE state NOT IN ('SYN_SENT', 'SYN_RECV', 'NEW_SYN_RECV')
UNION ALL
SELECT ts, comm, CAST(0 AS BIGINT) AS scaled_segments, bytes AS sent_bytes
FROM tcp_send
