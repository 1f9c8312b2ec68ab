//! The recorder isn't in its own capture: none of its threads, in no column of any table, unless that is asked for.

use ebrec_format::events;
use ebrec_tests::{Capture, Context, Recorder, Result, require_bpf, workload};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The threads that a process has, watched until `until`.
fn threads_of(recorder: &Recorder, until: Duration) -> BTreeSet<String> {
    let (clock, mut seen) = (Instant::now(), BTreeSet::from([recorder.pid().to_string()]));
    while clock.elapsed() < until {
        if let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", recorder.pid())) {
            seen.extend(tasks.filter_map(|task| task.ok()?.file_name().into_string().ok()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    seen
}

/// Every column that says who acts, or is acted upon. That it is somebody's parent may be said.
fn names_somebody(column: &str) -> bool {
    (column.ends_with("pid") && !column.ends_with("ppid")) || column.ends_with("tid")
}

/// Rows by table and column that name one of the recorder's threads.
fn rows_about_it(args: &[&str]) -> Result<Vec<(String, i64)>> {
    let capture = Capture::place("itself")?;
    let recorder = capture.start(args)?;
    let mut threads = threads_of(&recorder, Duration::from_millis(600));
    workload(&["exec", "--codes", "2"])?;
    // Signals to it are about it, too.
    recorder.signal(libc::SIGCONT)?;
    threads.extend(threads_of(&recorder, Duration::from_millis(400)));
    recorder.stop()?.succeeded()?;
    assert!(threads.len() > 3, "{threads:?}");
    let ids = threads.into_iter().collect::<Vec<_>>().join(",");
    let mut parts = Vec::new();
    for table in events::tables().filter(|table| events::probe_of(table.name).is_some()) {
        for column in (table.columns)().iter().filter(|column| names_somebody(&column.name)) {
            parts.push(format!("SELECT '{0}.{1}' AS c, count(*) AS n FROM {0} WHERE {1} IN ({ids})", table.name, column.name));
        }
    }
    assert!(parts.len() > 40, "{parts:?}");
    let rows = capture.sql(&parts.join(" UNION ALL "))?;
    let found = rows.iter().map(|row| Ok((row["c"].to_string(), row["n"].as_i64().context("a count")?)));
    Ok(found.collect::<Result<Vec<_>>>()?.into_iter().filter(|(_, n)| *n > 0).collect())
}

#[test]
fn no_table_names_a_thread_of_the_recorder() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    assert_eq!(rows_about_it(&["--probes", "all", "--off-cpu-stacks"])?, []);
    Ok(())
}

#[test]
fn with_include_self_it_is_recorded_as_any_other() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let found = rows_about_it(&["--probes", "all", "--off-cpu-stacks", "--include-self"])?;
    for column in
        ["sched_switch.prev_tid", "sched_switch.next_tid", "sched_wakeup.wakee_tid", "syscall.tid", "process.tid", "signal.target_pid"]
    {
        assert!(found.iter().any(|(name, _)| name.trim_matches('"') == column), "{column}: {found:?}");
    }
    Ok(())
}
