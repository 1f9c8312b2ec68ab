//! Signals in a capture are those that were sent, each with its sender, target, reason and fate: the table `signal`.

use ebrec_tests::{Capture, Context, Result, analyze, int, list, recorded, require_bpf, workload};
use serde_json::{Value, json};

/// The rows of one kind from one task to one process, in order of time.
fn rows(capture: &Capture, sent: &Value) -> Result<Vec<Value>> {
    capture.sql(&format!(
        "SELECT * FROM signal WHERE tid = {} AND target_pid = {} AND signal = {} AND code = '{}' ORDER BY ts",
        sent["sender"],
        sent["target"],
        sent["signal"],
        sent["code"].as_str().unwrap_or_default()
    ))
}

#[test]
fn every_signal_has_its_sender_target_reason_and_fate() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "signal"], || workload(&["signals", "20"]))?;
    for sent in list(&truth["sent"])? {
        let rows = rows(&capture, sent)?;
        let results: Vec<&Value> = rows.iter().map(|row| &row["result"]).collect();
        assert_eq!(results, list(&sent["results"])?.iter().collect::<Vec<_>>(), "{sent}");
        for row in &rows {
            assert_eq!((&row["is_group"], &row["pid"], &row["target_tid"]), (&sent["is_group"], &sent["sender"], &sent["target"]), "{row}");
            assert_eq!((&row["comm"], &row["target_comm"]), (&json!("ebrec-workload"), &json!("ebrec-workload")));
        }
    }
    // And nothing else went from one of these to another.
    let children: Vec<String> = list(&truth["sent"])?.iter().map(|sent| sent["target"].to_string()).collect();
    let all: usize = list(&truth["sent"])?.iter().filter_map(|sent| sent["results"].as_array().map(Vec::len)).sum();
    let children = children.join(",");
    let count = capture.number(&format!("SELECT count(*) FROM signal WHERE pid IN ({children}) AND target_pid IN ({children})"))?;
    assert_eq!(count, all as i64);
    let names =
        capture.number("SELECT count(*) FROM signal WHERE signal = 10 AND name <> 'SIGUSR1' OR signal = 17 AND name <> 'SIGCHLD'")?;
    assert_eq!(names, 0);
    Ok(())
}

#[test]
fn a_filter_lets_through_what_is_sent_and_what_is_received() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "signal", "--comm", "ebrec-workload"], || workload(&["signals", "3"]))?;
    let all: usize = list(&truth["sent"])?.iter().filter_map(|sent| sent["results"].as_array().map(Vec::len)).sum();
    let (pid, others) = (int(&truth["pid"])?, "comm <> 'ebrec-workload' AND target_comm <> 'ebrec-workload'");
    assert_eq!(capture.number(&format!("SELECT count(*) FROM signal WHERE {others}"))?, 0);
    // Its own end is told to its parent, too.
    let seen = capture.number(&format!("SELECT count(*) FROM signal WHERE pid = {pid} AND target_comm <> 'ebrec-workload'"))?;
    assert!(capture.number("SELECT count(*) FROM signal")? >= all as i64 + seen);
    assert_eq!(seen, 1);
    Ok(())
}

#[test]
fn a_real_time_signal_that_kills_has_a_name() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (_, capture) = recorded(&["--probes", "process,signal"], || {
        std::process::Command::new("sh").args(["-c", "kill -35 $$"]).status().context("run a shell")
    })?;
    let said = analyze(capture.path(), &["exitsnoop"])?.succeeded()?.stdout;
    assert!(said.contains("signal 35 (SIGRTMIN+3)"), "{said}");
    assert_eq!(capture.number("SELECT count(*) FROM signal WHERE signal = 35 AND name = 'SIGRTMIN+3'")?, 1);
    Ok(())
}
