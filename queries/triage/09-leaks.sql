-- Connections stay open without traffic
--
-- Connections of one process to one address that were opened in the window, are open at its end, and moved no byte for the last part of it.
-- Several of them, more by the second, are what a leak looks like; so is a connection pool that fills up.
--
-- group: triage
-- needs: tcp_connection, tcp_connect, tcp_send, tcp_recv
-- param: connections number = 20 --connections : Silent connections of a process with an address from which on they count.
-- param: silent_s number = 3 --silent_s : For how many seconds they were silent before the window's end.
-- column: score float1 : How many times the threshold.
-- column: since time : When the first of them was opened.
-- column: pid int : The process.
-- column: comm comm : Name of the thread that opened them.
-- column: peer text : The other end; of accepted connections, without the port.
-- column: direction text : Who opened them.
-- column: connections int : How many are silent.
-- column: opened int : How many were opened in the window, of the same kind.
-- column: closed int : How many of those were closed.
-- column: bytes int : Bytes that the silent ones have moved in all.
-- finding: {comm} (pid {pid}) holds {connections} connections with {peer} ({direction}) that are silent; {opened} were opened in the window and {closed} closed
-- evidence: sql "SELECT conn_id, opened_ts, laddr, lport, raddr, rport FROM tcp_connection WHERE pid = {pid} AND closed_ts IS NULL ORDER BY opened_ts"
WITH calls AS (
    SELECT conn_id, ts, bytes FROM tcp_send UNION ALL SELECT conn_id, ts, bytes FROM tcp_recv
), traffic AS (
    SELECT conn_id, max(ts) AS last, sum(bytes) AS bytes FROM calls GROUP BY conn_id
), opened AS (
    SELECT c.conn_id, process_id, pid, comm, direction, opened_ts, closed_ts, coalesce(t.bytes, 0) AS bytes,
        CASE WHEN direction = 'active' THEN raddr || ':' || CAST(rport AS VARCHAR) ELSE raddr END AS peer,
        date_part('epoch', $window_end) - date_part('epoch', coalesce(t.last, opened_ts)) AS silent_s
    FROM tcp_connection AS c LEFT JOIN traffic AS t ON c.conn_id = t.conn_id
    WHERE opened_ts IS NOT NULL AND process_id IS NOT NULL
        -- Nobody holds what was never established.
        AND c.conn_id NOT IN (SELECT conn_id FROM tcp_connect WHERE outcome = 'pending')
), counted AS (
    SELECT process_id, pid, comm, peer, direction, count(*) AS opened,
        sum(CASE WHEN closed_ts IS NOT NULL THEN 1 ELSE 0 END) AS closed,
        sum(CASE WHEN closed_ts IS NULL AND silent_s >= $silent_s THEN 1 ELSE 0 END) AS silent,
        sum(CASE WHEN closed_ts IS NULL AND silent_s >= $silent_s THEN bytes ELSE 0 END) AS bytes,
        min(CASE WHEN closed_ts IS NULL AND silent_s >= $silent_s THEN opened_ts END) AS since
    FROM opened
    GROUP BY 1, 2, 3, 4, 5
)
SELECT silent / $connections AS score, since, pid, comm, peer, direction, CAST(silent AS BIGINT) AS connections, opened,
    CAST(closed AS BIGINT) AS closed, CAST(bytes AS BIGINT) AS bytes
FROM counted
-- Of a host's own two ends, the one that opened is enough unless it is elsewhere.
WHERE silent >= $connections
ORDER BY score DESC, direction, pid, comm, peer
LIMIT 4
