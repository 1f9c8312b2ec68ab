//! System calls in a capture are those that were made, with result and latency: the table `syscall`.

use ebrec_tests::Program;
use ebrec_tests::{Capture, Held, Result, int, list, recorded, require_bpf, run, text, workload};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Number of rows by name and result of one thread, between its marks.
fn counts(capture: &Capture, truth: &Value) -> Result<BTreeMap<(String, i64), i64>> {
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let rows = capture.sql(&format!(
        "SELECT name, ret, count(*) AS n FROM syscall WHERE tid = {} AND CAST(ts AS BIGINT) BETWEEN {} AND {} GROUP BY name, ret",
        truth["tid"],
        int(&truth["start_boot_ns"])? + boot_to_utc,
        int(&truth["end_boot_ns"])? + boot_to_utc
    ))?;
    rows.iter().map(|row| Ok(((text(&row["name"])?.to_owned(), int(&row["ret"])?), int(&row["n"])?))).collect()
}

#[test]
fn every_call_is_a_row_with_its_result() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "syscall"], || workload(&["calls", "500"]))?;
    let mut counts = counts(&capture, &truth)?;
    for call in list(&truth["calls"])? {
        let name = text(&call["name"])?.to_owned();
        // What returns an address is told apart by name alone.
        let ret = call["ret"].as_i64();
        let key = counts.keys().find(|(n, r)| *n == name && ret.is_none_or(|ret| ret == *r)).cloned();
        assert_eq!(key.and_then(|key| counts.remove(&key)), call["count"].as_i64(), "{call}");
        let others = capture.number(&format!("SELECT count(*) FROM syscall WHERE name = '{name}' AND nr <> {}", call["nr"]))?;
        assert_eq!(others, 0);
    }
    assert_eq!(counts, BTreeMap::new(), "calls that nobody made");
    // 32-bit calls are not taken for the 64-bit ones of their number.
    let compat = &truth["compat"];
    if !compat.is_null() {
        let wrong = capture.number(&format!("SELECT count(*) FROM syscall WHERE pid = {} AND name = '{}'", compat["pid"], "writev"))?;
        assert_eq!(wrong, 0, "{compat}");
    }
    Ok(())
}

#[test]
fn a_sleep_takes_as_long_as_it_was_to() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--syscalls", "nanosleep"], || workload(&["calls", "1", "--sleeps", "50"]))?;
    let sleep = list(&truth["calls"])?.iter().find(|call| call["name"] == "nanosleep").cloned().unwrap_or_default();
    let row = capture.row(&format!(
        "SELECT count(*) AS n, min(latency_ns) AS shortest, sum(latency_ns) AS all_ns FROM syscall WHERE tid = {} AND name = 'nanosleep'",
        truth["tid"]
    ))?;
    assert_eq!(row["n"], sleep["count"]);
    assert!(int(&row["shortest"])? >= int(&sleep["least_ns"])?, "{row}");
    // They were one after the other, between the marks.
    assert!(int(&row["all_ns"])? <= int(&truth["end_boot_ns"])? - int(&truth["start_boot_ns"])?, "{row}");
    Ok(())
}

#[test]
fn calls_can_be_chosen_by_name() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let args = ["--syscalls", "getpid,openat", "--probes", "syscall"];
    let (truth, capture) = recorded(&args, || workload(&["calls", "50"]))?;
    let names = capture.sql("SELECT DISTINCT name FROM syscall ORDER BY name")?;
    assert_eq!(names, [json!({"name": "getpid"}), json!({"name": "openat"})]);
    let counts = counts(&capture, &truth)?;
    assert_eq!(counts.values().sum::<i64>(), 100);
    for (list, words) in
        [("getpidd", "did you mean getpid?"), ("no_such_thing", "no system call"), ("syscall_4000000000", "no system call")]
    {
        let ran = run(Program::Record, ["--syscalls", list, "-o", "/nowhere/at/all"])?;
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(words) && ran.stderr.contains(list), "{}", ran.stderr);
    }
    Ok(())
}

#[test]
fn calls_across_the_edges_of_the_window_are_marked() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut held = Held::start(&["calls-hold"])?;
    let capture = Capture::place("edges")?;
    let recorder = capture.start(&["--probes", "syscall"])?;
    held.tell("release")?;
    held.tell("block")?;
    recorder.stop()?.succeeded()?;
    let truth = held.finish()?;
    let rows = |pid: &Value| {
        capture.sql(&format!("SELECT name, ret, latency_ns, CAST(ts AS BIGINT) AS ts_ns FROM syscall WHERE pid = {pid} ORDER BY ts"))
    };
    // It began before: known is when it returned, and what.
    let early = rows(&truth["early"])?;
    assert_eq!((&early[0]["name"], &early[0]["ret"], &early[0]["latency_ns"]), (&json!("read"), &json!(1), &Value::Null), "{early:?}");
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let returned = int(&early[0]["ts_ns"])? - boot_to_utc;
    let between = list(&truth["released_boot_ns"])?;
    assert!(int(&between[0])? <= returned && returned <= int(&between[1])?, "{truth} {early:?}");
    assert!(early[1..].iter().all(|row| row["name"] == "exit_group" || !row["latency_ns"].is_null()), "{early:?}");
    // The last thing that it did has no end.
    let last = early.last().cloned().unwrap_or_default();
    assert_eq!((&last["name"], &last["ret"], &last["latency_ns"]), (&json!("exit_group"), &Value::Null, &Value::Null), "{early:?}");
    // It was still waiting at the end.
    let late = rows(&truth["late"])?;
    let unreturned: Vec<_> = late.iter().filter(|row| row["ret"].is_null()).collect();
    assert_eq!(unreturned.len(), 1, "{late:?}");
    assert_eq!((&unreturned[0]["name"], &unreturned[0]["latency_ns"]), (&json!("read"), &Value::Null));
    assert!(int(&unreturned[0]["ts_ns"])? - boot_to_utc <= int(&truth["blocked_before_boot_ns"])?);
    assert_eq!(late.iter().filter(|row| row["latency_ns"].is_null()).count(), 1, "a child's return from fork is no call: {late:?}");
    Ok(())
}

/// Programs try what their kernel may know. The kernel side has a table of 512.
#[test]
fn a_number_that_no_call_has_is_a_call() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for (args, expected) in [
        (&["--probes", "syscall"][..], &[511, 512, 600, 100_000][..]),
        (&["--probes", "syscall", "--syscalls", "syscall_600,syscall_511"][..], &[511, 600][..]),
    ] {
        let ((), capture) = recorded(args, || {
            for number in [511, 512, 600, 100_000] {
                // SAFETY: no kernel has calls of these numbers.
                unsafe { libc::syscall(number) };
            }
            Ok(())
        })?;
        let rows = capture.sql(&format!(
            "SELECT nr, name, ret, latency_ns IS NOT NULL AS timed FROM syscall WHERE pid = {} AND nr > 500 ORDER BY nr",
            std::process::id()
        ))?;
        let expected = expected.iter().map(|nr| json!({ "nr": nr, "name": format!("syscall_{nr}"), "ret": -38, "timed": true }));
        assert_eq!(rows, expected.collect::<Vec<_>>());
    }
    Ok(())
}
