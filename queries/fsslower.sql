-- Trace file system operations slower than a threshold
--
-- Reads (R), writes (W), opens (O), syncs (F) and truncates (T) of regular files that took longer than -m. Times are those of the
-- system calls, with the way through the kernel to the file system and back, which the live tool leaves out; it doesn't know
-- truncates. A failed operation has its negative error number as BYTES; what has no place in the file, or no size, is `-`.
--
-- group: file
-- needs: file_io
-- param: min int = 10 -m --min : Only operations that took longer than this, in ms; 0 is all.
-- param: type text -t --type : Only this file system (ext4, xfs, btrfs, nfs, overlay, …); without, every one.
-- param: full_path flag -F --full-path : The whole path instead of the file's name.
-- column: ts AS "TIME" time<8 : When the operation began.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: pid AS "PID" int<7 : Process.
-- column: t AS "T" text<1 : R, W, O, F or T.
-- column: call text hidden : The system call.
-- column: ret AS "BYTES" int<7 : Bytes that were read or written, or the negative error number.
-- column: offset_bytes AS "OFF_KB" kb<8 : Where in the file it began; of a truncate, the new length.
-- column: latency_ns AS "LAT(ms)" ms2>7 : How long it took.
-- column: fs text hidden : Type of the file system.
-- column: path AS "FILENAME" file_name unless full_path : Path of the file.
-- column: path AS "FILENAME" text if full_path : Path of the file.
-- example: fsslower -t xfs -m 1 : Operations on xfs that took longer than a millisecond.
-- example: fsslower -F -p 1234 : What one process waited for, with whole paths.
SELECT ts, comm, pid,
    CASE op WHEN 'read' THEN 'R' WHEN 'write' THEN 'W' WHEN 'open' THEN 'O' WHEN 'sync' THEN 'F' WHEN 'truncate' THEN 'T' END AS t,
    call,
    CASE WHEN errno <> 0 THEN -errno WHEN op IN ('sync', 'truncate') THEN NULL ELSE coalesce(bytes, 0) END AS ret,
    CASE op WHEN 'open' THEN 0 ELSE "offset" END AS offset_bytes, latency_ns, fs, path
FROM file_io
WHERE latency_ns > $min * 1000000 AND ($type IS NULL OR fs = $type OR (fs = 'nfs4' AND $type = 'nfs'))
ORDER BY ts, pid, latency_ns, path, t, call, ret, offset_bytes, comm
