-- Trace exec calls: new programs with their arguments
--
-- One row per execve or execveat, by any thread. Failed ones are shown with -x. As in the live tool, ARGS is the file as the
-- caller named it, followed by the arguments after the program's own name.
--
-- group: process
-- needs: process_exec
-- param: time flag -T --time : Include the time (HH:MM:SS, UTC).
-- param: timestamp flag -t --timestamp : Include seconds since the beginning of the window.
-- param: fails flag -x --fails : Include failed calls.
-- param: uid int -u --uid : Only this user.
-- param: quote flag -q --quote : Put the arguments in quotation marks.
-- param: name text -n --name : Only commands whose name contains this.
-- param: line text -l --line : Only commands one of whose arguments contains this.
-- param: print_uid flag -U --print-uid : Print the user.
-- param: max_args int = 20 --max-args : The largest number of arguments to print.
-- column: ts AS "TIME" time<8 if time : When the call returned.
-- column: ts AS "TIME(s)" elapsed<8 if timestamp : When the call returned.
-- column: uid AS "UID" int<6 if print_uid : Effective user.
-- column: pcomm AS "PCOMM" comm<16 : Name of the thread, after the call.
-- column: pid AS "PID" int<6 : Process.
-- column: ppid AS "PPID" int<6 : Its parent.
-- column: ret AS "RET" int>3 : 0, or the negative error number.
-- column: args AS "ARGS" args unless quote : File and arguments.
-- column: args AS "ARGS" quoted_args if quote : File and arguments.
-- example: execsnoop -xT : All calls, failed ones too, with the time.
-- example: execsnoop -n make : What make's processes were started with.
WITH calls AS (
    SELECT ts, uid, comm, pid, ppid, ret, filename, args,
        -- The kernel puts the interpreter and its argument before a script's name; the caller never gave them.
        CASE
            WHEN args IS NULL THEN 1
            WHEN args[1] LIKE '/%' AND args[1] <> filename AND args[2] = filename THEN 2
            WHEN args[1] LIKE '/%' AND args[1] <> filename AND args[3] = filename THEN 3
            ELSE 1
        END AS own,
        CAST(array_length(args) AS BIGINT) AS length
    FROM process_exec
    WHERE ($fails OR ret = 0)
        AND ($uid IS NULL OR uid = $uid)
        AND ($name IS NULL OR strpos(comm, $name) > 0)
        AND ($line IS NULL OR strpos(array_to_string(args, ' '), $line) > 0)
)
SELECT ts, uid, comm AS pcomm, pid, ppid, ret,
    CASE
        WHEN args IS NULL THEN [filename]
        WHEN length - own > $max_args THEN array_append(array_concat([filename], array_slice(args, own + 1, own + $max_args)), '...')
        ELSE array_concat([filename], array_slice(args, own + 1, length))
    END AS args
FROM calls
ORDER BY ts, pid, ret
