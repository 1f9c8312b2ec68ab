-- A disk is slow
--
-- Time in the queue and at the device together. Whoever made most of its requests stands beside it.
--
-- group: triage
-- needs: block_io
-- param: p99_ms number = 50 --p99_ms : Latency that 1 % of a disk's requests exceed, from which on it counts (milliseconds).
-- param: requests int = 20 --requests : The least number of requests for such a percentile to mean something.
-- column: score float1 : How many times the threshold.
-- column: since time : The first request of that latency.
-- column: disk text : The disk.
-- column: op text : Operation.
-- column: requests int : How many requests.
-- column: p99_ns ms2 : 99 % of them took no longer.
-- column: max_ns ms2 : The longest.
-- column: queued_percent float1 : Share of that time which was spent in the queue.
-- column: comm comm : Who made most of them.
-- column: pid int : Its process.
-- finding: {op} on {disk}: p99 {p99_ns} ms, at most {max_ns} ms, over {requests} requests, {queued_percent} % of it in the queue. Most were made by {comm} (pid {pid})
-- evidence: biolatency -D -Q
-- evidence: biosnoop -Q -d {disk}
WITH requests AS (
    SELECT ts, disk, op, comm, pid, coalesce(queued_ns, 0) AS queued, coalesce(queued_ns, 0) + latency_ns AS took
    FROM block_io
    WHERE latency_ns IS NOT NULL AND op IN ('read', 'write', 'flush')
), disks AS (
    SELECT disk, op, count(*) AS requests, quantile_disc(took, 0.99) AS p99, max(took) AS longest, sum(queued) AS queued, sum(took) AS took,
        min(CASE WHEN took >= $p99_ms * 1e6 THEN ts END) AS since
    FROM requests
    GROUP BY disk, op
    HAVING count(*) >= $requests AND quantile_disc(took, 0.99) >= $p99_ms * 1e6
), makers AS (
    SELECT disk, op, comm, pid, row_number() OVER (PARTITION BY disk, op ORDER BY count(*) DESC, comm, pid) AS place
    FROM requests
    GROUP BY disk, op, comm, pid
)
SELECT p99 / ($p99_ms * 1e6) AS score, since, d.disk, d.op, requests, p99 AS p99_ns, longest AS max_ns, 100.0 * queued / took AS queued_percent,
    comm, pid
FROM disks AS d LEFT JOIN makers AS m ON d.disk = m.disk AND d.op = m.op AND place = 1
ORDER BY score DESC, disk, op
LIMIT 3
