-- Trace the lifespan of TCP sessions and summarize
--
-- One row per connection that ended in the window: who owned it, both ends, payload bytes in both directions and how long it
-- had been established. The owner is the process that connected or accepted, not whichever task an interrupt hit. MS is `-` for
-- connections that were established before the recording.
--
-- group: network
-- needs: tcp_close
-- param: ipv4 flag -4 --ipv4 : Only IPv4.
-- param: ipv6 flag -6 --ipv6 : Only IPv6.
-- param: wide flag -w --wide : Wide columns, which fit IPv6 addresses.
-- param: time flag -T --time : Include the time (HH:MM:SS, UTC).
-- param: localport ints -L --localport : Only these local ports, separated by commas.
-- param: remoteport ints -D --remoteport : Only these remote ports, separated by commas.
-- conflicts: ipv4, ipv6
-- column: ts AS "TIME(s)" time<8 if time : When the connection ended.
-- column: pid AS "PID" int<7 : Process that owned it.
-- column: comm AS "COMM" comm<16 : Name of its thread.
-- column: ip_version AS "IP" int<2 hidden : 4 or 6.
-- column: laddr AS "LADDR" text<15 unless wide : Local address.
-- column: laddr AS "LADDR" text<39 if wide : Local address.
-- column: lport AS "LPORT" int<5 : Local port.
-- column: raddr AS "RADDR" text<15 unless wide : Remote address.
-- column: raddr AS "RADDR" text<39 if wide : Remote address.
-- column: rport AS "RPORT" int<5 : Remote port.
-- column: tx_bytes AS "TX_KB" kb2<6 : Payload bytes sent and acknowledged.
-- column: rx_bytes AS "RX_KB" kb2<6 : Payload bytes received.
-- column: duration_ns AS "MS" ms2 : How long it had been established.
-- example: tcplife -T : With the time at which each ended.
-- example: tcplife -D 80,443 : Connections to web servers.
SELECT ts, pid, comm, ip_version, laddr, lport, raddr, rport, tx_bytes, rx_bytes, duration_ns
FROM tcp_close
WHERE (NOT $ipv4 OR ip_version = 4)
    AND (NOT $ipv6 OR ip_version = 6)
    AND ($localport IS NULL OR array_has($localport, lport))
    AND ($remoteport IS NULL OR array_has($remoteport, rport))
ORDER BY ts, conn_id
