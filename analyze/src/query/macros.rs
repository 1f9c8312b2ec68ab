//! What the statements of several reports have in common, and write as `@name(argument)`: plain SQL takes its place.

use std::borrow::Cow;

/// Replaces `@nth(COLUMN)`, `@interval_end(COLUMN)`, `@load_averages()` and `@connection_ends()`.
pub fn expand(sql: &'static str) -> Cow<'static, str> {
    if !sql.contains('@') {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len() * 2);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('@') {
        out.push_str(before);
        let call = after.split_once(')').and_then(|(call, tail)| Some((call.split_once('(')?, tail)));
        let replaced = call.and_then(|(call, tail)| {
            let text = match call {
                ("nth", ts) => nth(ts),
                ("interval_end", nth) => interval_end(nth),
                ("load_averages", "") => load_averages(),
                ("connection_ends", "") => CONNECTION_ENDS.to_owned(),
                _ => return None,
            };
            Some((text, tail))
        });
        let (text, tail) = replaced.unwrap_or_else(|| ("@".to_owned(), after));
        out.push_str(&text);
        rest = tail;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The ends of each connection. A recording that was killed has no `tcp_connection` of what was open; the other tables know its ends too.
const CONNECTION_ENDS: &str =
    "SELECT conn_id, max(ip_version) AS ip_version, max(laddr) AS laddr, max(lport) AS lport, max(raddr) AS raddr, max(rport) AS rport
    FROM (
        SELECT conn_id, ip_version, laddr, lport, raddr, rport FROM tcp_connection
        UNION ALL SELECT conn_id, ip_version, laddr, lport, raddr, rport FROM tcp_connect
        UNION ALL SELECT conn_id, ip_version, laddr, lport, raddr, rport FROM tcp_accept
        UNION ALL SELECT conn_id, ip_version, laddr, lport, raddr, rport FROM tcp_socket
    ) AS seen
    GROUP BY conn_id";

/// Number of the interval that `ts` is in.
pub fn nth(ts: &str) -> String {
    format!(
        "CASE WHEN $interval IS NULL THEN 0 ELSE greatest(CAST(floor(date_part('epoch', \
         CAST({ts} AS TIMESTAMPTZ) - CAST($window_start AS TIMESTAMPTZ)) / $interval) AS BIGINT), 0) END"
    )
}

/// When the interval `nth` ends.
pub fn interval_end(nth: &str) -> String {
    format!(
        "CASE WHEN $interval IS NULL THEN $window_end ELSE to_timestamp(date_part('epoch', $window_start) + ({nth} + 1) * $interval) END"
    )
}

/// The host at the end of each interval.
fn load_averages() -> String {
    const COLUMNS: &str = "load1, load5, load15, running, tasks";
    format!(
        "SELECT nth, {COLUMNS} FROM (
        SELECT nth, {COLUMNS}, row_number() OVER (PARTITION BY nth ORDER BY ts DESC) AS age FROM (
            SELECT ts, {COLUMNS}, {} AS nth FROM system_sample WHERE CAST(ts AS TIMESTAMPTZ) < CAST($window_end AS TIMESTAMPTZ)
        ) AS samples
    ) AS aged WHERE age = 1",
        nth("ts")
    )
}
