-- Run-queue latency: how long runnable tasks waited for a CPU
--
-- Exact to 0.1 microseconds. runqlat shows the distribution.
--
-- group: summary
-- needs: sched_switch
-- column: waits AS "WAITS" int<10 : How many waits.
-- column: p50_ns AS "P50_US" us1>10 : Half of them were shorter.
-- column: p90_ns AS "P90_US" us1>10 : 90 % of them were shorter.
-- column: p99_ns AS "P99_US" us1>10 : 99 % of them were shorter.
-- column: max_ns AS "MAX_US" us1>10 : The longest.
WITH lengths AS (
    SELECT floor(next_waited_ns / 100) * 100 AS waited, count(*) AS n, max(next_waited_ns) AS longest
    FROM sched_switch
    WHERE next_waited_ns IS NOT NULL AND next_pid <> 0
    GROUP BY 1
), running AS (
    SELECT waited, longest, sum(n) OVER (ORDER BY waited) AS upto, sum(n) OVER () AS total FROM lengths
)
SELECT CAST(max(total) AS BIGINT) AS waits,
    CAST(min(CASE WHEN upto >= total * 0.5 THEN waited END) AS BIGINT) AS p50_ns,
    CAST(min(CASE WHEN upto >= total * 0.9 THEN waited END) AS BIGINT) AS p90_ns,
    CAST(min(CASE WHEN upto >= total * 0.99 THEN waited END) AS BIGINT) AS p99_ns,
    max(longest) AS max_ns
FROM running
HAVING max(total) > 0
ORDER BY waits
