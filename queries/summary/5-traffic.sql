-- Connections with the most traffic
--
-- group: summary
-- needs: tcp_send, tcp_recv, tcp_connection
-- uses: tcp_connect, tcp_accept, tcp_socket
-- whole: tcp_connection, tcp_connect, tcp_accept, tcp_socket
-- column: pid AS "PID" int<7 : Process that made the calls.
-- column: comm AS "COMM" comm<16 : Name of its thread.
-- column: laddr AS "LADDR" addr_port(lport)<21 : Local address.
-- column: lport int hidden : Local port.
-- column: raddr AS "RADDR" addr_port(rport)<21 : Remote address.
-- column: rport int hidden : Remote port.
-- column: rx_bytes AS "RX_KB" kb>8 : Payload bytes received in the window.
-- column: tx_bytes AS "TX_KB" kb>8 : Payload bytes sent in the window.
WITH calls AS (
    SELECT conn_id, pid, comm, bytes AS tx, 0 AS rx FROM tcp_send
    UNION ALL
    SELECT conn_id, pid, comm, 0 AS tx, bytes AS rx FROM tcp_recv
), traffic AS (
    SELECT conn_id, pid, comm, sum(tx) AS tx, sum(rx) AS rx FROM calls GROUP BY 1, 2, 3
), busiest AS (
    SELECT * FROM traffic ORDER BY tx + rx DESC, conn_id, pid, comm LIMIT 5
), ends AS (
    @connection_ends()
)
SELECT pid, comm, laddr, lport, raddr, rport, rx AS rx_bytes, tx AS tx_bytes
FROM busiest AS t LEFT JOIN ends AS e ON t.conn_id = e.conn_id
ORDER BY tx + rx DESC, t.conn_id, pid, comm
