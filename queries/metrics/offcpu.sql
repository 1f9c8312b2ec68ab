-- Off-CPU time: how long tasks were blocked
--
-- A row is a task that is back on a CPU after it had blocked: the time since it left one, without its wait in the run queue (runqlat).
-- Mostly that is sleep with nothing to do, so longer is neither better nor worse. Tasks that were preempted didn't block, and are left out.
--
-- group: scheduler
-- needs: sched_switch
-- acting: next
-- by: comm
-- metric: offcpu = quantiles(blocked_ns) ns neutral : From when a task blocked, or went to sleep, until it was runnable again.
SELECT ts, next_comm AS comm, next_off_cpu_ns - next_waited_ns AS blocked_ns
FROM sched_switch
WHERE next_pid <> 0 AND next_off_cpu_ns > next_waited_ns
