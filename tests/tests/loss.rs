//! What a capture lacks is counted, and everybody who asks is told: recorded + lost = produced.

use ebrec_tests::{Capture, Context, Recorder, Recording, Result, analyze, int, recording, require_bpf, workload};
use serde_json::Value;

/// A ring that is too small for what happens between two drains, and round trips whose number of calls is known.
fn too_small_a_ring() -> Result<(Value, Capture, Recording)> {
    recording(&["--probes", "tcp", "--comm", "wl-rr-client", "--comm", "wl-rr-server", "--memory", "8K"], || {
        workload(&["tcp-rr", "100000", "--cpu", "0"])
    })
}

fn lost(capture: &Capture, table: &str) -> Result<i64> {
    capture.number(&format!("SELECT coalesce(sum(lost), 0) FROM loss WHERE table_name = '{table}'"))
}

/// What `ebrec analyze FILE tables` says of a table.
fn capture_line(capture: &Capture, table: &str) -> Result<Value> {
    let listed = analyze(capture.path(), &["tables", "--output", "json"])?.succeeded()?.stdout;
    let lines: Vec<Value> = serde_json::from_str(&listed).context("tables")?;
    lines.into_iter().find(|line| line["table"] == table).context(table)
}

#[test]
fn recorded_and_lost_together_are_what_happened() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture, recording) = too_small_a_ring()?;
    let mut all = 0;
    for (table, calls) in [("tcp_send", "send_calls"), ("tcp_recv", "recv_calls")] {
        let (rows, lost) = (capture.number(&format!("SELECT count(*) FROM {table}"))?, lost(&capture, table)?);
        let produced = int(&truth["client"][calls])? + int(&truth["server"][calls])?;
        // The list of tables, which is the manifest's, says the same as the table of losses.
        let line = capture_line(&capture, table)?;
        assert!(lost > 0, "{table}: {rows} of {produced}");
        assert_eq!(rows + lost, produced, "{table}: {rows} + {lost}; {line}");
        assert_eq!((int(&line["rows"])?, int(&line["lost"])?), (rows, lost), "{line}");
        all += lost;
    }
    let total = capture.number("SELECT sum(lost) FROM loss")?;
    assert!(total >= all);
    // The recorder says so itself, with the number.
    let said = recording.ran.stderr.replace(',', "");
    assert!(said.contains(&format!("{total} of ")) && said.contains("were lost"), "{total}: {}", recording.ran.stderr);
    Ok(())
}

#[test]
fn losses_are_told_with_interval_and_reason() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture, _) = too_small_a_ring()?;
    let rows = capture.table("loss")?;
    assert!(!rows.is_empty());
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let (start, end) = (int(&truth["start"]["boot_ns"])? + boot_to_utc, int(&truth["end"]["boot_ns"])? + boot_to_utc);
    for row in &rows {
        assert_eq!(row["reason"], "ring full");
        assert!(int(&row["lost"])? > 0);
        let until = capture.number(&format!("SELECT max(CAST(end_ts AS BIGINT)) FROM loss WHERE CAST(ts AS BIGINT) = {}", row["ts_ns"]))?;
        let from = int(&row["ts_ns"])?;
        assert!(from < until && from < end && until > start, "{row}");
        // An interval is about a second, as short as the losses are looked at.
        assert!(until - from < 3_000_000_000, "{row}");
    }
    Ok(())
}

#[test]
fn an_answer_that_losses_touch_says_so_and_strict_refuses_it() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (_, capture, _) = too_small_a_ring()?;
    let ask = |query: &str, more: &[&str]| analyze(capture.path(), &[&["sql", query], more].concat());
    let touched = "SELECT count(*) FROM tcp_send";
    let told = ask(touched, &[])?.succeeded()?;
    assert!(told.stderr.contains("lost") && told.stderr.contains("tcp_send"), "{}", told.stderr);
    let refused = ask(touched, &["--strict"])?;
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    // Nothing of this table was lost.
    let whole = ask("SELECT count(*) FROM capture", &["--strict"])?.succeeded()?;
    assert!(!whole.stderr.contains("lost"), "{}", whole.stderr);
    Ok(())
}

#[test]
fn without_losses_nothing_is_said_of_them() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (_, capture, recording) = recording(&["--probes", "process"], || workload(&["threads"]))?;
    assert!(!recording.ran.stderr.contains("were lost"), "{}", recording.ran.stderr);
    assert_eq!(capture.number("SELECT count(*) FROM loss")?, 0);
    let asked = analyze(capture.path(), &["sql", "SELECT count(*) FROM process_fork", "--strict"])?.succeeded()?;
    assert_eq!(asked.stderr, "");
    Ok(())
}

/// Processes that live, more than there is room for those that are followed.
#[test]
fn descendants_that_found_no_room_are_told() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("unfollowed")?;
    // The last 50 children would have a child each; the parent waits for nobody before all are there.
    let forks = "import os, time
for i in range(1400):
    if not os.fork():
        time.sleep(3)
        os._exit(0)
time.sleep(0.2)";
    let args = ["--probes", "process", "--memory", "8K", "-o", &capture.arg(), "--", "python3", "-c", forks];
    let recording = Recorder::start(&args)?.wait()?.succeeded()?;
    let lost = capture.number("SELECT coalesce(sum(lost), 0) FROM loss WHERE reason = 'not followed'")?;
    // The table has room for 1,024, of which each CPU may hold some back.
    assert!((300..=1400).contains(&lost), "{lost}: {}", recording.ran.stderr);
    Ok(())
}

/// Connects so many times to itself, and closes all at its end.
const CONNECT: &str = "import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
server = socket.create_server(('127.0.0.1', 0), backlog=4096)
kept = [socket.create_connection(server.getsockname()) for _ in range(1500)]
kept += [server.accept()[0] for _ in range(1500)]";

/// What was lost because the kernel did not run a program.
fn not_run(capture: &Capture) -> Result<i64> {
    capture.number("SELECT coalesce(sum(lost), 0) FROM loss WHERE reason = 'program not run' AND table_name = 'tcp_close'")
}

/// Connections that are open, more than there is room for.
#[test]
fn connections_that_found_no_room_are_told() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("connections")?;
    let args = ["--probes", "tcp", "--memory", "8K", "-o", &capture.arg(), "--", "python3", "-c", CONNECT];
    let recording = Recorder::start(&args)?.wait()?.succeeded()?;
    for table in ["tcp_connect", "tcp_connection"] {
        let lost = lost(&capture, table)?;
        let rows = capture.number(&format!("SELECT count(*) FROM {table} WHERE comm = 'python3' AND direction <> 'in'")).unwrap_or(0);
        assert!(lost > 0, "{table}: {rows} rows, {lost} lost: {}", recording.ran.stderr);
    }
    let full = capture.number("SELECT coalesce(sum(lost), 0) FROM loss WHERE reason = 'map full'")?;
    assert!(full > 0, "{}", recording.ran.stderr);
    let connects = capture.number("SELECT count(*) FROM tcp_connect")? + lost(&capture, "tcp_connect")?;
    // What wasn't run may have been another change of state.
    assert!((1500..=1500 + not_run(&capture)?).contains(&connects), "{connects}: {}", recording.ran.stderr);
    Ok(())
}

/// As the process ends, interrupts close connections of its while it is being told of others: hundreds, in a run out of three.
#[test]
fn what_an_interrupt_brings_in_the_midst_of_a_program_is_told() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for _ in 0..5 {
        let capture = Capture::place("interrupted")?;
        let args = ["--probes", "tcp", "-o", &capture.arg(), "--", "python3", "-c", CONNECT];
        let recording = Recorder::start(&args)?.wait()?.succeeded()?;
        let (closed, not_run) = (capture.number("SELECT count(*) FROM tcp_close")?, not_run(&capture)?);
        assert!(not_run < 20 && (3000 - not_run..=3000).contains(&closed), "{closed}, {not_run}: {}", recording.ran.stderr);
    }
    Ok(())
}

/// A stack is sent when it is first seen, and then the ring is as full as at any other time.
#[test]
fn stacks_that_found_no_room_are_told() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let args = ["--probes", "tcp,profile", "--comm", "wl-rr-client", "--comm", "wl-rr-server", "--memory", "8K"];
    let (_, capture, recording) = recording(&args, || workload(&["tcp-rr", "100000", "--cpu", "0"]))?;
    assert!(lost(&capture, "stack")? > 0, "{}", recording.ran.stderr);
    Ok(())
}
