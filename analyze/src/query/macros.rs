//! What the statements of several reports have in common, and write as `@name(argument)`: plain SQL takes its place.

use std::borrow::Cow;

/// Replaces `@nth(COLUMN)`, `@interval_end(COLUMN)`, `@load_averages()`, `@connection_ends()` and `@owners()`.
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
                ("owners", "") => OWNERS.to_owned(),
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

/// The tables that [`OWNERS`] can't do without.
pub const OWNERS_NEED: [&str; 3] = ["process", "process_exec", "process_fork"];
/// The tables that make it better.
pub const OWNERS_USE: [&str; 2] = ["cgroup", "container"];

/// What each process was in, one row for each: its cgroup at the start or, of one that began later, at its first exec; else its parent's, up to
/// 64 generations that executed nothing. To be read without the user's filter.
pub const OWNERS: &str = "WITH RECURSIVE owner_seen AS (
        SELECT process_id, pid, comm, cgroup_id, cgroup, 0 AS place, ts FROM process WHERE NOT coalesce(is_thread, FALSE)
        UNION ALL
        SELECT process_id, pid, comm, cgroup_id, NULL AS cgroup, 1 AS place, ts FROM process_exec WHERE cgroup_id IS NOT NULL
    ), owner_first AS (
        SELECT process_id, pid, comm, cgroup_id, cgroup,
            row_number() OVER (PARTITION BY process_id ORDER BY cgroup_id IS NULL, place, ts) AS nth
        FROM owner_seen
    ), owner_forked AS (
        -- One parent each: so nothing goes in circles, whatever a capture says.
        SELECT process_id AS parent_id, child_process_id AS process_id, child_pid AS pid, child_comm AS comm,
            row_number() OVER (PARTITION BY child_process_id ORDER BY ts) AS nth
        FROM process_fork
        WHERE NOT is_thread AND child_process_id NOT IN (SELECT process_id FROM owner_first)
    ), owner_placed AS (
        SELECT process_id, pid, comm, cgroup_id, cgroup, 0 AS generation FROM owner_first WHERE nth = 1
        UNION ALL
        SELECT f.process_id, f.pid, f.comm, p.cgroup_id, p.cgroup, p.generation + 1 AS generation
        FROM owner_placed AS p JOIN owner_forked AS f ON f.parent_id = p.process_id
        WHERE f.nth = 1 AND p.generation < 64
    ), owner_groups AS (
        SELECT cgroup_id, min(path) AS path, min(unit) AS unit, min(container_id) AS container_id, min(pod_uid) AS pod_uid
        FROM cgroup
        GROUP BY 1
    ), owner_names AS (
        SELECT container_id, min(name) AS name, min(CASE WHEN namespace IS NULL THEN pod ELSE concat(namespace, '/', pod) END) AS pod
        FROM container
        WHERE container_id IS NOT NULL
        GROUP BY 1
    ), owner_pods AS (
        SELECT pod_uid, min(CASE WHEN namespace IS NULL THEN pod ELSE concat(namespace, '/', pod) END) AS pod
        FROM container
        WHERE pod_uid IS NOT NULL
        GROUP BY 1
    )
    SELECT p.pid, p.comm, coalesce(n.name, substr(g.container_id, 1, 12)) AS container, coalesce(o.pod, n.pod, g.pod_uid) AS pod, g.unit,
        coalesce(p.cgroup, g.path) AS cgroup, p.process_id
    FROM owner_placed AS p
        LEFT JOIN owner_groups AS g ON g.cgroup_id = p.cgroup_id
        LEFT JOIN owner_names AS n ON n.container_id = g.container_id
        LEFT JOIN owner_pods AS o ON o.pod_uid = g.pod_uid";

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
