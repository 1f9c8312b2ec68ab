-- Processes that end: how, and after how long
--
-- A row is a process that ended; threads are left out. The status is the exit code, or the signal that killed it.
--
-- group: process
-- needs: process_exit
-- by: comm
-- by: status
-- metric: exits = rate() exits neutral : How many processes ended.
-- metric: failed_exits = share(failed) lower : Share of them that ended with an exit code other than 0, or by a signal.
-- metric: killed_exits = share(killed) lower : Share of them that a signal killed.
-- metric: process_lifetime = quantiles(lifetime_ns) ns neutral : How long they had lived.
SELECT ts, comm, lifetime_ns,
    CASE WHEN signal IS NOT NULL THEN concat('signal ', CAST(signal AS VARCHAR)) ELSE concat('exit ', CAST(exit_code AS VARCHAR)) END AS status,
    CAST(CASE WHEN signal IS NOT NULL OR exit_code <> 0 THEN 1 ELSE 0 END AS BIGINT) AS failed,
    CAST(CASE WHEN signal IS NOT NULL THEN 1 ELSE 0 END AS BIGINT) AS killed
FROM process_exit
WHERE NOT is_thread
