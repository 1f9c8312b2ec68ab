-- Trace open family syscalls: which files are opened, by whom
--
-- One row per call of open, openat, openat2 or creat, failed ones too: FD is -1 and ERR the error number then. PATH is what the
-- caller gave. Rows are in the order in which the calls began; the live tool prints them as they end.
--
-- group: file
-- needs: file_open
-- param: timestamp flag -T --timestamp : Include the time (HH:MM:SS, UTC).
-- param: print_uid flag -U --print-uid : Include the user.
-- param: extended flag -e --extended-fields : Include the flags.
-- param: failed flag -x --failed : Only calls that failed.
-- param: name text -n --name : Only tasks whose name contains this.
-- param: tid int -t --tid : Only this thread.
-- param: uid int -u --uid : Only this user.
-- param: full_path flag -F --full-path : The path from the root, also where the caller gave a relative one.
-- column: ts AS "TIME" time<8 if timestamp : When the call began.
-- column: uid AS "UID" int<7 if print_uid : Effective user.
-- column: pid AS "PID" int<6 : Process.
-- column: tid int hidden : Thread.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: fd AS "FD" int>3 : The descriptor; -1 if the call failed.
-- column: errno AS "ERR" int>3 : 0, or why it failed.
-- column: flags AS "FLAGS" open_flags<8 if extended : Flags of the call.
-- column: mode text hidden : Permissions of the file that was to be made, octal.
-- column: latency_ns us1 hidden : How long the call took.
-- column: path AS "PATH" text unless full_path : Path as the caller gave it.
-- column: full_path AS "PATH" text if full_path : Path from the root; as the caller gave it, if nobody knows the directory.
-- example: opensnoop -x : Calls that failed.
-- example: opensnoop -T -n nginx -F : What nginx opened and when, with whole paths.
SELECT ts, uid, pid, tid, comm, coalesce(fd, -1) AS fd, errno, flags, mode, latency_ns, path, coalesce(full_path, path) AS full_path
FROM file_open
WHERE (NOT $failed OR errno <> 0)
    AND ($name IS NULL OR strpos(comm, $name) > 0)
    AND ($tid IS NULL OR tid = $tid)
    AND ($uid IS NULL OR uid = $uid)
ORDER BY ts, pid, tid, path
