-- Hardware interrupts: time and number
--
-- A row is what the handlers of an interrupt did on one CPU in 100 ms, for one power of two of their lengths. What the kernel serves
-- without a handler (local timer, IPIs) is not in it. Interrupts belong to no task.
--
-- group: interrupt
-- needs: hardirq
-- by: handler
-- metric: hardirq_time = rate(total_ns) ns lower : CPU time in handlers of hardware interrupts.
-- metric: hardirqs = rate(interrupts) interrupts neutral : How many hardware interrupts were handled.
SELECT ts, name AS handler, total_ns, "count" AS interrupts
FROM hardirq
