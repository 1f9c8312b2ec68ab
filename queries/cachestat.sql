-- Count page cache hits and misses
--
-- Pages that reads found in the page cache and those that had to be read from a disk, per interval or over the whole window; pages
-- that became dirty; and the sizes of buffers and page cache at the end. Misses are pages that a read asked for and that were not
-- there, so neither readahead nor page faults count; the live tool derives them from all pages that are added, and dirty ones from
-- those of block devices and metadata. With -P a row for each process.
--
-- group: memory
-- needs: page_cache
-- uses: process_exec, system_sample
-- whole: process_exec, system_sample
-- interval: Seconds of each row; without, one row for the whole window.
-- param: timestamp flag -T --timestamp : Print the time at the end of each interval (HH:MM:SS, UTC).
-- param: processes flag -P --processes : A row for each process instead of one for the host.
-- column: interval_end AS "TIME" time<8 if timestamp : End of the interval.
-- column: pid AS "PID" int<7 if processes : Process.
-- column: comm AS "COMM" comm<16 if processes : Name that it had last.
-- column: hits AS "HITS" int>8 : Pages that reads found.
-- column: misses AS "MISSES" int>8 : Pages that reads had to wait for.
-- column: dirtied AS "DIRTIES" int>8 : Pages that became dirty.
-- column: hit_ratio AS "HITRATIO" percent2>8 : Share of the pages that were found.
-- column: readahead int hidden : Pages that the kernel added before they were asked for.
-- column: fault_misses int hidden : Pages that page faults had to wait for.
-- column: buffers_bytes AS "BUFFERS_MB" mb>12 unless processes : Buffers.
-- column: cached_bytes AS "CACHED_MB" mb>10 unless processes : Page cache.
-- example: cachestat -T 1 : Each second, with the time.
-- example: cachestat -P : Each process, over the whole window.
WITH counts AS (
    SELECT
        @nth(ts) AS nth,
        CASE WHEN $processes THEN process_id END AS process_id,
        CASE WHEN $processes THEN pid END AS pid,
        CASE WHEN $processes THEN comm END AS comm,
        max(ts) AS last,
        sum(accesses) AS accesses, sum(misses) AS misses, sum(dirtied) AS dirtied, sum(readahead) AS readahead, sum(fault_misses) AS fault_misses
    FROM page_cache
    GROUP BY 1, 2, 3, 4
), execs AS (
    SELECT process_id, comm, row_number() OVER (PARTITION BY process_id ORDER BY ts DESC) AS age FROM process_exec WHERE ret = 0
), named AS (
    -- A row of the table has the name that its process had at the beginning: before it executed a program, that of the shell.
    SELECT nth, c.process_id, pid,
        coalesce(e.comm, first_value(c.comm) OVER (PARTITION BY c.process_id, pid ORDER BY last DESC, c.comm)) AS comm,
        accesses, misses, dirtied, readahead, fault_misses
    FROM counts AS c LEFT JOIN execs AS e ON c.process_id = e.process_id AND e.age = 1
), samples AS (
    SELECT
        @nth(ts) AS nth,
        ts, mem_buffers_bytes, mem_cached_bytes
    FROM system_sample
    WHERE CAST(ts AS TIMESTAMPTZ) < CAST($window_end AS TIMESTAMPTZ)
), memory AS (
    SELECT nth, mem_buffers_bytes, mem_cached_bytes, row_number() OVER (PARTITION BY nth ORDER BY ts DESC) AS age FROM samples
), joined AS (
    SELECT nth, process_id, pid, comm, accesses, misses, dirtied, readahead, fault_misses, NULL AS buffers, NULL AS cached FROM named
    UNION ALL
    -- Intervals in which nothing happened have a row as well.
    SELECT nth, NULL, NULL, NULL, 0, 0, 0, 0, 0, mem_buffers_bytes, mem_cached_bytes FROM memory WHERE age = 1 AND NOT $processes
), summed AS (
    SELECT nth, process_id, pid, comm, sum(accesses) AS accesses, sum(misses) AS misses, sum(dirtied) AS dirtied,
        sum(readahead) AS readahead, sum(fault_misses) AS fault_misses, max(buffers) AS buffers, max(cached) AS cached
    FROM joined
    WHERE $count IS NULL OR nth < $count
    GROUP BY nth, process_id, pid, comm
), checked AS (
    -- Readers that wait for the same page at the same time each miss it, but only some count as having looked it up.
    SELECT nth, process_id, pid, comm, greatest(accesses, misses) AS accesses, misses, dirtied, readahead, fault_misses, buffers, cached
    FROM summed
)
SELECT
    @interval_end(nth) AS interval_end,
    pid, comm, CAST(accesses - misses AS BIGINT) AS hits, CAST(misses AS BIGINT) AS misses, CAST(dirtied AS BIGINT) AS dirtied,
    CASE WHEN accesses > 0 THEN (accesses - misses) / CAST(accesses AS DOUBLE) ELSE 0.0 END AS hit_ratio,
    CAST(readahead AS BIGINT) AS readahead, CAST(fault_misses AS BIGINT) AS fault_misses,
    buffers AS buffers_bytes, cached AS cached_bytes
FROM checked
ORDER BY interval_end, hits DESC, misses DESC, dirtied DESC, pid, comm, process_id
