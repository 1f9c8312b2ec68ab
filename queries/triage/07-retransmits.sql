-- Segments are sent again
--
-- Packets are lost on the way to an address, or their acknowledgements.
--
-- group: triage
-- needs: tcp_retransmit
-- uses: tcp_send
-- param: retransmits number = 10 --retransmits : Segments to one address that were sent again, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: raddr text : To which address.
-- column: comm comm : Of which program most.
-- column: retransmits int : How many.
-- column: connections int : On how many connections.
-- column: timeouts int : How many of them after a timeout, which stops the connection for at least 200 ms.
-- column: sends int : Send calls on these connections, for comparison.
-- finding: {retransmits} segments to {raddr} were sent again ({timeouts} after a timeout), on {connections} connections with {sends} send calls; mostly of {comm}
-- evidence: tcpretrans
WITH again AS (
    SELECT raddr, conn_id, comm, ts, kind FROM tcp_retransmit
), addresses AS (
    SELECT raddr, count(*) AS retransmits, count(DISTINCT conn_id) AS connections, min(ts) AS since,
        sum(CASE WHEN kind = 'timeout' THEN 1 ELSE 0 END) AS timeouts
    FROM again GROUP BY raddr HAVING count(*) >= $retransmits
), named AS (
    SELECT raddr, comm, row_number() OVER (PARTITION BY raddr ORDER BY count(*) DESC, comm) AS place FROM again GROUP BY raddr, comm
), sent AS (
    SELECT c.raddr, sum(s.sends) AS sends
    FROM (SELECT DISTINCT raddr, conn_id FROM again) AS c
    JOIN (SELECT conn_id, count(*) AS sends FROM tcp_send GROUP BY conn_id) AS s ON c.conn_id = s.conn_id
    GROUP BY c.raddr
)
SELECT retransmits / $retransmits AS score, since, a.raddr, comm, retransmits, connections, CAST(timeouts AS BIGINT) AS timeouts,
    CAST(sends AS BIGINT) AS sends
FROM addresses AS a
LEFT JOIN named AS n ON a.raddr = n.raddr AND place = 1
LEFT JOIN sent AS s ON a.raddr = s.raddr
ORDER BY score DESC, a.raddr
LIMIT 3
