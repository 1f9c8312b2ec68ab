-- Summarize reads and writes by file and thread
--
-- Calls that read or wrote regular files and their bytes, per interval or, without one, over the whole window. The live tool adds up
-- the bytes that were asked for (--requested does so, too) and knows read, write, pread64 and pwrite64 only; this counts every call
-- that reads or writes, io_uring's too. The line above each block is the load average at its end.
--
-- group: file
-- needs: file_io
-- uses: system_sample
-- whole: system_sample
-- interval: Seconds of each block; without, one block for the whole window.
-- param: sort choice(all|reads|writes|rbytes|wbytes) = all -s --sort : What the first row has most of; all is the sum of them.
-- param: rows int = 20 -r --rows : The largest number of rows of a block.
-- param: requested flag --requested : Bytes that were asked for instead of those that were read and written.
-- param: full_path flag -F --full-path : The whole path instead of the file's name.
-- param: all flag -a --all : Accepted as by the live tool; only regular files are recorded.
-- param: noclear flag -C --noclear : Accepted as by the live tool; no screen is cleared anyway.
-- column: interval_end time hidden : End of the interval.
-- column: load1 float2 hidden : Load average over 1 minute.
-- column: load5 float2 hidden : Load average over 5 minutes.
-- column: load15 float2 hidden : Load average over 15 minutes.
-- column: running int hidden : Tasks that ran or wanted to.
-- column: tasks int hidden : Tasks that existed.
-- column: pid int hidden : Process.
-- column: tid AS "TID" int<7 : Thread.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: reads AS "READS" int<6 : Calls that read.
-- column: writes AS "WRITES" int<6 : Calls that wrote.
-- column: read_bytes AS "R_Kb" kb<7 : Bytes read.
-- column: write_bytes AS "W_Kb" kb<7 : Bytes written.
-- column: t AS "T" text<1 : R, a regular file.
-- column: fs text hidden : Type of the file system.
-- column: path AS "FILE" file_name unless full_path : Path of the file.
-- column: path AS "FILE" text if full_path : Path of the file.
-- title: {interval_end} loadavg: {load1} {load5} {load15} {running}/{tasks}\n
-- blocks: interval_end
-- example: filetop : The busiest files of the whole window.
-- example: filetop -s wbytes -r 5 1 10 : The five most written, in each of the first ten seconds.
WITH calls AS (
    SELECT
        @nth(ts) AS nth,
        process_id, pid, tid, dev, inode, op, min(fs) AS fs, min(comm) AS comm, min(path) AS path,
        count(*) AS calls, sum(bytes) AS bytes, sum(requested_bytes) AS requested
    FROM file_io
    WHERE op IN ('read', 'write')
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), files AS (
    SELECT nth, process_id, pid, tid, dev, inode, min(fs) AS fs, min(comm) AS comm, min(path) AS path,
        sum(CASE op WHEN 'read' THEN calls ELSE 0 END) AS reads,
        sum(CASE op WHEN 'write' THEN calls ELSE 0 END) AS writes,
        sum(CASE WHEN op <> 'read' THEN 0 WHEN $requested THEN requested ELSE bytes END) AS read_bytes,
        sum(CASE WHEN op <> 'write' THEN 0 WHEN $requested THEN requested ELSE bytes END) AS write_bytes
    FROM calls
    GROUP BY 1, 2, 3, 4, 5, 6
), ranked AS (
    SELECT nth, pid, tid, comm, fs, reads, writes, read_bytes, write_bytes, path,
        row_number() OVER (
            PARTITION BY nth
            ORDER BY CASE $sort
                WHEN 'reads' THEN reads
                WHEN 'writes' THEN writes
                WHEN 'rbytes' THEN read_bytes
                WHEN 'wbytes' THEN write_bytes
                ELSE reads + writes + read_bytes + write_bytes
            END DESC, path, tid, process_id, dev, inode
        ) AS place
    FROM files
    WHERE $count IS NULL OR nth < $count
), load AS (
    @load_averages()
)
SELECT
    @interval_end(r.nth) AS interval_end,
    load1, load5, load15, running, tasks,
    pid, tid, comm, reads, writes, read_bytes, write_bytes, 'R' AS t, fs, path
FROM ranked AS r LEFT JOIN load AS l ON r.nth = l.nth
WHERE place <= $rows
ORDER BY interval_end, place
