-- Trace block I/O: each request with process, disk and latency
--
-- One row per request, in the order of completion: TIME(s) is when it was completed, LAT(ms) the time since it was issued to the
-- driver, QUE(ms) its time in the queue before, `-` if it never was in one. T is the operation (Read, Write, Discard, Flush, None of
-- these) with its flags (Flush before and FUA, readAhead, Sync, Metadata). COMM and PID are those of the task that made the request,
-- for flushes too, where the live tool has `?`. Devices without requests (dm, md, zram) are left out unless -d names one: what goes
-- through them is I/O of the disks below.
--
-- group: disk
-- needs: block_io
-- param: queued flag -Q --queued : Include the time in the queue.
-- param: disk text -d --disk : Only this disk (sda), or partition by its number (8:1).
-- param: all flag -a --all : Include requests that were issued before the window, and at the end those that were not over then.
-- column: ts time hidden : When the request was made.
-- column: completed_ts AS "TIME(s)" since_first6<11 : When it was completed, to a microsecond.
-- column: comm AS "COMM" comm14<14 : Name of the thread that made it.
-- column: pid AS "PID" int<7 : Its process.
-- column: disk AS "DISK" text<7 : The disk.
-- column: dev text hidden : major:minor of the partition, else of the disk.
-- column: rwbs AS "T" text<4 : Operation and flags.
-- column: sector AS "SECTOR" int<10 : First sector (of 512 bytes) on the disk.
-- column: bytes AS "BYTES" int<7 : Its size.
-- column: queued_ns AS "QUE(ms)" ms3>7 if queued : Time in the queue.
-- column: latency_ns AS "LAT(ms)" ms3>7 : Time at the device.
-- column: error errno hidden : 0, or why it failed.
-- example: biosnoop -Q : With the time in the queue.
-- example: biosnoop -a : What was under way at either end as well, such as I/O that hangs.
-- example: biosnoop -d sda --from +10s --to +11s : One disk, for a second.
WITH done AS (
    SELECT ts,
        CASE
            WHEN latency_ns IS NOT NULL THEN to_timestamp(date_part('epoch', CAST(ts AS TIMESTAMPTZ)) + (coalesce(queued_ns, 0) + latency_ns) / 1e9)
            WHEN error IS NOT NULL THEN to_timestamp(date_part('epoch', CAST(ts AS TIMESTAMPTZ)))
        END AS completed_ts,
        comm, pid, disk, dev, op, flags, sector, bytes, queued_ns, latency_ns, error
    FROM block_io
    WHERE (latency_ns IS NOT NULL OR $all)
        AND ((layer = 'request' AND $disk IS NULL) OR disk = $disk OR dev = $disk)
)
SELECT ts, completed_ts, comm, pid, disk, dev,
    concat(
        CASE WHEN strpos(flags, 'preflush') > 0 THEN 'F' ELSE '' END,
        CASE op
            WHEN 'read' THEN 'R'
            WHEN 'write' THEN 'W'
            WHEN 'write_same' THEN 'W'
            WHEN 'discard' THEN 'D'
            WHEN 'secure_erase' THEN 'DE'
            WHEN 'flush' THEN 'F'
            ELSE 'N'
        END,
        CASE WHEN strpos(flags, 'fua') > 0 THEN 'F' ELSE '' END,
        CASE WHEN strpos(flags, 'readahead') > 0 THEN 'A' ELSE '' END,
        CASE WHEN strpos(flags, 'sync') > 0 THEN 'S' ELSE '' END,
        CASE WHEN strpos(flags, 'meta') > 0 THEN 'M' ELSE '' END
    ) AS rwbs,
    sector, bytes, queued_ns, latency_ns, error
FROM done
ORDER BY completed_ts, ts, disk, sector, pid, bytes
