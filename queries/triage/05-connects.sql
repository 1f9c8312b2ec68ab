-- Connections fail
--
-- group: triage
-- needs: tcp_connect
-- param: failures number = 3 --failures : Attempts of one program to one address that failed in the same way, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: comm comm : Who tried.
-- column: pid int : The process, of several the first.
-- column: raddr addr_port(rport) : Where.
-- column: rport int : Which port.
-- column: errno errno : Why it failed.
-- column: failures int : How often.
-- finding: {comm} (pid {pid}) could not connect to {raddr}: {errno}, {failures} times
-- evidence: sql "SELECT ts, comm, pid, raddr, rport, errno, latency_ns FROM tcp_connect WHERE errno <> 0 AND rport = {rport} ORDER BY ts"
SELECT count(*) / $failures AS score, min(ts) AS since, comm, min(pid) AS pid, raddr, rport, errno, count(*) AS failures
FROM tcp_connect
-- EINPROGRESS is how a connection begins that nobody waits for.
WHERE errno NOT IN (0, 115)
GROUP BY comm, raddr, rport, errno
HAVING count(*) >= $failures
ORDER BY score DESC, comm, raddr, rport, errno
LIMIT 3
