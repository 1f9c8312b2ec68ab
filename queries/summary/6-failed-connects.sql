-- Connections that failed
--
-- group: summary
-- needs: tcp_connect
-- column: comm AS "COMM" comm<16 : Who tried.
-- column: raddr AS "RADDR" addr_port(rport)<21 : Where.
-- column: rport int hidden : Which port.
-- column: errno AS "ERROR" errno<16 : Why.
-- column: attempts AS "ATTEMPTS" int>9 : How often.
SELECT comm, raddr, rport, errno, count(*) AS attempts
FROM tcp_connect
WHERE errno <> 0
GROUP BY comm, raddr, rport, errno
ORDER BY attempts DESC, comm, raddr, rport, errno
LIMIT 5
