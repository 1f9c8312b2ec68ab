-- Trace the lifespan of short-lived files
--
-- One row per file that was made and removed in the window: who removed it, and how old it was then. A file is known by its path: one that
-- was renamed in between, or made by other means than open (link, rename, mknod), is not in it, nor one that another was renamed to. The
-- live tool knows a file by its inode.
--
-- group: file
-- needs: file_open, file_unlink
-- whole: file_open
-- param: full_path flag -F --full-path : The whole path instead of the file's name.
-- column: ts AS "TIME" time<8 : When it was removed.
-- column: pid AS "PID" int<6 : Process that removed it.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: age_ns AS "AGE(s)" seconds2<7 : Time from the call that made it to the one that removed it.
-- column: path AS "FILE" file_name unless full_path : Path of the file.
-- column: path AS "FILE" text if full_path : Path of the file.
-- column: made_pid int hidden : Process that made it.
-- column: made_comm comm hidden : Name of the thread that made it.
-- example: filelife : Files that were removed, and how long they had lived.
-- example: filelife -F --comm cc1 : With whole paths, what the compiler removed.
WITH changes AS (
    SELECT ts, pid, comm, coalesce(full_path, path) AS path, true AS made FROM file_open WHERE is_new
    UNION ALL
    SELECT ts, pid, comm, coalesce(full_path, path) AS path, false AS made FROM file_unlink WHERE errno = 0
), pairs AS (
    SELECT ts, pid, comm, path, made,
        lag(made) OVER same AS was_made, lag(ts) OVER same AS made_ts, lag(pid) OVER same AS made_pid, lag(comm) OVER same AS made_comm
    FROM changes
    WINDOW same AS (PARTITION BY path ORDER BY ts, made DESC)
)
SELECT ts, pid, comm,
    CAST(date_part('epoch', CAST(ts AS TIMESTAMPTZ) - CAST(made_ts AS TIMESTAMPTZ)) * 1e9 AS BIGINT) AS age_ns, path, made_pid, made_comm
FROM pairs
WHERE NOT made AND was_made
ORDER BY ts, pid, path
