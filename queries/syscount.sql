-- Summarize system calls by count, latency or process
--
-- Calls that returned, counted by name, or with -P by process. They count in the interval in which they returned. Times are from the call to
-- its return, waiting included. Needs a recording with --probes syscall.
--
-- group: process
-- needs: syscall
-- param: interval seconds -i --interval : Seconds of each block; without, one block for the whole window.
-- param: duration seconds -d --duration : Only so many seconds of the window.
-- param: top int = 10 -T --top : The largest number of rows of a block.
-- param: failures flag -x --failures : Only calls that failed.
-- param: errno errno -e --errno : Only calls that failed with this error (number or name).
-- param: latency flag -L --latency : Show the time that the calls took, and sort by it.
-- param: milliseconds flag -m --milliseconds : Milliseconds instead of microseconds.
-- param: process flag -P --process : Count by process and not by system call.
-- column: interval_end time hidden : End of the interval.
-- column: name AS "SYSCALL" text<22 unless process : System call.
-- column: pid AS "PID" int<6 if process : Process.
-- column: comm AS "COMM" comm<15 if process : Name of its first thread, else of another.
-- column: calls AS "COUNT" int>8 : How many calls.
-- column: failed int hidden : How many of them failed.
-- column: total_ns AS "TIME (us)" us3>16 if latency unless milliseconds : Time that they took in all.
-- column: total_ns AS "TIME (ms)" ms3>16 if latency if milliseconds : Time that they took in all.
-- title: [{interval_end}]
-- blocks: interval_end
-- example: syscount -L : The ten calls that took most time.
-- example: syscount -P -x -i 1 : Which processes' calls fail, per second.
-- example: syscount -e ENOENT -T 3 : What looks for files in vain.
WITH calls AS (
    SELECT
        -- The interval of the end, which @nth can't say: ts is when the call began.
        CASE WHEN $interval IS NULL THEN 0 ELSE greatest(CAST(floor((date_part('epoch',
            CAST(ts AS TIMESTAMPTZ) - CAST($window_start AS TIMESTAMPTZ)) + coalesce(latency_ns, 0) / 1e9) / $interval) AS BIGINT), 0) END AS nth,
        CASE WHEN NOT $process THEN name END AS name,
        CASE WHEN $process THEN pid END AS pid,
        count(*) AS calls,
        sum(CASE WHEN ret < 0 THEN 1 ELSE 0 END) AS failed,
        sum(latency_ns) AS total_ns,
        max(CASE WHEN $process AND tid = pid THEN comm END) AS leader,
        max(CASE WHEN $process THEN comm END) AS other
    FROM syscall
    WHERE ret IS NOT NULL
        AND (NOT $latency OR latency_ns IS NOT NULL)
        AND (NOT $failures OR ret < 0)
        AND ($errno IS NULL OR ret = -$errno)
        AND ($duration IS NULL OR date_part('epoch', CAST(ts AS TIMESTAMPTZ) - CAST($window_start AS TIMESTAMPTZ)) + coalesce(latency_ns, 0) / 1e9 < $duration)
    GROUP BY 1, 2, 3
), ranked AS (
    SELECT nth, name, pid, coalesce(leader, other) AS comm, calls, failed, total_ns,
        row_number() OVER (PARTITION BY nth ORDER BY CASE WHEN $latency THEN total_ns ELSE calls END DESC, name, pid) AS place
    FROM calls
)
SELECT @interval_end(nth) AS interval_end, name, pid, comm, calls, failed, total_ns
FROM ranked
WHERE place <= $top
ORDER BY interval_end, place
