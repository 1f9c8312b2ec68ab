-- CPU use of the host, as the kernel accounts for it
--
-- A row is a second of the whole host, all CPUs together, in steps of the kernel's tick (mostly 10 ms).
--
-- group: scheduler
-- needs: system_sample
-- metric: host_cpu_busy = share(busy_ns, total_ns) lower : Share of the CPUs' time that was not idle.
-- metric: host_cpu_system = share(system_ns, total_ns) lower : Share of it in the kernel, interrupts included.
-- metric: host_cpu_iowait = share(iowait_ns, total_ns) lower : Share of it idle while a task waited for a disk.
-- metric: host_cpu_steal = share(steal_ns, total_ns) lower : Share of it that the hypervisor took.
WITH samples AS (
    SELECT ts, cpu_idle_ns AS idle_ns, cpu_iowait_ns AS iowait_ns, cpu_steal_ns AS steal_ns,
        cpu_system_ns + cpu_irq_ns + cpu_softirq_ns AS system_ns,
        cpu_user_ns + cpu_nice_ns + cpu_system_ns + cpu_idle_ns + cpu_iowait_ns + cpu_irq_ns + cpu_softirq_ns + cpu_steal_ns AS total_ns
    FROM system_sample
)
SELECT ts, total_ns - idle_ns - iowait_ns AS busy_ns, system_ns, iowait_ns, steal_ns, total_ns
FROM samples
WHERE total_ns IS NOT NULL
