//! Lookups and DNS messages against the truth of `dns` and of the program `lookups` that it runs.

use crate::capture::{Capture, Findings, list};
use ebrec_tests::{Context, DNS_ANSWER, DNS_QUESTION, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SENT: &str = "dns sent";
const RECEIVED: &str = "dns received";
const LOOKUP: &str = "dns lookup";

/// After so long the recorder gives a question up.
const PATIENCE_NS: i64 = 30_000_000_000;

pub fn dns(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    queries(capture, truth, found)?;
    lookups(capture, truth, found)
}

/// Whether the recorder can read messages that are in pages of their own, as nearly all by TCP are: since Linux 6.12.
fn reads_pages(capture: &Capture) -> Result<bool> {
    let kernel = capture.table("capture")?.first().and_then(|row| row["kernel"].as_str().map(str::to_owned)).context("no kernel")?;
    let mut numbers = kernel.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(12)))
}

/// Questions of a program that uses no library, one by one.
fn queries(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let pages = reads_pages(capture)?;
    let facts: Vec<&Value> = list(&truth["queries"]).iter().filter(|fact| pages || fact["protocol"] == "udp").collect();
    let ended = capture.number("SELECT CAST(end_ts AS BIGINT) FROM capture")?;
    let rows = capture
        .sql(&format!("SELECT *, {ended} - CAST(ts AS BIGINT) AS age_ns FROM dns_query WHERE pid = {} ORDER BY ts", truth["pid"]))?;
    found.equal(SENT, "questions", rows.len(), facts.len());
    for (row, fact) in rows.iter().zip(facts) {
        let what = |column: &str| format!("{column} of {}", fact["name"]);
        for column in DNS_QUESTION {
            found.equal(SENT, what(column), &row[column], &fact[column]);
        }
        found.equal(SENT, what("netns"), &row["netns"], &truth["netns"]);
        // A question without an answer is a row when it is given up, or when the window ends.
        let hook = match row["age_ns"].as_i64() {
            _ if !fact["took_ns"].is_null() => RECEIVED,
            // It looks once a second, and later in a slow VM: between the two it may be either.
            Some(age) if age > PATIENCE_NS + 5_000_000_000 => "dns given_up",
            Some(age) if age > PATIENCE_NS => SENT,
            _ => "dns unanswered",
        };
        for column in DNS_ANSWER {
            found.equal(hook, what(column), &row[column], &fact[column]);
        }
        found.check(hook, lasted(row, fact, fact["delay_ns"].as_i64().unwrap_or(0)), || format!("{row}, {fact}"));
    }
    Ok(())
}

/// Whether the latency is within what the caller's own clock says, which starts before and stops after; at least `delay_ns`.
fn lasted(row: &Value, fact: &Value, delay_ns: i64) -> bool {
    match fact["took_ns"].as_i64() {
        Some(took) => row["latency_ns"].as_i64().is_some_and(|ns| (delay_ns.max(1)..=took).contains(&ns)),
        None => row["latency_ns"].is_null(),
    }
}

/// The name of what a lookup returned.
fn error_of(fact: &Value) -> Option<&'static str> {
    Some(match (fact["ret"].as_i64()?, fact["function"] == "getaddrinfo") {
        (0, _) => "",
        (-2, true) => "EAI_NONAME",
        (-3, true) => "EAI_AGAIN",
        (1, false) => "HOST_NOT_FOUND",
        (2, false) => "TRY_AGAIN",
        _ => return None,
    })
}

/// Calls of the C library by each process of the truth, and the questions that they led to.
fn lookups(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let facts = list(&truth["run"]);
    let hook = capture.rows("probe", "hook", &json!("lookup"))?;
    if hook.iter().any(|row| row["reason"].as_str().is_some_and(|reason| reason.contains("seccomp"))) {
        // Probes would have killed the programs that have a filter. They live, and what they asked is there.
        return facts.iter().try_for_each(|fact| asked(capture, fact, found));
    }
    let mut pids: Vec<&Value> = facts.iter().map(|fact| &fact["pid"]).collect();
    pids.dedup();
    let processes = pids.len();
    let slow_ns = truth["slow_ns"].as_i64().context("no slow_ns")?;
    for (nth, pid) in pids.into_iter().enumerate() {
        // The last process has a library of its own, which was found when it was started.
        let hooks: &[&str] = if nth > 0 && nth + 1 == processes { &[LOOKUP, "dns image"] } else { &[LOOKUP] };
        let facts: Vec<&Value> = facts.iter().filter(|fact| fact["pid"] == *pid).collect();
        let rows = capture.rows("dns_lookup", "pid", pid)?;
        for hook in hooks {
            found.equal(hook, format!("lookups of process {nth}"), rows.len(), facts.len());
        }
        let mut errors = BTreeSet::new();
        for (row, fact) in rows.iter().zip(&facts) {
            for column in ["tid", "comm", "function", "host", "service", "ret"] {
                found.equal(LOOKUP, format!("{column} of {} of {}", fact["function"], fact["host"]), &row[column], &fact[column]);
            }
            let error = error_of(fact);
            found.equal(LOOKUP, format!("error of {fact}"), Some(row["error"].as_str().unwrap_or("")), error);
            errors.extend(error);
            let host = fact["host"].as_str().unwrap_or_default();
            let delay_ns = if host.starts_with("slow.") { slow_ns } else { 0 };
            found.check(LOOKUP, lasted(row, fact, delay_ns), || format!("{row}, {fact}"));
            asked(capture, fact, found)?;
        }
        // Names that exist, that don't, and that the server can't tell.
        found.equal(LOOKUP, format!("outcomes of process {nth}"), errors.len(), 5);
    }
    Ok(())
}

/// What a lookup asked the server: A, and where any family will do, AAAA. An answer may come too late on a busy host.
fn asked(capture: &Capture, fact: &Value, found: &mut Findings) -> Result<()> {
    let host = fact["host"].as_str().unwrap_or_default();
    let rcode = match host.split('.').next() {
        Some("nx") => json!("NXDOMAIN"),
        Some("fail") => json!("SERVFAIL"),
        Some("silent") => Value::Null,
        _ => json!("NOERROR"),
    };
    let rows: Vec<Value> = capture.rows("dns_query", "name", &host.into())?.into_iter().filter(|row| row["pid"] == fact["pid"]).collect();
    let types: BTreeSet<&str> = rows.iter().filter_map(|row| row["type"].as_str()).collect();
    let expected = if fact["function"] == "getaddrinfo" { BTreeSet::from(["A", "AAAA"]) } else { BTreeSet::from(["A"]) };
    found.equal(SENT, format!("types asked for {host} by {}", fact["function"]), types, expected);
    let right = rows.iter().all(|row| row["rcode"] == rcode || row["rcode"].is_null() && row["latency_ns"].is_null());
    let is_answered = error_of(fact).is_some_and(|error| ["", "EAI_NONAME", "HOST_NOT_FOUND"].contains(&error));
    found.check(RECEIVED, right && (!is_answered || rows.iter().any(|row| row["rcode"] == rcode)), || format!("{host}: {rows:?}"));
    Ok(())
}

/// Also a lookup whose program was killed, and one that went on when the window ended: the last of its thread, without an end.
pub fn endless(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    dns(capture, truth, found)?;
    for (label, hook) in [("silent.killed", "dns thread_exit"), ("silent.on", "dns open_lookups")] {
        let rows = capture.sql(&format!("SELECT latency_ns, ret, error FROM dns_lookup WHERE host LIKE '{label}.c%' ORDER BY ts"))?;
        let open: Vec<bool> =
            rows.iter().map(|row| row["latency_ns"].is_null() && row["ret"].is_null() && row["error"].is_null()).collect();
        let expected: Vec<bool> = (1..=rows.len().max(1)).map(|nth| nth == rows.len().max(1)).collect();
        found.equal(hook, format!("lookups of {label} without an end"), open, expected);
    }
    Ok(())
}
