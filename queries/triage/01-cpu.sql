-- Tasks wait for a CPU
--
-- Run-queue latency: threads had something to do and got no CPU. What computes without pause waits for its turns as well; that is sharing, so
-- only threads count that also sleep. The culprit is the other program that had the CPUs longest.
--
-- group: triage
-- needs: sched_switch
-- param: waited_percent number = 5 --waited_percent : Time that a thread's waits took, in percent of the window, from which on they count.
-- param: p99_ms number = 2 --p99_ms : And 1 % of them took at least so long (milliseconds).
-- column: score float1 : How many times the thresholds, of the two the more.
-- column: since time : The first wait of that length, in the first second whose waits reach that share.
-- column: pid int : Process that waited.
-- column: comm comm : Name of its threads.
-- column: waited_ns seconds2 : Time that it waited in all.
-- column: percent float1 : The same, in percent of the window.
-- column: p99_ns ms2 : 99 % of its waits are not longer.
-- column: max_ns ms2 : The longest.
-- column: hog_comm comm : The program that ran longest beside it.
-- column: hog_pid int : Its process, of several the first.
-- column: hog_processes int : How many processes it was.
-- column: hog_percent float1 : Of one CPU, over the window.
-- finding: {comm} (pid {pid}) waited {waited_ns} s for a CPU, {percent} % of the window; p99 {p99_ns} ms, at most {max_ns} ms. {hog_comm} (processes: {hog_processes}, pid {hog_pid}) used {hog_percent} % of a CPU
-- evidence: runqlat -p {pid}
-- evidence: sql "SELECT prev_comm, count(DISTINCT prev_process_id) AS processes, sum(prev_ran_ns) / 1e9 AS cpu_s FROM sched_switch WHERE prev_pid > 0 GROUP BY 1 ORDER BY 3 DESC LIMIT 10"
WITH waiting AS (
    SELECT next_process_id AS process_id, next_pid AS pid, next_comm AS comm, sum(next_waited_ns) AS waited, max(next_waited_ns) AS longest,
        sum(next_off_cpu_ns) AS off_cpu,
        quantile_disc(next_waited_ns, 0.99) AS p99
    FROM sched_switch
    WHERE next_pid <> 0 AND next_waited_ns IS NOT NULL AND next_off_cpu_ns IS NOT NULL
    GROUP BY 1, 2, 3
), shares AS (
    SELECT process_id, pid, comm, waited, longest, p99,
        waited / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS percent
    FROM waiting
    -- Off the CPU, what only computes does nothing but wait for it.
    WHERE waited < 0.95 * off_cpu
), victims AS (
    SELECT * FROM shares WHERE percent >= $waited_percent AND p99 >= $p99_ms * 1e6 ORDER BY percent DESC, process_id, comm LIMIT 3
), seconds AS (
    SELECT next_process_id AS process_id, next_comm AS comm, min(CASE WHEN next_waited_ns >= $p99_ms * 1e6 THEN ts END) AS since
    FROM sched_switch
    WHERE next_pid <> 0 AND next_waited_ns IS NOT NULL
    GROUP BY next_process_id, next_comm, floor(date_part('epoch', ts))
    HAVING sum(next_waited_ns) >= $waited_percent * 1e7
), began AS (
    SELECT process_id, comm, min(since) AS since FROM seconds GROUP BY 1, 2
), running AS (
    SELECT prev_comm AS comm, min(prev_pid) AS pid, count(DISTINCT prev_process_id) AS processes,
        sum(prev_ran_ns) / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS percent
    FROM sched_switch
    WHERE prev_pid <> 0
    GROUP BY 1
), hogs AS (
    SELECT * FROM running WHERE percent IS NOT NULL ORDER BY percent DESC, comm LIMIT 8
), beside AS (
    SELECT v.*, h.pid AS hog_pid, h.comm AS hog_comm, h.processes AS hog_processes, h.percent AS hog_percent,
        row_number() OVER (PARTITION BY v.process_id, v.comm ORDER BY h.percent DESC, h.comm) AS place
    FROM victims AS v LEFT JOIN hogs AS h ON h.comm <> v.comm
)
SELECT greatest(b.percent / $waited_percent, p99 / ($p99_ms * 1e6)) AS score, since, pid, b.comm, waited AS waited_ns, percent, p99 AS p99_ns,
    longest AS max_ns, hog_comm, hog_pid, hog_processes, hog_percent
FROM beside AS b LEFT JOIN began AS n ON b.process_id = n.process_id AND b.comm = n.comm
WHERE place = 1
ORDER BY score DESC, b.process_id, b.comm
