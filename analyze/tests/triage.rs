//! What `ebrec analyze FILE` finds, and what it doesn't.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, LENGTH, SECOND, conn, directory, ebrec, ends, sample, stdout, switch, task};
use ebrec_analyze::engine::Engine;
use ebrec_analyze::engine::filter::Filter;
use ebrec_analyze::query::Queries;
use ebrec_analyze::query::params;
use ebrec_analyze::triage;
use ebrec_format::events::tcp;
use ebrec_format::wire::NULL64;
use serde_json::Value;
use std::path::Path;

fn findings(args: &[&str]) -> Vec<Value> {
    let all: Value = serde_json::from_str(&stdout(&[args, &["--output", "json"]].concat())).unwrap();
    all["captures"][0]["triage"]["findings"].as_array().unwrap().clone()
}

/// Switches every 2 ms on one CPU between `xz`, which runs, and `app`, which waits `waited` before its short turns.
fn contention(waited: u64) -> Builder {
    let (app, xz) = (task(200, 200, "app"), task(300, 300, "xz"));
    let switches: Vec<_> = (0..LENGTH / 4_000_000)
        .flat_map(|i| [switch(i * 4_000_000, xz, app, waited), switch(i * 4_000_000 + 100_000, app, xz, 0)])
        .map(|mut switch| {
            switch.prev_ran_ns = if switch.head.task.pid == 300 { 3_900_000 } else { 100_000 };
            // app sleeps before it wants the CPU; xz always wants it.
            switch.next_off_cpu_ns = if switch.next.pid == 300 { 100_000 } else { 3_900_000 };
            switch.next_waited_ns = if switch.next.pid == 300 { 100_000 } else { waited };
            switch
        })
        .collect();
    Builder::default().rows(&switches)
}

#[test]
fn checks_are_well_formed_and_find_nothing_in_an_empty_capture() {
    let directory = directory("triage-empty");
    let empty = Builder::default().write(&directory.join("empty.ebrec"));
    let engine = Engine::new(Engine::open(&[empty]).unwrap(), vec![Filter::default()], 64 << 20, Queries::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let checks = Queries::triage().unwrap();
    assert!(checks.iter().count() > 10);
    for query in checks.iter() {
        assert!(query.finding.is_some() && !query.evidence.is_empty() && !query.params.is_empty(), "{}", query.name);
        assert!(query.params.iter().all(|param| param.default.is_some()), "{}: a threshold has a default", query.name);
        let planned = runtime.block_on(engine.report(query, &params::defaults(query).unwrap()));
        let frame = planned.unwrap_or_else(|error| panic!("{}: {error}", query.name)).frame;
        let names: Vec<&str> = frame.schema().fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, query.columns.iter().map(|column| column.name).collect::<Vec<_>>(), "{}", query.name);
        let batches = runtime.block_on(frame.collect()).unwrap_or_else(|error| panic!("{}: {error}", query.name));
        assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 0, "{}", query.name);
    }
    let found = runtime.block_on(triage::run(&engine, &[])).unwrap();
    assert_eq!((found.findings.len(), found.unknown.len(), found.checks), (0, 0, checks.iter().count()));
}

#[test]
fn evidence_is_a_command_that_runs() {
    let capture = sample(&directory("triage-evidence").join("small.ebrec"));
    let capture = capture.to_str().unwrap();
    for query in Queries::triage().unwrap().iter() {
        for command in &query.evidence {
            let filled = command.replace("{pid}", "100").replace("{rport}", "80").replace("{disk}", "vda").replace("{comm}", "web");
            assert!(!filled.contains('{'), "{}: {command}", query.name);
            // As a shell would split it: SQL is the only argument in quotes.
            let (words, quoted) = filled.split_once('"').map_or((filled.as_str(), None), |(words, sql)| (words, sql.strip_suffix('"')));
            let args: Vec<&str> = std::iter::once(capture).chain(words.split_whitespace()).chain(quoted).collect();
            let output = ebrec(&args);
            let code = output.status.code();
            // Code 1 is a report that finds nothing.
            assert!(matches!(code, Some(0 | 1)), "{}: {command}: {}", query.name, String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn who_waits_for_a_cpu_and_who_has_it() {
    let directory = directory("triage-cpu");
    let capture = contention(3_000_000).write(&directory.join("busy.ebrec"));
    let capture = capture.to_str().unwrap();
    let found = findings(&[capture]);
    assert_eq!(found.len(), 1, "{found:?}");
    let finding = &found[0];
    assert_eq!((&finding["check"], &finding["severity"]), (&"cpu".into(), &"high".into()), "{finding}");
    assert_eq!((&finding["values"]["comm"], &finding["values"]["hog_comm"]), (&"app".into(), &"xz".into()), "{finding}");
    let text = finding["text"].as_str().unwrap();
    assert!(text.contains("app (pid 200) waited 7.50 s for a CPU, 75.0 % of the window; p99 3.00 ms"), "{text}");
    assert!(text.contains("xz (processes: 1, pid 300) used 97.5 % of a CPU"), "{text}");
    assert_eq!(finding["evidence"][0], "runqlat -p 200");
    // Waits as short as they are on a healthy host are no finding, unless the thresholds say so.
    let calm = contention(500_000).write(&directory.join("calm.ebrec"));
    let calm = calm.to_str().unwrap();
    assert_eq!(findings(&[calm]), [] as [Value; 0]);
    assert_eq!(findings(&[calm, "--threshold", "cpu.p99_ms=0.5", "--threshold", "cpu.waited_percent=5"]).len(), 1);
    let text = stdout(&[capture]);
    assert!(
        text.contains("\nFindings\nHIGH    app (pid 200)") && text.contains(&format!("ebrec analyze {capture} runqlat -p 200")),
        "{text}"
    );
    let markdown = stdout(&[capture, "--output", "markdown"]);
    assert!(markdown.contains("* **high** `app (pid 200)"), "{markdown}");
}

#[test]
fn connections_that_nobody_closes_are_a_leak() {
    let leaky = task(400, 400, "leaky");
    let connection = |i: u64, closed: bool| tcp::TcpConnection {
        head: conn(LENGTH, i, leaky),
        ends: ends(40_000 + i as u16, 5432),
        opened_ts: i * SECOND / 10,
        closed_ts: if closed { i * SECOND / 10 + 1000 } else { NULL64 },
        direction: 1,
        pad: 0,
    };
    let send = |i: u64, ts: u64| tcp::TcpSend { head: conn(ts, i, leaky), bytes: 100 };
    let directory = directory("triage-leak");
    let write = |name: &str, connections: &[tcp::TcpConnection], sends: &[tcp::TcpSend]| {
        let path = Builder::default().rows(connections).rows(sends).rows::<tcp::TcpRecv>(&[]).write(&directory.join(name));
        path.to_str().unwrap().to_owned()
    };
    let open: Vec<_> = (1..=60).map(|i| connection(i, false)).collect();
    let sent: Vec<_> = (1..=60).map(|i| send(i, i * SECOND / 10 + 500)).collect();
    let found = findings(&[&write("leak.ebrec", &open, &sent)]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["check"], &found[0]["values"]["comm"]), (&"leaks".into(), &"leaky".into()));
    assert_eq!((&found[0]["values"]["connections"], &found[0]["values"]["peer"]), (&60.into(), &"127.0.0.1:5432".into()));
    // Connections that are closed, or in use until the end, are none.
    let closed: Vec<_> = (1..=60).map(|i| connection(i, true)).collect();
    assert_eq!(findings(&[&write("closed.ebrec", &closed, &sent)]), [] as [Value; 0]);
    let used: Vec<_> = (1..=60).flat_map(|i| [send(i, i * SECOND / 10 + 500), send(i, LENGTH - SECOND)]).collect();
    assert_eq!(findings(&[&write("used.ebrec", &open, &used)]), [] as [Value; 0]);
}

#[test]
fn what_was_not_captured_is_not_found_to_be_fine() {
    let directory = directory("triage-unknown");
    let capture = contention(100).without("block").without("tcp").write(&directory.join("few.ebrec"));
    let text = stdout(&[capture.to_str().unwrap()]);
    assert!(text.contains("Nothing stands out in "), "{text}");
    assert!(text.contains("not checked: Disks report errors"), "{text}");
    assert!(text.contains("record it with: ebrec record --probes block"), "{text}");
}

#[test]
fn thresholds_are_checked() {
    let capture = contention(100).write(&directory("triage-thresholds").join("a.ebrec"));
    let capture = capture.to_str().unwrap();
    for (threshold, expected) in [
        ("cpu.p99ms=5", "did you mean cpu.p99_ms?"),
        ("cpu=5", "expected CHECK.NAME=NUMBER"),
        ("cpu.p99_ms=-1", "expected CHECK.NAME=NUMBER"),
        ("cpu.p99_ms=0", "expected CHECK.NAME=NUMBER"),
        ("cpu.p99_ms=fast", "expected CHECK.NAME=NUMBER"),
    ] {
        let output = ebrec(&[capture, "--threshold", threshold]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && err.contains(expected), "{threshold}: {err}");
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/TRIAGE.md");
    let expected = triage::reference(&Queries::triage().unwrap());
    if std::env::var_os("EBREC_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/TRIAGE.md is stale; refresh it: make bless");
}
