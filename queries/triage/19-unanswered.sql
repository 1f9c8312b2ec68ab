-- Nobody answers
--
-- Attempts to connect that the program gave up, or that have been pending for a second at the end of the window: packets are dropped on
-- the way, or the host is gone. One that is refused or unreachable is a connection that fails.
--
-- group: triage
-- needs: tcp_connect
-- param: attempts number = 3 --attempts : Attempts of one program to one address that nobody answered, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: comm comm : Who tried.
-- column: pid int : The process, of several the first.
-- column: raddr addr_port(rport) : Where.
-- column: rport int : Which port.
-- column: attempts int : How often.
-- column: given_up int : How many of them were given up.
-- column: longest_ns ms2 : How long the longest had waited, ms.
-- finding: {comm} (pid {pid}) got no answer from {raddr} to {attempts} attempts to connect; {given_up} were given up, the longest waited {longest_ns} ms
-- evidence: sql "SELECT ts, comm, pid, raddr, rport, outcome, latency_ns FROM tcp_connect WHERE outcome IN ('given up', 'pending') AND rport = {rport} ORDER BY ts"
SELECT count(*) / $attempts AS score, min(ts) AS since, comm, min(pid) AS pid, raddr, rport, count(*) AS attempts,
    CAST(sum(CASE WHEN outcome = 'given up' THEN 1 ELSE 0 END) AS BIGINT) AS given_up, max(latency_ns) AS longest_ns
FROM tcp_connect
WHERE outcome = 'given up' OR (outcome = 'pending' AND coalesce(latency_ns, 1000000000) >= 1000000000)
GROUP BY comm, raddr, rport
HAVING count(*) >= $attempts
ORDER BY score DESC, comm, raddr, rport
LIMIT 3
