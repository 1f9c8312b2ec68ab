-- Busiest processes
--
-- Time on a CPU, from each switch away from a thread of the process, and up to the end for what still ran then.
--
-- group: summary
-- needs: sched_switch
-- uses: process, process_exec, process_fork, cgroup, container
-- whole: process, process_exec, process_fork, cgroup, container
-- column: pid AS "PID" int<7 : Process.
-- column: comm AS "COMM" comm<16 : Name of its thread that ran longest.
-- column: cpu_ns AS "CPU_S" seconds2>8 : Time on a CPU.
-- column: percent AS "%CPU" float1>6 : Of one CPU, over the window.
-- column: switches AS "SWITCHES" int>9 : How often it left a CPU.
-- column: owner AS "IN" text : Its container, pod or unit.
WITH threads AS (
    SELECT prev_process_id AS process_id, prev_pid AS pid, prev_comm AS comm, sum(prev_ran_ns) AS ran, count(prev_state) AS switches
    FROM sched_switch
    WHERE prev_pid <> 0
    GROUP BY 1, 2, 3
), named AS (
    SELECT process_id, pid, ran, switches, first_value(comm) OVER (PARTITION BY process_id, pid ORDER BY ran DESC, comm) AS comm FROM threads
), busiest AS (
    SELECT process_id, pid, comm, CAST(sum(ran) AS BIGINT) AS cpu_ns,
        sum(ran) / 1e7 / (date_part('epoch', $window_end) - date_part('epoch', $window_start)) AS percent,
        CAST(sum(switches) AS BIGINT) AS switches
    FROM named
    GROUP BY process_id, pid, comm
    ORDER BY cpu_ns DESC, pid, process_id
    LIMIT 5
), owners AS (
    @owners()
)
SELECT b.pid, b.comm, cpu_ns, percent, switches, coalesce(container, pod, unit) AS owner
FROM busiest AS b LEFT JOIN owners AS o ON o.process_id = b.process_id
ORDER BY cpu_ns DESC, b.pid, b.process_id
