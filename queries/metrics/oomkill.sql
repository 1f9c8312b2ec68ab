-- Kills by the out-of-memory killer
--
-- A row is a process that the kernel killed because memory ran out; comm is the victim's name, not that of the task that asked for memory.
--
-- group: memory
-- needs: oom_kill
-- by: comm
-- metric: oom_kills = rate() kills lower : How many processes were killed.
SELECT ts, victim_comm AS comm
FROM oom_kill
