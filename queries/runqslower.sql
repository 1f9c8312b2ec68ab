-- Trace tasks that waited long in the run queue
--
-- One row per switch to a task that had been runnable for more than MIN_US without getting a CPU. The task that leaves the CPU then (-P) is
-- the one that it waited behind, unless it was moved between CPUs.
--
-- group: scheduler
-- needs: sched_switch
-- acting: next
-- param: min_us int = 10000 pos : Longer waits than this are shown, in microseconds; 0 shows all.
-- param: previous flag -P --previous : Also the task that left the CPU.
-- param: thread int -t : Only this thread, as --tid.
-- column: ts AS "TIME" time<8 : When the task got the CPU.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: pid int hidden : Its process.
-- column: tid AS "TID" int<6 : Thread.
-- column: waited_ns AS "LAT(us)" us>14 : How long it had waited.
-- column: prev_comm AS "PREV COMM" comm<16 if previous : Name of the thread that left.
-- column: prev_tid AS "PREV TID" int<6 if previous : That thread.
-- column: cpu int hidden : The CPU.
-- example: runqslower : Waits of more than 10 ms.
-- example: runqslower -P 1000 : Of more than 1 ms, and behind whom.
-- example: runqslower 0 -p 1234 : All waits of one process.
SELECT ts, next_comm AS comm, next_pid AS pid, next_tid AS tid, next_waited_ns AS waited_ns, prev_comm, prev_tid, cpu
FROM sched_switch
WHERE next_pid <> 0
    -- In whole microseconds, as the live tool compares.
    AND next_waited_ns >= CASE WHEN $min_us = 0 THEN 0 ELSE ($min_us + 1) * 1000 END
    AND ($thread IS NULL OR next_tid = $thread)
ORDER BY ts, cpu, tid
