-- Pressure (PSI): for how long tasks waited for CPU, memory, disks
--
-- A row is a second of the whole host. Empty on kernels without PSI.
--
-- group: scheduler
-- needs: system_sample
-- metric: psi_cpu = share(cpu_ns, interval_ns) lower : Share of the time in which some task waited for a CPU.
-- metric: psi_memory = share(memory_ns, interval_ns) lower : Share of the time in which some task waited for memory.
-- metric: psi_io = share(io_ns, interval_ns) lower : Share of the time in which some task waited for a disk.
WITH samples AS (
    -- A sample a second: few rows.
    SELECT ts, psi_cpu_some_ns, psi_memory_some_ns, psi_io_some_ns,
        CAST(date_part('epoch', CAST(ts AS TIMESTAMPTZ) - CAST(lag(ts) OVER (ORDER BY ts) AS TIMESTAMPTZ)) * 1e9 AS BIGINT) AS interval_ns
    FROM system_sample
)
SELECT ts, interval_ns,
    least(psi_cpu_some_ns, interval_ns) AS cpu_ns, least(psi_memory_some_ns, interval_ns) AS memory_ns, least(psi_io_some_ns, interval_ns) AS io_ns
FROM samples
WHERE interval_ns > 0 AND psi_cpu_some_ns IS NOT NULL
