-- Summarize throughput by host and port: the top TCP connections
--
-- Payload bytes that programs put into and took out of each connection, per interval or, without one, over the whole window. The line
-- above each block is the load average at its end. PID is the process that made the calls.
--
-- group: network
-- needs: tcp_send, tcp_recv, tcp_connection
-- uses: tcp_connect, tcp_accept, tcp_socket, system_sample
-- whole: tcp_connection, tcp_connect, tcp_accept, tcp_socket, system_sample
-- interval: Seconds of each block; without, one block for the whole window.
-- param: ipv4 flag -4 --ipv4 : Only IPv4.
-- param: ipv6 flag -6 --ipv6 : Only IPv6.
-- param: sort choice(all|sent|received) = all -s --sort : What the first row has most of.
-- param: rows int = 20 -r --rows : The largest number of rows of a block.
-- param: nosummary flag -S --nosummary : Without the load average.
-- param: noclear flag -C --noclear : Accepted as by the live tool; no screen is cleared anyway.
-- conflicts: ipv4, ipv6
-- column: interval_end time hidden : End of the interval.
-- column: load1 float2 hidden : Load average over 1 minute.
-- column: load5 float2 hidden : Load average over 5 minutes.
-- column: load15 float2 hidden : Load average over 15 minutes.
-- column: running int hidden : Tasks that ran or wanted to.
-- column: tasks int hidden : Tasks that existed.
-- column: ip_version int hidden : 4 or 6.
-- column: pid AS "PID" int<7 : Process.
-- column: comm AS "COMM" comm12<12 : Name of its thread.
-- column: laddr AS "LADDR" addr_port(lport)<21 unless ip_version=6 : Local address.
-- column: laddr AS "LADDR6" addr_port(lport)<51 if ip_version=6 : Local address.
-- column: lport int hidden : Local port.
-- column: raddr AS "RADDR" addr_port(rport)<21 unless ip_version=6 : Remote address.
-- column: raddr AS "RADDR6" addr_port(rport)<51 if ip_version=6 : Remote address.
-- column: rport int hidden : Remote port.
-- column: rx_bytes AS "RX_KB" kb>6 : Payload bytes received.
-- column: tx_bytes AS "TX_KB" kb>6 : Payload bytes sent.
-- title: {interval_end} loadavg: {load1} {load5} {load15} {running}/{tasks}\n unless nosummary
-- blocks: interval_end
-- example: tcptop : The busiest connections of the whole window.
-- example: tcptop 5 : Of each five seconds.
-- example: tcptop -r 3 -s sent 1 10 : The three that sent most, in each of the first ten seconds.
WITH calls AS (
    SELECT ts, conn_id, pid, comm, bytes AS tx, 0 AS rx FROM tcp_send
    UNION ALL
    SELECT ts, conn_id, pid, comm, 0 AS tx, bytes AS rx FROM tcp_recv
), traffic AS (
    SELECT
        @nth(ts) AS nth,
        conn_id, pid, comm, sum(tx) AS tx, sum(rx) AS rx
    FROM calls
    GROUP BY 1, 2, 3, 4
), ends AS (
    @connection_ends()
), ranked AS (
    SELECT nth, pid, comm, ip_version, laddr, lport, raddr, rport, tx, rx, t.conn_id,
        row_number() OVER (
            PARTITION BY nth
            ORDER BY CASE $sort WHEN 'sent' THEN tx WHEN 'received' THEN rx ELSE tx + rx END DESC, t.conn_id, pid, comm
        ) AS place
    FROM traffic AS t LEFT JOIN ends AS e ON t.conn_id = e.conn_id
    WHERE ($count IS NULL OR nth < $count)
        AND (NOT $ipv4 OR ip_version = 4)
        AND (NOT $ipv6 OR ip_version = 6)
), load AS (
    @load_averages()
)
SELECT
    @interval_end(r.nth) AS interval_end,
    load1, load5, load15, running, tasks,
    ip_version, pid, comm, laddr, lport, raddr, rport, rx AS rx_bytes, tx AS tx_bytes
FROM ranked AS r LEFT JOIN load AS l ON r.nth = l.nth
WHERE place <= $rows
ORDER BY interval_end, coalesce(ip_version, 0), place
