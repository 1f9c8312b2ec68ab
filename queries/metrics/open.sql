-- Opens of files: rate, latency, failures
--
-- A row is a call to open a file. Programs that search for a file open it in vain where it is not: that is a failure, but no error.
-- Nor are the answers to O_EXCL, O_NOFOLLOW and O_NONBLOCK errors, or a signal.
--
-- group: file
-- needs: file_open
-- by: comm
-- metric: opens = rate() opens neutral : How many files were opened, or tried.
-- metric: open_latency = quantiles(latency_ns) ns lower : How long the call took.
-- metric: failed_opens = share(failed) lower : Share of the calls that failed, whatever for.
-- metric: open_errors = share(refused) lower : Share of the calls that failed with an error (no permission, too many files, …).
SELECT ts, comm, latency_ns,
    CAST(CASE WHEN errno = 0 THEN 0 WHEN errno <> 0 THEN 1 END AS BIGINT) AS failed,
    -- ENOENT, EINTR, ENXIO, EAGAIN, EEXIST, ENOTDIR, ELOOP.
    CAST(CASE WHEN errno IN (0, 2, 4, 6, 11, 17, 20, 40) THEN 0 WHEN errno IS NOT NULL THEN 1 END AS BIGINT) AS refused
FROM file_open
