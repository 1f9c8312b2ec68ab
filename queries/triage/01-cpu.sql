-- Tasks wait for a CPU
--
-- Run-queue latency: threads of a process were runnable and had no CPU. The culprit is the other process that had the CPUs longest.
--
-- group: triage
-- needs: sched_switch
-- param: waited_percent number = 10 --waited_percent : Time that it waited, in percent of the window, from which on it counts.
-- param: p99_ms number = 2 --p99_ms : And 99 % of its waits are not longer than this or more (milliseconds).
-- column: score float1 : How many times the threshold.
-- column: since time : The first wait of that length.
-- column: pid int : Process that waited.
-- column: comm comm : Name of its threads.
-- column: waited_ns seconds2 : Time that it waited in all.
-- column: percent float1 : The same, in percent of the window.
-- column: p99_ns ms2 : 99 % of its waits are not longer.
-- column: max_ns ms2 : The longest.
-- column: hog_pid int : The process that ran longest beside it.
-- column: hog_comm comm : Name of its threads.
-- column: hog_percent float1 : Of one CPU, over the window.
-- finding: {comm} (pid {pid}) waited {waited_ns} s for a CPU, {percent} % of the window; p99 {p99_ns} ms, at most {max_ns} ms. {hog_comm} (pid {hog_pid}) used {hog_percent} % of a CPU
-- evidence: runqlat -p {pid}
-- evidence: sql "SELECT prev_comm, prev_pid, sum(prev_ran_ns) / 1e9 AS cpu_s FROM sched_switch WHERE prev_pid > 0 GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 10"
WITH waiting AS (
    SELECT next_process_id AS process_id, next_pid AS pid, next_comm AS comm, sum(next_waited_ns) AS waited, max(next_waited_ns) AS longest,
        quantile_disc(next_waited_ns, 0.99) AS p99, min(CASE WHEN next_waited_ns >= $p99_ms * 1e6 THEN ts END) AS since
    FROM sched_switch
    WHERE next_pid <> 0 AND next_waited_ns IS NOT NULL
    GROUP BY 1, 2, 3
), shares AS (
    SELECT process_id, pid, comm, waited, longest, p99, since,
        waited / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS percent
    FROM waiting
), victims AS (
    SELECT * FROM shares WHERE percent >= $waited_percent AND p99 >= $p99_ms * 1e6 ORDER BY percent DESC, process_id, comm LIMIT 3
), running AS (
    SELECT prev_process_id AS process_id, prev_pid AS pid, prev_comm AS comm,
        sum(prev_ran_ns) / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS percent
    FROM sched_switch
    WHERE prev_pid <> 0
    GROUP BY 1, 2, 3
), hogs AS (
    SELECT * FROM running ORDER BY percent DESC, process_id, comm LIMIT 8
), beside AS (
    SELECT v.process_id, v.comm, h.pid AS hog_pid, h.comm AS hog_comm, h.percent AS hog_percent,
        row_number() OVER (PARTITION BY v.process_id, v.comm ORDER BY h.percent DESC, h.process_id, h.comm) AS place
    FROM victims AS v CROSS JOIN hogs AS h
    WHERE h.process_id <> v.process_id
)
SELECT v.percent / $waited_percent AS score, since, pid, v.comm, waited AS waited_ns, percent, p99 AS p99_ns, longest AS max_ns,
    hog_pid, hog_comm, hog_percent
FROM victims AS v LEFT JOIN beside AS b ON v.process_id = b.process_id AND v.comm = b.comm AND b.place = 1
ORDER BY score DESC, v.process_id, v.comm
