//! Block I/O against the truth of `block` and `block-errors`, on loop, null_blk and zram devices.

use crate::capture::{Capture, Findings, list};
use ebrec_tests::{Context, Result};
use serde_json::Value;

const COMPLETE: &str = "block complete";
const ISSUE: &str = "block issue";
const INSERT: &str = "block insert";
const START: &str = "block start";

/// Whether a row lies within what the truth says of when.
fn during(row: &Value, expected: &Value) -> bool {
    row["at"].as_i64() >= expected["from"].as_i64() && row["at"].as_i64() <= expected["to"].as_i64()
}

/// Each expected row is there, by the right task, and no other row of the disk.
pub fn block(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let boot_to_utc = capture.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    let mark = |which: &str| truth[which]["boot_ns"].as_i64().map(|ns| ns + boot_to_utc).context(format!("no mark {which}"));
    let mut rows = capture.sql(&format!(
        "SELECT *, CAST(ts AS BIGINT) - {boot_to_utc} AS at FROM block_io
         WHERE disk = '{}' AND CAST(ts AS BIGINT) BETWEEN {} AND {}",
        truth["disk"].as_str().unwrap_or_default(),
        mark("start")?,
        mark("end")?
    ))?;
    let bios = rows.iter().any(|row| row["layer"] == "bio");
    let complete = if bios { "block bio_complete" } else { COMPLETE };
    for expected in list(&truth["io"]) {
        let is_it = |row: &Value| ["op", "sector", "bytes"].iter().all(|column| row[*column] == expected[*column]) && during(row, expected);
        let Some(place) = rows.iter().position(is_it) else {
            found.check(complete, false, || format!("no row for {expected}"));
            continue;
        };
        let row = rows.remove(place);
        found.equal(complete, format!("error of {row}"), row["error"].as_i64(), Some(expected["error"].as_i64().unwrap_or(0)));
        // Only a write that needs a flush is told of at its start; the flush itself belongs to the task that waits.
        let owner = if bios {
            "block bio_queue"
        } else if row["op"] == "flush" {
            START
        } else {
            ISSUE
        };
        found.equal(owner, format!("task of {row}"), [&row["tid"], &row["comm"]], [&truth["tid"], &truth["comm"]]);
        let ended = row["latency_ns"].as_i64().map(|ns| ns + row["queued_ns"].as_i64().unwrap_or(0) + row["at"].as_i64().unwrap_or(0));
        found.check(if bios { owner } else { ISSUE }, ended.is_some_and(|ns| Some(ns) <= expected["to"].as_i64()), || {
            format!("it ended later than the call: {row} {expected}")
        });
        if row["queued_ns"].is_number() {
            found.check(INSERT, row["queued_ns"].as_i64() >= Some(0), || format!("{row}"));
        }
    }
    for expected in list(&truth["merged"]) {
        let first = expected["sector"].as_i64().unwrap_or(0);
        let sectors = first..first + expected["bytes"].as_i64().unwrap_or(0) / 512;
        let mut bytes = 0;
        rows.retain(|row| {
            let part = during(row, expected) && row["sector"].as_i64().is_some_and(|at| sectors.contains(&at));
            bytes += if part { row["bytes"].as_i64().unwrap_or(0) } else { 0 };
            !part
        });
        found.equal(complete, "merged bytes", Some(bytes), expected["bytes"].as_i64());
    }
    found.check(complete, rows.is_empty(), || format!("more than was asked for: {rows:?}"));
    Ok(())
}
