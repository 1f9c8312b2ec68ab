-- Programs executed most often
--
-- group: summary
-- needs: process_exec
-- column: comm AS "COMM" comm<16 : Name of the thread, after the call.
-- column: execs AS "EXECS" int>7 : How often.
-- column: failed AS "FAILED" int>7 : How many of them failed.
SELECT comm, count(*) AS execs, CAST(sum(CASE WHEN ret <> 0 THEN 1 ELSE 0 END) AS BIGINT) AS failed
FROM process_exec
GROUP BY comm
ORDER BY execs DESC, comm
LIMIT 5
