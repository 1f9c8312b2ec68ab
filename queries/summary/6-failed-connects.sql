-- Connections that failed
--
-- group: summary
-- needs: tcp_connect
-- column: comm AS "COMM" comm<16 : Who tried.
-- column: raddr AS "RADDR" addr_port(rport)<21 : Where.
-- column: rport int hidden : Which port.
-- column: errno AS "ERROR" errno<16 : Why.
-- column: outcome AS "OUTCOME" text<9 : failed, given up before there was an answer, or pending at the end of the window.
-- column: attempts AS "ATTEMPTS" int>9 : How often.
WITH told AS (
    -- Older recorders told of no outcome, and of no attempt that was pending.
    SELECT comm, raddr, rport, errno, coalesce(outcome, CASE WHEN errno IS NULL THEN 'given up' WHEN errno <> 0 THEN 'failed' END) AS outcome
    FROM tcp_connect
)
SELECT comm, raddr, rport, errno, outcome, count(*) AS attempts
FROM told
WHERE outcome <> 'succeeded'
GROUP BY comm, raddr, rport, errno, outcome
ORDER BY attempts DESC, comm, raddr, rport, errno, outcome
LIMIT 5
