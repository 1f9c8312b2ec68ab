-- Processes wait for pages from a disk
--
-- Major page faults: memory that was swapped out or code and files that fell out of the page cache.
--
-- group: triage
-- needs: major_fault
-- param: faults_per_s number = 50 --faults_per_s : Major faults of a process per second from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: pid int : The process.
-- column: comm comm : Name of its threads.
-- column: faults int : How many.
-- column: per_second float1 : Per second of the window.
-- finding: {comm} (pid {pid}) had {faults} major page faults, {per_second} a second
-- evidence: sql "SELECT ts, comm, pid, address FROM major_fault WHERE pid = {pid} ORDER BY ts"
WITH counted AS (
    SELECT process_id, pid, comm, count(*) AS faults, min(ts) AS since,
        count(*) / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS per_second
    FROM major_fault
    GROUP BY 1, 2, 3
)
SELECT per_second / $faults_per_s AS score, since, pid, comm, faults, per_second
FROM counted
WHERE per_second >= $faults_per_s
ORDER BY score DESC, process_id, comm
LIMIT 3
