//! Processes that make recording dear on purpose, or by being what they are: it stays within its bounds, and says what it left out.

use ebrec_tests::{Capture, Context, Result, TempDir, int, recording, require_bpf};
use serde_json::Value;
use std::ffi::CString;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the recorder may have of anonymous memory.
const MEMORY: u64 = 100 << 20;

/// A child that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kib_of(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn manifest(capture: &Capture) -> Result<Value> {
    let ran = Command::new("unzip").args(["-p", &capture.arg(), "manifest.json"]).output().context("unzip")?;
    serde_json::from_slice(&ran.stdout).context("manifest")
}

#[test]
fn a_command_line_is_read_once_and_up_to_a_limit() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let long = "x".repeat(100_000);
    let shell = Command::new("sh").args(["-c", "sleep 60; exit", "sh", &long]).stdin(Stdio::null()).spawn().context("sh")?;
    let shell = Killed(shell);
    let stop = AtomicBool::new(false);
    let (_, capture, recording) = std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(100));
                }
            });
        }
        let recorded = recording(&["--probes", "process"], || Ok(()));
        stop.store(true, Ordering::Relaxed);
        recorded
    })?;
    assert!(recording.started_in < Duration::from_secs(10), "started after {:?}", recording.started_in);
    let own = std::process::id();
    let threads = capture.number(&format!("SELECT count(*) FROM process WHERE pid = {own}"))?;
    assert!(threads > 200, "{threads} threads");
    assert_eq!(capture.number(&format!("SELECT count(*) FROM process WHERE pid = {own} AND args IS NOT NULL"))?, 1);
    assert_eq!(capture.number(&format!("SELECT count(*) FROM process WHERE pid = {own} AND NOT is_thread AND args_truncated = false"))?, 1);
    // Every thread is in its process's cgroup.
    assert_eq!(capture.number(&format!("SELECT count(DISTINCT cgroup) FROM process WHERE pid = {own}"))?, 1);
    let pid = shell.0.id();
    let row =
        capture.row(&format!("SELECT args[1] AS first, args_truncated AS cut, length(args[5]) AS long FROM process WHERE pid = {pid}"))?;
    assert_eq!((&row["first"], &row["cut"]), (&Value::from("sh"), &Value::from(true)), "{row}");
    assert!((1000..=16 << 10).contains(&int(&row["long"])?), "{row}");
    Ok(())
}

/// Executes `true` with 61 KB of arguments until `stop`; how often.
fn storm(stop: &AtomicBool, execs: &AtomicU64) -> Result<()> {
    let long = "\u{ff}".repeat(30_500);
    while !stop.load(Ordering::Relaxed) {
        let status = Command::new("/bin/true").arg(&long).stdin(Stdio::null()).status().context("/bin/true")?;
        assert!(status.success());
        execs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[test]
fn a_storm_of_long_arguments_stays_within_the_bounds() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (stop, execs) = (AtomicBool::new(false), AtomicU64::new(0));
    let capture = Capture::place("storm")?;
    let recorder = capture.start(&["--probes", "process"])?;
    let (most, recording) = std::thread::scope(|scope| -> Result<_> {
        let storms = [(); 2].map(|()| scope.spawn(|| storm(&stop, &execs)));
        let (began, mut most) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(3) {
            most = most.max(kib_of(recorder.pid(), "RssAnon:") << 10);
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        for storm in storms {
            storm.join().ok().context("the storm failed")??;
        }
        Ok((most, recorder.stop()?.succeeded()?))
    })?;
    let execs = execs.into_inner() as i64;
    assert!(0 < most && most <= MEMORY, "{} MiB of anonymous memory under {execs} execs", most >> 20);
    assert!(recording.stopped_in < Duration::from_secs(5), "usable only after {:?}", recording.stopped_in);
    let of_true = "FROM process_exec WHERE filename = '/bin/true' AND ret = 0";
    let lost = capture.number("SELECT CAST(coalesce(sum(lost), 0) AS BIGINT) FROM loss WHERE table_name = 'process_exec'")?;
    assert_eq!(capture.number(&format!("SELECT count(*) {of_true}"))? + lost, execs);
    // The first are whole, as far as there is room for that; of the others, the begin is told, and that there was more.
    let whole = format!("SELECT count(*) {of_true} AND array_length(args) = 2 AND length(args[2]) > 20000");
    assert!(capture.number(&whole)? > 0);
    assert_eq!(capture.number(&format!("SELECT count(*) {of_true} AND length(args[2]) < 20000 AND NOT args_truncated"))?, 0);
    if execs > 500 {
        assert!(capture.number(&format!("SELECT count(*) {of_true} AND args_truncated AND length(args[2]) < 1000"))? > 0);
    }
    Ok(())
}

#[test]
fn what_recording_takes_is_told_apart() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let maps_of = |probes: &str| -> Result<(i64, i64, i64)> {
        let ((), capture, _) = recording(&["--probes", probes], || Ok(()))?;
        let cost = &manifest(&capture)?["recorder"];
        Ok((int(&cost["map_bytes"])?, int(&cost["heap_bytes"])?, int(&cost["ring_bytes"])?))
    };
    let (few, heap, rings) = maps_of("signal")?;
    let (all, ..) = maps_of("default")?;
    // Only the maps of what is loaded are made.
    assert!(few < 1 << 20 && all > few && all <= 16 << 20, "{few} bytes for one probe, {all} for all");
    assert!(0 < heap && heap <= 100 << 20, "{heap}");
    assert_eq!(rings, 64 << 20);
    Ok(())
}

#[test]
fn what_takes_too_much_cpu_is_given_up() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let stop = AtomicBool::new(false);
    let missing = CString::new("/nonexistent").ok().context("a name")?;
    let capture = Capture::place("shed")?;
    let recorder = capture.start(&["--probes", "process,syscall", "--max-cpu", "1"])?;
    let recording = std::thread::scope(|scope| -> Result<_> {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: the name ends with NUL.
                unsafe { libc::access(missing.as_ptr(), 0) };
            }
        });
        let began = Instant::now();
        while !recorder.stderr().contains("given up") && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
        // So that something is missing.
        std::thread::sleep(Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
        recorder.stop()?.succeeded()
    })?;
    assert!(recording.ran.stderr.contains("probe syscall is given up"), "{}", recording.ran.stderr);
    let lost =
        capture.row("SELECT count(*) AS rows, sum(lost) AS lost FROM loss WHERE table_name = 'syscall' AND reason = 'shed: --max-cpu'")?;
    assert!(int(&lost["rows"])? > 0 && int(&lost["lost"])? > 0, "{lost}");
    let end = "SELECT CAST(max(s.ts) < max(c.end_ts) - INTERVAL '1 second' AS BIGINT) FROM syscall s, capture c";
    assert_eq!(capture.number(end)?, 1, "no call is recorded after that");
    assert!(capture.number("SELECT count(*) FROM probe WHERE probe = 'syscall' AND reason LIKE 'given up%'")? > 0);
    Ok(())
}

/// Files of others that are no files: a perf map that is a FIFO, one without end, and a library that is a FIFO by now.
#[test]
fn odd_files_hold_nothing_up() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = TempDir::new("odd")?;
    let script = r#"
import ctypes, mmap, os, sys, time
d = sys.argv[1]
path = d + "/libc.so.6"
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o755)
os.write(fd, bytes(8192))
m = mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
os.unlink(path)
os.mkfifo(path)
# Code that no file is behind: a loop.
code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(b"\xeb\xfe" if os.uname().machine == "x86_64" else b"\x00\x00\x00\x14")
os.mkfifo("/tmp/perf-%d.map" % os.getpid())
print("ready", flush=True)
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
ctypes.CFUNCTYPE(None)(address)()
"#;
    let path = dir.path().to_string_lossy().into_owned();
    let mut odd = Command::new("python3");
    let odd = odd.args(["-c", script, &path]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("python3")?;
    let mut odd = Killed(odd);
    let mut said = [0; 6];
    std::io::Read::read_exact(odd.0.stdout.as_mut().context("no stdout")?, &mut said).context("read")?;
    let pid = odd.0.id();
    let recorded = recording(&["--probes", "process,dns,profile"], || {
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    });
    std::fs::remove_file(format!("/tmp/perf-{pid}.map")).context("remove the FIFO")?;
    let ((), capture, recording) = recorded?;
    assert!(recording.stopped_in < Duration::from_secs(5), "usable only after {:?}", recording.stopped_in);
    assert!(capture.number(&format!("SELECT count(*) FROM cpu_sample WHERE pid = {pid}"))? > 0);
    let unread = &manifest(&capture)?["recorder"]["unread"];
    assert!(int(&unread["perf map: not the file that it should be"])? > 0, "{unread}");
    Ok(())
}
