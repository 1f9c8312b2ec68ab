-- Names are slow to look up, or not found
--
-- group: triage
-- needs: dns_lookup
-- param: p90_ms number = 200 --p90_ms : Latency that 10 % of a program's lookups exceed, from which on it counts (milliseconds).
-- param: failures number = 5 --failures : Lookups of a program that failed, from which on they count.
-- column: score float1 : How many times the threshold, of the two the higher.
-- column: since time : The first slow or failed lookup.
-- column: comm comm : The program.
-- column: lookups int : How many lookups.
-- column: p90_ns ms2 : 90 % of them took no longer.
-- column: max_ns ms2 : The longest.
-- column: failures int : How many failed.
-- column: error text : How most of those.
-- column: host text : The name that was looked up longest.
-- finding: {comm}: {lookups} lookups, p90 {p90_ns} ms, at most {max_ns} ms ({host}); {failures} failed, {error}
-- evidence: gethostlatency
WITH programs AS (
    SELECT comm, count(*) AS lookups, quantile_disc(latency_ns, 0.9) AS p90, max(latency_ns) AS longest,
        sum(CASE WHEN ret <> 0 THEN 1 ELSE 0 END) AS failures,
        min(CASE WHEN ret <> 0 OR latency_ns >= $p90_ms * 1e6 THEN ts END) AS since
    FROM dns_lookup
    GROUP BY comm
), bad AS (
    SELECT *, greatest(coalesce(p90, 0) / ($p90_ms * 1e6), failures / $failures) AS score FROM programs
    WHERE p90 >= $p90_ms * 1e6 OR failures >= $failures
), hosts AS (
    SELECT comm, host, row_number() OVER (PARTITION BY comm ORDER BY max(latency_ns) DESC NULLS LAST, host) AS place
    FROM dns_lookup GROUP BY comm, host
), errors AS (
    SELECT comm, error, row_number() OVER (PARTITION BY comm ORDER BY count(*) DESC, error) AS place
    FROM dns_lookup WHERE ret <> 0 GROUP BY comm, error
)
SELECT score, since, b.comm, lookups, p90 AS p90_ns, longest AS max_ns, CAST(failures AS BIGINT) AS failures, error, host
FROM bad AS b
LEFT JOIN hosts AS h ON b.comm = h.comm AND h.place = 1
LEFT JOIN errors AS e ON b.comm = e.comm AND e.place = 1
ORDER BY score DESC, b.comm
LIMIT 3
