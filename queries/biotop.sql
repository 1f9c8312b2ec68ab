-- Summarize block I/O by process and disk
--
-- Requests for data, their bytes and their average time at the device, per interval or, without one, over the whole window. D is W for
-- writes and R for all else, MAJ and MIN the numbers of the disk. Flushes and driver commands have no data and are left out, as are
-- devices without requests (dm, md, zram) unless -d names one. The line above each block is the load average at its end.
--
-- group: disk
-- needs: block_io
-- uses: disk, system_sample
-- whole: system_sample
-- interval: Seconds of each block; without, one block for the whole window.
-- param: sort choice(all|io|bytes|time) = all -s --sort : What the first row has most of; all is the sum of them.
-- param: rows int = 20 -r --rows : The largest number of rows of a block.
-- param: disk text -d --disk : Only this disk (sda), or partition by its number (8:1).
-- param: noclear flag -C --noclear : Accepted as by the live tool; no screen is cleared anyway.
-- column: interval_end time hidden : End of the interval.
-- column: load1 float2 hidden : Load average over 1 minute.
-- column: load5 float2 hidden : Load average over 5 minutes.
-- column: load15 float2 hidden : Load average over 15 minutes.
-- column: running int hidden : Tasks that ran or wanted to.
-- column: tasks int hidden : Tasks that existed.
-- column: pid AS "PID" int<7 : Process that made the requests.
-- column: comm AS "COMM" comm<16 : Name of its thread.
-- column: d AS "D" text<1 : W for writes, R for all else.
-- column: major AS "MAJ" int<3 : Major number of the disk.
-- column: minor AS "MIN" int<3 : Minor number of the disk.
-- column: disk AS "DISK" text<8 : The disk.
-- column: requests AS "I/O" int>5 : How many requests.
-- column: bytes AS "Kbytes" kb>7 : Their bytes.
-- column: avg_ns AS "AVGms" ms2>6 : Their average time at the device.
-- title: {interval_end} loadavg: {load1} {load5} {load15} {running}/{tasks}\n
-- blocks: interval_end
-- example: biotop : Of the whole window.
-- example: biotop -s time -r 5 1 10 : The five that kept disks busiest, in each of the first ten seconds.
WITH done AS (
    SELECT
        @nth(ts) AS nth,
        process_id, pid, comm, CASE op WHEN 'write' THEN 'W' ELSE 'R' END AS d, disk, min(dev) AS dev,
        count(*) AS requests, sum(bytes) AS bytes, sum(latency_ns) AS latency
    FROM block_io
    WHERE latency_ns IS NOT NULL AND op NOT IN ('flush', 'drv_in', 'drv_out', 'scsi_in', 'scsi_out')
        AND ((layer = 'request' AND $disk IS NULL) OR disk = $disk OR dev = $disk)
    GROUP BY 1, 2, 3, 4, 5, 6
), ranked AS (
    SELECT nth, pid, comm, d, disk, dev, requests, bytes, latency,
        row_number() OVER (
            PARTITION BY nth
            -- Times count in microseconds here.
            ORDER BY CASE $sort
                WHEN 'io' THEN requests
                WHEN 'bytes' THEN bytes
                WHEN 'time' THEN latency
                ELSE requests + bytes + latency / 1000
            END DESC, pid, comm, d, disk, process_id
        ) AS place
    FROM done
    WHERE $count IS NULL OR nth < $count
), numbers AS (
    SELECT name, min(dev) AS dev FROM disk GROUP BY name
), numbered AS (
    -- A disk that came later isn't in the table; its partition's number has at least the right major.
    SELECT nth, pid, comm, d, disk, requests, bytes, latency, place, coalesce(n.dev, r.dev) AS dev
    FROM ranked AS r LEFT JOIN numbers AS n ON r.disk = n.name
    WHERE place <= $rows
), load AS (
    @load_averages()
)
SELECT
    @interval_end(n.nth) AS interval_end,
    load1, load5, load15, running, tasks,
    pid, comm, d, CAST(split_part(dev, ':', 1) AS BIGINT) AS major, CAST(split_part(dev, ':', 2) AS BIGINT) AS minor, disk,
    requests, bytes, CAST(floor(latency / requests) AS BIGINT) AS avg_ns
FROM numbered AS n LEFT JOIN load AS l ON n.nth = l.nth
ORDER BY interval_end, place
