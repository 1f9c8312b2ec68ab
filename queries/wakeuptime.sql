-- Summarize blocked time by who ended it: waker and target
--
-- How long tasks were blocked, from leaving the CPU to being woken, by the task that woke them; `swapper/N` is an interrupt on an idle CPU. The live tool
-- also tells wakers apart by their stack in the kernel, which a capture doesn't have: what it prints as several blocks is one row here. Its
-- waker is the task that ran where the target became runnable, this one is the task that asked for it.
--
-- group: scheduler
-- needs: sched_switch, sched_wakeup
-- uses: process, process_fork
-- acting: next
-- whole: sched_wakeup, process, process_fork
-- param: user_only flag -u --user-threads-only : Only user threads as targets, no kernel threads.
-- param: min_us int = 1 -m --min-block-time : Only times of at least so many microseconds.
-- param: max_us int -M --max-block-time : Only times of at most so many microseconds.
-- column: target_comm AS "TARGET" comm<16 : Name of the thread that was woken.
-- column: waker_comm AS "WAKER" comm<16 : Name of the thread that woke it; null: it was woken before the window, or by nobody.
-- column: times AS "WAKEUPS" int>9 : How often.
-- column: blocked_ns AS "TIME(us)" us>14 : How long it had been blocked in all.
-- column: max_ns AS "MAX(us)" us>12 : The longest of these times.
-- example: wakeuptime -u : Who the programs waited for.
-- example: wakeuptime -p 1234 -m 1000 : What ended the long waits of one process.
WITH kernel_threads AS (
    SELECT process_id FROM process WHERE is_kernel
    -- kthreadd is the parent of all that were made since.
    UNION SELECT child_process_id FROM process_fork WHERE pid = 2
), woken AS (
    -- At the switch that brings a task back: how long it had been blocked, which is not the time that it waited for a CPU.
    SELECT next_tid AS tid, ts, next_comm AS target, CAST(NULL AS VARCHAR) AS waker, next_off_cpu_ns - next_waited_ns AS blocked_ns
    FROM sched_switch
    WHERE next_pid <> 0 AND next_off_cpu_ns - next_waited_ns >= $min_us * 1000
        AND ($max_us IS NULL OR next_off_cpu_ns - next_waited_ns < ($max_us + 1) * 1000)
        AND (NOT $user_only OR next_process_id NOT IN (SELECT process_id FROM kernel_threads WHERE process_id IS NOT NULL))
), happened AS (
    SELECT tid, ts, target, waker, blocked_ns FROM woken
    UNION ALL
    SELECT wakee_tid AS tid, ts, NULL AS target, comm AS waker, NULL AS blocked_ns FROM sched_wakeup
    WHERE wakee_tid IN (SELECT DISTINCT tid FROM woken) AND CAST(ts AS TIMESTAMPTZ) < CAST($window_end AS TIMESTAMPTZ)
), paired AS (
    -- What comes last before the switch is the wake-up that led to it.
    SELECT target, blocked_ns, lag(waker) OVER (PARTITION BY tid ORDER BY ts) AS waker FROM happened
)
SELECT target AS target_comm, waker AS waker_comm, count(*) AS times, CAST(sum(blocked_ns) AS BIGINT) AS blocked_ns, max(blocked_ns) AS max_ns
FROM paired
WHERE blocked_ns IS NOT NULL
GROUP BY target, waker
ORDER BY blocked_ns DESC, target_comm, waker_comm
