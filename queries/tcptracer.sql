-- Trace TCP connections: connect (C), accept (A), close (X)
--
-- One row per connection that was established outwards (C) or accepted (A), and per established connection that ended (X).
--
-- group: network
-- needs: tcp_connect, tcp_accept, tcp_close
-- uses: process, process_exec
-- whole: process, process_exec
-- param: timestamp flag -t --timestamp : Include seconds since the first row.
-- param: print_uid flag -U --print-uid : Include the user.
-- param: uid int -u --uid : Only this user.
-- column: ts AS "TIME(s)" since_first<9 if timestamp : When it happened.
-- column: uid AS "UID" int<6 if print_uid : User of the process.
-- column: type AS "T" text : C, A or X.
-- column: pid AS "PID" int<6 : Process that owns the connection.
-- column: comm AS "COMM" comm12<12 : Name of its thread.
-- column: ip_version AS "IP" int<2 : 4 or 6.
-- column: saddr AS "SADDR" text<16 : Local address.
-- column: daddr AS "DADDR" text<16 : Remote address.
-- column: sport AS "SPORT" int<5 : Local port.
-- column: dport AS "DPORT" int<5 : Remote port.
-- column: conn_id int hidden : Number of the connection.
-- example: tcptracer -t : With the time.
WITH users AS (
    SELECT process_id, uid, row_number() OVER (PARTITION BY process_id ORDER BY ts DESC) AS nth
    FROM (SELECT ts, process_id, uid FROM process_exec UNION ALL SELECT ts, process_id, uid FROM process) AS seen
    WHERE $print_uid OR $uid IS NOT NULL
), happened AS (
    -- UNION, though no two rows are equal: DataFusion 55 can't sort by a column that is constant in each branch of a UNION ALL.
    SELECT ts, 'C' AS type, pid, comm, process_id, ip_version, laddr, raddr, lport, rport, conn_id FROM tcp_connect WHERE errno = 0
    UNION
    SELECT ts, 'A' AS type, pid, comm, process_id, ip_version, laddr, raddr, lport, rport, conn_id FROM tcp_accept
    UNION
    SELECT ts, 'X' AS type, pid, comm, process_id, ip_version, laddr, raddr, lport, rport, conn_id FROM tcp_close
    WHERE old_state NOT IN ('SYN_SENT', 'SYN_RECV', 'NEW_SYN_RECV')
)
SELECT h.ts, u.uid, h.type, h.pid, h.comm, h.ip_version, h.laddr AS saddr, h.raddr AS daddr, h.lport AS sport, h.rport AS dport, h.conn_id
FROM happened AS h LEFT JOIN users AS u ON h.process_id = u.process_id AND u.nth = 1
WHERE $uid IS NULL OR u.uid = $uid
ORDER BY ts, conn_id, type
