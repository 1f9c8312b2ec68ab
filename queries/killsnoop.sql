-- Trace signals sent by kill, tkill and tgkill
--
-- One row per signal that was sent; for a process group or all processes, one for each that gets it. Calls that failed are known if the recording
-- has system calls (--probes syscall), but not their signal and target, which are `-`. Calls with signal 0, which only ask whether there
-- is such a process, send nothing: those that succeed have no row.
--
-- group: signal
-- needs: signal
-- needs: syscall if failed
-- uses: syscall
-- param: names flag -n --name : Names of signals instead of numbers.
-- param: signals ints -s --signal : Only these signals, by number.
-- param: failed flag -x --failed : Only calls that failed.
-- column: ts AS "TIME" time<8 : When the signal was sent, or the call began.
-- column: pid AS "PID" int<7 : Process that called.
-- column: comm AS "COMM" comm<16 : Name of its thread.
-- column: signal AS "SIG" int<9 unless names : The signal.
-- column: name AS "SIG" text<9 if names : Its name; of a real-time signal the number.
-- column: target_tid AS "TPID" int<7 : Thread that got it, for a process usually its first.
-- column: target_pid int hidden : Its process.
-- column: target_comm comm hidden : Its name.
-- column: ret AS "RESULT" int<6 : 0, or the negative error.
-- column: call text hidden : The system call, if it failed.
-- example: killsnoop : Who kills whom.
-- example: killsnoop -s 9,15 : Only SIGKILL and SIGTERM.
-- example: killsnoop -x : Calls that failed.
SELECT ts, pid, comm, signal, name, target_tid, target_pid, target_comm, ret, call
FROM (
    SELECT ts, tid, pid, comm, signal, CASE WHEN signal < 32 THEN name ELSE CAST(signal AS VARCHAR) END AS name,
        target_tid, target_pid, target_comm, 0 AS ret, NULL AS call
    FROM signal
    WHERE NOT $failed
        -- The kernel says SI_USER also where it stops a task that writes to a closed pipe or beyond its limit.
        AND (code = 'SI_TKILL' OR (code = 'SI_USER' AND NOT (signal IN (13, 25) AND target_tid = tid)))
    UNION ALL
    SELECT ts, tid, pid, comm, NULL AS signal, NULL AS name, NULL AS target_tid, NULL AS target_pid, NULL AS target_comm, ret, name AS call
    FROM syscall
    WHERE ret < 0 AND name IN ('kill', 'tkill', 'tgkill')
) AS calls
WHERE $signals IS NULL OR array_has($signals, signal)
ORDER BY ts, tid, target_tid, signal
