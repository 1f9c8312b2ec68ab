-- Trace active TCP connections: connect() calls
--
-- One row per outbound connection that was answered or failed in the window, or with -c one per pair of addresses. The time is
-- that of the answer; how long it took and why it failed are the columns latency_ns and errno of the machine formats.
--
-- group: network
-- needs: tcp_connect
-- uses: process, process_exec
-- whole: process, process_exec
-- param: timestamp flag -t --timestamp : Include seconds since the first row.
-- param: count flag -c --count : Count connections per source, destination and destination port.
-- param: print_uid flag -U --print-uid : Include the user.
-- param: uid int -u --uid : Only this user.
-- param: source_port flag -s --source-port : Print, and with -c distinguish, the source port.
-- param: port ints -P --port : Only these destination ports, separated by commas.
-- column: ts AS "TIME(s)" since_first<9 if timestamp unless count : When the connection was answered.
-- column: uid AS "UID" int<6 if print_uid unless count : User of the process.
-- column: pid AS "PID" int<6 unless count : Process.
-- column: comm AS "COMM" comm12<12 unless count : Name of its thread.
-- column: ip_version AS "IP" int<2 unless count : 4 or 6.
-- column: saddr AS "SADDR" text<16 unless count : Source address.
-- column: saddr AS "LADDR" text<25 if count : Source address.
-- column: daddr AS "DADDR" text<16 unless count : Destination address.
-- column: daddr AS "RADDR" text<25 if count : Destination address.
-- column: sport AS "SPORT" int<5 if source_port unless count : Source port.
-- column: sport AS "LPORT" int<20 if source_port if count : Source port.
-- column: dport AS "DPORT" int<5 unless count : Destination port.
-- column: dport AS "RPORT" int<20 if count : Destination port.
-- column: latency_ns int hidden : From the SYN to the answer; with -c the longest.
-- column: errno int hidden : 0, or why it failed.
-- column: connects AS "CONNECTS" int<10 if count : How many.
-- example: tcpconnect -t : With the time.
-- example: tcpconnect -c -P 80,443 : How often which web server was connected to.
WITH users AS (
    SELECT process_id, uid, row_number() OVER (PARTITION BY process_id ORDER BY ts DESC) AS nth
    FROM (SELECT ts, process_id, uid FROM process_exec UNION ALL SELECT ts, process_id, uid FROM process) AS seen
    WHERE $print_uid OR $uid IS NOT NULL
), connections AS (
    SELECT c.*, u.uid FROM tcp_connect AS c LEFT JOIN users AS u ON c.process_id = u.process_id AND u.nth = 1
    WHERE ($uid IS NULL OR u.uid = $uid) AND ($port IS NULL OR array_has($port, c.rport))
)
SELECT
    CASE WHEN NOT $count THEN ts END AS ts,
    CASE WHEN NOT $count THEN uid END AS uid,
    CASE WHEN NOT $count THEN pid END AS pid,
    CASE WHEN NOT $count THEN comm END AS comm,
    ip_version,
    laddr AS saddr,
    raddr AS daddr,
    CASE WHEN NOT $count OR $source_port THEN lport END AS sport,
    rport AS dport,
    max(latency_ns) AS latency_ns,
    CASE WHEN NOT $count THEN errno END AS errno,
    count(*) AS connects
FROM connections
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, CASE WHEN NOT $count THEN conn_id END
ORDER BY ts, ip_version, saddr, daddr, sport, dport, pid
