-- Summarize run queue (scheduler) latency as a histogram
--
-- How long tasks had been runnable when they got a CPU, from wake-up or preemption to the switch. One histogram, or one per interval,
-- process or thread. With -p only switches to that process count.
--
-- group: scheduler
-- needs: sched_switch
-- param: interval seconds pos : Seconds of each histogram; without, one for the whole window.
-- param: count int pos : How many intervals to print.
-- param: timestamp flag -T --timestamp : Print the time at the end of each interval (HH:MM:SS, UTC).
-- param: milliseconds flag -m --milliseconds : Milliseconds instead of microseconds.
-- param: pids flag -P --pids : A histogram per process.
-- param: tids flag -L --tids : A histogram per thread.
-- conflicts: pids, tids
-- column: interval_end time hidden : End of the interval.
-- column: pid int hidden : Process, with -P.
-- column: tid int hidden : Thread, with -L.
-- column: comm comm hidden : Name of the process's thread that got a CPU first, with -P or -L.
-- column: unit text hidden : Unit of the bounds: usecs or msecs.
-- column: low int hidden : Smallest value of the bucket.
-- column: high int hidden : Largest value of the bucket.
-- column: count int hidden : How many waits were of this length.
-- title: {interval_end} if timestamp
-- title: pid = {pid} {comm} if pids
-- title: tid = {tid} {comm} if tids
-- render: hist(low, high, count, unit) by interval_end, pid, tid
-- example: runqlat 1 10 : Ten histograms of one second each.
-- example: runqlat -P --from +10s --to +20s : One per process, for ten seconds.
WITH waits AS (
    SELECT
        CASE WHEN $interval IS NULL THEN 0
            ELSE greatest(CAST(floor(date_part('epoch', CAST(ts AS TIMESTAMPTZ) - CAST($window_start AS TIMESTAMPTZ)) / $interval) AS BIGINT), 0) END AS nth,
        CASE WHEN $pids THEN next_pid END AS pid,
        CASE WHEN $tids THEN next_tid END AS tid,
        CASE WHEN $pids OR $tids THEN next_comm END AS comm,
        ts,
        -- Whole units, as the live tool counts them.
        floor(next_waited_ns / CASE WHEN $milliseconds THEN 1000000 ELSE 1000 END) AS waited
    FROM sched_switch
    WHERE next_waited_ns IS NOT NULL AND next_pid <> 0 AND ($pid IS NULL OR next_pid = $pid)
), named AS (
    SELECT nth, pid, tid, comm, CASE WHEN waited < 2 THEN 0 ELSE CAST(floor(log2(waited)) AS BIGINT) END AS slot,
        count(*) AS count, min(ts) AS first
    FROM waits
    WHERE $count IS NULL OR nth < $count
    GROUP BY 1, 2, 3, 4, 5
), buckets AS (
    -- Threads of a process have names of their own: that of the first to get a CPU stands for all of them.
    SELECT nth, pid, tid, slot, count, first_value(comm) OVER (PARTITION BY nth, pid, tid ORDER BY first, comm) AS comm
    FROM named
)
SELECT
    CASE WHEN $interval IS NULL THEN $window_end
        ELSE to_timestamp(date_part('epoch', $window_start) + (nth + 1) * $interval) END AS interval_end,
    pid, tid, comm,
    CASE WHEN $milliseconds THEN 'msecs' ELSE 'usecs' END AS unit,
    CASE WHEN slot = 0 THEN 0 ELSE CAST(power(2, slot) AS BIGINT) END AS low,
    CAST(power(2, slot + 1) AS BIGINT) - 1 AS high,
    CAST(sum(count) AS BIGINT) AS count
FROM buckets
GROUP BY nth, pid, tid, comm, slot
ORDER BY interval_end, pid, tid, low
