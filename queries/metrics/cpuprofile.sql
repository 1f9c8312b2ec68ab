-- CPU profile: which functions the CPUs run
--
-- A row is a sample of a CPU that was not idle. The function is the one that ran: the kernel's if the task was in the kernel, else that in
-- user mode; where no name is known, the file in brackets. Functions that it was called from are not counted.
--
-- group: scheduler
-- needs: cpu_sample, stack
-- whole: stack
-- by: comm
-- by: function
-- metric: cpu_profile = rate(cpu_ns) ns lower : CPU time, as the samples estimate it.
WITH leaves AS (
    SELECT stack_id, frames[1] AS function FROM stack
)
SELECT ts, comm, coalesce(k.function, u.function, '[unknown]') AS function, CAST($sample_ns AS BIGINT) AS cpu_ns
FROM cpu_sample AS s
    LEFT JOIN leaves AS k ON s.kernel_stack_id = k.stack_id
    LEFT JOIN leaves AS u ON s.user_stack_id = u.stack_id
