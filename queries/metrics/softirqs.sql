-- Soft interrupts: time and number
--
-- A row is what the runs of a soft interrupt did on one CPU in 100 ms, for one power of two of their lengths; the hardware interrupts that
-- came in between are included. Interrupts belong to no task.
--
-- group: interrupt
-- needs: softirq
-- by: vector
-- metric: softirq_time = rate(total_ns) ns lower : CPU time in soft interrupts.
-- metric: softirqs = rate(runs) runs neutral : How often soft interrupts ran.
SELECT ts, vector, total_ns, "count" AS runs
FROM softirq
