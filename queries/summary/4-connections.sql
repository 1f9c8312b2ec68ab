-- TCP connections
--
-- Those that were open at some time in the window.
--
-- group: summary
-- needs: tcp_connection, tcp_connect, tcp_accept, tcp_close, tcp_retransmit
-- column: connections AS "SEEN" int<8 : Connections that were open in the window.
-- column: connected AS "CONNECTED" int>9 : Established outwards in the window.
-- column: failed AS "FAILED" int>7 : Attempts that failed, or were given up before there was an answer.
-- column: accepted AS "ACCEPTED" int>9 : Accepted in the window.
-- column: closed AS "CLOSED" int>7 : Ended in the window.
-- column: retransmits AS "RETRANSMITS" int>11 : Segments that were sent again.
WITH counted AS (
    SELECT
        (SELECT count(*) FROM tcp_connection) AS connections,
        (SELECT count(*) FROM tcp_connect WHERE errno = 0) AS connected,
        (SELECT count(*) FROM tcp_connect WHERE errno <> 0 OR (errno IS NULL AND coalesce(outcome, 'given up') <> 'pending')) AS failed,
        (SELECT count(*) FROM tcp_accept) AS accepted,
        (SELECT count(*) FROM tcp_close) AS closed,
        (SELECT count(*) FROM tcp_retransmit) AS retransmits
)
SELECT connections, connected, failed, accepted, closed, retransmits
FROM counted
WHERE connections + connected + failed + accepted + closed + retransmits > 0
ORDER BY connections
