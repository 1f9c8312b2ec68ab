//! Beside the live tools of libbpf-tools: what they print while a recording runs is what the capture says afterwards.
//!
//! Where they differ, the capture is right by the workload's truth, and the reason stands here. Needs Debian's
//! libbpf-tools; a tool that is not installed skips its test, loudly.

use ebrec_tests::{Capture, Context, Error, Held, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A live tool that prints as it goes.
struct Tool {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Tool {
    /// Starts it; `None` if it isn't installed.
    fn start(name: &str, args: &[&str]) -> Result<Option<Self>> {
        let place = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().map(|dir| format!("{dir}/{name}"));
        let Some(path) = place.into_iter().find(|path| std::path::Path::new(path).is_file()) else {
            if std::env::var("EBREC_TEST_REQUIRE_PEERS").is_ok_and(|value| value == "1") {
                return ebrec_tests::fail(format!("EBREC_TEST_REQUIRE_PEERS=1, but {name} is not installed (libbpf-tools)"));
            }
            eprintln!("SKIPPED: {name} of libbpf-tools is not installed");
            return Ok(None);
        };
        let mut command = Command::new(&path);
        // The tools find tracepoints there; ebrec doesn't need it. Where it isn't mounted, it is for this process alone.
        if std::fs::read_dir("/sys/kernel/tracing").is_ok_and(|mut dir| dir.next().is_none()) {
            command = Command::new("unshare");
            command.args(["-m", "sh", "-c", "mount -t tracefs nodev /sys/kernel/tracing && exec \"$0\" \"$@\"", &path]);
        }
        let mut child = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context(path)?;
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = Arc::clone(&lines);
        let stdout = child.stdout.take().context("no stdout")?;
        let reader = std::thread::spawn(move || {
            let mut from = BufReader::new(stdout);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                into.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                line.clear();
            }
            let _ = from.read_to_end(&mut line);
        });
        Ok(Some(Self { child, lines, reader: Some(reader) }))
    }

    /// What it has printed so far.
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does `probe` over and over until the tool prints a line that contains `seen`: then it traces.
    fn wait_until_it_traces(&self, seen: &str, mut probe: impl FnMut() -> Result<()>) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.lines().iter().any(|line| line.contains(seen)) {
            if Instant::now() > end {
                return ebrec_tests::fail(format!("the live tool says nothing of {seen}: {:?}", self.lines()));
            }
            probe()?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it as Ctrl-C does, when it has had the time to print; returns all that it printed.
    fn stop(mut self) -> Result<Vec<String>> {
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: signals our own child, which is not reaped yet.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        self.child.wait().context("wait for the live tool")?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| Error::new("the reader panicked"))?;
        }
        Ok(self.lines())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_true() -> Result<()> {
    Command::new("/bin/true").arg("are-you-there").status().context("run true")?;
    Ok(())
}

fn number(word: &str) -> Result<i64> {
    word.parse().context(format!("not a number: {word}"))
}

#[test]
fn execsnoop_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // -x: failed ones too.
    let Some(tool) = Tool::start("execsnoop", &["-x"])? else { return Ok(()) };
    tool.wait_until_it_traces("are-you-there", run_true)?;
    let (truth, capture) = recorded(&["--probes", "process"], || workload(&["exec", "--codes", "10"]))?;
    let printed = tool.stop()?;
    let parent = truth["pid"].to_string();
    // PCOMM PID PPID RET ARGS; the name may hold spaces, so take the numbers as they come, from the case's pid on.
    let seen = |pid: i64, ret: i64| {
        let of_it = |line: &&String| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (pid, ret) = (pid.to_string(), ret.to_string());
            words.windows(3).any(|three| three[0] == pid && three[1] == parent && three[2] == ret)
        };
        printed.iter().filter(of_it).count()
    };
    let (mut agreed, mut unseen) = (0, BTreeSet::new());
    for child in list(&truth["children"])? {
        let pid = int(&child["pid"])?;
        let rows = capture.sql(&format!("SELECT ret, count(*) AS n FROM process_exec WHERE pid = {pid} GROUP BY ret"))?;
        for row in rows {
            let live = seen(pid, int(&row["ret"])?) as i64;
            if live == int(&row["n"])? {
                agreed += live;
            } else {
                unseen.insert(text(&child["case"])?.to_owned());
            }
        }
    }
    // It traces the system call execve, and finds its end by the thread that began it: so neither execveat, nor an exec
    // by a thread that is not the leader (it ends with the leader's tid). An argument with a newline takes two lines.
    let expected = ["execveat-dir", "execveat-file", "exec-by-thread"].map(str::to_owned);
    assert_eq!(unseen, BTreeSet::from(expected), "{printed:#?}");
    let all = int(&truth["totals"]["execs_ok"])? + int(&truth["totals"]["execs_failed"])?;
    assert_eq!(agreed, all - 3);
    Ok(())
}

#[test]
fn exitsnoop_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("exitsnoop", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("true", run_true)?;
    let (truth, capture) = recorded(&["--probes", "process"], || workload(&["exec", "--codes", "20"]))?;
    let printed = tool.stop()?;
    let mut differ = BTreeSet::new();
    let mut agreed = 0;
    for child in list(&truth["children"])? {
        let pid = int(&child["pid"])?;
        let row = capture.row(&format!("SELECT exit_code, signal, core_dumped FROM process_exit WHERE pid = {pid} AND NOT is_thread"))?;
        // PCOMM PID PPID TID AGE(s) EXIT_CODE, where the code is one of: 0, `code N`, `signal N (NAME)`, with `, core dumped`.
        let end = match (row["exit_code"].as_i64(), row["signal"].as_i64()) {
            (Some(0), None) => " 0".to_owned(),
            (Some(code), None) => format!(" code {code}"),
            (None, Some(signal)) => format!(" signal {signal}"),
            other => return ebrec_tests::fail(format!("{other:?}")),
        };
        let ids = format!(" {pid} {} {pid} ", truth["pid"]);
        let squeezed = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = printed.iter().map(squeezed).rfind(|line| line.contains(&ids));
        let line = line.unwrap_or_default();
        let live = line.split_once(&ids).map(|(_, rest)| rest.split_once(' ').map_or("", |(_, code)| code).to_owned()).unwrap_or_default();
        if format!(" {live}").starts_with(&end) && (end != " 0" || live == "0") {
            agreed += 1;
        } else {
            differ.insert((text(&child["case"])?.to_owned(), end, live));
        }
    }
    // It shows what each thread said itself, where wait() reports the process's end: the leader's own 3, or 0 after an exec
    // by another thread, and the line of the last thread has another tid.
    let cases: BTreeSet<&str> = differ.iter().map(|(case, ..)| case.as_str()).collect();
    assert!(cases.is_subset(&BTreeSet::from(["leader-first-exit", "leader-first-exit-group", "exec-by-thread"])), "{differ:#?}");
    assert!(agreed >= list(&truth["children"])?.len() - 3);
    Ok(())
}

/// The connections of a workload in the capture: local port, remote port -> row.
fn connections(capture: &Capture, query: &str) -> Result<BTreeMap<(i64, i64), Value>> {
    let rows = capture.sql(query)?;
    rows.into_iter().map(|row| Ok(((int(&row["lport"])?, int(&row["rport"])?), row))).collect()
}

fn a_connection() -> Result<()> {
    let mut held = Held::start(&["tcp-hold", "--conns", "1"])?;
    held.tell("send 1")?;
    held.tell("close")?;
    held.finish().map(|_| ())
}

#[test]
fn tcplife_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("tcplife", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("wl-", a_connection)?;
    let (truth, capture) =
        recorded(&["--probes", "tcp"], || workload(&["tcp", "--refused", "0", "--tx", "30000", "--rx", "90000", "--settle-ms", "60"]))?;
    let printed = tool.stop()?;
    let closes = connections(&capture, "SELECT * FROM tcp_close WHERE comm IN ('wl-client', 'wl-server')")?;
    // PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS
    let mut live = BTreeMap::new();
    for line in &printed {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [pid, comm, _, lport, _, rport, tx, rx, ms] = words[..]
            && let (Ok(lport), Ok(rport)) = (number(lport), number(rport))
        {
            let decimal = |word: &str| word.parse::<f64>().context(format!("not a number: {word}"));
            live.insert((lport, rport), (number(pid)?, comm.to_owned(), decimal(tx)?, decimal(rx)?, decimal(ms)?));
        }
    }
    let mut owners_differ = 0;
    let mut sides = 0;
    for connection in list(&truth["connections"])? {
        for side in [&connection["client"], &connection["server"]] {
            let key = (int(&side["lport"])?, int(&side["rport"])?);
            let row = closes.get(&key).context("not in the capture")?;
            let (pid, comm, tx, rx, ms) = live.get(&key).context(format!("tcplife did not print {key:?}"))?;
            // It counts the SYN and the FIN as bytes, and prints KiB with two digits.
            for (live, captured) in [(tx, &row["tx_bytes"]), (rx, &row["rx_bytes"])] {
                let more = live * 1024.0 - int(captured)? as f64;
                assert!((-6.0..=8.0).contains(&more), "{live} {row}");
            }
            // Its clock starts with the SYN, ours with the established connection; on loopback that is the same moment.
            let took = int(&row["duration_ns"])? as f64 / 1e6;
            assert!((took - ms).abs() < 2.0, "{took} {ms}");
            // It takes the task that a state change happens in for the owner; on loopback that may be the other end's.
            if (*pid, comm.as_str()) != (int(&side["pid"])?, text(&side["comm"])?) {
                owners_differ += 1;
            }
            assert_eq!((&row["pid"], &row["comm"]), (&side["pid"], &side["comm"]));
            sides += 1;
        }
    }
    eprintln!("tcplife names another owner than the truth for {owners_differ} of {sides} sides");
    Ok(())
}

#[test]
fn tcpstates_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("tcpstates", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("wl-", a_connection)?;
    let (truth, capture) = recorded(&["--probes", "tcp"], || workload(&["tcp", "--refused", "5"]))?;
    let printed = tool.stop()?;
    let ports: Vec<String> = list(&truth["server_ports"])?.iter().map(ToString::to_string).collect();
    let of_workload = |lport: &str, rport: &str| ports.iter().any(|port| port == lport || port == rport);
    // SKADDR PID COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS; an interrupt's task may have a name with spaces, so from
    // the end.
    let mut live = BTreeMap::<(String, String, String, String), i64>::new();
    for line in &printed {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., lport, _, rport, old, "->", new, _] = words[..]
            && of_workload(lport, rport)
        {
            *live.entry((lport.into(), rport.into(), old.into(), new.into())).or_default() += 1;
        }
    }
    let rows = capture.sql(&format!(
        "SELECT coalesce(lport, 0) AS lport, coalesce(rport, 0) AS rport, old_state, new_state, count(*) AS n FROM tcp_state
         WHERE lport IN ({0}) OR rport IN ({0}) GROUP BY 1, 2, 3, 4",
        ports.join(",")
    ))?;
    let mut captured = BTreeMap::new();
    for row in rows {
        let key =
            (row["lport"].to_string(), row["rport"].to_string(), text(&row["old_state"])?.to_owned(), text(&row["new_state"])?.to_owned());
        captured.insert(key, int(&row["n"])?);
    }
    // The end of a connection has lost its local port in the tool's line (0) if nobody had bound it; the capture keeps it.
    let without_port = |of: &BTreeMap<(String, String, String, String), i64>| {
        let mut sum = BTreeMap::<(String, String, String), i64>::new();
        for ((lport, rport, old, new), n) in of {
            let port = if ports.contains(lport) { lport } else { rport };
            *sum.entry((port.clone(), old.clone(), new.clone())).or_default() += n;
        }
        sum
    };
    assert_eq!(without_port(&captured), without_port(&live));
    assert!(captured.len() > 50);
    Ok(())
}

#[test]
fn runqlat_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Of one CPU-bound pair of processes: each is known by its pid. First all processes, one histogram each.
    let Some(tool) = Tool::start("runqlat", &["-P"])? else { return Ok(()) };
    // It prints only at its end: give it time to attach.
    std::thread::sleep(Duration::from_millis(1500));
    let (truth, capture) = recorded(&["--probes", "sched"], || workload(&["pingpong", "30000"]))?;
    let printed = tool.stop()?;
    for player in list(&truth["processes"])? {
        let pid = int(&player["pid"])?;
        let mut live = BTreeMap::<i64, i64>::new();
        let mut inside = false;
        for line in &printed {
            if let Some(name) = line.trim().strip_prefix("pid = ") {
                inside = name.split_whitespace().next() == Some(&pid.to_string());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if inside && let [low, "->", _, ":", count, ..] = words[..] {
                live.insert(number(low)?, number(count)?);
            }
        }
        let rows = capture.sql(&format!(
            "SELECT CAST(CASE WHEN next_waited_ns < 2000 THEN 0 ELSE power(2, floor(log2(next_waited_ns / 1000))) END AS BIGINT) AS low, count(*) AS n
             FROM sched_switch WHERE next_pid = {pid} AND next_waited_ns IS NOT NULL GROUP BY 1"
        ))?;
        let mut captured = BTreeMap::<i64, i64>::new();
        for row in rows {
            captured.insert(int(&row["low"])?, int(&row["n"])?);
        }
        let total = |histogram: &BTreeMap<i64, i64>| histogram.values().sum::<i64>();
        assert!(total(&live) > 0, "no histogram of {pid}: {printed:#?}");
        // The same waits. Only a fork's last moments may be outside of one of the two windows.
        assert!((total(&live) - total(&captured)).abs() <= 3, "{live:?} {captured:?}");
        // Both take the time at the same events, but not at the same instant of them: ours runs first or second, and either
        // program's own time is in the other's interval. So a wait near an edge may fall into the neighbouring bucket: what is
        // above an edge in one is, in the other, above the bucket edge below.
        for edge in [4_i64, 8, 16, 32, 64, 128, 256, 512, 1024] {
            let above = |histogram: &BTreeMap<i64, i64>, from: i64| histogram.range(from..).map(|(_, n)| n).sum::<i64>();
            assert!(above(&captured, edge) <= above(&live, edge / 2) + 3, "{edge}: {live:?} {captured:?}");
            assert!(above(&live, edge) <= above(&captured, edge / 2) + 3, "{edge}: {live:?} {captured:?}");
        }
    }
    Ok(())
}
