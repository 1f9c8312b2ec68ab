-- Major page faults: tasks that had to wait for a page
--
-- A row is a page fault whose page had to be read, from a file or from swap.
--
-- group: memory
-- needs: major_fault
-- by: comm
-- metric: major_faults = rate() faults lower : How many major faults.
SELECT ts, comm
FROM major_fault
