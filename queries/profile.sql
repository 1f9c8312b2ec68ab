-- Profile CPU usage by stack
--
-- Each stack that the profiler found on a CPU, with how often: kernel frames first, the innermost function first, the most frequent stack
-- last. Idle CPUs are not counted. How often a second the profiler looked is that of the recording, 99 unless --sample-hz said otherwise.
-- --output flamegraph draws the stacks, --output folded or -f is for other tools.
--
-- group: scheduler
-- needs: cpu_sample, stack
-- whole: stack
-- param: threads ints -L : Only these threads, separated by commas.
-- param: user_only flag -U --user-stacks-only : Only stacks in user mode, without those in the kernel.
-- param: kernel_only flag -K --kernel-stacks-only : Only stacks in the kernel, without those in user mode.
-- param: delimited flag -d --delimited : A line between kernel and user stacks.
-- param: annotations flag -a --annotations : Mark kernel frames with _[k].
-- param: folded flag -f --folded : One line per stack, for flame graphs.
-- param: cpu int -C --cpu : Only this CPU.
-- conflicts: user_only, kernel_only
-- stacks: kernel_frames, user_frames value samples task comm, pid
-- column: pid int : Process.
-- column: comm comm : Name of the thread.
-- column: kernel_frames args : Functions in the kernel, innermost first. Null: it ran in user mode.
-- column: user_frames args : Functions in user mode, innermost first. Null: none, or they can't be read.
-- column: samples int : How often it was found.
-- example: profile : Which code ran, the most frequent last.
-- example: profile --output flamegraph -o cpu.svg : As a flame graph.
-- example: profile -f -p 1234 --from +10s --to +20s : Ten seconds of one process, folded.
WITH samples AS (
    SELECT pid, comm,
        CASE WHEN NOT $kernel_only THEN user_stack_id END AS user_stack,
        CASE WHEN NOT $user_only THEN kernel_stack_id END AS kernel_stack,
        count(*) AS samples
    FROM cpu_sample
    WHERE ($threads IS NULL OR array_has($threads, tid)) AND ($cpu IS NULL OR cpu = $cpu)
    GROUP BY 1, 2, 3, 4
)
SELECT pid, comm,
    CASE WHEN kernel_stack IS NOT NULL THEN coalesce(k.frames, ['[Missed Kernel Stack]']) END AS kernel_frames,
    CASE WHEN user_stack IS NOT NULL THEN coalesce(u.frames, ['[Missed User Stack]']) END AS user_frames,
    samples
FROM samples AS s
    LEFT JOIN stack AS k ON s.kernel_stack = k.stack_id
    LEFT JOIN stack AS u ON s.user_stack = u.stack_id
ORDER BY samples, comm, pid, kernel_stack, user_stack
