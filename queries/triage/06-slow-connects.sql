-- Connections are slow to be established
--
-- group: triage
-- needs: tcp_connect
-- param: p90_ms number = 200 --p90_ms : Latency that 10 % of a program's connections to an address exceed, from which on it counts (milliseconds).
-- column: score float1 : How many times the threshold.
-- column: since time : The first of that latency.
-- column: comm comm : Who connected.
-- column: raddr addr_port(rport) : Where.
-- column: rport int : Which port.
-- column: connects int : How often.
-- column: p90_ns ms2 : 90 % of them took no longer.
-- column: max_ns ms2 : The longest.
-- finding: {comm} to {raddr}: connecting takes {p90_ns} ms (p90), at most {max_ns} ms, {connects} connections. A lost SYN costs a second
-- evidence: tcpconnlat 100
SELECT quantile_disc(latency_ns, 0.9) / ($p90_ms * 1e6) AS score, min(CASE WHEN latency_ns >= $p90_ms * 1e6 THEN ts END) AS since,
    comm, raddr, rport, count(*) AS connects, quantile_disc(latency_ns, 0.9) AS p90_ns, max(latency_ns) AS max_ns
FROM tcp_connect
WHERE latency_ns IS NOT NULL AND errno = 0
GROUP BY comm, raddr, rport
HAVING quantile_disc(latency_ns, 0.9) >= $p90_ms * 1e6
ORDER BY score DESC, comm, raddr, rport
LIMIT 3
