//! A live tool under control of a test, and what it prints, read back.

use ebrec_tests::{Context, Error, Result};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A live tool.
pub struct Tool {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Tool {
    /// Starts it; `None` if it isn't installed.
    pub fn start(name: &str, args: &[&str]) -> Result<Option<Self>> {
        let Some(path) = installed(name)? else { return Ok(None) };
        // Lines, not blocks: what it has said tells whether it traces.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", &path]);
        // The tools find tracepoints there, some in the one place and some in the other; ebrec doesn't need it. Where they aren't mounted,
        // they are for this process alone.
        let is_empty = |dir: &str| std::fs::read_dir(dir).is_ok_and(|mut dir| dir.next().is_none());
        if is_empty("/sys/kernel/tracing") || is_empty("/sys/kernel/debug") {
            let mounts = "mount -t tracefs nodev /sys/kernel/tracing; mount -t debugfs nodev /sys/kernel/debug";
            command = Command::new("unshare");
            command.args(["-m", "sh", "-c", &format!("{mounts}; exec stdbuf -oL \"$0\" \"$@\""), &path]);
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

    /// The same for one that prints only at its end: returns when it says that it traces.
    pub fn start_summary(name: &str, args: &[&str]) -> Result<Option<Self>> {
        let Some(tool) = Self::start(name, args)? else { return Ok(None) };
        tool.wait_until_it_traces("Tracing", || Ok(()))?;
        Ok(Some(tool))
    }

    /// What it has printed so far.
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does `probe` over and over until the tool prints a line that contains `seen`: then it traces.
    pub fn wait_until_it_traces(&self, seen: &str, mut probe: impl FnMut() -> Result<()>) -> Result<()> {
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

    /// Waits until its programs are attached, for one that says nothing before its end and has one program.
    pub fn wait_until_it_is_attached(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        let fds = format!("/proc/{}/fd", self.child.id());
        let is_link = |fd: std::io::Result<std::fs::DirEntry>| {
            let to = fd.and_then(|fd| std::fs::read_link(fd.path())).unwrap_or_default();
            to.to_string_lossy().contains("bpf_link")
        };
        while !std::fs::read_dir(&fds).context(&fds)?.any(is_link) {
            if Instant::now() > end {
                return ebrec_tests::fail(format!("the live tool attaches nothing: {:?}", self.lines()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it as Ctrl-C does, when it has had the time to print; returns all that it printed.
    pub fn stop(mut self) -> Result<Vec<String>> {
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

/// Where a program is; `None`, said loudly, if it isn't installed.
pub fn installed(name: &str) -> Result<Option<String>> {
    let mut places = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].iter().map(|dir| format!("{dir}/{name}"));
    let place = places.find(|path| std::path::Path::new(path).is_file());
    // Some distributions put a script in perf's place, which is of no use without the kernel's own package.
    let works = place.as_ref().is_some_and(|path| {
        let version = Command::new(path).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    if !works {
        if std::env::var("EBREC_TEST_REQUIRE_PEERS").is_ok_and(|value| value == "1") {
            return ebrec_tests::fail(format!("EBREC_TEST_REQUIRE_PEERS=1, but {name} is not installed (libbpf-tools, linux-perf)"));
        }
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name} is not installed (libbpf-tools, linux-perf)");
        return Ok(None);
    }
    Ok(place)
}

/// A number that a tool printed.
pub fn number(word: &str) -> Result<i64> {
    word.parse().context(format!("not a number: {word}"))
}

/// Lower edge of a bucket -> how many are in it.
pub type Histogram = BTreeMap<i64, i64>;

/// The histograms that a tool printed, each by the text after `=` in the line above it (empty if there is none).
pub fn histograms(printed: &[String]) -> Result<BTreeMap<String, Histogram>> {
    let mut all = BTreeMap::<String, Histogram>::new();
    let mut name = String::new();
    for line in printed {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [low, "->", _, ":", count, ..] => {
                *all.entry(name.clone()).or_default().entry(number(low)?).or_default() += number(count)?;
            }
            _ => {
                if let Some((_, heading)) = line.split_once(" = ") {
                    name = heading.trim().to_owned();
                }
            }
        }
    }
    Ok(all)
}

/// How many are in the buckets from `low` on.
pub fn above(histogram: &Histogram, low: i64) -> i64 {
    histogram.range(low..).map(|(_, n)| n).sum()
}

/// Histograms of the same times, whose buckets begin at powers of two, are alike above `from`.
///
/// Both sides take the time at the same events, but not at the same instant of them: one program runs first, and its own time, or
/// that of an interrupt between the two, is in the other's interval. So a time near an edge may fall into the neighbouring bucket: what is
/// above an edge in one is, in the other, above the edge below. `outliers` are those that something longer came in between (a
/// virtual machine whose CPU was taken away).
pub fn assert_alike(live: &Histogram, captured: &Histogram, from: i64, outliers: i64, what: &str) {
    for edge in (0..40).map(|power| 1_i64 << power).filter(|edge| *edge >= from) {
        for (one, other) in [(live, captured), (captured, live)] {
            assert!(above(one, edge) <= above(other, edge / 2) + outliers, "{what} from {edge} on:\nlive {live:?}\ncaptured {captured:?}");
        }
    }
}
