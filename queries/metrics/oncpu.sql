-- CPU use by task, and how long tasks run at a time
--
-- A row is a task that leaves a CPU, with the time since it got it. The idle task is left out, so context switches are those away from
-- a task, not those that end an idle time. What still ran when the window ended counts as if it had left then.
--
-- group: scheduler
-- needs: sched_switch
-- acting: prev
-- by: comm
-- by: cgroup
-- metric: oncpu_time = rate(ran_ns) ns lower : Time on a CPU.
-- metric: oncpu_run = quantiles(ran_ns) ns neutral : How long a task ran before it left the CPU.
-- metric: context_switches = rate() switches neutral : How often a task left a CPU.
-- metric: preemptions = share(preempted) lower : Share of these switches at which the task would have run on.
SELECT ts, prev_comm AS comm, prev_process_id AS process_id, prev_ran_ns AS ran_ns, CAST(CASE WHEN prev_state = 'R' THEN 1 ELSE 0 END AS BIGINT) AS preempted
FROM sched_switch
WHERE prev_pid <> 0
