-- Summarize block device I/O size as a histogram
--
-- How large the requests are that block devices get, by the name of the thread that made them; the live tool has the thread that issued
-- them, often one of the kernel's. Flushes have no data and are in the first bucket. Devices without requests (dm, md, zram) are left out
-- unless -d names one: what goes through them is I/O of the disks below.
--
-- group: disk
-- needs: block_io
-- param: command text -c --command : Only threads whose name begins with this.
-- param: disk text -d --disk : Only this disk (sda), or partition by its number (8:1).
-- histogram: bytes kbytes
-- by: comm "Process Name = {comm}" : By name of the thread.
-- column: ts time : When the request was made.
-- column: bytes int : Its size.
-- column: comm comm : Name of the thread that made it.
-- column: pid int : Its process.
-- column: disk text : The disk.
-- column: op text : Operation.
-- column: process_id int : Process, even if its pid was used again.
-- example: bitesize -T 1 : For each second, with the time.
-- example: bitesize -c fio --by op : Those of fio, by operation.
SELECT ts, bytes, comm, pid, process_id, disk, op
FROM block_io
WHERE pid IS NOT NULL
    AND ((layer = 'request' AND $disk IS NULL) OR disk = $disk OR dev = $disk)
    AND ($command IS NULL OR starts_with(comm, $command))
