-- Summarize file system operations latency
--
-- One histogram for each kind of operation on regular files: how long reads, writes, opens, fsync (all ways to sync) and truncates
-- took, in the system call. The live tool leaves the system call's own part out, doesn't know truncates, and on some file systems
-- counts getattr as well.
--
-- group: file
-- needs: file_io
-- param: type text -t --type : Only this file system (ext4, xfs, btrfs, nfs, overlay, …); without, every one.
-- histogram: latency_ns ns
-- by: operation "operation = '{operation}'" : By kind of operation.
-- column: ts time : When the operation began.
-- column: latency_ns us1 : How long it took.
-- column: operation text : What was done.
-- column: call text : The system call.
-- column: fs text : Type of the file system.
-- column: path text : Path of the file.
-- column: pid int : Process.
-- column: comm comm : Name of the thread.
-- column: process_id int : Process, even if its pid was used again.
-- example: fsdist -t ext4 : Operations on ext4.
-- example: fsdist -t xfs -m 5 : In milliseconds, for each five seconds.
-- example: fsdist --by fs : Each file system for itself.
SELECT ts, latency_ns, CASE op WHEN 'sync' THEN 'fsync' ELSE op END AS operation, call, fs, path, pid, comm, process_id
FROM file_io
WHERE $type IS NULL OR fs = $type OR (fs = 'nfs4' AND $type = 'nfs')
