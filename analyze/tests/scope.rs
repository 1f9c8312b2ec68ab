//! Which captures and which tasks an answer is about: several captures, threads, cgroups; and reports as tables.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{builder, directory, ebrec, stdout};
use serde_json::Value;
use std::path::PathBuf;

fn run(args: &[&str]) -> (String, String, i32) {
    let output = ebrec(args);
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
        output.status.code().unwrap_or(-1),
    )
}

fn rows(args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&stdout(&[args, &["--output", "json"]].concat())).unwrap()
}

fn two(name: &str) -> (PathBuf, String, String) {
    let directory = directory(name);
    let (a, b) = (builder().write(&directory.join("a.ebrec")), builder().write(&directory.join("b.ebrec")));
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    (directory.clone(), text(a), text(b))
}

#[test]
fn a_report_is_a_table() {
    let (_, a, _) = two("views");
    let report = rows(&[&a, "tcplife"]);
    assert!(!report.is_empty());
    assert_eq!(rows(&[&a, "sql", "SELECT * FROM tcplife"]), report);
    let joined = "SELECT l.comm, count(*) AS n FROM tcplife l JOIN exitsnoop e ON l.pid = e.pid GROUP BY 1 ORDER BY 1";
    assert!(!rows(&[&a, "sql", joined]).is_empty());
    let (_, err, code) = run(&[&a, "sql", "SELECT * FROM tcplive"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean tcplife?"), "{err}");
}

#[test]
fn a_report_that_names_itself_is_refused() {
    let (directory, a, _) = two("recursive");
    let text = "-- Mine\n--\n-- group: own\n-- needs: sched_switch\n-- column: pid int : Process.\n-- example: mine : All.\n\
                SELECT pid FROM mine ORDER BY pid\n";
    std::fs::write(directory.join("mine.sql"), text).unwrap();
    let (_, err, code) = run(&["--queries", directory.to_str().unwrap(), &a, "sql", "SELECT * FROM mine"]);
    assert_eq!(code, 2);
    assert!(err.contains("there is no table mine"), "{err}");
}

#[test]
fn several_captures_are_reported_one_after_the_other() {
    let (_, a, b) = two("several");
    let alone = stdout(&[&a, "tcplife"]);
    assert_eq!(stdout(&[&a, &b, "tcplife"]), format!("==> a (testhost) <==\n{alone}\n==> b (testhost) <==\n{alone}"));
    let both = rows(&[&a, &b, "tcplife"]);
    let one = rows(&[&a, "tcplife"]);
    assert_eq!(both.len(), 2 * one.len());
    assert_eq!((&both[0]["host"], &both[0]["capture"]), (&"testhost".into(), &"a".into()));
    assert_eq!(both[one.len()]["capture"], "b");
    // As a table the same rows, with the same columns.
    let counts = rows(&[&a, &b, "sql", "SELECT capture, count(*) AS n FROM tcplife GROUP BY capture ORDER BY capture"]);
    assert_eq!(counts.len(), 2);
    assert!(counts.iter().all(|row| row["n"] == one.len()), "{counts:?}");
    // The same file twice is two captures.
    let twice = rows(&[&a, &a, "sql", "SELECT capture FROM tcplife GROUP BY capture ORDER BY capture"]);
    assert_eq!(twice.iter().map(|row| row["capture"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "a#2"]);
    let (out, _, code) = run(&[&a, &b]);
    assert!(code == 0 && out.matches("\nFindings\n").count() == 2, "{out}");
}

#[test]
fn limits_apply_to_all_captures_together() {
    let (directory, a, b) = two("limits");
    let file = directory.join("out.csv");
    let file = file.to_str().unwrap();
    stdout(&[&a, &b, "tcplife", "--output", "csv", "-o", file]);
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.matches("host,capture,").count(), 1, "one heading: {text}");
    assert!(text.contains("testhost,b,"), "{text}");
    stdout(&[&a, &b, "tcplife", "--force", "-o", file]);
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("==> a ") && text.contains("==> b "), "{text}");
}

#[test]
fn a_thread_is_told_from_its_process() {
    let (_, a, _) = two("thread");
    let count = |args: &[&str]| rows(&[&[a.as_str()], args, &["sql", "SELECT count(*) AS n FROM sched_switch"]].concat())[0]["n"].as_i64();
    let all = count(&[]).unwrap();
    let thread = count(&["--tid", "201"]).unwrap();
    assert!(thread > 0 && thread < all, "{thread} of {all}");
    assert_eq!(count(&["--tid", "4711"]), Some(0));
    // runqlat is about the task that waited: switches away from it don't count.
    let waits =
        |args: &[&str]| rows(&[&[a.as_str()], args, &["runqlat"]].concat()).iter().map(|row| row["count"].as_i64().unwrap()).sum::<i64>();
    let of_thread = rows(&[&a, "sql", "SELECT count(*) AS n FROM sched_switch WHERE next_tid = 201 AND next_waited_ns IS NOT NULL"]);
    assert_eq!(Some(waits(&["--tid", "201"])), of_thread[0]["n"].as_i64());
    let of_comm = rows(&[&a, "sql", "SELECT count(*) AS n FROM sched_switch WHERE next_comm = 'sh' AND next_waited_ns IS NOT NULL"]);
    assert_eq!(Some(waits(&["--comm", "sh"])), of_comm[0]["n"].as_i64());
}

#[test]
fn a_cgroup_is_its_processes() {
    let (_, a, _) = two("cgroup");
    // sh and curl executed programs in cgroup 1; nothing tells where web is.
    let exits = rows(&[&a, "--cgroup", "1", "sql", "SELECT pid FROM process_exit ORDER BY pid"]);
    assert_eq!(exits, serde_json::from_str::<Vec<Value>>(r#"[{"pid": 100}, {"pid": 300}]"#).unwrap());
    let waits = rows(&[&a, "--cgroup", "1", "runqlat", "--by", "comm"]);
    assert!(!waits.is_empty() && waits.iter().all(|row| row["comm"] == "sh"), "{waits:?}");
    for cgroup in ["2", "/no.such.slice"] {
        let (_, err, code) = run(&[&a, "--cgroup", cgroup, "runqlat"]);
        assert!(code == 2 && err.contains(&format!("no cgroup {cgroup}")), "{err}");
    }
}

#[test]
fn the_sql_of_a_report_is_shown_with_its_filter_and_parameters() {
    let (_, a, _) = two("show-sql");
    let out = stdout(&[&a, "tcplife", "-D", "80,443", "-p", "300", "--from", "+1s", "--show-sql"]);
    assert!(
        out.starts_with(
            "WITH tcp_close AS (SELECT * FROM main.tcp_close WHERE (((CAST(ts AS TIMESTAMPTZ) >= TIMESTAMPTZ '2023-11-14 22:13:21"
        ),
        "{out}"
    );
    // The window ends with the recording, for other engines, too.
    assert!(out.contains("(CAST(ts AS TIMESTAMPTZ) < TIMESTAMPTZ '2023-11-14 22:13:30"), "{out}");
    assert!(out.contains("(pid = 300)") && out.contains("CAST([80, 443] AS BIGINT[])") && !out.contains('$'), "{out}");
    // It runs here as well, and gives what the report gives.
    assert_eq!(rows(&[&a, "sql", out.trim()]), rows(&[&a, "tcplife", "-D", "80,443", "-p", "300", "--from", "+1s"]));
}
