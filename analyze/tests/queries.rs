//! What every file of queries/ must keep, checked by a loop over all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, directory, sample, stdout};
use ebrec_analyze::engine::filter::Filter;
use ebrec_analyze::engine::{Engine, Planned};
use ebrec_analyze::query::{Queries, Query, params, reference};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn engine(path: &Path) -> Engine {
    Engine::new(Engine::open(&[path.to_owned()]).unwrap(), vec![Filter::default()], 64 << 20, Queries::default()).unwrap()
}

async fn rows(engine: &Engine, query: &Query) -> (Vec<String>, usize) {
    let planned = engine.report(query, &params::defaults(query).unwrap()).await;
    let Planned { frame, tables } = planned.unwrap_or_else(|error| panic!("{}: {error}", query.name));
    let touched: BTreeSet<String> = tables.into_iter().collect();
    let declared: BTreeSet<String> = query.needs.iter().chain(&query.uses).map(|&name| name.to_owned()).collect();
    assert_eq!(touched, declared, "{}: the tables it reads are those it declares", query.name);
    let names = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = frame.collect().await.unwrap_or_else(|error| panic!("{}: {error}", query.name));
    (names, batches.iter().map(arrow::array::RecordBatch::num_rows).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_columns_are_the_real_ones_and_small_and_empty_captures_work() {
    let directory = directory("queries");
    let small = engine(&sample(&directory.join("small.ebrec")));
    let empty = engine(&Builder::default().write(&directory.join("empty.ebrec")));
    for query in Queries::builtin().unwrap().iter().chain(Queries::summary().unwrap().iter()) {
        let prepared = query.prepare(&params::defaults(query).unwrap()).unwrap();
        ends_with_order(&prepared);
        let (names, count) = rows(&small, query).await;
        let mut declared: Vec<&str> = Vec::new();
        for column in &prepared.columns {
            if !declared.contains(&column.name) {
                declared.push(column.name);
            }
        }
        assert_eq!(names, declared, "{}", query.name);
        assert!(count > 0, "{}: the small capture has something for every report", query.name);
        assert_eq!(rows(&empty, query).await.1, 0, "{}", query.name);
    }
}

fn ends_with_order(query: &Query) {
    let (_, last) = query.sql.rsplit_once("ORDER BY").unwrap_or_else(|| panic!("{}: no ORDER BY", query.name));
    let closed = last.matches('(').count() == last.matches(')').count();
    assert!(closed && !last.contains("FROM"), "{}: the last ORDER BY is not that of the result", query.name);
}

#[test]
fn every_report_ends_with_an_order_and_has_an_example() {
    for query in Queries::builtin().unwrap().iter() {
        ends_with_order(&query.prepare(&params::defaults(query).unwrap()).unwrap());
        assert!(!query.examples.is_empty(), "{}: no example", query.name);
        for (example, _) in &query.examples {
            assert!(example.starts_with(query.name), "{}: {example}", query.name);
        }
    }
}

#[test]
fn flags_do_not_clash() {
    // clap checks names, short and long flags and defaults of the whole tree.
    ebrec_analyze::cli::command(&Queries::builtin().unwrap()).debug_assert();
}

#[test]
fn every_example_runs() {
    // Where files that an example writes may lie.
    let directory = directory("examples");
    sample(&directory.join("small.ebrec"));
    for query in Queries::builtin().unwrap().iter() {
        for (example, _) in &query.examples {
            let args = std::iter::once("small.ebrec").chain(example.split_whitespace());
            let output = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).current_dir(&directory).args(args).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{example}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn the_catalogue_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries/README.md");
    let expected = reference::readme(&Queries::builtin().unwrap());
    if std::env::var_os("EBREC_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "queries/README.md is stale; refresh it: EBREC_BLESS=1 cargo test -p ebrec-analyze");
}

#[test]
fn a_directory_adds_reports() {
    let directory = directory("own-queries");
    let text = "-- Threads per process\n--\n-- group: own\n-- needs: sched_switch\n-- column: pid AS \"PID\" int<6 : Process.\n\
                -- column: n AS \"N\" int>4 : Switches to it.\n-- example: mine : All.\n\
                SELECT next_pid AS pid, count(*) AS n FROM sched_switch GROUP BY 1 ORDER BY pid\n";
    std::fs::write(directory.join("mine.sql"), text).unwrap();
    let capture = sample(&directory.join("small.ebrec"));
    let out = stdout(&["--queries", directory.to_str().unwrap(), capture.to_str().unwrap(), "mine"]);
    assert_eq!(out, "PID       N\n0      3333\n7         1\n100    3333\n200    3335\n400       3\n");
}

#[test]
fn an_alias_is_its_report_with_a_parameter_fixed() {
    let directory = directory("aliases");
    let capture = sample(&directory.join("small.ebrec"));
    let run = |file: &str| {
        std::fs::write(directory.join("xfsopens.sql"), file).unwrap();
        common::ebrec(&["--queries", directory.to_str().unwrap(), capture.to_str().unwrap(), "xfsopens", "-F"])
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let good = run("-- What is slow on xfs\n--\n-- alias: fsslower type=xfs\n-- example: xfsopens : All.\n");
    let same = stdout(&[capture.to_str().unwrap(), "fsslower", "-t", "xfs", "-F"]);
    assert!(same.lines().count() > 1 && same.len() < stdout(&[capture.to_str().unwrap(), "fsslower", "-F"]).len());
    assert_eq!(text(good.stdout), same);
    for (alias, expected) in [
        ("slower type=xfs", "xfsopens.sql: there is no report slower"),
        ("fsslower fs=xfs", "xfsopens.sql: fsslower has no parameter fs of type text"),
        ("fsslower min=5", "fsslower has no parameter min of type text"),
        ("xfsdist type=xfs", "there is no report xfsdist to be an alias of"),
        ("fsslower", "xfsopens.sql, line 3: an alias is REPORT PARAM=VALUE"),
    ] {
        let output = run(&format!("-- What is slow on xfs\n--\n-- alias: {alias}\n"));
        let error = text(output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(expected), "{alias}: {error}");
    }
}

#[test]
fn a_wrong_header_is_refused_with_its_line() {
    const GOOD: &str = "-- Help\n-- group: g\n-- needs: loss\n-- param: wide flag -w : Wide.\n-- column: ts AS \"TS\" time<8 if wide : When.\nSELECT ts FROM loss ORDER BY ts";
    let parse = |text: String| ebrec_analyze::query::header::parse("mine", text.leak()).map_err(|error| error.to_string());
    assert!(parse(GOOD.to_owned()).is_ok());
    for (from, to, expected) in [
        ("-- Help\n", "--\n", "mine.sql: the first line is the help"),
        ("-- group: g\n", "", "mine.sql: group, needs"),
        ("time<8", "tme<8", "mine.sql, line 5: there is no column kind \"tme\""),
        ("time<8", "time<x", "mine.sql, line 5: <x: not a width"),
        ("time<8", "exit(a)<8", "mine.sql, line 5: column kind exit takes 2 arguments"),
        ("if wide", "when wide", "mine.sql, line 5: \"when\": a condition begins with"),
        ("if wide", "if narrow", "condition on narrow"),
        (" : When.", "", "mine.sql, line 5: a column ends with"),
        ("flag -w", "boolean -w", "mine.sql, line 4: there is no parameter type boolean"),
        ("flag -w", "flag", "parameter wide: can't be given"),
        ("wide flag", "pid flag", "parameter pid"),
        ("-- group: g\n", "-- group: g\n-- stacks: a value b\n", "mine.sql, line 3: expected stacks: KERNEL, USER"),
        ("-- group: g\n", "-- group: g\n-- stacks: ts, ts value n task ts, ts\n", "there is no column n"),
        ("-- group: g\n", "-- group: g\n-- buckets: ts if wide\n", "there is no column unit"),
        ("-- group: g\n", "-- group: g\n-- buckets: ts\n", "mine.sql, line 3: expected buckets: COLUMN"),
        ("-- group: g\n", "-- group: g\n-- acting: next if narrow\n", "there is no parameter narrow"),
        ("-- group: g\n", "-- group: g\n-- line: {when}\n", "there is no column when"),
        ("SELECT ts FROM loss ORDER BY ts", "", "a SELECT are required"),
    ] {
        let error = parse(GOOD.replace(from, to)).map(|_| ()).unwrap_err();
        assert!(error.contains(expected), "{from:?} -> {to:?}: {error}");
    }
}
