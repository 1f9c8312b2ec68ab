-- Memory ran out
--
-- group: triage
-- needs: oom_kill
-- param: kills number = 1 --kills : Kills from which on they count.
-- column: score float1 : A hundred for each kill: nothing is worse.
-- column: since time : The first one.
-- column: comm comm : The victim.
-- column: pid int : Its process, of several the first.
-- column: kills int : How often.
-- column: rss_bytes kb : Its anonymous memory.
-- column: constraint_name text : What ran out.
-- finding: the kernel killed {comm} (pid {pid}) with {rss_bytes} KiB of memory, {kills} times ({constraint_name})
-- evidence: oomkill
SELECT 100.0 * count(*) / $kills AS score, min(ts) AS since, victim_comm AS comm, min(victim_pid) AS pid, count(*) AS kills,
    max(anon_rss_bytes) AS rss_bytes, max(oom_constraint) AS constraint_name
FROM oom_kill
GROUP BY victim_comm
HAVING count(*) >= $kills
ORDER BY score DESC, comm
LIMIT 3
