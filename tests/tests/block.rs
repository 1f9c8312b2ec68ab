//! Block I/O in a capture is what a device was asked to do: the table `block_io`.

use ebrec_tests::{Capture, Context, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::{Value, json};

const BLOCK: &[&str] = &["--probes", "block"];
const EIO: i64 = 5;

/// All rows of the workload's disk; nobody else uses it between the marks.
fn rows(capture: &Capture, truth: &Value) -> Result<Vec<Value>> {
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let mark = |which: &str| Ok::<_, ebrec_tests::Error>(int(&truth[which]["boot_ns"])? + boot_to_utc);
    capture.sql(&format!(
        "SELECT *, CAST(ts AS BIGINT) - {boot_to_utc} AS at FROM block_io
         WHERE disk = '{}' AND CAST(ts AS BIGINT) BETWEEN {} AND {} ORDER BY ts",
        text(&truth["disk"])?,
        mark("start")?,
        mark("end")?
    ))
}

/// Takes the row that was expected out of `rows`.
fn take(rows: &mut Vec<Value>, expected: &Value) -> Result<Value> {
    let is_it = |row: &Value| {
        let same = ["op", "sector", "bytes"].iter().all(|column| row[*column] == expected[*column]);
        same && row["at"].as_i64() >= expected["from"].as_i64() && row["at"].as_i64() <= expected["to"].as_i64()
    };
    let place = rows.iter().position(is_it).context(format!("no row for {expected} among {rows:#?}"))?;
    Ok(rows.remove(place))
}

/// It was made by the workload's thread, went well, and took place within the call that made it.
fn assert_whole(row: &Value, expected: &Value, truth: &Value) -> Result<()> {
    for column in ["pid", "tid", "comm", "dev"] {
        assert_eq!(row[column], truth[column], "{column}: {row}");
    }
    assert_eq!((&row["error"], &row["layer"]), (&json!(expected["error"].as_i64().unwrap_or(0)), &json!("request")), "{row}");
    let latency = int(&row["latency_ns"])?;
    let ended = int(&row["at"])? + row["queued_ns"].as_i64().unwrap_or(0) + latency;
    assert!(latency > 0 && ended <= int(&expected["to"])?, "{row} {expected}");
    Ok(())
}

/// Every row and no other; `queued`: whether data goes through a scheduler.
fn assert_equal(truth: &Value, capture: &Capture, queued: bool) -> Result<()> {
    let mut rows = rows(capture, truth)?;
    let all = rows.clone();
    for expected in list(&truth["io"])? {
        let row = take(&mut rows, expected)?;
        assert_whole(&row, expected, truth)?;
        let flags: Vec<&str> = text(&row["flags"])?.split('|').collect();
        assert!(if row["op"] == "flush" { flags.contains(&"preflush") } else { flags.contains(&"sync") }, "{row}");
        // A write that waits for a flush goes past the scheduler, and a flush always does.
        if queued && row["op"] == "read" {
            assert!(int(&row["queued_ns"])? >= 0, "{row}");
        } else if !queued && row["op"] == "flush" {
            assert_eq!(row["queued_ns"], Value::Null, "{row}");
        }
    }
    for expected in list(&truth["merged"])? {
        let (start, end) = (int(&expected["sector"])?, int(&expected["sector"])? + int(&expected["bytes"])? / 512);
        let mut reached = start;
        let mut parts: Vec<Value> = Vec::new();
        rows.retain(|row| {
            let then = row["at"].as_i64() >= expected["from"].as_i64() && row["at"].as_i64() <= expected["to"].as_i64();
            let inside = then && row["op"] == expected["op"] && row["sector"].as_i64().is_some_and(|at| (start..end).contains(&at));
            if inside {
                parts.push(row.clone());
            }
            !inside
        });
        parts.sort_by_key(|row| row["sector"].as_i64());
        for row in &parts {
            assert_eq!(int(&row["sector"])?, reached, "a hole or an overlap: {parts:#?}");
            assert_whole(row, expected, truth)?;
            reached += int(&row["bytes"])? / 512;
        }
        assert_eq!(reached, end, "{parts:#?}");
    }
    assert!(rows.is_empty(), "more than was asked for: {rows:#?}");
    assert_counters(truth, &all)
}

/// The disk's own counters (Documentation/block/stat.rst) rose by as much.
fn assert_counters(truth: &Value, rows: &[Value]) -> Result<()> {
    let numbers = |text: &str| text.split_whitespace().map(|word| word.parse::<i64>().unwrap_or(-1)).collect::<Vec<_>>();
    let (before, after) = (numbers(text(&truth["stat_before"])?), numbers(text(&truth["stat_after"])?));
    let rose = |field: usize| after.get(field).zip(before.get(field)).map(|(after, before)| after - before);
    let count = |op: &str| rows.iter().filter(|row| row["op"] == op).count() as i64;
    let sectors = |op: &str| rows.iter().filter(|row| row["op"] == op).filter_map(|row| row["bytes"].as_i64()).sum::<i64>() / 512;
    for (field, op) in [(0, "read"), (11, "discard"), (15, "flush")] {
        if let Some(rose) = rose(field) {
            assert_eq!(count(op), rose, "{op} in {truth}");
        }
    }
    for (field, op) in [(2, "read"), (6, "write"), (13, "discard")] {
        if let Some(rose) = rose(field) {
            assert_eq!(sectors(op), rose, "sectors of {op} in {truth}");
        }
    }
    Ok(())
}

#[test]
fn every_request_is_a_row_of_the_task_that_made_it() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(BLOCK, || workload(&["block", "--repeat", "3"]))?;
    assert!(truth["has_cache"] == true && truth["can_discard"] == true, "{truth}");
    assert_equal(&truth, &capture, false)
}

#[test]
fn requests_that_a_scheduler_holds_are_the_same_and_tell_their_time_in_the_queue() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(BLOCK, || workload(&["block", "--scheduler", "mq-deadline"]))?;
    assert_equal(&truth, &capture, true)
}

#[test]
fn a_request_that_fails_tells_its_error_also_when_part_of_it_was_done() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(BLOCK, || workload(&["block-errors"]))?;
    let errors = list(&truth["io"])?.iter().filter(|io| io["error"] == EIO).count();
    assert_eq!(errors, 2, "{truth}");
    let mut rows = rows(&capture, &truth)?;
    for expected in list(&truth["io"])? {
        let row = take(&mut rows, expected)?;
        assert_whole(&row, expected, &truth)?;
    }
    assert!(rows.is_empty(), "more than was asked for: {rows:#?}");
    Ok(())
}
