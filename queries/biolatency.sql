-- Summarize block device I/O latency as a histogram
--
-- How long block devices took for each request, from its issue to the driver until it was completed, flushes included. One histogram,
-- or one per interval, disk or set of flags. Devices without requests (dm, md, zram) are left out unless -d names one: what goes through
-- them is I/O of the disks below. The flags Integrity, Idle and NoMerge are not recorded.
--
-- group: disk
-- needs: block_io
-- param: queued flag -Q --queued : Include the time in the queue.
-- param: disk text -d --disk : Only this disk (sda), or partition by its number (8:1).
-- histogram: latency_ns ns
-- by: disk -D --disks "disk = {disk}" : A histogram per disk.
-- by: flags -F --flags "flags = {flags}" : A histogram per set of flags.
-- column: ts time : When the request was made.
-- column: latency_ns us1 : How long it took.
-- column: disk text : The disk.
-- column: dev text : major:minor of the partition, else of the disk.
-- column: op text : Operation.
-- column: flags text : Flags and operation, in the live tool's words.
-- column: pid int : Process that made it.
-- column: comm comm : Name of its thread.
-- column: process_id int : Process, even if its pid was used again.
-- example: biolatency -D : Each disk for itself.
-- example: biolatency -mT 1 : In milliseconds, for each second.
-- example: biolatency -Q -F -d sda : Queue and device time of one disk, by flags.
SELECT ts, latency_ns + CASE WHEN $queued THEN coalesce(queued_ns, 0) ELSE 0 END AS latency_ns, disk, dev, op,
    concat(
        CASE WHEN strpos(flags, 'nowait') > 0 THEN 'NoWait-' ELSE '' END,
        CASE WHEN strpos(flags, 'background') > 0 THEN 'Background-' ELSE '' END,
        CASE WHEN strpos(flags, 'readahead') > 0 THEN 'ReadAhead-' ELSE '' END,
        CASE WHEN strpos(flags, 'preflush') > 0 THEN 'PreFlush-' ELSE '' END,
        CASE WHEN strpos(flags, 'fua') > 0 THEN 'FUA-' ELSE '' END,
        CASE WHEN strpos(flags, 'prio') > 0 THEN 'Priority-' ELSE '' END,
        CASE WHEN strpos(flags, 'meta') > 0 THEN 'Metadata-' ELSE '' END,
        CASE WHEN strpos(flags, 'sync') > 0 THEN 'Sync-' ELSE '' END,
        CASE op
            WHEN 'read' THEN 'Read'
            WHEN 'write' THEN 'Write'
            WHEN 'flush' THEN 'Flush'
            WHEN 'discard' THEN 'Discard'
            WHEN 'secure_erase' THEN 'SecureErase'
            WHEN 'write_zeroes' THEN 'WriteZeroes'
            WHEN 'write_same' THEN 'WriteSame'
            WHEN 'drv_in' THEN 'DrvIn'
            WHEN 'drv_out' THEN 'DrvOut'
            WHEN 'scsi_in' THEN 'SCSIIn'
            WHEN 'scsi_out' THEN 'SCSIOut'
            WHEN 'zone_append' THEN 'ZoneAppend'
            WHEN 'zone_open' THEN 'ZoneOpen'
            WHEN 'zone_close' THEN 'ZoneClose'
            WHEN 'zone_finish' THEN 'ZoneFinish'
            WHEN 'zone_reset' THEN 'ZoneReset'
            WHEN 'zone_reset_all' THEN 'ZoneResetAll'
            ELSE op
        END
    ) AS flags,
    pid, comm, process_id
FROM block_io
WHERE (layer = 'request' AND $disk IS NULL) OR disk = $disk OR dev = $disk
