-- Programs fail again and again
--
-- group: triage
-- needs: process_exit
-- param: exits number = 10 --exits : Exits of a program with the same error code, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: comm comm : The program.
-- column: exit_code int : Its exit code.
-- column: exits int : How often.
-- finding: {comm} exited {exits} times with code {exit_code}
-- evidence: exitsnoop -x
SELECT count(*) / $exits AS score, min(ts) AS since, comm, exit_code, count(*) AS exits
FROM process_exit
WHERE NOT is_thread AND exit_code <> 0
GROUP BY comm, exit_code
HAVING count(*) >= $exits
ORDER BY score DESC, comm, exit_code
LIMIT 3
