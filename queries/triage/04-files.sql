-- File operations are slow
--
-- group: triage
-- needs: file_io
-- param: p99_ms number = 100 --p99_ms : Latency that 1 % of a process's operations exceed, from which on it counts (milliseconds).
-- param: share_percent number = 5 --share_percent : And the time they took in all, in percent of the window.
-- column: score float1 : How many times the threshold.
-- column: since time : The first operation of that latency.
-- column: pid int : Process.
-- column: comm comm : Name of its threads.
-- column: fs text : File system.
-- column: op text : Operation.
-- column: operations int : How many.
-- column: p99_ns ms2 : 99 % of them took no longer.
-- column: max_ns ms2 : The longest.
-- column: total_ns seconds2 : All together.
-- column: path text : The file of the slowest.
-- finding: {comm} (pid {pid}): {op} on {fs} took {total_ns} s in {operations} calls; p99 {p99_ns} ms, at most {max_ns} ms, on {path}
-- evidence: fsslower -p {pid}
WITH slow AS (
    SELECT process_id, pid, comm, fs, op, count(*) AS operations, quantile_disc(latency_ns, 0.99) AS p99, max(latency_ns) AS longest,
        sum(latency_ns) AS total, min(CASE WHEN latency_ns >= $p99_ms * 1e6 THEN ts END) AS since
    FROM file_io
    WHERE latency_ns IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5
), worst AS (
    SELECT * FROM slow
    WHERE p99 >= $p99_ms * 1e6
        AND total / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) >= $share_percent
    ORDER BY total DESC, process_id, comm, fs, op LIMIT 3
), files AS (
    SELECT w.process_id, w.comm, w.fs, w.op, max(f.path) AS path
    FROM worst AS w JOIN file_io AS f
        ON f.process_id = w.process_id AND f.comm = w.comm AND f.fs = w.fs AND f.op = w.op AND f.latency_ns = w.longest
    GROUP BY 1, 2, 3, 4
)
SELECT p99 / ($p99_ms * 1e6) AS score, since, pid, w.comm, w.fs, w.op, operations, p99 AS p99_ns, longest AS max_ns,
    CAST(total AS BIGINT) AS total_ns, path
FROM worst AS w LEFT JOIN files AS f ON f.process_id = w.process_id AND f.comm = w.comm AND f.fs = w.fs AND f.op = w.op
ORDER BY score DESC, w.process_id, w.comm, w.fs, w.op
