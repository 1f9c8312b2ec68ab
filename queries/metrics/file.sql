-- Operations on files: latency, throughput, errors
--
-- A row is a call that read, wrote, synced or truncated a regular file, of whatever file system (proc and sysfs, too), page cache or disk.
-- Opens are in open_latency, memory-mapped files in no row.
--
-- group: file
-- needs: file_io
-- by: comm
-- by: cgroup
-- by: fs, op
-- metric: file_latency = quantiles(latency_ns) ns lower : How long the call took.
-- metric: file_sync_latency = quantiles(sync_ns) ns lower : The same, of calls that sync (fsync, fdatasync, sync_file_range, …) alone.
-- metric: file_read = rate(read_bytes) bytes neutral : Bytes that were read.
-- metric: file_written = rate(written_bytes) bytes neutral : Bytes that were written.
-- metric: file_operations = rate() calls neutral : How many calls.
-- metric: file_errors = share(failed) lower : Share of the calls that failed.
SELECT ts, comm, process_id, fs, op, latency_ns,
    CASE WHEN op = 'sync' THEN latency_ns END AS sync_ns,
    CASE WHEN op = 'read' THEN bytes END AS read_bytes,
    CASE WHEN op = 'write' THEN bytes END AS written_bytes,
    CAST(CASE WHEN errno = 0 THEN 0 WHEN errno <> 0 THEN 1 END AS BIGINT) AS failed
FROM file_io
WHERE op <> 'open'
