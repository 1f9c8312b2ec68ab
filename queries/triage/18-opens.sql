-- Files can't be opened
--
-- Files that don't exist are left out: searching for them is how many programs work.
--
-- group: triage
-- needs: file_open
-- param: failures number = 5 --failures : Opens of a program that failed in the same way, from which on they count.
-- column: score float1 : How many times the threshold.
-- column: since time : The first one.
-- column: comm comm : The program.
-- column: pid int : Its process, of several the first.
-- column: errno errno : Why it failed.
-- column: failures int : How often.
-- column: path text : One of the files.
-- finding: {comm} (pid {pid}) could not open files: {errno}, {failures} times, such as {path}
-- evidence: opensnoop -x -n {comm}
SELECT count(*) / $failures AS score, min(ts) AS since, comm, min(pid) AS pid, errno, count(*) AS failures, min(coalesce(full_path, path)) AS path
FROM file_open
-- ENOENT, ENOTDIR; EINTR, EAGAIN, ELOOP, ENXIO and EEXIST are answers that programs ask for (O_NONBLOCK, O_NOFOLLOW, O_EXCL).
WHERE errno NOT IN (0, 2, 4, 6, 11, 17, 20, 40)
GROUP BY comm, errno
HAVING count(*) >= $failures
ORDER BY score DESC, comm, errno
LIMIT 3
