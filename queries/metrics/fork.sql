-- Processes and threads that are started
--
-- A row is a process or thread that was made (fork, vfork, clone). The name is that of the parent.
--
-- group: process
-- needs: process_fork
-- by: comm
-- metric: forks = rate(processes) processes neutral : How many processes were started.
-- metric: thread_starts = rate(threads) threads neutral : How many threads were started.
SELECT ts, comm,
    CAST(CASE WHEN is_thread THEN 0 ELSE 1 END AS BIGINT) AS processes, CAST(CASE WHEN is_thread THEN 1 ELSE 0 END AS BIGINT) AS threads
FROM process_fork
