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

/// DataFusion's own date_part drops the fraction of what is longer than 2^31 ns.
#[test]
fn differences_of_any_length_keep_their_fraction() {
    const DIFFERENCES: [&str; 2] = [
        "to_timestamp_nanos(1700000000000000000 + NS) - to_timestamp_nanos(1700000000000000000)",
        "arrow_cast(NS / 1000, 'Duration(Microsecond)')",
    ];
    let capture = capture("difference");
    let seconds = [0.25, 2.0, 2.25, 7.75, 100_000.5, -3.75, 0.0];
    let values = seconds.map(|s| format!("(CAST({} AS BIGINT))", s * 1e9)).join(", ");
    for call in ["date_part('epoch', {})", "datepart('EPOCH', {})", "EXTRACT(EPOCH FROM {})"] {
        for difference in DIFFERENCES {
            let of = |ns: &str| call.replace("{}", &difference.replace("NS", ns));
            let found = rows(&capture, &format!("SELECT {} AS s FROM (VALUES {values}) AS t(n)", of("n")));
            assert_eq!(found.iter().map(|row| row["s"].as_f64().unwrap()).collect::<Vec<_>>(), seconds, "{call} {difference}");
            let constants = rows(&capture, &format!("SELECT {} AS s, {} AS none", of("2750000000"), of("CAST(NULL AS BIGINT)")));
            assert_eq!(constants, [json!({ "s": 2.75, "none": null })], "{call} {difference}");
        }
    }
    // Everything else is as it was.
    let parts =
        rows(&capture, "SELECT date_part('minute', INTERVAL '90 seconds') AS m, EXTRACT(year FROM TIMESTAMP '2026-01-31T00:00:00') AS y");
    assert_eq!(parts, [json!({ "m": 1, "y": 2026 })]);
}

/// Of a recording that is longer than 2^31 ns; the truth is counted in whole numbers.
#[test]
fn intervals_of_half_a_second_are_all_there() {
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/quiet.ebrec");
    let truth = rows(
        capture,
        "SELECT (CAST(ts AS BIGINT) - (SELECT CAST(ts AS BIGINT) FROM capture)) / 500000000 AS nth, count(*) AS n
         FROM sched_switch WHERE next_waited_ns IS NOT NULL AND next_pid <> 0 GROUP BY 1 ORDER BY 1",
    );
    let truth: Vec<i64> = truth.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    let buckets: Vec<Value> = serde_json::from_str(&stdout(&[capture, "--output", "json", "runqlat", "0.5"])).unwrap();
    let mut counted: Vec<(&str, i64)> = Vec::new();
    for bucket in &buckets {
        let (end, count) = (bucket["interval_end"].as_str().unwrap(), bucket["count"].as_i64().unwrap());
        match counted.last_mut() {
            Some((last, total)) if *last == end => *total += count,
            _ => counted.push((end, count)),
        }
    }
    assert!(truth.len() > 20, "{truth:?}");
    assert_eq!(counted.iter().map(|(_, count)| *count).collect::<Vec<_>>(), truth);
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
