-- Signals that are sent
--
-- A row is a signal, sent by a task or by the kernel on behalf of the one that ran. The name is that of the sender; target is who gets it.
--
-- group: signal
-- needs: signal
-- by: comm
-- by: signal
-- by: target
-- metric: signals = rate() signals neutral : How many signals.
SELECT ts, comm, name AS signal, target_comm AS target
FROM signal
