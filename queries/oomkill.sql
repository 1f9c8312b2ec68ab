-- Trace kills by the out-of-memory killer
--
-- One line per process that the kernel chose to kill because memory ran out: the task whose allocation failed, the victim, the memory that was to
-- be had (in pages of 4 KiB), and the load average of the last second. The memory of the victim is in the machine formats.
--
-- group: memory
-- needs: oom_kill
-- uses: system_sample
-- whole: system_sample
-- line: {ts} Triggered by PID {pid} ("{comm}"), OOM kill of PID {victim_pid} ("{victim_comm}"), {pages} pages unless is_loaded=1
-- line: {ts} Triggered by PID {pid} ("{comm}"), OOM kill of PID {victim_pid} ("{victim_comm}"), {pages} pages, loadavg: {load1} {load5} {load15} {running}/{tasks}
-- column: ts time : When the victim was chosen.
-- column: pid int : Process whose allocation failed.
-- column: comm comm : Name of its thread.
-- column: victim_pid int : The victim.
-- column: victim_comm comm : Its name.
-- column: pages int : Memory that the search was about, in pages of 4 KiB: the host's, or the limit of a cgroup.
-- column: is_loaded int : Whether the load average is known.
-- column: load1 float2 : Load average over 1 minute.
-- column: load5 float2 : Load average over 5 minutes.
-- column: load15 float2 : Load average over 15 minutes.
-- column: running int : Tasks that ran or wanted to.
-- column: tasks int : Tasks that existed.
-- column: constraint text : What ran out.
-- column: total_vm_bytes int : Virtual memory of the victim.
-- column: anon_rss_bytes int : Its anonymous memory in RAM.
-- column: file_rss_bytes int : Its file pages in RAM.
-- column: shmem_rss_bytes int : Its shared memory in RAM.
-- example: oomkill : Who was killed, and why.
-- example: oomkill --output json : With the victims' memory.
SELECT o.ts, pid, comm, victim_pid, victim_comm, CAST(floor(allowed_bytes / 4096) AS BIGINT) AS pages,
    load1 IS NOT NULL AS is_loaded, load1, load5, load15, running, tasks,
    oom_constraint AS "constraint", total_vm_bytes, anon_rss_bytes, file_rss_bytes, shmem_rss_bytes
FROM oom_kill AS o LEFT JOIN (
    SELECT ts, lead(ts) OVER (ORDER BY ts) AS next_ts, load1, load5, load15, running, tasks FROM system_sample
) AS s ON s.ts <= o.ts AND (s.next_ts IS NULL OR s.next_ts > o.ts)
ORDER BY o.ts, victim_pid
