//! One window: what the capture calls its beginning and its end is what every row keeps to, and all of it is accounted for.

use ebrec_format::events;
use ebrec_tests::{Capture, Context, Program, Result, int, list, program, recorded, require_bpf, run, workload};
use std::process::{Child, Command, Stdio};

/// A child that is killed with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started(args: &[&str]) -> Result<Killed> {
    let path = program(Program::Workload)?;
    let child = Command::new(path).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    child.map(Killed).context("start the workload")
}

/// Time that a process has been on a CPU so far, ns.
fn time_on_cpu(process: &Killed) -> Result<i64> {
    let path = format!("/proc/{}/schedstat", process.0.id());
    let text = std::fs::read_to_string(&path).context(&path)?;
    text.split(' ').next().and_then(|ns| ns.parse().ok()).context(path)
}

/// Tables of probes, which have a `ts`.
fn tables() -> impl Iterator<Item = &'static str> {
    let of_probes = events::tables().filter(|table| events::probe_of(table.name).is_some());
    // What a stack is holds at any time.
    of_probes.map(|table| table.name).filter(|name| *name != "stack")
}

/// The load begins before the recorder does, and goes on when it has ended.
#[test]
fn no_row_lies_outside_of_the_window() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let _load: Vec<Killed> = ["files", "calls", "signals", "forks", "tcp", "switches"]
        .into_iter()
        .map(|kind| started(&["flood", kind, "--ms", "20000", "--rate", "1000"]))
        .collect::<Result<_>>()?;
    let capture = Capture::place("window")?;
    let args = ["--probes", "all", "--duration", "1s", "--off-cpu-stacks", "-o", &capture.arg()];
    run(Program::Record, args)?.succeeded()?;
    let outside = tables().map(|table| {
        format!(
            "SELECT '{table}' AS t, count(*) AS n, count(*) FILTER (WHERE e.ts < c.ts) AS before, count(*) FILTER (WHERE e.ts > c.end_ts) AS after
             FROM {table} AS e, capture AS c"
        )
    });
    let rows = capture.sql(&outside.collect::<Vec<_>>().join(" UNION ALL "))?;
    for row in &rows {
        assert_eq!((int(&row["before"])?, int(&row["after"])?), (0, 0), "{row}");
    }
    // Those that the load makes rows of at any time.
    for table in ["sched_switch", "sched_wakeup", "syscall", "file_open", "file_io", "tcp_state", "signal", "process_fork", "softirq"] {
        let row = rows.iter().find(|row| row["t"] == table).context(table)?;
        assert!(int(&row["n"])? > 100, "{row}");
    }
    // And it is as long as was asked for.
    let length = capture.number("SELECT CAST(end_ts AS BIGINT) - CAST(ts AS BIGINT) FROM capture")?;
    assert!((1_000_000_000..1_100_000_000).contains(&length), "{length}");
    Ok(())
}

/// Whatever a CPU does, it does it for the whole window: in a task's last time on it, too.
#[test]
fn the_times_on_a_cpu_make_the_window() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let spinner = started(&["spin", "20"])?;
    let (used, capture) = recorded(&["--probes", "sched", "--include-self"], || {
        let before = time_on_cpu(&spinner)?;
        workload(&["pingpong", "2000"])?;
        Ok(time_on_cpu(&spinner)? - before)
    })?;
    let window = capture.number("SELECT CAST(end_ts AS BIGINT) - CAST(ts AS BIGINT) FROM capture")?;
    let cpus = capture.sql("SELECT cpu, CAST(sum(prev_ran_ns) AS BIGINT) AS ran, count(*) FILTER (WHERE prev_state IS NULL) AS ends FROM sched_switch GROUP BY cpu")?;
    assert!(!cpus.is_empty());
    for cpu in &cpus {
        assert_eq!((int(&cpu["ran"])?, int(&cpu["ends"])?), (window, 1), "{cpu}");
    }
    // The rows that make them whole are at the end, and name nobody who comes.
    let wrong = "SELECT count(*) FROM sched_switch, capture WHERE prev_state IS NULL AND (sched_switch.ts <> end_ts OR next_pid IS NOT NULL OR next_waited_ns IS NOT NULL)";
    assert_eq!(capture.number(wrong)?, 0);
    // The process that never leaves a CPU of its own accord has its time.
    let ran = capture.number(&format!("SELECT CAST(sum(prev_ran_ns) AS BIGINT) FROM sched_switch WHERE prev_pid = {}", spinner.0.id()))?;
    // The kernel's own count is as old as a tick may be.
    assert!(ran > used - 20_000_000 && ran > 0 && ran <= window, "{ran} of {window}, {used} within");
    Ok(())
}

/// A call that is in progress as the window begins has no beginning in it; one that is at its end has no end.
#[test]
fn what_crosses_an_end_of_the_window_is_told_as_such() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let sleeper = started(&["flood", "switches", "--ms", "20000", "--rate", "200"])?;
    let (truth, capture) = recorded(&["--probes", "syscall,process"], || workload(&["exec", "--codes", "2"]))?;
    let row = capture.row(
        "SELECT count(*) FILTER (WHERE latency_ns > CAST(end_ts AS BIGINT) - CAST(capture.ts AS BIGINT)) AS too_long,
                count(*) FILTER (WHERE latency_ns IS NULL AND ret IS NULL) AS open FROM syscall, capture",
    )?;
    assert_eq!(row["too_long"], 0, "{row}");
    drop(sleeper);
    // What lives at the start is in the snapshot, or is forked in the window: nothing falls in between.
    let children = list(&truth["children"])?.iter().map(|child| int(&child["pid"])).collect::<Result<Vec<_>>>()?;
    for child in children {
        let known = format!(
            "SELECT (SELECT count(*) FROM process_fork WHERE child_pid = {child}) + (SELECT count(*) FROM process WHERE pid = {child})"
        );
        assert!(capture.number(&known)? > 0, "{child}");
    }
    Ok(())
}
