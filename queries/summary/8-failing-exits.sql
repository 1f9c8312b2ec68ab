-- Processes that ended with an error
--
-- group: summary
-- needs: process_exit
-- column: comm AS "COMM" comm<16 : Name of the process's last thread.
-- column: exit_code AS "EXIT_CODE" exit(signal, core_dumped)<44 : Exit code; null if a signal killed it.
-- column: signal int hidden : The signal that killed it.
-- column: core_dumped int hidden : Whether it left a core dump.
-- column: exits AS "EXITS" int>7 : How often.
SELECT comm, exit_code, signal, core_dumped, count(*) AS exits
FROM process_exit
WHERE NOT is_thread AND (exit_code <> 0 OR signal IS NOT NULL)
GROUP BY comm, exit_code, signal, core_dumped
ORDER BY exits DESC, comm, exit_code, signal, core_dumped
LIMIT 5
