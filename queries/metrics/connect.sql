-- Outbound TCP connections: rate, latency, failures
--
-- A row is a connection that was established, or an attempt that failed, was given up or is pending at the end. Latency is that of connections that were
-- established. EINPROGRESS, with which a connection begins that nobody waits for, is no failure.
--
-- group: network
-- needs: tcp_connect
-- by: comm
-- by: raddr, rport
-- metric: connects = rate() connects neutral : How many connections were tried.
-- metric: connect_latency = quantiles(connected_ns) ns lower : From the SYN to the answer.
-- metric: failed_connects = share(failed) lower : Share of the attempts, but those given up, that failed (refused, timed out, unreachable, …).
-- metric: abandoned_connects = share(abandoned) lower : Share of the attempts that the program gave up before there was an answer.
SELECT ts, comm, raddr, CAST(rport AS VARCHAR) AS rport,
    CASE WHEN errno = 0 THEN latency_ns END AS connected_ns,
    CAST(CASE WHEN errno = 0 THEN 0 WHEN errno <> 115 THEN 1 END AS BIGINT) AS failed,
    CAST(CASE WHEN errno IS NOT NULL THEN 0 WHEN coalesce(outcome, 'given up') <> 'pending' THEN 1 END AS BIGINT) AS abandoned
FROM tcp_connect
