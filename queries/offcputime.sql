-- Summarize time off the CPU by stack
--
-- Each stack with which threads blocked, and how long they were off the CPU in all, in microseconds: what they waited for, and then for a CPU.
-- Kernel frames come first, the innermost function first, the longest time last. Unlike the live tool's, times after preemption are not in it:
-- those tasks waited for nothing but a CPU, and runqlat has them. Needs a recording with --off-cpu-stacks.
-- --output flamegraph draws the stacks, --output folded or -f is for other tools.
--
-- group: scheduler
-- needs: off_cpu_sample, stack
-- uses: process, process_fork
-- whole: stack, process, process_fork
-- param: threads ints -t : Only these threads, separated by commas.
-- param: user_threads flag -u --user-threads-only : Only user threads, no kernel threads.
-- param: kernel_threads flag -k --kernel-threads-only : Only kernel threads, no user threads.
-- param: user_only flag -U --user-stacks-only : Only stacks in user mode, without those in the kernel.
-- param: kernel_only flag -K --kernel-stacks-only : Only stacks in the kernel, without those in user mode.
-- param: min_us int = 1 -m --min-block-time : Only times of at least so many microseconds.
-- param: max_us int -M --max-block-time : Only times of at most so many microseconds.
-- param: state choice(1|2|4|8|S|D|T|t|X|Z|P|I) --state : Only this state, by letter or as the kernel's bit: 1 is S, 2 is D.
-- param: delimited flag -d --delimited : A line between kernel and user stacks.
-- param: annotations flag -a --annotations : Mark kernel frames with _[k].
-- param: folded flag -f --folded : One line per stack, for flame graphs.
-- conflicts: user_threads, kernel_threads
-- conflicts: user_only, kernel_only
-- stacks: kernel_frames, user_frames value blocked_ns task comm, tid
-- column: pid int : Process.
-- column: tid int : Thread.
-- column: comm comm : Its name.
-- column: kernel_frames args : Functions in the kernel, innermost first.
-- column: user_frames args : Functions in user mode, innermost first. Null: none, or they can't be read.
-- column: blocked_ns us : How long they were off the CPU in all.
-- column: times int : How often.
-- example: offcputime -m 1000 : Where threads blocked for more than a millisecond.
-- example: offcputime --state D : Where they waited uninterruptibly, for a disk mostly.
-- example: offcputime -u -p 1234 --output flamegraph -o blocked.svg : A flame graph of one process.
WITH kernel_threads AS (
    SELECT process_id FROM process WHERE is_kernel
    -- kthreadd is the parent of all that were made since.
    UNION SELECT child_process_id FROM process_fork WHERE pid = 2
), times AS (
    SELECT pid, tid, comm,
        CASE WHEN NOT $kernel_only THEN user_stack_id END AS user_stack,
        CASE WHEN NOT $user_only THEN kernel_stack_id END AS kernel_stack,
        sum(duration_ns) AS blocked_ns, count(*) AS times
    FROM off_cpu_sample
    WHERE duration_ns >= $min_us * 1000
        -- In whole microseconds, as the live tool compares.
        AND ($max_us IS NULL OR duration_ns < ($max_us + 1) * 1000)
        AND ($threads IS NULL OR array_has($threads, tid))
        AND ($state IS NULL OR state = CASE $state WHEN '1' THEN 'S' WHEN '2' THEN 'D' WHEN '4' THEN 'T' WHEN '8' THEN 't' ELSE $state END)
        AND (NOT $user_threads OR process_id NOT IN (SELECT process_id FROM kernel_threads WHERE process_id IS NOT NULL))
        AND (NOT $kernel_threads OR process_id IN (SELECT process_id FROM kernel_threads))
    GROUP BY 1, 2, 3, 4, 5
)
SELECT pid, tid, comm,
    CASE WHEN kernel_stack IS NOT NULL THEN coalesce(k.frames, ['[Missed Kernel Stack]']) END AS kernel_frames,
    CASE WHEN user_stack IS NOT NULL THEN coalesce(u.frames, ['[Missed User Stack]']) END AS user_frames,
    blocked_ns, times
FROM times AS t
    LEFT JOIN stack AS k ON t.kernel_stack = k.stack_id
    LEFT JOIN stack AS u ON t.user_stack = u.stack_id
ORDER BY blocked_ns, comm, tid, kernel_stack, user_stack
