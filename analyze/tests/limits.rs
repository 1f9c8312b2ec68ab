//! What a query may take of the machine: memory, stack, disk, time; and what is left of it when it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder, new_null_array};
use arrow::datatypes::DataType;
use common::{Builder, START, builder, directory, ebrec, stdout};
use ebrec_analyze::engine::filter::Filter;
use ebrec_analyze::engine::{self, Engine, LONGEST_CHAIN, MOST_JOINS};
use ebrec_analyze::query::{Queries, params};
use ebrec_format::events::{process::ProcessExec, sched::SchedSwitch};
use ebrec_format::segment;
use ebrec_format::table::Row;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn small(name: &str) -> String {
    builder().write(&directory(name).join("small.ebrec")).to_str().unwrap().to_owned()
}

/// stdout, stderr and exit code. A death by a signal has none.
fn run(args: &[&str]) -> (String, String, Option<i32>) {
    let output = ebrec(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn a_long_statement_is_answered_or_refused() {
    let capture = small("long");
    let file = directory("long-statement").join("q.sql");
    let answer = |sql: &str| {
        std::fs::write(&file, sql).unwrap();
        run(&[&capture, "--output", "csv", "sql", "-f", file.to_str().unwrap()])
    };
    let chain = |n: usize, term: &str, with: &str| vec![term; n].join(with);
    assert_eq!(answer(&format!("SELECT {} AS n", chain(300, "1", "+"))).0, "n\n300\n");
    let list = chain(20_000, "-7", ", ");
    assert_eq!(answer(&format!("SELECT count(*) AS n FROM sched_switch WHERE cpu IN ({list}, 0)")).0, "n\n10000\n");
    let nested = |open: &str, close: &str| format!("SELECT {}1{}", open.repeat(10_000), close.repeat(10_000));
    for (sql, why) in [
        (format!("SELECT {}", chain(LONGEST_CHAIN + 2, "1", "+")), "operators follow one another"),
        (format!("SELECT {}", chain(1_000_000, "1", "+")), "operators follow one another"),
        (format!("SELECT 1 WHERE {}", chain(100_000, "1 = 1", " OR ")), "operators follow one another"),
        (format!("SELECT 1{}", "::INT".repeat(100_000)), "operators follow one another"),
        (chain(MOST_JOINS + 2, "SELECT 1", " UNION ALL "), "joined or united"),
        (format!("SELECT 1 FROM {}", chain(10_000, "loss", ", ")), "joined or united"),
        (nested("(", ")"), "SQL: "),
        (nested("(SELECT ", ")"), "SQL: "),
        // The parser gives up one way, and reads the rest in another.
        (nested("CASE WHEN true THEN ", " END"), "SQL: "),
        (nested("abs(", ")"), "SQL: "),
        (nested("NOT ", ""), "SQL: "),
    ] {
        let (_, err, code) = answer(&sql);
        assert!(code == Some(2) && err.contains(why), "{}…: {code:?} {err}", &sql[..60]);
    }
}

#[test]
fn functions_can_not_take_more_than_the_limit() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/cpu-contention.ebrec");
    for sql in [
        "SELECT length(string_agg(repeat(prev_comm, 20000), '')) FROM (SELECT prev_comm FROM sched_switch LIMIT 30000)",
        "SELECT max(length(lpad(prev_comm, 1000000, 'x'))) FROM sched_switch",
        "SELECT length(repeat('x', 2000000000))",
        "SELECT count(x) FROM (SELECT unnest(range(0, 300000000)) AS x)",
        "SELECT length(array_to_string(array_repeat('xxxxxxxxxxxxxxxx', 100000000), ''))",
        "SELECT length(regexp_replace(repeat('a', 50000000), 'a', 'bbbbbbbbbbbbbbbbbbbb', 'g'))",
    ] {
        let time = Command::new("/usr/bin/env")
            .args(["python3", "-c"])
            .arg("import resource, subprocess, sys\np = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)\nsys.exit(p.returncode if p.returncode >= 0 else 99)")
            .args([env!("CARGO_BIN_EXE_ebrec-analyze"), sample, "--memory", "64M", "sql", sql])
            .output()
            .unwrap();
        let peak: u64 = String::from_utf8(time.stdout).unwrap().trim().parse().unwrap();
        let err = String::from_utf8(time.stderr).unwrap();
        assert!(peak < 900, "{sql}: {peak} MiB");
        assert!(matches!(time.status.code(), Some(0 | 2)), "{sql}: {:?} {err}", time.status);
        assert!(time.status.success() || err.starts_with("ebrec-analyze: "), "{sql}: {err}");
        assert!(!err.contains("panicked"), "{sql}: {err}");
    }
}

/// A capture of programs that were started with long command lines, of which so many differ.
fn long_arguments(path: &Path, rows: usize, bytes: usize, differ: usize) -> PathBuf {
    let schema = ProcessExec::table().schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match (field.name().as_str(), field.data_type()) {
            ("args", DataType::List(item)) => {
                let mut list = ListBuilder::new(StringBuilder::new()).with_field(item.clone());
                for row in 0..rows {
                    list.values().append_value("sh");
                    list.values().append_value(format!("{:08}", row % differ).repeat(bytes / 8));
                    list.append(true);
                }
                Arc::new(list.finish())
            }
            ("ts", DataType::Timestamp(..)) => {
                let instants = arrow::array::Int64Array::from_iter_values((0..rows as i64).map(|row| START + row * 1_000_000));
                arrow::compute::cast(&instants, field.data_type()).unwrap()
            }
            ("comm" | "filename", data_type) => {
                arrow::compute::cast(&arrow::array::StringArray::from(vec!["sh"; rows]), data_type).unwrap()
            }
            ("ret", data_type) => arrow::compute::cast(&arrow::array::Int64Array::from(vec![0; rows]), data_type).unwrap(),
            (_, data_type) if field.is_nullable() => new_null_array(data_type, rows),
            (_, data_type) => arrow::compute::cast(&arrow::array::Int64Array::from(vec![1; rows]), data_type).unwrap(),
        }
    });
    let batch = RecordBatch::try_new(schema.clone(), columns.collect()).unwrap();
    let bytes = segment::encode(ProcessExec::table(), &[batch]).unwrap();
    Builder::default().raw("process_exec/0-0.parquet", bytes).write(path)
}

#[test]
fn long_command_lines_are_reported_within_the_memory() {
    let place = directory("long-arguments");
    // What is shown is 60 MB. Texts that don't differ are in the file once, which hides how long the rows are.
    for (name, differ) in [("a.ebrec", 1000), ("b.ebrec", 2)] {
        let capture = long_arguments(&place.join(name), 1000, 60_000, differ);
        let capture = capture.to_str().unwrap();
        for args in [&["execsnoop"][..], &["execsnoop", "--output", "jsonl"], &[]] {
            let (out, err, code) = run(&[&[capture, "--memory", "32M"], args].concat());
            assert!(code == Some(0), "{name}, {args:?}: {code:?} {err}");
            assert!(args.is_empty() || out.lines().count() >= 1000, "{name}, {args:?}: {} lines", out.lines().count());
        }
    }
}

/// A query that spills for as long as it runs.
fn spilling(place: &Path) -> Child {
    const QUERY: &str =
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY a.prev_comm, b.ts, a.ts) AS n FROM sched_switch a, sched_switch b)";
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/cpu-contention.ebrec");
    // Who runs the tests in the background of a script ignores SIGINT, and so would the program.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_ebrec-analyze")]);
    command.args([sample, "--memory", "64M", "sql", QUERY]).env("TMPDIR", place).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while spilled(place) < 1 << 20 {
        assert!(Instant::now() < end, "it doesn't spill");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

/// Bytes below a directory.
fn spilled(place: &Path) -> u64 {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().map_or(0, |found| if found.is_dir() { spilled(&entry.path()) } else { found.len() })).sum()
}

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn what_was_spilled_goes_with_the_program_however_it_ends() {
    use std::os::unix::process::ExitStatusExt;
    let place = directory("spill");
    for (signal, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let mut child = spilling(&place);
        send(&child, signal);
        assert_eq!(child.wait().unwrap().signal(), Some(number), "it dies of what it was sent");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "{signal}");
    }
    // Nobody can do anything about this one but those who come later, and they leave what is in use alone.
    let mut killed = spilling(&place);
    send(&killed, "-KILL");
    killed.wait().unwrap();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
    let mut other = spilling(&place);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1, "the leftover is gone");
    let capture = small("spill-other");
    let ran = Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).args([&capture, "sql", "SELECT 1"]).env("TMPDIR", &place).output();
    assert!(ran.unwrap().status.success());
    assert_eq!(other.try_wait().unwrap(), None, "it still runs");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1, "what is in use stays");
    send(&other, "-TERM");
    other.wait().unwrap();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn an_ignored_interrupt_stays_ignored_and_a_file_in_the_making_goes() {
    let place = directory("interrupt");
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/cpu-contention.ebrec");
    let out = place.join("out.csv");
    let query = "SELECT a.ts, b.ts FROM sched_switch a, sched_switch b";
    let script =
        format!("trap '' INT; exec {} {sample} sql \"{query}\" --output csv -o {}", env!("CARGO_BIN_EXE_ebrec-analyze"), out.display());
    let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while spilled(&place) < 1 << 16 {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none(), "nothing is written");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!out.exists(), "it has its name when it is complete");
    send(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "SIGINT was ignored by who started it");
    send(&child, "-TERM");
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn without_a_place_to_spill_queries_still_run() {
    let capture = small("no-place");
    let ran =
        Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).args([&capture, "sql", "SELECT 1"]).env("TMPDIR", "/no/such/place").output();
    assert!(ran.unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queries_on_one_engine_do_not_disturb_each_other() {
    let path = PathBuf::from(small("concurrent"));
    let queries = Queries::builtin().unwrap();
    let filter = Filter { pid: Some(100), ..Filter::default() };
    let engine = Arc::new(Engine::new(Engine::open(&[path]).unwrap(), vec![filter], 1 << 30, queries.clone()).unwrap());
    // They read the same table in three ways: of either task, of one of them, and without the filter.
    let mut expected = Vec::new();
    for name in ["runqlat", "cpudist", "filelife"] {
        expected.push((name, answer(&engine, &queries, name).await));
    }
    let count = count(&engine).await;
    let mut tasks = tokio::task::JoinSet::new();
    for nth in 0..24 {
        let (engine, queries, expected, count) = (engine.clone(), queries.clone(), expected.clone(), count.clone());
        tasks.spawn(async move {
            let (name, rows) = &expected[nth % 3];
            assert_eq!(answer(&engine, &queries, name).await, *rows, "{name}");
            assert_eq!(self::count(&engine).await, count);
            let missing = engine.query("SELECT * FROM no_such_table", Vec::new()).await.unwrap_err();
            assert!(missing.to_string().contains("no_such_table"), "{missing}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn answer(engine: &Engine, queries: &Queries, name: &str) -> (Vec<String>, String) {
    let query = queries.get(name).unwrap();
    let planned = engine.report(query, &params::defaults(query).unwrap()).await.unwrap();
    let batches = engine::collect(planned.frame).await.unwrap();
    (planned.tables, format!("{batches:?}"))
}

async fn count(engine: &Engine) -> String {
    let planned = engine.query("SELECT count(*) FROM sched_switch", Vec::new()).await.unwrap();
    format!("{:?}", engine::collect(planned.frame).await.unwrap())
}

#[test]
fn nothing_outside_of_the_window_is_counted() {
    use common::{SECOND, switch, task};
    let (a, b) = (task(100, 100, "a"), task(200, 200, "b"));
    // Three of five lie in the window, to which its ends belong.
    let rows: Vec<SchedSwitch> = [1, 2, 3, 4, 5].iter().map(|ts| switch(ts * SECOND, a, b, 1000)).collect();
    let mut builder = Builder::default().rows(&rows);
    (builder.manifest.started_ns, builder.manifest.ended_ns) = (START + 2 * SECOND as i64, START + 4 * SECOND as i64);
    let place = directory("outside");
    let capture = builder.write(&place.join("a.ebrec"));
    let capture = capture.to_str().unwrap();
    let count =
        |options: &[&str]| stdout(&[&[capture, "--output", "csv"], options, &["sql", "SELECT count(*) AS n FROM sched_switch"]].concat());
    assert_eq!(count(&[]), "n\n3\n");
    assert_eq!(count(&["--from", "2023-11-14T22:13:20Z", "--to", "2023-11-14T22:14:20Z"]), "n\n3\n", "also if more is asked for");
    assert_eq!(count(&["--from", "+1s"]), "n\n2\n");
    assert!(stdout(&[capture, "runqlat"]).contains("n=3\n"));
    assert!(stdout(&[capture, "--output", "csv", "tables"]).contains("sched_switch,sched,3,"));
    assert!(stdout(&[capture, "runqlat", "--show-sql"]).contains("sched_switch WHERE"), "other engines count the same");
}
