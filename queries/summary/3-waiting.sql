-- Processes that waited longest for a CPU
--
-- group: summary
-- needs: sched_switch
-- column: pid AS "PID" int<7 : Process.
-- column: comm AS "COMM" comm<16 : Name of its thread that waited longest.
-- column: waited_ns AS "WAIT_S" seconds2>8 : All waits together.
-- column: max_ns AS "MAX_MS" ms2>8 : The longest wait.
-- column: waits AS "WAITS" int>9 : How many waits.
WITH threads AS (
    SELECT next_process_id AS process_id, next_pid AS pid, next_comm AS comm,
        sum(next_waited_ns) AS waited, max(next_waited_ns) AS longest, count(next_waited_ns) AS waits
    FROM sched_switch
    WHERE next_pid <> 0 AND next_waited_ns IS NOT NULL
    GROUP BY 1, 2, 3
), named AS (
    SELECT process_id, pid, waited, longest, waits, first_value(comm) OVER (PARTITION BY process_id, pid ORDER BY waited DESC, comm) AS comm
    FROM threads
)
SELECT pid, comm, CAST(sum(waited) AS BIGINT) AS waited_ns, max(longest) AS max_ns, CAST(sum(waits) AS BIGINT) AS waits
FROM named
GROUP BY process_id, pid, comm
ORDER BY waited_ns DESC, pid, process_id
LIMIT 3
