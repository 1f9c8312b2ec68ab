-- DNS lookups by the C library: latency, failures
--
-- A row is a call of the resolver (getaddrinfo, gethostbyname, …) that was given a host. Programs with a resolver of their own (Go,
-- static ones) are in dns_query_latency only. One that had not returned when the window ended has no latency.
--
-- group: network
-- needs: dns_lookup
-- by: comm
-- by: host
-- metric: dns_lookups = rate() lookups neutral : How many lookups.
-- metric: dns_latency = quantiles(latency_ns) ns lower : How long the lookup took, whether it found something or not.
-- metric: failed_dns_lookups = share(failed) lower : Share of the lookups that found nothing or failed.
SELECT ts, comm, host, latency_ns, CAST(CASE WHEN ret = 0 THEN 0 WHEN ret <> 0 THEN 1 END AS BIGINT) AS failed
FROM dns_lookup
WHERE host IS NOT NULL
