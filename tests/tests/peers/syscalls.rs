//! syscount beside the table `syscall`.

use crate::tool::{Tool, number};
use ebrec_tests::{Capture, Context, Program, Result, fail, int, list, program, recorded, require_bpf, text, workload};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// Number of calls, and the time that they took, in us.
type Calls = (i64, f64);

/// A shell that becomes the workload when it is told to: its pid is known before.
struct Later {
    child: Child,
}

impl Later {
    fn start(args: &str) -> Result<Self> {
        let script = format!("echo ready; read go; exec {} {args}", program(Program::Workload)?.display());
        let command = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut later = Self { child: command.context("run /bin/sh")? };
        let stdout = later.child.stdout.as_mut().context("no stdout")?;
        // Nothing comes after this line before it goes on, so no more than the line is read.
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read from the shell")?;
        Ok(later)
    }

    /// Lets it become the workload, and waits for its end.
    fn go(&mut self) -> Result<()> {
        writeln!(self.child.stdin.as_mut().context("no stdin")?, "go").context("tell the shell")?;
        let mut truth = String::new();
        self.child.stdout.as_mut().context("no stdout")?.read_to_string(&mut truth).context("read the truth")?;
        let status = self.child.wait().context("wait")?;
        if status.success() { Ok(()) } else { fail(format!("the workload ended with {status}")) }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The calls that have returned and whose beginning was seen: the tool counts no others.
fn captured(capture: &Capture, pid: i64) -> Result<BTreeMap<String, Calls>> {
    let rows = capture.sql(&format!(
        "SELECT name, count(*) AS n, sum(latency_ns) AS ns FROM syscall WHERE pid = {pid} AND latency_ns IS NOT NULL GROUP BY name"
    ))?;
    rows.iter().map(|row| Ok((text(&row["name"])?.to_owned(), (int(&row["n"])?, int(&row["ns"])? as f64 / 1e3)))).collect()
}

/// First word -> count and time, at the end of the line.
fn printed_by(tool: Tool) -> Result<BTreeMap<String, Calls>> {
    let mut all = BTreeMap::new();
    for line in tool.stop()? {
        if let [first, .., count, time] = line.split_whitespace().collect::<Vec<_>>()[..]
            && let (Ok(count), Ok(time)) = (number(count), time.parse())
        {
            all.insert(first.to_owned(), (count, time));
        }
    }
    Ok(all)
}

fn sum(calls: &BTreeMap<String, Calls>) -> Calls {
    calls.values().fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// As many, and as long. Both take the time at the beginning and the end of the same calls, but one before the other: the time of its
/// program, and of whatever the CPU does between the two, is in the other's. The first is far less than 20 us a call. The second is rare
/// where there are few calls, so 20 ms are much for it.
fn assert_same(live: Calls, captured: Calls, what: &str) {
    assert_eq!(live.0, captured.0, "{what}: {live:?} {captured:?}");
    let slack = 20.0 * live.0 as f64 + 20_000.0;
    assert!((live.1 - captured.1).abs() <= slack, "{what}: {live:?} {captured:?}");
}

#[test]
fn syscount_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut later = Later::start("nap 50 --ms 5")?;
    let napper = i64::from(later.child.id());
    // By process, all of them; and by name of one.
    let Some(by_process) = Tool::start_summary("syscount", &["-P", "-L", "-T", "100000"])? else { return Ok(()) };
    let Some(by_name) = Tool::start_summary("syscount", &["-L", "-T", "1000", "-p", &napper.to_string()])? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "syscall"], || {
        later.go()?;
        workload(&["calls", "500", "--sleeps", "1"])
    })?;
    let (by_process, by_name) = (printed_by(by_process)?, printed_by(by_name)?);
    let by_process = |pid: i64| by_process.get(&pid.to_string()).copied().context(format!("nothing of {pid}: {by_process:?}"));
    let captured_names = captured(&capture, napper)?;
    assert_eq!(by_name.keys().collect::<Vec<_>>(), captured_names.keys().collect::<Vec<_>>());
    for (name, calls) in &captured_names {
        assert_same(by_name[name], *calls, name);
    }
    assert_same(by_process(napper)?, sum(&captured_names), "all of one process");
    // There was something to compare: ten names, and a time that is ten times as long as what is tolerated.
    let naps = captured_names.get("nanosleep").context("no naps")?;
    assert!(captured_names.len() >= 10 && naps.0 == 50 && naps.1 >= 50.0 * 5000.0, "{captured_names:?}");
    // Many calls, by the child that makes them, which has one thread.
    let child = int(&truth["tid"])?;
    let calls = sum(&captured(&capture, child)?);
    assert_eq!(by_process(child)?.0, calls.0);
    let made: i64 = list(&truth["calls"])?.iter().filter_map(|call| call["count"].as_i64()).sum();
    assert!(calls.0 >= made && made > 10_000, "{calls:?} {truth}");
    Ok(())
}
