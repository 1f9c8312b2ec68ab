-- Programs are started at a high rate, or can't be started
--
-- Starting a program costs a millisecond of CPU or more; a loop that starts hundreds a second shows up nowhere else.
--
-- group: triage
-- needs: process_exec
-- param: execs_per_s number = 50 --execs_per_s : Programs started by one parent per second, from which on they count.
-- param: failures number = 5 --failures : Attempts to start a program that failed, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: ppid int : The parent.
-- column: comm comm : What was started, or tried, most often.
-- column: filename text : Its file.
-- column: execs int : How often.
-- column: per_second float1 : Per second of the window.
-- column: failed int : How many attempts failed.
-- finding: process {ppid} started {execs} programs, {per_second} a second, mostly {filename}; {failed} attempts failed
-- evidence: execsnoop -x
WITH counted AS (
    -- A search through PATH fails for each directory but the last: only the last try of a process counts as failed.
    SELECT ppid, count(*) AS execs, min(ts) AS since, sum(CASE WHEN ret <> 0 AND last = 1 THEN 1 ELSE 0 END) AS failed,
        count(*) / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS per_second
    FROM (SELECT ts, ppid, ret, row_number() OVER (PARTITION BY process_id ORDER BY ts DESC) AS last FROM process_exec) AS tries
    GROUP BY ppid
), named AS (
    SELECT ppid, comm, filename, row_number() OVER (PARTITION BY ppid ORDER BY count(*) DESC, filename, comm) AS place
    FROM process_exec
    GROUP BY ppid, comm, filename
)
SELECT greatest(per_second / $execs_per_s, failed / $failures) AS score, since, c.ppid, comm, filename, execs, per_second,
    CAST(failed AS BIGINT) AS failed
FROM counted AS c LEFT JOIN named AS n ON c.ppid = n.ppid AND place = 1
WHERE per_second >= $execs_per_s OR failed >= $failures
ORDER BY score DESC, c.ppid
LIMIT 3
