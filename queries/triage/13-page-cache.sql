-- Reads miss the page cache
--
-- group: triage
-- needs: page_cache
-- param: misses_per_s number = 5000 --misses_per_s : Pages (4 KiB) that reads of a process missed per second, from which on they count.
-- param: miss_percent number = 20 --miss_percent : And the share of its accesses, in percent.
-- column: score float1 : How many times the threshold.
-- column: since time : The first interval with a miss.
-- column: pid int : The process.
-- column: comm comm : Name of its threads.
-- column: misses int : Pages missed.
-- column: accesses int : Pages looked up.
-- column: percent float1 : Missed, in percent.
-- finding: {comm} (pid {pid}): {percent} % of {accesses} page accesses missed the page cache ({misses} pages)
-- evidence: cachestat 1
WITH counted AS (
    SELECT process_id, pid, comm, sum(misses) AS misses, sum(accesses) AS accesses, min(CASE WHEN misses > 0 THEN ts END) AS since
    FROM page_cache
    GROUP BY 1, 2, 3
)
SELECT misses / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) / $misses_per_s AS score, since, pid, comm,
    CAST(misses AS BIGINT) AS misses, CAST(accesses AS BIGINT) AS accesses, 100.0 * misses / accesses AS percent
FROM counted
WHERE accesses > 0 AND 100.0 * misses / accesses >= $miss_percent
    AND misses / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) >= $misses_per_s
ORDER BY score DESC, process_id, comm
LIMIT 3
