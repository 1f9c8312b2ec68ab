-- Summarize run queue (scheduler) latency as a histogram
--
-- How long tasks had been runnable when they got a CPU, from wake-up or preemption to the switch. One histogram, or one per interval,
-- process or thread.
--
-- group: scheduler
-- needs: sched_switch
-- acting: next
-- histogram: waited_ns ns
-- by: pid, process_id (comm) -P --pids "pid = {pid} {comm}" : A histogram per process.
-- by: tid (comm) -L --tids "tid = {tid} {comm}" : A histogram per thread.
-- conflicts: pids, tids
-- column: ts time : When the task got the CPU.
-- column: waited_ns us1 : How long it had waited.
-- column: pid int : Process.
-- column: process_id int : Process, even if its pid was used again.
-- column: tid int : Thread.
-- column: comm comm : Name of the thread.
-- column: cpu int : CPU that it got.
-- example: runqlat 1 10 : Ten histograms of one second each.
-- example: runqlat -P --from +10s --to +20s : One per process, for ten seconds.
-- example: runqlat --by cpu : One per CPU.
-- example: runqlat --by container : One per container.
SELECT ts, next_waited_ns AS waited_ns, next_pid AS pid, next_process_id AS process_id, next_tid AS tid, next_comm AS comm, cpu
FROM sched_switch
WHERE next_pid <> 0
