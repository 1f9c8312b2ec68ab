-- Threads block each other on locks
--
-- Off-CPU time below a lock's functions, in the kernel (mutexes, rw-semaphores) or in the C library (pthread mutexes). Needs
-- `ebrec record --off-cpu-stacks`.
--
-- group: triage
-- needs: off_cpu_sample, stack
-- param: blocked_percent number = 10 --blocked_percent : Time that a process was blocked on locks, in percent of the window, from which on it counts.
-- column: score float1 : How many times the threshold.
-- column: since time : The first time.
-- column: pid int : The process.
-- column: comm comm : Name of its threads.
-- column: blocked_ns seconds2 : Time blocked, of all its threads.
-- column: times int : How often.
-- finding: {comm} (pid {pid}) was blocked on locks for {blocked_ns} s, {times} times
-- evidence: offcputime -p {pid}
WITH locks AS (
    SELECT stack_id FROM stack
    WHERE array_to_string(frames, ' ') LIKE '%mutex_lock%' OR array_to_string(frames, ' ') LIKE '%rwsem_down_%'
        OR array_to_string(frames, ' ') LIKE '%lll_lock_wait%'
), blocked AS (
    SELECT process_id, pid, comm, sum(duration_ns) AS blocked, count(*) AS times, min(ts) AS since
    FROM off_cpu_sample
    WHERE user_stack_id IN (SELECT stack_id FROM locks) OR kernel_stack_id IN (SELECT stack_id FROM locks)
    GROUP BY 1, 2, 3
)
SELECT blocked / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) / $blocked_percent AS score, since, pid, comm,
    CAST(blocked AS BIGINT) AS blocked_ns, times
FROM blocked
WHERE blocked / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) >= $blocked_percent
ORDER BY score DESC, process_id, comm
LIMIT 3
