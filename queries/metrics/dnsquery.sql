-- DNS queries to servers: latency, answers
--
-- A row is a question to a DNS server (port 53), whoever asked. That a name doesn't exist is a good answer. A question that was sent in
-- the window's last second and has no answer yet counts neither as answered nor as failed.
--
-- group: network
-- needs: dns_query
-- by: comm
-- by: raddr
-- by: type
-- by: rcode
-- metric: dns_queries = rate() queries neutral : How many questions.
-- metric: dns_query_latency = quantiles(latency_ns) ns lower : From the first time it was sent to the arrival of the answer.
-- metric: failed_dns_queries = share(failed) lower : Share of the questions with no answer, or one other than NOERROR and NXDOMAIN.
-- metric: repeated_dns_queries = share(repeated) lower : Share of the questions that were sent more than once.
SELECT ts, comm, raddr, type, coalesce(rcode, 'no answer') AS rcode, latency_ns,
    CAST(CASE
        WHEN rcode IN ('NOERROR', 'NXDOMAIN') THEN 0
        WHEN rcode IS NOT NULL OR CAST(ts AS TIMESTAMPTZ) < CAST($window_end AS TIMESTAMPTZ) - INTERVAL '1 second' THEN 1
    END AS BIGINT) AS failed,
    CAST(CASE WHEN attempts > 1 THEN 1 WHEN attempts IS NOT NULL THEN 0 END AS BIGINT) AS repeated
FROM dns_query
