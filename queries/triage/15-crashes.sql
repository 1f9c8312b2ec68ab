-- Processes crash
--
-- Ended by SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV or SIGSYS.
--
-- group: triage
-- needs: process_exit
-- param: crashes number = 1 --crashes : Crashes of a program from which on they count.
-- column: score float1 : How many times the threshold, tenfold: a crash is never normal.
-- column: since time : The first one.
-- column: comm comm : The program.
-- column: pid int : Its process, of several the first.
-- column: exit_code exit(signal, core_dumped) : Exit code; null if a signal killed it.
-- column: signal int : The signal.
-- column: core_dumped int : Whether it left a core dump.
-- column: crashes int : How often.
-- finding: {comm} (pid {pid}) crashed {crashes} times: {exit_code}
-- evidence: exitsnoop -x
SELECT 10.0 * count(*) / $crashes AS score, min(ts) AS since, comm, min(pid) AS pid, CAST(NULL AS INTEGER) AS exit_code, signal, core_dumped,
    count(*) AS crashes
FROM process_exit
WHERE NOT is_thread AND signal IN (4, 6, 7, 8, 11, 31)
GROUP BY comm, signal, core_dumped
HAVING count(*) >= $crashes
ORDER BY score DESC, comm, signal
LIMIT 3
