-- Disks report errors
--
-- group: triage
-- needs: block_io
-- param: errors number = 1 --errors : Failed requests of a disk from which on they count.
-- column: score float1 : How many times the threshold, tenfold: an error is never normal.
-- column: since time : The first one.
-- column: disk text : The disk.
-- column: op text : What failed.
-- column: error errno : How.
-- column: errors int : How many requests.
-- finding: {errors} {op} requests of {disk} failed with {error}
-- evidence: sql "SELECT ts, comm, pid, op, sector, bytes, error FROM block_io WHERE disk = '{disk}' AND error <> 0 ORDER BY ts"
SELECT 10.0 * count(*) / $errors AS score, min(ts) AS since, disk, op, error, count(*) AS errors
FROM block_io
WHERE error <> 0
GROUP BY disk, op, error
HAVING count(*) >= $errors
ORDER BY score DESC, disk, op, error
LIMIT 3
