//! On a terminal: recording, the SQL shell and replay, driven by keys through a pseudo-terminal (`script` of util-linux).
//!
//! What a terminal shows is checked as text: the escape sequences are left out.

use ebrec_tests::{Capture, Context, Program, Result, TempDir, program, recorded, require_bpf, workload};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A program on a terminal of 80 columns and 24 lines.
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// `ebrec-analyze CAPTURE ARGS` with `home` as home directory; `None` if there is no `script`.
    fn analyze(capture: &Path, args: &str, home: &Path) -> Result<Option<Self>> {
        Self::start(&format!("{} {} {args}", program(Program::Analyze)?.display(), capture.display()), home)
    }

    /// A command line.
    fn start(command: &str, home: &Path) -> Result<Option<Self>> {
        if !Command::new("script").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
            eprintln!("SKIPPED: script (util-linux) is not installed");
            return Ok(None);
        }
        let line = format!("stty cols 80 rows 24; exec {command}");
        let mut child = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("HOME", home)
            .env_remove("XDG_STATE_HOME")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start script")?;
        let mut from = child.stdout.take().context("no stdout")?;
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let into = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..n]);
            }
        });
        let keys = child.stdin.take();
        Ok(Some(Self { child, keys, shown }))
    }

    fn keys(&mut self, keys: &str) -> Result<()> {
        let stdin = self.keys.as_mut().context("no terminal")?;
        stdin.write_all(keys.as_bytes()).context("press keys")?;
        stdin.flush().context("press keys")
    }

    /// Everything that was shown.
    fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The same without escape sequences.
    fn text(&self) -> String {
        let text = self.raw();
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\x1b' => {
                    // CSI … letter; other sequences are of two characters.
                    if chars.next() == Some('[') {
                        chars.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '~');
                    }
                }
                '\r' => {}
                c => out.push(c),
            }
        }
        out
    }

    /// Waits until `text` is shown after the place `from`; returns the place behind it.
    fn wait_for(&self, text: &str, from: usize) -> Result<usize> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let shown = self.text();
            if let Some(at) = shown.get(from..).and_then(|new| new.find(text)) {
                return Ok(from + at + text.len());
            }
            if Instant::now() > end {
                return ebrec_tests::fail(format!("{text:?} is not shown: {shown}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end; its exit code.
    fn end(mut self) -> Result<Option<i32>> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().context("wait")? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        ebrec_tests::fail(format!("it did not end: {}", self.text()))
    }
}

fn capture() -> Result<Capture> {
    let (_, capture) = recorded(&["--probes", "process,sched,tcp"], || {
        workload(&["tcp"])?;
        workload(&["pingpong", "20000"])?;
        // Long enough for some intervals.
        workload(&["sleep", "1"])
    })?;
    Ok(capture)
}

#[test]
fn recording_shows_one_line_until_ctrl_c() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("terminal")?;
    let command = format!("{} --probes process -d 60s -o {}", program(Program::Record)?.display(), capture.arg());
    let Some(mut terminal) = Terminal::start(&command, capture.path().parent().context("a directory")?)? else { return Ok(()) };
    let at = terminal.wait_for("recording for", 0)?;
    let at = terminal.wait_for("1/60 s", at)?;
    terminal.wait_for("2/60 s", at)?;
    // Each is written over the one before, and cut where the terminal ends instead of wrapped.
    let raw = terminal.raw();
    let lines: Vec<&str> =
        raw.split("\r\x1b[K\x1b[?7l").skip(1).filter_map(|rest| rest.split_once("\x1b[?7h")).map(|(line, _)| line).collect();
    assert!(lines.len() >= 2 && lines.iter().all(|line| line.contains("/60 s") && !line.contains('\n')), "{raw:?}");
    terminal.keys("\x03")?;
    terminal.wait_for("look at it with", 0)?;
    assert_eq!(terminal.end()?, Some(0));
    assert_eq!(capture.row("SELECT ended_by FROM capture")?["ended_by"], "SIGINT");
    Ok(())
}

#[test]
fn the_shell_completes_runs_cancels_and_remembers() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = capture()?;
    let home = TempDir::new("terminal")?;
    let Some(mut terminal) = Terminal::analyze(capture.path(), "sql", home.path())? else { return Ok(()) };
    // Keys that come before the line editor has the terminal again are the terminal's: each step waits for the prompt.
    let prompt = |terminal: &Terminal, text: &str, from: usize| terminal.wait_for("ebrec> ", terminal.wait_for(text, from)?);
    let at = terminal.wait_for("ebrec> ", 0)?;
    // Tab completes the table; the statement goes on in the next line.
    terminal.keys("SELECT count(*) AS number FROM tcp_connec\t")?;
    terminal.wait_for("tcp_connect", at)?;
    terminal.keys("ion\r;\r")?;
    let at = prompt(&terminal, "(1 row)", at)?;
    terminal.keys("\\timing\r")?;
    let at = prompt(&terminal, "timing is on", at)?;
    terminal.keys("\\runqlat --by cpu\r")?;
    let at = prompt(&terminal, "Time: ", at)?;
    assert!(terminal.text().contains("distribution"));
    terminal.keys("\\tcptpo\r")?;
    let at = prompt(&terminal, "did you mean \\tcptop?", at)?;
    // A query that would take hours ends with Ctrl-C; the shell doesn't.
    terminal.keys("SELECT sum(a.cpu * b.cpu * c.cpu) FROM sched_switch a, sched_switch b, sched_switch c;\r")?;
    std::thread::sleep(Duration::from_millis(1500));
    terminal.keys("\x03")?;
    let at = prompt(&terminal, "cancelled", at)?;
    terminal.keys("SELECT nothing FROM process_exit;\r")?;
    let at = prompt(&terminal, "No field named nothing", at)?;
    terminal.keys("SELECT 41 + 1 AS answer;\r")?;
    prompt(&terminal, "42", at)?;
    terminal.keys("\x04")?;
    assert_eq!(terminal.end()?, Some(0));
    // The next session knows what was typed in this one, and nobody else does.
    let history = home.path().join(".local/state/ebrec/sql_history");
    let text = std::fs::read_to_string(&history).context("the history")?;
    assert!(text.contains("SELECT 41 + 1 AS answer;"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&history).context("the history")?.permissions());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    Ok(())
}

#[test]
fn a_replay_pauses_steps_and_ends() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = capture()?;
    let home = TempDir::new("terminal")?;
    let Some(mut terminal) = Terminal::analyze(capture.path(), "replay runqlat 0.1 --speed 0.5x", home.path())? else { return Ok(()) };
    let at = terminal.wait_for("(+0.1 of", 0)?;
    terminal.keys(" ")?;
    let at = terminal.wait_for("paused", at)?;
    let frame = |terminal: &Terminal| {
        let text = terminal.text();
        let (_, last) = text.rsplit_once("(+").unwrap_or_default();
        last.split(' ').next().unwrap_or_default().to_owned()
    };
    let paused = frame(&terminal);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(frame(&terminal), paused, "it goes on although it is paused");
    terminal.keys("\x1b[C")?;
    let next = format!("(+{:.1} of", paused.parse::<f64>().context("a time")? + 0.1);
    let at = terminal.wait_for(&next, at)?;
    terminal.keys("\x1b[D")?;
    let at = terminal.wait_for(&format!("(+{paused} of"), at)?;
    terminal.keys("G")?;
    // The last interval is where it is, and may have nothing in it.
    let until = Instant::now() + Duration::from_secs(30);
    while frame(&terminal).parse::<f64>().unwrap_or_default() < paused.parse::<f64>().context("a time")? + 0.3 {
        assert!(Instant::now() < until, "it doesn't go to the end: {}", terminal.text());
        std::thread::sleep(Duration::from_millis(20));
    }
    terminal.keys("+")?;
    terminal.wait_for(", 1x)", at)?;
    terminal.keys("q")?;
    assert_eq!(terminal.end()?, Some(0));
    Ok(())
}

#[test]
fn elsewhere_a_replay_is_plain_text() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = capture()?;
    let ran = ebrec_tests::analyze(capture.path(), &["replay", "runqlat", "0.1"])?.succeeded()?;
    assert!(!ran.stdout.contains('\x1b') && ran.stdout.starts_with("--- "), "{}", ran.stdout);
    // Every interval is there, also those in which nothing happened, and together they are the report.
    let intervals = ran.stdout.lines().filter(|line| line.starts_with("--- ")).count();
    let row = capture.row("SELECT date_part('epoch', end_ts) - date_part('epoch', ts) AS seconds FROM capture")?;
    let seconds = row["seconds"].as_f64().context("a length")?;
    assert_eq!(intervals, (seconds / 0.1).ceil() as usize, "{seconds} s");
    let report = ebrec_tests::analyze(capture.path(), &["runqlat", "0.1"])?.succeeded()?;
    let drawn = |text: &str| text.lines().filter(|line| line.contains(" -> ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(drawn(&ran.stdout), drawn(&report.stdout));
    let ran = ebrec_tests::analyze(capture.path(), &["replay", "exitsnoop"])?.succeeded()?;
    assert_eq!(ran.stdout, ebrec_tests::analyze(capture.path(), &["exitsnoop"])?.succeeded()?.stdout);
    Ok(())
}

#[test]
fn a_statement_that_takes_too_much_ends_and_the_shell_goes_on() -> Result<()> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/cpu-contention.ebrec");
    let home = TempDir::new("terminal")?;
    let Some(mut terminal) = Terminal::analyze(&sample, "--memory 64M sql", home.path())? else { return Ok(()) };
    let at = terminal.wait_for("ebrec> ", 0)?;
    terminal.keys("SELECT max(length(lpad(prev_comm, 1000000, 'x'))) FROM sched_switch;\r")?;
    let at = terminal.wait_for("memory: it needs more than 576 MiB", at)?;
    let at = terminal.wait_for("ebrec> ", at)?;
    terminal.keys("SELECT 41 + 1 AS answer;\r")?;
    let at = terminal.wait_for("42", at)?;
    // While a statement runs, the terminal takes the key for itself.
    terminal.wait_for("ebrec> ", at)?;
    terminal.keys("\x04")?;
    assert_eq!(terminal.end()?, Some(0));
    Ok(())
}
