//! syscount beside the table `syscall`.

use crate::tool::{Tool, number};
use ebrec_tests::{Capture, Context, Program, Result, int, program, recorded, require_bpf, text, workload};
use serde_json::Value;
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

    fn go(&mut self) -> Result<Value> {
        writeln!(self.child.stdin.as_mut().context("no stdin")?, "go").context("tell the shell")?;
        let mut truth = String::new();
        self.child.stdout.as_mut().context("no stdout")?.read_to_string(&mut truth).context("read the truth")?;
        self.child.wait().context("wait")?;
        serde_json::from_str(&truth).context("truth")
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

/// As many, and as long. Both take the time at the beginning and the end of the same calls, but one before the other: the time of its program,
/// and of an interrupt in between, is in the other's (20 us a call is far more than the first, and 20 ms the second, or a virtual
/// machine whose CPU was taken away). What sleeps is much longer than that.
fn assert_same(live: Calls, captured: Calls, what: &str) {
    assert_eq!(live.0, captured.0, "{what}: {live:?} {captured:?}");
    let slack = 20.0 * live.0 as f64 + 20_000.0;
    assert!((live.1 - captured.1).abs() <= slack, "{what}: {live:?} {captured:?}");
}

#[test]
fn syscount_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut later = Later::start("syscalls 5000")?;
    let known = i64::from(later.child.id());
    // By process, all of them; and by name of one.
    let Some(by_process) = Tool::start_summary("syscount", &["-P", "-L", "-T", "100000"])? else { return Ok(()) };
    let Some(by_name) = Tool::start_summary("syscount", &["-L", "-T", "1000", "-p", &known.to_string()])? else { return Ok(()) };
    let ((truth, turns), capture) =
        recorded(&["--probes", "syscall"], || Ok((workload(&["calls", "500", "--sleeps", "50"])?, later.go()?)))?;
    // A first word, then count and time at the end.
    let parse = |printed: Vec<String>| {
        let mut all = BTreeMap::<String, Calls>::new();
        for line in printed {
            if let [first, .., count, time] = line.split_whitespace().collect::<Vec<_>>()[..]
                && let (Ok(count), Ok(time)) = (number(count), time.parse())
            {
                all.insert(first.to_owned(), (count, time));
            }
        }
        all
    };
    let (by_process, by_name) = (parse(by_process.stop()?), parse(by_name.stop()?));
    // The child that makes the calls has one thread.
    let child = int(&truth["tid"])?;
    for pid in [child, known] {
        let of_capture = captured(&capture, pid)?.into_values().fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let live = by_process.get(&pid.to_string()).context(format!("nothing of {pid}: {by_process:?}"))?;
        assert_same(*live, of_capture, "all calls");
    }
    let of_capture = captured(&capture, known)?;
    assert_eq!(by_name.keys().collect::<Vec<_>>(), of_capture.keys().collect::<Vec<_>>());
    for (name, calls) in &of_capture {
        assert_same(by_name[name], *calls, name);
    }
    assert!(of_capture["read"].0 > int(&turns["reads"])? && of_capture.len() > 10, "{of_capture:?}");
    assert!(captured(&capture, child)?["nanosleep"].1 >= 50.0 * 3000.0);
    Ok(())
}
