-- Trace TCP retransmits
--
-- One row per segment that was sent again, or with -c one per connection. T is L if a tail loss probe made it, else R. The process is the
-- connection's owner, where the live tool names whichever task was interrupted.
--
-- group: network
-- needs: tcp_retransmit
-- param: lossprobe flag -l --lossprobe : Accepted as by the live tool; probes that send a segment again are shown anyway.
-- param: count flag -c --count : Count per connection.
-- param: ipv4 flag -4 --ipv4 : Only IPv4.
-- param: ipv6 flag -6 --ipv6 : Only IPv6.
-- conflicts: ipv4, ipv6
-- column: ts AS "TIME" time<8 unless count : When it was sent again.
-- column: pid AS "PID" int<7 unless count : Process that owns the connection.
-- column: comm comm hidden : Name of its thread.
-- column: ip_version AS "IP" int<2 unless count : 4 or 6.
-- column: laddr AS "LADDR:LPORT" addr_port(lport)<20 unless count : Local address.
-- column: laddr AS "LADDR:LPORT" addr_port(lport)<25 if count : Local address.
-- column: lport int hidden : Local port.
-- column: type AS "T" text(>)>1 unless count : R or L.
-- column: raddr AS "RADDR:RPORT" addr_port(rport)<20 unless count : Remote address.
-- column: raddr AS "RADDR:RPORT" addr_port(rport)<25 if count : Remote address.
-- column: rport int hidden : Remote port.
-- column: state AS "STATE" text<12 unless count : State of the connection.
-- column: kind text hidden : What made it: timeout, fast or probe.
-- column: retransmits AS "RETRANSMITS" int<10 if count : How many.
-- example: tcpretrans : One by one.
-- example: tcpretrans -c : Which connections suffer.
SELECT
    CASE WHEN NOT $count THEN ts END AS ts,
    pid, comm, ip_version, laddr, lport,
    CASE WHEN NOT $count THEN CASE kind WHEN 'probe' THEN 'L' ELSE 'R' END END AS type,
    raddr, rport,
    CASE WHEN NOT $count THEN state END AS state,
    CASE WHEN NOT $count THEN kind END AS kind,
    count(*) AS retransmits
FROM tcp_retransmit
WHERE (NOT $ipv4 OR ip_version = 4)
    AND (NOT $ipv6 OR ip_version = 6)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, conn_id
ORDER BY ts, retransmits DESC, laddr, lport, raddr, rport, pid
