-- Programs that are executed
--
-- A row is a call of execve or execveat. A search through PATH fails in each directory without the program. The name is that after the call:
-- the program's if it succeeded, else that of who tried.
--
-- group: process
-- needs: process_exec
-- by: comm
-- metric: execs = rate(started) execs neutral : How many programs were executed.
-- metric: failed_execs = share(failed) lower : Share of the calls that failed.
SELECT ts, comm,
    CAST(CASE WHEN ret = 0 THEN 1 ELSE 0 END AS BIGINT) AS started,
    CAST(CASE WHEN ret = 0 THEN 0 WHEN ret <> 0 THEN 1 END AS BIGINT) AS failed
FROM process_exec
