-- System calls: rate, errors, latency
--
-- A row is a system call that returned. The time of calls that are made to wait (for events, locks, children, a time) is a metric of its
-- own; reads and receives may wait, too, and count with the others. An error may be an answer that the program expects (EAGAIN, ENOENT).
-- Needs a recording with --probes syscall.
--
-- group: process
-- needs: syscall
-- by: comm
-- by: syscall
-- metric: syscalls = rate() calls neutral : How many calls.
-- metric: syscall_errors = share(failed) lower : Share of the calls that failed.
-- metric: syscall_latency = quantiles(worked_ns) ns lower : How long calls took, but those that are made to wait.
-- metric: syscall_wait = quantiles(waited_ns) ns neutral : How long calls took that are made to wait: epoll_wait, futex, nanosleep, ….
WITH calls AS (
    SELECT ts, comm, name, ret, latency_ns,
        name IN ('epoll_wait', 'epoll_pwait', 'epoll_pwait2', 'poll', 'ppoll', 'select', 'pselect6', 'futex', 'futex_wait', 'futex_waitv',
            'nanosleep', 'clock_nanosleep', 'wait4', 'waitid', 'pause', 'rt_sigsuspend', 'rt_sigtimedwait', 'restart_syscall', 'accept', 'accept4',
            'io_getevents', 'io_pgetevents', 'io_uring_enter', 'msgrcv', 'semop', 'semtimedop', 'mq_timedreceive') AS waits
    FROM syscall
)
SELECT ts, comm, name AS syscall,
    CAST(CASE WHEN ret < 0 THEN 1 ELSE 0 END AS BIGINT) AS failed,
    CASE WHEN NOT waits THEN latency_ns END AS worked_ns,
    CASE WHEN waits THEN latency_ns END AS waited_ns
FROM calls
WHERE ret IS NOT NULL
