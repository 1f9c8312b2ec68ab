-- Trace process termination
--
-- One row per process that ended, or per thread with -T: how long it lived and its exit code or the signal that killed it. The
-- code is that of the whole process, which wait(2) reports.
--
-- group: process
-- needs: process_exit
-- param: timestamp flag -t --timestamp : Include the time (HH:MM:SS, UTC).
-- param: failed flag -x --failed : Only those that failed.
-- param: threaded flag -T --threaded : A row for each thread.
-- column: ts AS "TIME(s)" time<8 if timestamp : When it ended.
-- column: pcomm AS "PCOMM" comm<16 : Name of the thread.
-- column: pid AS "PID" int<7 : Process.
-- column: ppid AS "PPID" int<7 : Its parent.
-- column: tid AS "TID" int<7 : Thread.
-- column: age_ns AS "AGE(s)" seconds2<7 : How long it lived.
-- column: exit_code AS "EXIT_CODE" exit(signal, core_dumped) : Exit code; null if a signal killed it.
-- column: signal int hidden : The signal that killed it.
-- column: core_dumped int hidden : Whether it left a core dump.
-- example: exitsnoop -x : Only exits with an error.
-- example: exitsnoop -tT : Threads too, with the time.
SELECT ts, comm AS pcomm, pid, ppid, tid, lifetime_ns AS age_ns, exit_code, signal, core_dumped
FROM process_exit
WHERE ($threaded OR NOT is_thread)
    AND (NOT $failed OR exit_code <> 0 OR signal IS NOT NULL)
ORDER BY ts, pid, tid
