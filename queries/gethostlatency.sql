-- Show latency for getaddrinfo/gethostbyname[2] calls
--
-- One row per call of the C library's resolver that was given a host and has returned, in the order in which they were called. The
-- reentrant functions (gethostbyname_r, gethostbyname2_r), which the live tool doesn't know, are included. Programs with a resolver of
-- their own are in dnssnoop only.
--
-- group: network
-- needs: dns_lookup
-- param: extended flag -e --extended-fields : Include the function and how it ended.
-- param: failed flag -x --failed : Only calls that failed.
-- column: ts AS "TIME" time<8 : When it was called.
-- column: pid AS "PID" int<7 : Process.
-- column: tid int hidden : Thread.
-- column: comm AS "COMM" comm<16 : Name of the thread.
-- column: latency_ns AS "LATms" ms3<10 : How long it took.
-- column: function AS "FUNCTION" text<16 if extended : The function.
-- column: error AS "ERROR" text<14 if extended : Why it failed.
-- column: host AS "HOST" text : What was looked up.
-- column: service text hidden : Service or port that was asked for with it.
-- example: gethostlatency : All calls.
-- example: gethostlatency -xe : Those that failed, and why.
SELECT ts, pid, tid, comm, latency_ns, function, error, host, service
FROM dns_lookup
WHERE host IS NOT NULL AND latency_ns IS NOT NULL AND (NOT $failed OR ret <> 0)
ORDER BY ts, pid, tid, host
