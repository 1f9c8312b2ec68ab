-- Connections are reset
--
-- group: triage
-- needs: tcp_reset
-- param: resets number = 10 --resets : Resets between a program and an address, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: comm comm : The program.
-- column: raddr text : The address.
-- column: way text : Whether they were sent or received.
-- column: resets int : How many.
-- finding: {resets} resets were {way} on connections of {comm} with {raddr}
-- evidence: sql "SELECT ts, comm, pid, laddr, lport, raddr, rport, way, state, reason FROM tcp_reset ORDER BY ts"
SELECT count(*) / $resets AS score, min(ts) AS since, comm, raddr, way, count(*) AS resets
FROM tcp_reset
WHERE conn_id IS NOT NULL
GROUP BY comm, raddr, way
HAVING count(*) >= $resets
ORDER BY score DESC, comm, raddr, way
LIMIT 3
