//! The tables of signals, OOM kills, resets, round-trip times and interrupts against the truth of the workloads of these names.

use crate::capture::{Capture, Findings, list};
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};

const SIGNAL: &str = "signal generate";
const OOM: &str = "oom kill";
const SENT: &str = "tcp send_reset";
const RECEIVED: &str = "tcp receive_reset";
const RTT: &str = "tcp rtt";

pub fn signals(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    for sent in list(&truth["sent"]) {
        let rows = capture.rows("signal", "tid", &sent["sender"])?;
        let results: Vec<_> = rows
            .iter()
            .filter(|row| ["signal", "code", "is_group"].iter().all(|key| row[*key] == sent[*key]) && row["target_pid"] == sent["target"])
            .map(|row| &row["result"])
            .collect();
        found.equal(
            SIGNAL,
            format!("signal {} ({})", sent["signal"], sent["code"]),
            results,
            list(&sent["results"]).iter().collect::<Vec<_>>(),
        );
    }
    Ok(())
}

pub fn oom(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let victim = &truth["victim"];
    let rows = capture.rows("oom_kill", "victim_pid", &victim["pid"])?;
    found.equal(OOM, "kills", rows.len(), 1);
    for row in rows {
        let known = ["pid", "victim_tid", "victim_comm", "oom_score_adj", "victim_uid"].map(|column| &row[column]);
        let expected = ["pid", "tid", "comm", "oom_score_adj", "uid"].map(|key| &victim[key]);
        found.equal(OOM, "victim", known, expected);
        let (limit, used) = (truth["limit_bytes"].as_i64().unwrap_or(0), row["anon_rss_bytes"].as_i64().unwrap_or(0));
        // As in tests/oom.rs.
        found.check(OOM, limit * 9 / 10 < used && used < limit + (4 << 20), || format!("anonymous memory {used} of {limit}"));
        if capture.rows("probe", "hook", &json!("search"))?.iter().any(|hook| !hook["mechanism"].is_null()) {
            let search = (&row["oom_constraint"], &row["allowed_bytes"], &row["limit_cgroup_id"]);
            found.equal("oom search", "what ran out", search, (&json!("memcg"), &truth["limit_bytes"], &truth["limit_cgroup_id"]));
        }
    }
    Ok(())
}

pub fn resets(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let hooks = capture.rows("probe", "hook", &json!("send_reset"))?;
    // Where only the old tracepoint is left, resets of no socket are not told: nor are they counted as missing.
    let all = capture.table("tcp_reset")?;
    let tells_all = hooks.iter().any(|hook| hook["mechanism"] == "fentry") || all.iter().any(|row| !row["reason"].is_null());
    let mut told = 0;
    for connection in list(&truth["connections"]) {
        let rows = |side: &Value, way: &str| -> Vec<&Value> {
            let same = |row: &&Value| ["laddr", "lport", "raddr", "rport"].iter().all(|end| row[*end] == side[*end]) && row["way"] == way;
            all.iter().filter(same).collect()
        };
        let (case, has_socket) = (&connection["case"], connection["sender_socket"] == true);
        let sent = rows(&connection["sender"], "sent");
        let owners: Vec<_> = sent.iter().map(|row| &row["pid"]).collect();
        if has_socket || tells_all {
            let owner = if has_socket { &truth["pid"] } else { &Value::Null };
            found.equal(SENT, format!("{case}: resets sent, by"), owners, [owner]);
            told += 1;
        }
        for row in sent.iter().filter(|row| !row["reason"].is_null() && !connection["reason"].is_null()) {
            found.equal(SENT, format!("{case}: reason"), &row["reason"], &connection["reason"]);
        }
        let owners: Vec<_> = rows(&connection["receiver"], "received").iter().map(|row| &row["pid"]).collect();
        found.equal(RECEIVED, format!("{case}: resets received, by"), owners, [&truth["pid"]]);
    }
    if tells_all {
        found.equal(SENT, "resets as the kernel counts them", Some(told), truth["sent_by_kernel"].as_u64());
    }
    Ok(())
}

pub fn rtt(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    samples(capture, truth, 0, found)
}

/// Over a link that delays each packet by 20 ms: there and back is twice that.
pub fn rtt_slow(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    samples(capture, truth, 20_000_000, found)
}

fn samples(capture: &Capture, truth: &Value, least_ns: i64, found: &mut Findings) -> Result<()> {
    let boot_to_utc = capture.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    for (side, lport, rport) in [("client", "client_port", "server_port"), ("server", "server_port", "client_port")] {
        let ends = format!("lport = {} AND rport = {}", truth[lport], truth[rport]);
        let conn = capture.number(&format!("SELECT max(conn_id) FROM tcp_connection WHERE {ends}"))?;
        for round in list(&truth["rounds"]) {
            let mark = |which: &str| round[which].as_i64().map(|ns| ns + boot_to_utc).context(format!("no {which}"));
            let rows = capture.sql(&format!(
                "SELECT * FROM tcp_rtt WHERE conn_id = {conn} AND CAST(ts AS BIGINT) BETWEEN {} AND {} ORDER BY ts",
                mark("start_boot_ns")?,
                mark("end_boot_ns")?
            ))?;
            let first = rows.first().map(|row| ["srtt_ns", "mdev_ns"].map(|column| row[column].as_i64().map(|ns| ns / 1000)));
            let known = ["rtt_us", "rttvar_us"].map(|key| round[side][key].as_i64());
            found.equal(RTT, format!("{side}: round-trip time and deviation, µs"), first, Some(known));
            let fast = rows.iter().filter(|row| row["srtt_ns"].as_i64() < Some(least_ns)).count();
            found.equal(RTT, format!("{side}: samples below {least_ns} ns"), fast, 0);
        }
    }
    Ok(())
}

/// Interrupts between the workload's two looks at /proc; the recording was longer, so they are the least.
pub fn interrupts(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    for (table, key, hook, handlers) in [("soft", "vector", "irq soft_exit", "softirq"), ("hard", "irq", "irq hard_exit", "hardirq")] {
        let rows = capture.sql(&format!("SELECT {key} AS key, CAST(sum(count) AS BIGINT) AS n FROM {handlers} GROUP BY {key}"))?;
        let count = |when: &str, key: &str| truth[when][table][key].as_i64().unwrap_or(0);
        for key in truth["after"][table].as_object().into_iter().flatten().map(|(key, _)| key) {
            let told =
                rows.iter().find(|row| row["key"].to_string().trim_matches('"') == key).map_or(0, |row| row["n"].as_i64().unwrap_or(0));
            let least = count("after", key) - count("before", key);
            found.check(hook, least <= told, || format!("{key}: {told} of at least {least}"));
        }
    }
    Ok(())
}
