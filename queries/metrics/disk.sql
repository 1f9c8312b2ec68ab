-- Disk requests: latency, queue, throughput, errors
--
-- A row is a request that a disk has completed. Devices without requests (dm, md, zram) are left out: what goes through them is I/O of the
-- disks below. A request that was issued before the window has no times.
--
-- group: disk
-- needs: block_io
-- by: comm
-- by: cgroup
-- by: disk, op
-- metric: disk_latency = quantiles(latency_ns) ns lower : Time at the device, from issue to the driver to completion.
-- metric: disk_queue = quantiles(queued_ns) ns lower : Time in the queue before that, of requests that went through one.
-- metric: disk_throughput = rate(done_bytes) bytes neutral : Bytes that were read and written.
-- metric: disk_requests = rate() requests neutral : How many requests.
-- metric: disk_errors = share(failed) lower : Share of the requests that failed.
SELECT ts, comm, process_id, disk, op, latency_ns, queued_ns,
    CAST(CASE WHEN error = 0 AND op IN ('read', 'write', 'zone_append') THEN bytes END AS BIGINT) AS done_bytes,
    CAST(CASE WHEN error = 0 THEN 0 WHEN error <> 0 THEN 1 END AS BIGINT) AS failed
FROM block_io
-- No error, nor success: it was not over when the window ended.
WHERE layer = 'request' AND error IS NOT NULL
