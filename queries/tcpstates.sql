-- Trace TCP session state changes and durations
--
-- One row per change of state of a connection, and how long it had been in the state before. SKADDR is the connection's number in the
-- capture, since the address of a kernel socket means nothing afterwards.
--
-- group: network
-- needs: tcp_state
-- param: ipv4 flag -4 --ipv4 : Only IPv4.
-- param: ipv6 flag -6 --ipv6 : Only IPv6.
-- param: timestamp flag -T --timestamp : Include the time (HH:MM:SS, UTC).
-- param: wide flag -w --wide : Wide columns, which fit IPv6 addresses.
-- param: localport ints -L --localport : Only these local ports, separated by commas.
-- param: remoteport ints -D --remoteport : Only these remote ports, separated by commas.
-- conflicts: ipv4, ipv6
-- column: ts AS "TIME(s)" time<8 if timestamp : When the state changed.
-- column: conn_id AS "SKADDR" hex<16 : Number of the connection.
-- column: pid AS "PID" int<7 : Process that owns it.
-- column: comm AS "COMM" comm10<10 unless wide : Name of its thread.
-- column: comm AS "COMM" comm<16 if wide : Name of its thread.
-- column: ip_version AS "IP" int<2 if wide : 4 or 6.
-- column: laddr AS "LADDR" text<15 unless wide : Local address.
-- column: laddr AS "LADDR" text<26 if wide : Local address.
-- column: lport AS "LPORT" int<5 : Local port.
-- column: raddr AS "RADDR" text<15 unless wide : Remote address.
-- column: raddr AS "RADDR" text<26 if wide : Remote address.
-- column: rport AS "RPORT" int<5 : Remote port.
-- column: old_state AS "OLDSTATE" text( ->)<11 : State before.
-- column: new_state AS "NEWSTATE" text<11 : State after.
-- column: in_old_state_ns AS "MS" ms3 : How long it had been in the state before.
-- example: tcpstates -T -L 80 : What happens to a web server's connections.
SELECT ts, conn_id, pid, comm, ip_version, laddr, lport, raddr, rport, old_state, new_state, in_old_state_ns
FROM tcp_state
WHERE (NOT $ipv4 OR ip_version = 4)
    AND (NOT $ipv6 OR ip_version = 6)
    AND ($localport IS NULL OR array_has($localport, lport))
    AND ($remoteport IS NULL OR array_has($remoteport, rport))
ORDER BY ts, conn_id, old_state
