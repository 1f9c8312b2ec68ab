-- Summarize on-CPU time per task as a histogram
--
-- How long tasks ran on a CPU before they left it, or with -O, how long they were off the CPU before they came back. The idle task is not
-- counted, nor what still ran at the end. The live tool, unlike what it says, counts only times on the CPU that ended in preemption, and the
-- idle task's: --preempted does that too. It mixes up the idle tasks of the CPUs, so that the lengths of theirs differ.
--
-- group: scheduler
-- needs: sched_switch
-- acting: prev
-- acting: next if offcpu
-- histogram: spent_ns ns
-- param: offcpu flag -O --offcpu : Time off the CPU.
-- param: preempted flag --preempted : Only times that ended in preemption, the idle task's included.
-- conflicts: offcpu, preempted
-- by: pid, process_id (comm) -P --pids "pid = {pid} {comm}" : A histogram per process.
-- by: tid (comm) -L --tids "tid = {tid} {comm}" : A histogram per thread.
-- conflicts: pids, tids
-- column: ts time : When the task left the CPU, or came back.
-- column: spent_ns us1 : How long it had been on the CPU, or off it.
-- column: pid int : Process.
-- column: process_id int : Process, even if its pid was used again.
-- column: tid int : Thread.
-- column: comm comm : Name of the thread.
-- column: state text : State in which the task left the CPU: of times on the CPU only.
-- column: cpu int : The CPU.
-- example: cpudist 1 10 : Ten histograms of one second each.
-- example: cpudist -O -p 1234 : How long one process was off the CPU.
-- example: cpudist --by state : Times that ended in preemption (R), in sleep (S), in a wait for a disk (D).
SELECT ts,
    CASE WHEN $offcpu THEN next_off_cpu_ns ELSE prev_ran_ns END AS spent_ns,
    CASE WHEN $offcpu THEN next_pid ELSE prev_pid END AS pid,
    CASE WHEN $offcpu THEN next_process_id ELSE prev_process_id END AS process_id,
    CASE WHEN $offcpu THEN next_tid ELSE prev_tid END AS tid,
    CASE WHEN $offcpu THEN next_comm ELSE prev_comm END AS comm,
    CASE WHEN $offcpu THEN NULL ELSE prev_state END AS state,
    cpu
FROM sched_switch
WHERE CASE WHEN $offcpu THEN next_pid <> 0 WHEN $preempted THEN prev_state = 'R' ELSE prev_pid <> 0 AND prev_state IS NOT NULL END
