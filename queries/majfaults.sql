-- Trace major page faults: which task had to wait for a page
--
-- One row per page that had to be read, from a file or from swap, while the task waited for it: what ru_majflt of getrusage(2) counts.
--
-- group: memory
-- needs: major_fault
-- column: ts AS "TIME" time<8 : When the page was there.
-- column: pid AS "PID" int<7 : Process.
-- column: tid AS "TID" int<7 : Thread.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: address AS "ADDRESS" hex>16 : What it touched.
-- column: ip AS "IP" hex>16 : The instruction; of the kernel, if it touched the page on behalf of the task.
-- example: majfaults --comm postgres : Those of postgres.
SELECT ts, pid, tid, comm, address, ip
FROM major_fault
ORDER BY ts, tid, address
