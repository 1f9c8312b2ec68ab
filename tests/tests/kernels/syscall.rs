//! The table `syscall` against the truth of `calls` and `calls-hold`.

use crate::capture::{Capture, Findings, list};
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};

const CALLS: &str = "syscall calls";
const UNRETURNED: &str = "syscall unreturned";

/// Calls of one thread between two marks, and no others; where the clock can't be read without a call, the second mark is one.
pub fn calls(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let boot_to_utc = capture.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    let mark = |which: &str| truth[which].as_i64().map(|ns| ns + boot_to_utc).context(format!("no {which}"));
    let rows = capture.sql(&format!(
        "SELECT name, nr, ret, count(*) AS n, min(latency_ns) AS shortest FROM syscall
         WHERE tid = {} AND CAST(ts AS BIGINT) BETWEEN {} AND {} AND name <> 'clock_gettime' GROUP BY name, nr, ret",
        truth["tid"],
        mark("start_boot_ns")?,
        mark("end_boot_ns")?
    ))?;
    let mut told = 0;
    for call in list(&truth["calls"]) {
        let same = |row: &&Value| row["name"] == call["name"] && (call["ret"].is_null() || row["ret"] == call["ret"]);
        let known: Vec<_> = rows.iter().filter(same).map(|row| (&row["nr"], &row["n"])).collect();
        found.equal(CALLS, format!("{} that return {}", call["name"], call["ret"]), known, [(&call["nr"], &call["count"])]);
        let least = call["least_ns"].as_i64().unwrap_or(0);
        let short = rows.iter().filter(same).filter(|row| row["shortest"].as_i64() < Some(least)).count();
        found.equal(CALLS, format!("{} shorter than {least} ns", call["name"]), short, 0);
        told += call["count"].as_i64().unwrap_or(0);
    }
    let all: i64 = rows.iter().filter_map(|row| row["n"].as_i64()).sum();
    found.equal(CALLS, "calls in all", all, told);
    let compat = &truth["compat"];
    if !compat.is_null() {
        let wrong = capture.rows("syscall", "pid", &compat["pid"])?.iter().filter(|row| row["name"] == compat["wrong_name"]).count();
        found.equal(CALLS, "32-bit calls under a wrong name", wrong, 0);
    }
    Ok(())
}

/// Calls of several tasks that take each other's CPU away. Where one can be preempted in the midst of a program, a few calls of the others
/// are missing, and all that are missing are told.
pub fn crowd(capture: &Capture, truths: &[Value], found: &mut Findings) -> Result<()> {
    let lost = capture.number("SELECT coalesce(sum(lost), 0) FROM loss WHERE table_name = 'syscall'")?;
    let (mut calls, mut told) = (0, 0);
    for truth in truths {
        let rows = capture
            .number(&format!("SELECT count(*) FROM syscall WHERE pid = {} AND name IN ('read', 'write') AND ret = 1", truth["pid"]))?;
        let of_task = truth["calls"].as_i64().context("no calls")?;
        found.check(CALLS, rows <= of_task && rows > 0, || format!("{rows} calls of a task that made {of_task}"));
        calls += of_task;
        told += rows;
    }
    found.check(CALLS, calls - told <= lost, || format!("{told} of {calls} calls of a crowd, and {lost} lost"));
    found.check(CALLS, lost <= calls / 100, || format!("{lost} of {calls} calls of a crowd lost"));
    Ok(())
}

/// Calls that cross an edge of the window.
pub fn hold(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let early = capture.rows("syscall", "pid", &truth["early"])?;
    let first = early.first().map(|row| (&row["name"], &row["ret"], &row["latency_ns"]));
    found.equal(CALLS, "a call from before the window", first, Some((&json!("read"), &json!(1), &Value::Null)));
    let last = early.last().map(|row| (&row["name"], &row["ret"], &row["latency_ns"]));
    found.equal(CALLS, "a call that never returns", last, Some((&json!("exit_group"), &Value::Null, &Value::Null)));
    let late = capture.rows("syscall", "pid", &truth["late"])?;
    let open: Vec<_> = late.iter().filter(|row| row["latency_ns"].is_null()).map(|row| (&row["name"], &row["ret"])).collect();
    found.equal(UNRETURNED, "a call that hasn't returned", open, [(&json!("read"), &Value::Null)]);
    Ok(())
}
