-- Run-queue latency: how long runnable tasks waited for a CPU
--
-- A row is a task that gets a CPU. The idle task is left out, and what was not runnable yet when the window began: it has no wait.
--
-- group: scheduler
-- needs: sched_switch
-- acting: next
-- by: comm
-- by: cgroup
-- metric: runqlat = quantiles(waited_ns) ns lower : From wake-up or preemption until the task ran.
SELECT ts, next_comm AS comm, next_process_id AS process_id, next_waited_ns AS waited_ns
FROM sched_switch
WHERE next_pid <> 0
