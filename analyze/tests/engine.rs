//! What SQL may read, what it costs, and what it hears when something is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, SECOND, builder, directory, ebrec, sample, stdout, switch, task};
use ebrec_format::events::session::Loss;
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::manifest::HookState;
use ebrec_format::segment;
use ebrec_format::table::{Row, batch_of};
use ebrec_format::wire::NULL64;
use std::path::{Path, PathBuf};

fn small(name: &str) -> String {
    text(&builder().write(&directory(name).join("small.ebrec")))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// stdout, stderr and exit code.
fn run(args: &[&str]) -> (String, String, i32) {
    let output = ebrec(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(!err.contains("panicked") && !err.contains("internal error"), "{args:?}: {err}");
    (out, err, output.status.code().unwrap_or(-1))
}

#[test]
fn sql_reads_the_capture_and_nothing_else_of_the_machine() {
    let directory = directory("hostile");
    let capture = text(&sample(&directory.join("small.ebrec")));
    let written = directory.join("written");
    let secret = directory.join("secret.csv");
    std::fs::write(&secret, "a,b\nsecret,2\n").unwrap();
    let (written_, secret_) = (text(&written), text(&secret));
    for statement in [
        format!("COPY sched_switch TO '{written_}'"),
        format!("COPY (SELECT 1) TO '{written_}' STORED AS PARQUET"),
        format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{secret_}'"),
        format!("CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION 'file://{secret_}'"),
        format!("SELECT * FROM '{secret_}'"),
        format!("SELECT * FROM \"file://{secret_}\""),
        format!("SELECT * FROM read_csv('{secret_}')"),
        format!("SELECT * FROM read_parquet('{secret_}')"),
        "CREATE TABLE x AS SELECT 1".to_owned(),
        "CREATE VIEW x AS SELECT 1".to_owned(),
        "INSERT INTO loss SELECT * FROM loss".to_owned(),
        "DELETE FROM loss".to_owned(),
        "DROP TABLE loss".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "PREPARE x AS SELECT 1".to_owned(),
        "BEGIN".to_owned(),
        "DROP TABLE loss; SELECT 1".to_owned(),
        "SELECT * FROM ebrec.main.nothing".to_owned(),
        "SELECT * FROM other.main.loss".to_owned(),
        String::new(),
    ] {
        let (out, err, code) = run(&[&capture, "sql", &statement]);
        assert_eq!(code, 2, "{statement}: {out}{err}");
        assert!(!out.contains("secret") && err.starts_with("ebrec-analyze: "), "{statement}: {out}{err}");
    }
    assert!(!written.exists());
}

#[test]
fn a_window_reads_only_the_row_groups_that_it_overlaps() {
    let (idle, web) = (task(0, 0, "swapper/0"), task(200, 200, "web"));
    // Five row groups in one segment, and a second segment after them.
    let rows = |from: u64, n: u64| (from..from + n).map(|i| switch(i * 10_000, idle, web, i)).collect::<Vec<_>>();
    let each = segment::ROW_GROUP_ROWS as u64;
    let capture = Builder::default().rows(&rows(0, 5 * each)).rows(&rows(5 * each, each)).write(&directory("pruning").join("big.ebrec"));
    // 10 us a row, so a row group is 1.3 s: this window lies within the third.
    let window = [&text(&capture), "--from", "+3s", "--to", "+3100ms"];
    let query = |sql: &str| stdout(&[&window[..], &["sql", sql]].concat());
    assert_eq!(
        query("SELECT count(*) AS n, min(next_waited_ns) AS a FROM sched_switch WHERE next_pid = 200"),
        "    n       a\n─────  ──────\n10000  300000\n"
    );
    let plan = query("EXPLAIN ANALYZE SELECT count(next_waited_ns) FROM sched_switch WHERE next_pid = 200");
    assert!(!plan.contains("FilterExec"), "the scan filters itself: {plan}");
    assert!(plan.contains("row_groups_pruned_statistics=5 total → 1 matched"), "{plan}");
    assert!(plan.contains("files_ranges_pruned_statistics=") && plan.contains("predicate=ts@"), "{plan}");
    // Within the row group only the pages of the window are read.
    assert!(plan.contains("page_index_rows_pruned="), "{plan}");
    assert!(
        !plan.contains("page_index_rows_pruned=0 total") && !plan.contains("page_index_rows_pruned=131.07 K total → 131.07 K matched"),
        "{plan}"
    );
}

#[test]
fn pid_and_comm_are_the_acting_task() {
    let capture = small("acting");
    let count = |options: &[&str], table: &str| {
        let sql = format!("SELECT count(*) AS n FROM {table}");
        let out = stdout(&[&[capture.as_str()], options, &["--output", "csv", "sql", &sql]].concat());
        out.lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(count(&["-p", "100"], "sched_switch"), 6666, "switches to and from it");
    assert_eq!(count(&["--comm", "web"], "process_exit"), 1);
    assert_eq!(count(&["-p", "300", "--from", "+3s"], "tcp_connect"), 1);
    assert_eq!(count(&["-p", "300", "--to", "+3s"], "tcp_connect"), 1);
    assert_eq!(count(&["-p", "4242"], "tcp_connect"), 0);
    assert_eq!(count(&["-p", "4242"], "system_sample"), 10, "the host has no pid");
    assert_eq!(count(&["--from", "22:13:25", "--to", "2023-11-14T22:13:27Z"], "system_sample"), 2);
}

#[test]
fn a_table_that_was_not_captured_is_not_empty() {
    let capture = text(&Builder::default().without("tcp").rows::<Loss>(&[]).write(&directory("absent").join("a.ebrec")));
    for args in [&["sql", "SELECT * FROM tcp_close"][..], &["tcplife"], &["tcptop"]] {
        let (out, err, code) = run(&[&[capture.as_str()], args].concat());
        assert_eq!((out.as_str(), code), ("", 2), "{err}");
        assert!(err.contains("not captured, because the probe tcp was off") && err.contains("--probes tcp"), "{err}");
    }
    let (out, _, code) = run(&[&capture]);
    assert!(code == 0 && out.contains("Not known\ntcp_connection: not captured"), "{out}");
    // Recorded, and nothing happened: empty, and the report says that.
    let (out, err, code) = run(&[&capture, "execsnoop"]);
    assert_eq!((out.as_str(), err.as_str(), code), ("", "ebrec-analyze: execsnoop: nothing found\n", 1));
    let (out, _, code) = run(&[&capture, "sql", "SELECT pid FROM process_exec"]);
    assert_eq!((out.as_str(), code), ("pid\n───\n", 0));
}

#[test]
fn a_failed_probe_tells_its_reason() {
    let mut builder = Builder::default();
    let hooks = &mut builder.manifest.probes.get_mut("sched").unwrap().hooks;
    *hooks = vec![HookState { hook: "switch".to_owned(), reason: Some("no BTF".to_owned()), ..HookState::default() }];
    let capture = text(&builder.write(&directory("failed").join("a.ebrec")));
    let (_, err, code) = run(&[&capture, "runqlat"]);
    assert_eq!(code, 2);
    assert!(err.contains("sched_switch: not captured, because the probe sched could not be attached (switch: no BTF)"), "{err}");
}

#[test]
fn losses_and_missing_hooks_are_noted_where_they_matter() {
    let loss = |from: u64, table: &str| Loss {
        ts: from,
        end_ts: from + SECOND,
        cpu: 0,
        table_name: Some(table.to_owned()),
        reason: Some("ring full".to_owned()),
        lost: 1234,
    };
    let mut builder = builder();
    let hook = |name: &str, tables: &[&str]| HookState {
        hook: name.to_owned(),
        tables: tables.iter().map(|&table| table.to_owned()).collect(),
        reason: Some("refused".to_owned()),
        ..HookState::default()
    };
    let hooks = [hook("splice", &[]), hook("known", &["tcp_recv"])];
    builder.manifest.probes.get_mut("tcp").unwrap().hooks.extend(hooks);
    let capture = text(&builder.rows(&[loss(4 * SECOND, "sched_switch")]).write(&directory("loss").join("a.ebrec")));
    let (_, err, code) = run(&[&capture, "runqlat"]);
    assert_eq!(code, 0);
    assert!(
        err.contains("note: 1,234 sched_switch records were lost (ring full) between 22:13:24.000 and 22:13:25.000: counts are too low"),
        "{err}"
    );
    assert!(err.contains("larger --memory") && !err.contains("splice"), "{err}");
    let (_, err, code) = run(&[&capture, "sql", "SELECT count(*) FROM sched_switch", "--strict"]);
    assert!(code == 2 && err.contains("1,234") && err.contains("--strict"), "{err}");
    assert_eq!(run(&[&capture, "runqlat", "--strict", "--to", "+3s"]).2, 0, "the loss is outside of the window");
    assert_eq!(run(&[&capture, "execsnoop", "--strict"]).2, 0, "another table");
    assert_eq!(run(&[&capture, "runqlat", "--quiet"]).1, "");
    let (_, err, code) = run(&[&capture, "tcplife"]);
    assert!(code == 0 && err.contains("hook splice of probe tcp was not attached (refused)") && !err.contains("known"), "{err}");
    assert!(run(&[&capture, "tcptop"]).1.contains("hook known of probe tcp"));
    let summary = run(&[&capture]).0;
    let line = summary.lines().find(|line| line.starts_with("sched_switch")).unwrap();
    assert!(line.ends_with(" 1,234"), "{line}");
}

#[test]
fn what_does_not_fit_into_memory_is_spilled() {
    let capture = small("spill");
    let sql = "SELECT s.*, x FROM sched_switch AS s, unnest(range(0, 30)) AS t(x) ORDER BY next_comm, ts DESC, x";
    let (out, err, code) = run(&[&capture, "--memory", "32M", "--output", "csv", "sql", sql]);
    assert_eq!((out.lines().count(), code), (300_001, 0), "{err}");
    let (_, err, code) = run(&[&capture, "--memory", "1M", "sql", "SELECT array_agg(a.ts) FROM sched_switch a, sched_switch b"]);
    assert!(code == 2 && err.starts_with("ebrec-analyze: memory: ") && err.contains("--memory 2G") && err.lines().count() == 2, "{err}");
}

#[test]
fn several_captures_are_one_dataset() {
    let directory = directory("several");
    let a = text(&builder().write(&directory.join("a.ebrec")));
    let mut other = builder();
    other.manifest.host.name = "other".to_owned();
    let b = text(&other.write(&directory.join("b.ebrec")));
    let out = stdout(&[&a, &b, "--output", "csv", "sql", "SELECT host, capture, count(*) AS n FROM process_exec GROUP BY 1, 2 ORDER BY 1"]);
    assert_eq!(out, "host,capture,n\nother,b,2\ntesthost,a,2\n");
    assert_eq!(stdout(&[&a, &b, "--output", "csv", "sql", "SELECT count(*) AS n FROM process_exec WHERE capture = 'a'"]), "n\n2\n");
    assert_eq!(
        stdout(&[&a, &b, "--output", "csv", "sql", "SELECT capture, host FROM capture"]),
        "capture,host\n",
        "it has a column host itself"
    );
    assert!(stdout(&[&a, &b]).contains("b.ebrec"));
}

fn encoded<R: Row>(rows: &[R]) -> Vec<u8> {
    let mut context = Context { boot_to_utc_ns: common::START, resolver: &mut NoResolver };
    segment::encode(R::table(), &[batch_of(rows, &mut context)]).unwrap()
}

/// A Parquet file with these columns.
fn parquet(columns: Vec<(&str, arrow::array::ArrayRef)>) -> Vec<u8> {
    let batch = arrow::array::RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn older_and_newer_schemas_work_and_others_are_refused() {
    use arrow::array::{Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
    use std::sync::Arc;
    let directory = directory("schemas");
    let ts = || Arc::new(TimestampNanosecondArray::from(vec![common::START + 1]).with_timezone("UTC")) as arrow::array::ArrayRef;
    let build = |name: &str, bytes: Vec<u8>| {
        let builder = Builder::default().raw("process_exit/0-0.parquet", bytes).rows::<Loss>(&[]);
        text(&builder.write(&directory.join(name)))
    };
    let sql = "SELECT pid, comm, exit_code, is_thread FROM process_exit";
    // A column fewer, a column more, an integer of another width.
    let known =
        parquet(vec![("ts", ts()), ("pid", Arc::new(Int64Array::from(vec![7]))), ("brand_new", Arc::new(Int32Array::from(vec![1])))]);
    let out = stdout(&[&build("other.ebrec", known), "--output", "csv", "sql", sql]);
    assert_eq!(out, "pid,comm,exit_code,is_thread\n7,,,\n");
    // A table that only a newer recorder knows.
    let bytes =
        parquet(vec![("ts", ts()), ("pid", Arc::new(Int32Array::from(vec![7]))), ("colour", Arc::new(StringArray::from(vec!["red"])))]);
    let newer = text(&Builder::default().raw("brand_new/0-0.parquet", bytes).rows::<Loss>(&[]).write(&directory.join("newer.ebrec")));
    assert_eq!(stdout(&[&newer, "--output", "csv", "sql", "SELECT colour FROM brand_new"]), "colour\nred\n");
    assert_eq!(stdout(&[&newer, "-p", "8", "--output", "csv", "sql", "SELECT count(*) AS n FROM brand_new"]), "n\n0\n");
    assert!(stdout(&[&newer, "tables"]).contains("brand_new") && stdout(&[&newer, "describe", "brand_new"]).contains("colour"));
    let wrong = parquet(vec![("ts", ts()), ("pid", Arc::new(StringArray::from(vec!["seven"])))]);
    let (_, err, code) = run(&[&build("wrong.ebrec", wrong), "sql", sql]);
    assert!(code == 2 && err.contains("process_exit: segment") && err.contains("column pid is Utf8, expected Int32"), "{err}");
    let (_, err, code) = run(&[&build("torn.ebrec", b"PAR1 this is not Parquet PAR1".to_vec()), "exitsnoop"]);
    assert!(code == 2 && err.contains("process_exit: segment") && err.contains("can't be read"), "{err}");
    let mut cut = encoded(&[switch(1, task(1, 1, "a"), task(2, 2, "b"), NULL64)]);
    cut.drain(10..40);
    let (_, err, code) =
        run(&[&text(&Builder::default().raw("sched_switch/0-0.parquet", cut).write(&directory.join("cut.ebrec"))), "runqlat"]);
    assert!(code == 2 && err.starts_with("ebrec-analyze: "), "{err}");
}

#[test]
fn what_is_no_capture_is_refused_in_a_sentence() {
    let directory = directory("garbage");
    let good = builder().write(&directory.join("good.ebrec"));
    let bytes = std::fs::read(&good).unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    let mut future = Builder::default();
    future.manifest.format_version = 4_000_000;
    for path in [
        write("empty.ebrec", b""),
        write("garbage.ebrec", &[0x5a; 4096]),
        write("truncated.ebrec", &bytes[..bytes.len() / 2]),
        write("no-end.ebrec", &bytes[..bytes.len() - 30]),
        directory.clone(),
        directory.join("missing.ebrec"),
        future.write(&directory.join("future.ebrec")),
    ] {
        let (out, err, code) = run(&[&text(&path), "tables"]);
        assert_eq!((out.as_str(), code), ("", 2), "{}: {err}", path.display());
        assert!(err.starts_with("ebrec-analyze: ") && err.lines().count() == 2, "{}: {err}", path.display());
    }
    // Damage in the middle: whichever table it hit is named, and the others are read.
    let flipped = text(&write("flipped.ebrec", &flipped));
    for args in [&["execsnoop"][..], &["runqlat"], &["tcptop"], &["tables"], &[]] {
        let (_, err, code) = run(&[&[flipped.as_str()], args].concat());
        assert!(matches!(code, 0..=2) && !err.contains("panicked"), "{err}");
    }
}

#[test]
fn an_absurd_manifest_does_no_harm() {
    let mut builder = builder();
    builder.manifest.started_ns = i64::MIN;
    builder.manifest.ended_ns = i64::MAX;
    builder.manifest.host.name = "\u{1b}[2Jhost\n".to_owned();
    builder.manifest.command = vec!["\u{7}".to_owned(); 3];
    builder.manifest.recorder.cpu_ns = u64::MAX;
    builder.manifest.tables.entry("no_such_table".to_owned()).or_default().rows = u64::MAX;
    let capture = text(&builder.write(&directory("absurd").join("a.ebrec")));
    for args in [&[][..], &["tables"], &["execsnoop", "-tT"], &["runqlat", "1", "3"], &["tcptop", "1"], &["--from", "+10s", "tcplife"]] {
        let (out, err, code) = run(&[&[capture.as_str()], args].concat());
        assert!(matches!(code, 0 | 1), "{args:?}: {code} {err}");
        assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "{args:?}");
    }
}

#[test]
fn a_recording_that_was_killed_is_read_and_said_to_be_partial() {
    let directory = directory("partial").join("a.ebrec.partial");
    std::fs::create_dir_all(directory.join("loose")).unwrap();
    let mut builder = Builder::default();
    builder.manifest.complete = false;
    std::fs::write(directory.join("manifest.json"), serde_json::to_vec(&builder.manifest).unwrap()).unwrap();
    let rows = encoded(&[switch(SECOND, task(1, 1, "a"), task(2, 2, "b"), 5_000)]);
    std::fs::write(directory.join("loose/sched_switch.0-0.parquet"), rows).unwrap();
    let capture = text(&directory);
    let (out, err, code) = run(&[&capture, "runqlat"]);
    assert!(code == 0 && out.contains("4 -> 7          : 1"), "{out}{err}");
    assert!(err.contains("note: ") && err.contains("still runs or was killed"), "{err}");
    assert!(run(&[&capture]).0.contains("not ended"));
}

#[test]
fn only_loose_segments_are_covered_by_others() {
    let directory = directory("covered");
    let (idle, web) = (task(0, 0, "swapper/0"), task(200, 201, "web"));
    let rows = |from: u64, n: u64| encoded(&(from..from + n).map(|i| switch(i * 1_000, idle, web, i)).collect::<Vec<_>>());
    let count = |capture: &Path| {
        let out = stdout(&[&text(capture), "--output", "csv", "sql", "SELECT count(*) AS n, min(next_waited_ns) AS a FROM sched_switch"]);
        out.lines().nth(1).unwrap().to_owned()
    };
    // Late rows are loose until the end; large segments between them are not.
    let names = ["sched_switch/000001-000005.parquet", "sched_switch/000002-000002.parquet", "sched_switch/000004-000004.parquet"];
    let packed = names.iter().zip(0..).fold(Builder::default(), |builder, (name, nth)| builder.raw(name, rows(100 * nth, 100)));
    assert_eq!(count(&packed.write(&directory.join("a.ebrec"))), "300,0");
    // A crash left what had been merged.
    let partial = directory.join("b.ebrec.partial");
    std::fs::create_dir_all(partial.join("loose")).unwrap();
    std::fs::write(partial.join("manifest.json"), serde_json::to_vec(&Builder::default().manifest).unwrap()).unwrap();
    for (range, from, n) in [("000001-000005", 0, 100), ("000001-000001", 0, 50), ("000005-000005", 50, 50), ("000006-000006", 200, 10)] {
        std::fs::write(partial.join(format!("loose/sched_switch.{range}.parquet")), rows(from, n)).unwrap();
    }
    assert_eq!(count(&partial), "110,0");
}
