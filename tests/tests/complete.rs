//! Nothing is missing without a word, however much there is of it.

use ebrec_tests::{Capture, Context, Program, Result, int, recorded, require_bpf, run, workload};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;

/// An iterator's output comes in pieces of 32 KiB; what doesn't fit into one comes in the next.
#[test]
fn every_listening_socket_is_in_the_snapshot() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let listening = (0..900).map(|_| TcpListener::bind("127.0.0.1:0").context("listen")).collect::<Result<Vec<_>>>()?;
    let ports = listening.iter().map(|l| Ok(i64::from(l.local_addr().context("the port")?.port()))).collect::<Result<BTreeSet<_>>>()?;
    let ((), capture) = recorded(&["--probes", "tcp,process"], || Ok(()))?;
    let me = std::process::id();
    let rows = capture.sql(&format!("SELECT lport FROM tcp_socket WHERE state = 'LISTEN' AND pid = {me}"))?;
    let seen = rows.iter().map(|row| int(&row["lport"])).collect::<Result<Vec<_>>>()?;
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), ports);
    assert_eq!(seen.len(), ports.len(), "a socket twice");
    Ok(())
}

/// More processes than the kernel side can know at a time: those that are gone make room.
#[test]
fn a_descendant_is_followed_after_any_number_of_others() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("descendants")?;
    let workload = ebrec_tests::program(Program::Workload)?;
    let args = ["--probes", "process", "-o", &capture.arg(), "--", &workload.to_string_lossy(), "forks", "70000", "--after", "7"];
    run(Program::Record, args)?.succeeded()?;
    assert_eq!(capture.number("SELECT coalesce(sum(lost), 0) FROM loss")?, 0);
    assert_eq!(capture.number("SELECT count(*) FROM process_fork WHERE comm = 'wl-waiter'")?, 7);
    assert_eq!(capture.number("SELECT count(*) FROM process_exit WHERE comm = 'wl-waiter' AND NOT is_thread")?, 8);
    assert_eq!(capture.number("SELECT count(*) FROM process_fork WHERE comm <> 'wl-waiter'")?, 70_001);
    Ok(())
}

/// A ring belongs to a CPU: what floods one doesn't cost the others' rows.
#[test]
fn a_flood_on_one_cpu_loses_nothing_of_another() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        eprintln!("SKIPPED: one CPU");
        return Ok(());
    }
    let args =
        ["--probes", "signal,syscall", "--syscalls", "read,write", "--comm", "ebrec-workload", "--comm", "wl-signals", "--memory", "8K"];
    let (_, capture, _) = ebrec_tests::recording(&args, || {
        let quiet = std::thread::spawn(|| workload(&["flood", "signals", "--ms", "600", "--rate", "100"]));
        workload(&["syscalls", "300000", "--cpu", "0"])?;
        quiet.join().ok().context("a thread panicked")?
    })?;
    let lost = capture.sql("SELECT DISTINCT cpu FROM loss WHERE reason = 'ring full'")?;
    assert_eq!(lost.iter().map(|row| row["cpu"].as_i64()).collect::<Vec<_>>(), [Some(0)]);
    assert!(capture.number("SELECT count(*) FROM signal WHERE cpu = 1")? >= 100);
    Ok(())
}

/// Every table that a workload can count: recorded + lost = produced, and at half of the rate nothing is lost.
#[test]
fn what_is_recorded_and_what_is_lost_is_what_was_produced() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut soak = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/soak"));
    for which in [Program::Record, Program::Workload, Program::Analyze] {
        soak.env(which.names().1, ebrec_tests::program(which)?);
    }
    let ran = soak.env("SOAK_SECONDS", "20").output().context("run tests/soak")?;
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    // It did lose: else it says nothing of how losses are counted.
    let lossy = said.lines().filter(|line| line.contains("tiny rings") && !line.contains(" 0 lost")).count();
    assert!(lossy >= 10, "{said}");
    Ok(())
}
