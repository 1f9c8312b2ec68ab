-- Trace passive TCP connections: accept() calls
--
-- One row per inbound connection that a program accepted. How long it had waited in the listener's queue is the column queued_ns of
-- the machine formats.
--
-- group: network
-- needs: tcp_accept
-- param: time flag -T --time : Include the time (HH:MM:SS, UTC).
-- param: timestamp flag -t --timestamp : Include seconds since the first row.
-- param: port ints -P --port : Only these local ports, separated by commas.
-- param: ipv4 flag -4 --ipv4 : Only IPv4.
-- param: ipv6 flag -6 --ipv6 : Only IPv6.
-- conflicts: ipv4, ipv6
-- column: ts AS "TIME" time<8 if time : When it was accepted.
-- column: ts AS "TIME(s)" since_first<8 if timestamp : When it was accepted.
-- column: pid AS "PID" int<7 : Process that accepted it.
-- column: comm AS "COMM" comm12<12 : Name of its thread.
-- column: ip_version AS "IP" int<2 : 4 or 6.
-- column: raddr AS "RADDR" text<16 : Remote address.
-- column: rport AS "RPORT" int<5 : Remote port.
-- column: laddr AS "LADDR" text<16 : Local address.
-- column: lport AS "LPORT" int<5 : Local port.
-- column: queued_ns int hidden : How long it waited in the listener's queue.
-- example: tcpaccept -t -P 80,443 : What a web server accepted.
SELECT ts, pid, comm, ip_version, raddr, rport, laddr, lport, queued_ns
FROM tcp_accept
WHERE (NOT $ipv4 OR ip_version = 4)
    AND (NOT $ipv6 OR ip_version = 6)
    AND ($port IS NULL OR array_has($port, lport))
ORDER BY ts, conn_id
