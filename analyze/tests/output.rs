//! What comes out: formats, limits, terminals, broken pipes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, SECOND, builder, directory, ebrec, head, sample, stdout, task};
use ebrec_format::events::process::ProcessFork;
use std::process::{Command, Stdio};

fn small(name: &str) -> String {
    builder().write(&directory(name).join("small.ebrec")).to_str().unwrap().to_owned()
}

#[test]
fn machine_formats_are_raw_and_complete() {
    let capture = small("formats");
    let out = |format: &str| stdout(&[&capture, "--output", format, "tcplife"]);
    let csv = out("csv");
    assert_eq!(csv.lines().next(), Some("ts,pid,comm,ip_version,laddr,lport,raddr,rport,tx_bytes,rx_bytes,duration_ns"));
    assert_eq!(csv.lines().nth(1), Some("2023-11-14T22:13:28Z,300,curl,4,127.0.0.1,40000,127.0.0.1,80,1536,1048576,12345678"));
    let json: serde_json::Value = serde_json::from_str(&out("json")).unwrap();
    assert_eq!(json[0]["tx_bytes"], 1536);
    let lines = out("jsonl");
    assert_eq!(lines.lines().count(), 2);
    assert_eq!(serde_json::from_str::<serde_json::Value>(lines.lines().next().unwrap()).unwrap(), json[0]);
    assert!(out("markdown").starts_with("| ts "));
    let file = directory("parquet").join("out.parquet");
    let file_ = file.to_str().unwrap();
    assert_eq!(stdout(&[&capture, "--output", "parquet", "-o", file_, "tcplife"]), "");
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert_eq!(stdout(&[&capture, "--output", "json", "sql", "SELECT 1 WHERE false"]).trim(), "[]");
    assert_eq!(stdout(&[&capture, "--output", "csv", "sql", "SELECT 1 AS a WHERE false"]), "a\n");
}

#[test]
fn tables_say_that_they_are_limited() {
    let capture = small("limits");
    let output = ebrec(&[&capture, "--rows", "2", "sql", "SELECT ts FROM sched_switch ORDER BY ts"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(out.lines().count(), 4);
    assert!(err.contains("first 2 rows") && err.contains("--rows 0"), "{err}");
    assert_eq!(stdout(&[&capture, "--rows", "1", "tcptop", "-S"]).lines().count(), 2, "the report's own --rows, wherever it stands");
    let all = stdout(&[&capture, "sql", "SELECT ts FROM sched_switch ORDER BY ts"]);
    assert_eq!(all.lines().count(), 10_002, "not on a terminal: all");
}

#[test]
fn names_from_the_capture_can_not_speak_to_the_terminal() {
    let fork = ProcessFork { head: head(SECOND, task(1, 1, "\u{1b}[31m\u{7}|x")), child: task(2, 2, "a\nb"), is_thread: 0, pad: 0 };
    let capture = Builder::default().rows(&[fork]).write(&directory("escape").join("a.ebrec"));
    let capture = capture.to_str().unwrap();
    for format in ["table", "markdown"] {
        let out = stdout(&[capture, "--output", format, "sql", "SELECT comm, child_comm FROM process_fork"]);
        assert!(out.contains("\\x1b[31m\\x07") && out.contains("a\\nb") && !out.contains('\u{1b}'), "{out}");
    }
    let json = stdout(&[capture, "--output", "jsonl", "sql", "SELECT comm FROM process_fork"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["comm"], "\u{1b}[31m\u{7}|x");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let capture = small("pipe");
    for args in [
        &["sql", "SELECT * FROM sched_switch"][..],
        &["--output", "json", "sql", "SELECT * FROM sched_switch"],
        &["--output", "csv", "sql", "SELECT * FROM sched_switch"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze"))
            .arg(&capture)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), ("", Some(0)), "{args:?}");
    }
}

#[test]
fn statements_come_from_files_and_stdin() {
    let capture = small("statements");
    let file = directory("statement").join("q.sql");
    std::fs::write(&file, "-- how many\nSELECT count(*) AS n FROM process_exec;\n").unwrap();
    assert_eq!(stdout(&[&capture, "--output", "csv", "sql", "-f", file.to_str().unwrap()]), "n\n2\n");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze"))
        .args([&capture, "--output", "csv", "sql", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"SELECT 7 AS n").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"n\n7\n");
}

#[test]
fn commands_without_a_capture_and_slips() {
    assert!(stdout(&["reports"]).contains("tcptop"));
    assert!(stdout(&["help"]).contains("runqlat") && stdout(&["help", "runqlat"]).contains("--pids"));
    assert!(stdout(&["x.ebrec", "tcptop", "--help"]).contains("The largest number of rows of a block"));
    let capture = small("slips");
    for (args, expected) in [
        (&["tcptpo"][..], "did you mean tcptop?"),
        (&["describe", "sched_swich"], "did you mean sched_switch?"),
        (&["sql", "SELECT * FROM proces_exec"], "did you mean process_exec?"),
        (&["sql", "SELECT filname FROM process_exec"], "filename"),
        (&["runqlat", "0"], "positive number"),
        (&["tcplife", "-4", "-6"], "cannot be used with"),
        (&["--from", "yesterday", "tables"], "+10s"),
        (&["--memory", "5", "tables"], "1M"),
    ] {
        let output = ebrec(&[&[capture.as_str()], args].concat());
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && err.starts_with("ebrec-analyze: ") && err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn the_rows_of_a_block_are_not_those_of_the_result() {
    let capture = sample(&directory("block-rows").join("small.ebrec"));
    let csv = |args: &[&str]| stdout(&[&[capture.to_str().unwrap(), "--output", "csv"], args].concat()).lines().count() - 1;
    let all = csv(&["tcptop", "1"]);
    assert!(all > 2, "{all}");
    // One row of each second, in several seconds.
    assert!(csv(&["tcptop", "-r", "1", "1"]) > 1);
    assert_eq!(csv(&["tcplife", "--rows", "1"]), 1);
}
