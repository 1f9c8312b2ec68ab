//! The functions of docs/SQL.md give what their plain-SQL equivalents give, and the statements in that document run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{directory, ebrec, sample, stdout};
use serde_json::{Value, json};
use std::path::Path;

fn rows(capture: &str, sql: &str) -> Vec<Value> {
    serde_json::from_str(&stdout(&[capture, "--output", "json", "sql", sql])).unwrap()
}

fn capture(name: &str) -> String {
    sample(&directory(name).join("small.ebrec")).to_str().unwrap().to_owned()
}

#[test]
fn hist_counts_as_grouping_does() {
    let capture = capture("hist");
    let grouped = rows(
        &capture,
        "SELECT prev_pid, CASE WHEN n < 2 THEN 0 ELSE CAST(power(2, floor(log2(n))) AS BIGINT) END AS low, count(*) AS count
         FROM (SELECT prev_pid, next_waited_ns AS n FROM sched_switch WHERE next_waited_ns IS NOT NULL) AS waits GROUP BY 1, 2 ORDER BY 1, 2",
    );
    let lists = rows(
        &capture,
        "SELECT prev_pid, hist(next_waited_ns) AS h FROM sched_switch WHERE next_waited_ns IS NOT NULL GROUP BY 1 ORDER BY 1",
    );
    let flat: Vec<Value> = lists
        .iter()
        .flat_map(|row| {
            let buckets = row["h"].as_array().unwrap().iter();
            buckets.map(|b| json!({ "prev_pid": row["prev_pid"], "low": b["low"], "count": b["count"] })).collect::<Vec<_>>()
        })
        .collect();
    assert!(!flat.is_empty());
    assert_eq!(flat, grouped);
    let edges = rows(&capture, "SELECT hist(x) AS h FROM (VALUES (-5), (0), (1), (2), (3), (4), (9223372036854775807), (NULL)) AS t(x)");
    assert_eq!(
        edges[0]["h"],
        json!([{ "low": 0, "high": 1, "count": 3 }, { "low": 2, "high": 3, "count": 2 }, { "low": 4, "high": 7, "count": 1 },
            { "low": 4_611_686_018_427_387_904_i64, "high": i64::MAX, "count": 1 }])
    );
    let drawn = stdout(&[&capture, "sql", "SELECT comm, hist(bytes) FROM tcp_send GROUP BY comm ORDER BY comm"]);
    assert!(drawn.starts_with("comm = curl\n     value               : count    distribution\n"), "{drawn}");
    assert!(drawn.contains("       512 -> 1023       : 2        |****************************************|\n\ncomm = web\n"), "{drawn}");
}

#[test]
fn quantiles_are_values_of_the_set() {
    let capture = capture("quantile");
    let of = |select: &str| {
        rows(&capture, &format!("SELECT {select} AS q FROM (VALUES (40), (10), (30), (20), (NULL)) AS t(x)"))[0]["q"].clone()
    };
    // Nearest rank: what DuckDB's quantile_disc gives for the same.
    assert_eq!(of("quantile_disc(x, [0, 0.25, 0.26, 0.5, 0.75, 0.99, 1])"), json!([10, 10, 20, 20, 30, 40, 40]));
    assert_eq!(of("percentile(x, 0.5)"), json!(20));
    assert_eq!(of("quantile_disc(x / 8.0, 0.5)"), json!(2.5));
    assert_eq!(rows(&capture, "SELECT coalesce(quantile_disc(bytes, 0.5), -1) AS q FROM tcp_send WHERE bytes < 0")[0]["q"], json!(-1));
    assert_eq!(rows(&capture, "SELECT quantile_disc(bytes, [0.5]) IS NULL AS q FROM tcp_send WHERE bytes < 0")[0]["q"], json!(true));
    // By group, and over a window.
    let by_comm = rows(&capture, "SELECT comm, quantile_disc(bytes, 0.5) AS q FROM tcp_send GROUP BY comm ORDER BY comm");
    assert_eq!(by_comm, [json!({ "comm": "curl", "q": 536 }), json!({ "comm": "web", "q": 4096 })]);
    let running = rows(&capture, "SELECT quantile_disc(bytes, 1) OVER (ORDER BY ts) AS q FROM tcp_send ORDER BY ts");
    assert_eq!(running.iter().map(|row| row["q"].as_i64().unwrap()).collect::<Vec<_>>(), [1000, 1000, 4096]);
    for (select, expected) in [
        ("quantile_disc(comm, 0.5)", "takes numbers"),
        ("quantile_disc(bytes, 1.5)", "from 0 to 1"),
        ("quantile_disc(bytes, bytes)", "from 0 to 1"),
        ("quantile_disc(bytes)", "a value and a share"),
        ("quantile_disc(DISTINCT bytes, 0.5)", "DISTINCT"),
        ("hist(comm)", "takes numbers"),
        ("overlaps(ts, 1, bytes, 2)", "two beginnings"),
    ] {
        let output = ebrec(&[&capture, "sql", &format!("SELECT {select} FROM tcp_send")]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && err.contains(expected), "{select}: {err}");
    }
}

#[test]
fn things_overlap_when_both_were_going_on() {
    let capture = capture("overlaps");
    let at = |second: u32| format!("TIMESTAMP '2026-01-01T00:00:{second:02}Z'");
    let overlaps = |a: u32, an: &str, b: u32, bn: &str| {
        rows(&capture, &format!("SELECT overlaps({}, {an}, {}, {bn}) AS o", at(a), at(b)))[0]["o"].clone()
    };
    assert_eq!(overlaps(1, "1000000000", 2, "5"), json!(true));
    assert_eq!(overlaps(1, "999999999", 2, "5"), json!(false));
    assert_eq!(overlaps(5, "1", 2, "4000000000"), json!(true));
    assert_eq!(rows(&capture, &format!("SELECT overlaps({}, NULL, {}, 5) IS NULL AS o", at(1), at(1)))[0]["o"], json!(true));
    let buckets = rows(&capture, "SELECT time_bucket(INTERVAL '2 seconds', ts) AS t, count(*) AS n FROM tcp_send GROUP BY 1 ORDER BY 1");
    assert_eq!(buckets, [json!({ "t": "2023-11-14T22:13:22Z", "n": 2 }), json!({ "t": "2023-11-14T22:13:24Z", "n": 1 })]);
}

#[test]
fn the_statements_of_the_document_run() {
    let capture = capture("document");
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SQL.md")).unwrap();
    let mut statements: Vec<String> = Vec::new();
    for line in document.lines() {
        if let Some(line) = line.strip_prefix("        ") {
            statements.last_mut().unwrap().push_str(line);
        } else if let Some(line) = line.strip_prefix("    SELECT") {
            statements.push(format!("SELECT{line} "));
        }
    }
    assert!(statements.len() >= 4, "{statements:?}");
    for statement in statements {
        stdout(&[&capture, "sql", &statement]);
    }
}
