-- Trace TCP connects and show connection latency
--
-- One row per outbound connection whose other end answered, by accepting it or by refusing it: the time from the SYN to the answer.
-- Attempts without an answer have no latency and no row; tcpconnect and tcptracer show those.
--
-- group: network
-- needs: tcp_connect
-- param: min_ms number pos : Only connections that took at least so many milliseconds.
-- param: timestamp flag -t --timestamp : Include seconds since the first row.
-- param: lport flag -L --lport : Include the local port.
-- column: ts AS "TIME(s)" since_first<9 if timestamp : When the answer came.
-- column: pid AS "PID" int<6 : Process that connected.
-- column: comm AS "COMM" comm12<12 : Name of its thread.
-- column: ip_version AS "IP" int<2 : 4 or 6.
-- column: laddr AS "SADDR" text<16 : Local address.
-- column: lport AS "LPORT" int<6 if lport : Local port.
-- column: raddr AS "DADDR" text<16 : Remote address.
-- column: rport AS "DPORT" int<5 : Remote port.
-- column: latency_ns AS "LAT(ms)" ms2 : From the SYN to the answer.
-- column: errno int hidden : 0, or ECONNREFUSED.
-- example: tcpconnlat 1 : Connections that took a millisecond or more.
-- example: tcpconnlat -Lt -p 1234 : Those of one process, with local ports and times.
SELECT ts, pid, comm, ip_version, laddr, lport, raddr, rport, latency_ns, errno
FROM tcp_connect
WHERE latency_ns IS NOT NULL
    -- Other errors come from elsewhere, or from nowhere: ICMP, a timeout.
    AND errno IN (0, 111)
    AND ($min_ms IS NULL OR latency_ns >= $min_ms * 1000000)
ORDER BY ts, conn_id
