-- Trace signals: who sent which to whom
--
-- One row per signal that was sent, by a program or by the kernel. PID is the task that ran when the kernel sent one: the child that ended, the
-- thread that faulted. A signal for a process group is a row for each process that gets it. RESULT is 0, or -11 (EAGAIN) if the target's
-- queue was full; what was never sent (no such process, not permitted) has no row, killsnoop has what is known of it.
--
-- group: signal
-- needs: signal
-- param: kill flag -k --kill : Only signals sent by kill, tkill and tgkill.
-- param: names flag -n --name : Names of signals instead of numbers.
-- param: signals ints -s --signal : Only these signals, by number.
-- param: failed flag -x --failed : Only signals that could not be sent.
-- column: ts AS "TIME" time<8 : When it was sent.
-- column: pid AS "PID" int<7 : Process that sent it, or that ran.
-- column: comm AS "COMM" comm<16 : Name of its thread.
-- column: signal AS "SIG" int<9 unless names : The signal.
-- column: name AS "SIG" text<9 if names : Its name; of a real-time signal the number.
-- column: target_tid AS "TPID" int<7 : Thread that got it, for a process usually its first.
-- column: target_pid int hidden : Its process.
-- column: target_comm comm hidden : Its name.
-- column: ret AS "RESULT" int<6 : 0, or the negative error.
-- column: code text hidden : Why it was sent (si_code in sigaction(2)).
-- column: result text hidden : What became of it: delivered, ignored, already_pending, ….
-- example: sigsnoop -n : All signals, by name.
-- example: sigsnoop -k -s 9,15 : Who kills whom.
-- example: sigsnoop -p 1234 --output csv : What one process sent, with what became of it.
SELECT ts, pid, comm, signal, CASE WHEN signal < 32 THEN name ELSE CAST(signal AS VARCHAR) END AS name, target_tid, target_pid, target_comm,
    CASE WHEN result = 'overflow' THEN -11 ELSE 0 END AS ret, code, result
FROM signal
WHERE ($signals IS NULL OR array_has($signals, signal))
    AND (NOT $failed OR result = 'overflow')
    -- The kernel says SI_USER also where it stops a task that writes to a closed pipe or beyond its limit.
    AND (NOT $kill OR code = 'SI_TKILL' OR (code = 'SI_USER' AND NOT (signal IN (13, 25) AND target_tid = tid)))
ORDER BY ts, tid, target_tid, signal
