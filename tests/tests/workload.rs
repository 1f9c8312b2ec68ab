//! The workloads' truth is true: it agrees with itself and with what the operating system says.

use ebrec_tests::{Context, Held, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Truth of the workload just built, not of one that lies about.
fn truth(args: &[&str]) -> Result<Value> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ebrec-workload")).args(args).output();
    let output = output.context("run the workload")?;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("truth")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(u64::MAX)
}

fn sum<'a>(sides: impl Iterator<Item = &'a Value>, count: &str) -> u64 {
    sides.map(|side| number(&side[count])).sum()
}

#[test]
fn exec_covers_every_code_and_counts_its_execs() -> Result<()> {
    let truth = truth(&["exec", "--plain", "2"])?;
    let children = list(&truth["children"]);
    let execs = || children.iter().flat_map(|child| list(&child["execs"]));
    assert_eq!(number(&truth["totals"]["forks"]), children.len() as u64);
    assert_eq!(number(&truth["totals"]["execs_ok"]), execs().filter(|exec| exec["errno"] == 0).count() as u64);
    assert_eq!(number(&truth["totals"]["execs_failed"]), execs().filter(|exec| exec["errno"] != 0).count() as u64);
    let codes = children.iter().filter(|child| child["case"].as_str().is_some_and(|case| case.starts_with("code-")));
    let codes: BTreeSet<u64> = codes.map(|child| number(&child["status"]["exit_code"])).collect();
    assert_eq!(codes, (0..256).collect());
    let pids: BTreeSet<u64> = children.iter().map(|child| number(&child["pid"])).collect();
    assert_eq!(pids.len(), children.len());
    Ok(())
}

#[test]
fn exec_by_a_thread_ends_as_the_process() -> Result<()> {
    let truth = truth(&["exec", "--codes", "0"])?;
    let children = list(&truth["children"]);
    let child = children.iter().find(|child| child["case"] == "exec-by-thread").context("no such case")?;
    assert_ne!(child["execs"][0]["tid"], child["pid"]);
    assert_eq!(child["execs"][0]["comm_before"], "wl-exec-thread");
    let signals: Vec<u64> = children.iter().filter_map(|child| child["status"]["signal"].as_u64()).collect();
    assert!(signals.contains(&9) && signals.contains(&11), "{signals:?}");
    Ok(())
}

#[test]
fn threads_have_tids_of_their_own() -> Result<()> {
    let truth = truth(&["threads", "5"])?;
    let tids: BTreeSet<u64> = list(&truth["threads"]).iter().map(|thread| number(&thread["tid"])).collect();
    assert_eq!((number(&truth["count"]), tids.len()), (5, 5));
    assert!(!tids.contains(&number(&truth["pid"])));
    Ok(())
}

#[test]
fn tcp_sides_agree() -> Result<()> {
    let truth = truth(&["tcp", "--refused", "4"])?;
    let connections = list(&truth["connections"]);
    for connection in connections {
        let (client, server) = (&connection["client"], &connection["server"]);
        for (sent, received) in [(client, server), (server, client)] {
            assert_eq!(sent["tx_bytes"], received["rx_bytes"], "{connection}");
            assert_eq!(sent["lport"], received["rport"], "{connection}");
            assert_eq!(sent["laddr"], received["raddr"], "{connection}");
        }
        assert_ne!(client["pid"], server["pid"]);
        let resets = [client, server].iter().filter(|side| side["recv_errors"] == json!({ "104": 1 })).count();
        assert_eq!(resets == 1, connection["reset"] == true, "{connection}");
    }
    let sides = || connections.iter().flat_map(|connection| [&connection["client"], &connection["server"]]);
    for count in ["tx_bytes", "rx_bytes", "send_calls", "recv_calls", "peek_calls", "sendfile_calls"] {
        assert_eq!(number(&truth["totals"][count]), sum(sides(), count), "{count}");
    }
    assert_eq!(truth["totals"]["tx_bytes"], truth["totals"]["rx_bytes"]);
    assert!(number(&truth["totals"]["peek_calls"]) > 0 && number(&truth["totals"]["sendfile_calls"]) > 0);
    let refused = list(&truth["refused"]);
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|connection| connection["errno"] == libc::ECONNREFUSED));
    Ok(())
}

#[test]
fn held_connections_do_what_they_are_told() -> Result<()> {
    let mut held = Held::start(&["tcp-hold", "--conns", "2"])?;
    held.tell("send 100")?;
    held.tell("open")?;
    held.tell("send 1000")?;
    let truth = held.finish()?;
    let sent: Vec<u64> = list(&truth["connections"]).iter().map(|both| number(&both["client"]["tx_bytes"])).collect();
    assert_eq!(sent, [1100, 1100, 1000, 1000]);
    let received = list(&truth["connections"]).iter().map(|both| &both["server"]);
    assert_eq!(sum(received, "tx_bytes"), 2 * 4200);
    Ok(())
}

#[test]
fn pingpong_switches_are_those_of_the_kernel() -> Result<()> {
    let truth = truth(&["pingpong", "500"])?;
    for player in list(&truth["processes"]) {
        assert_eq!(player["status_agrees"], true);
        // On one CPU neither can go on without the other having run.
        assert!(number(&player["switches"]) >= 499, "{player}");
    }
    assert_eq!(number(&truth["switches"]), sum(list(&truth["processes"]).iter(), "switches"));
    Ok(())
}

#[test]
fn a_pid_is_used_twice() -> Result<()> {
    // SAFETY: takes no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: choosing a pid needs root");
        return Ok(());
    }
    let truth = truth(&["pid-reuse"])?;
    let (first, second) = (&truth["instances"][0], &truth["instances"][1]);
    assert_eq!(first["pid"], second["pid"]);
    assert!(number(&first["start_ticks"]) < number(&second["start_ticks"]));
    assert_eq!((&first["status"]["exit_code"], &second["status"]["exit_code"]), (&11.into(), &22.into()));
    Ok(())
}

#[test]
fn bad_arguments_are_refused_with_a_reason() -> Result<()> {
    for (args, reason) in
        [(["nonsense", ""], "unknown workload"), (["threads", "--nope"], "unknown option"), (["threads", "x"], "whole number")]
    {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_ebrec-workload")).args(args).output();
        let output = output.context("run the workload")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr.contains(reason), "{stderr}");
    }
    Ok(())
}
