-- Show the container, pod, unit and cgroup that each process was in
--
-- One row per process. Its cgroup is the one that it was in at the start of the window or, of one that began later, when it first
-- executed a program; else its parent's, through at most 64 generations. What containers and pods are called stands in the files of the
-- host's runtimes; where the recorder couldn't see them there are ids. By these columns any histogram can be grouped (--by container).
--
-- group: process
-- needs: process, process_exec, process_fork
-- uses: cgroup, container
-- whole: process, process_exec, process_fork, cgroup, container
-- column: pid AS "PID" int<7 : Process.
-- column: comm AS "COMM" comm<16 : Its name when it was first seen.
-- column: container AS "CONTAINER" text<16 : Its container: the name, or the beginning of the id.
-- column: pod AS "POD" text<16 : Its Kubernetes pod: namespace/name, or the UID.
-- column: unit AS "UNIT" text<20 : The unit of systemd that it is of.
-- column: cgroup AS "CGROUP" text : Path of its cgroup.
-- column: process_id int hidden : Process, even if its pid was used again.
-- example: owners -p 1234 : That of one process.
SELECT pid, comm, container, pod, unit, cgroup, process_id
FROM (
    @owners()
) AS o
ORDER BY pid, process_id
