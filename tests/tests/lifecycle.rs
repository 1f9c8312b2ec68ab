//! How a recording begins and ends: each way leaves a capture that can be read, and nothing in the kernel.

use ebrec_tests::{
    Capture, Context, Held, Program, Recorder, Recording, Result, TempDir, analyze, int, program, require_bpf, run, sql, workload,
};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// From the end to a usable file.
const USABLE_AFTER: Duration = Duration::from_secs(2);

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + patience;
    while !done()? {
        if Instant::now() > end {
            return ebrec_tests::fail(format!("waited {patience:?} in vain until {what}"));
        }
        pause(20);
    }
    Ok(())
}

/// What `ended_by` says, and how long the window was.
fn window(capture: &Capture) -> Result<(String, f64)> {
    let row = capture.row("SELECT ended_by, CAST(end_ts AS BIGINT) - CAST(ts AS BIGINT) AS ns FROM capture")?;
    Ok((row["ended_by"].as_str().unwrap_or("").to_owned(), int(&row["ns"])? as f64 / 1e9))
}

fn manifest(capture: &Path) -> Result<Value> {
    let unzip = Command::new("unzip").arg("-p").arg(capture).arg("manifest.json").output().context("run unzip")?;
    serde_json::from_slice(&unzip.stdout).context("manifest")
}

#[test]
fn a_signal_ends_in_a_complete_capture() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for (signal, name) in [(libc::SIGINT, "SIGINT"), (libc::SIGTERM, "SIGTERM")] {
        let capture = Capture::place("signal")?;
        let recorder = capture.start(&[])?;
        let truth = workload(&["tcp", "--families", "v4"])?;
        recorder.signal(signal)?;
        let recording = recorder.wait()?.succeeded()?;
        assert!(recording.stopped_in < USABLE_AFTER, "{:?}", recording.stopped_in);
        assert!(!capture.partial().exists());
        assert_eq!(window(&capture)?.0, name);
        let bytes = capture.number("SELECT sum(bytes) FROM tcp_send WHERE comm IN ('wl-client', 'wl-server')")?;
        assert_eq!(bytes, int(&truth["totals"]["tx_bytes"])?);
        assert_eq!(manifest(capture.path())?["complete"], true);
        // The last line says what to do next.
        let last = recording.ran.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("ebrec analyze") && last.contains(&capture.arg()), "{last}");
        assert_eq!(recording.ran.stdout, "");
    }
    Ok(())
}

#[test]
fn recording_begins_soon() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Half a second is promised, and measured by `tests/proof/promises`; the kernel verifies for most of it, slower on some machines.
    const PROMISED: Duration = Duration::from_secs(1);
    // Others may use this machine: some start must be as fast.
    let mut all = Vec::new();
    while all.len() < 10 && all.iter().all(|started| *started >= PROMISED) {
        let capture = Capture::place("start")?;
        all.push(capture.start(&[])?.stop()?.succeeded()?.started_in);
    }
    assert!(all.iter().any(|started| *started < PROMISED), "{all:?}");
    Ok(())
}

#[test]
fn a_second_signal_leaves_something_readable_at_once() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("twice")?;
    let recorder = capture.start(&[])?;
    let truth = workload(&["tcp", "--families", "v4"])?;
    recorder.signal(libc::SIGINT)?;
    recorder.signal(libc::SIGINT)?;
    recorder.signal(libc::SIGTERM)?;
    let recording = recorder.wait()?;
    assert!(recording.stopped_in < USABLE_AFTER);
    // It was in time for a whole one, or it says that it wasn't and where the rest is.
    let left = match recording.ran.status.code() {
        Some(0) => capture.path().to_owned(),
        Some(1) => {
            assert!(recording.ran.stderr.contains(".partial"), "{}", recording.ran.stderr);
            capture.partial()
        }
        other => return ebrec_tests::fail(format!("exit code {other:?}: {}", recording.ran.stderr)),
    };
    let rows = sql(&left, "SELECT sum(bytes) AS bytes FROM tcp_send WHERE comm IN ('wl-client', 'wl-server')")?;
    assert_eq!(rows[0]["bytes"], truth["totals"]["tx_bytes"]);
    Ok(())
}

/// Ids of the BPF programs and maps that a process has open.
fn held_by(pid: u32) -> Result<Vec<(BpfObject, u32)>> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).context("fdinfo")? {
        let Ok(info) = std::fs::read_to_string(entry.context("fdinfo")?.path()) else { continue };
        let id = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        held.extend(id("prog_id:").map(|id| (BpfObject::Program, id)));
        held.extend(id("map_id:").map(|id| (BpfObject::Map, id)));
    }
    Ok(held)
}

#[derive(Clone, Copy, Debug)]
enum BpfObject {
    Program,
    Map,
}

/// Whether the kernel still has it.
fn exists(object: BpfObject, id: u32) -> bool {
    // BPF_PROG_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID of include/uapi/linux/bpf.h.
    let command = match object {
        BpfObject::Program => 13,
        BpfObject::Map => 14,
    };
    let mut attr = [0_u32; 32];
    attr[0] = id;
    // SAFETY: `attr` lives across the call and its size is given; the id is its first field.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
    if fd >= 0 {
        // SAFETY: a descriptor that was just made for us.
        unsafe { libc::close(fd as i32) };
    }
    fd >= 0
}

fn assert_gone(held: &[(BpfObject, u32)]) -> Result<()> {
    wait_until("the kernel has let go of programs and maps", Duration::from_secs(5), || {
        Ok(!held.iter().any(|&(what, id)| exists(what, id)))
    })
}

#[test]
fn a_killed_recording_keeps_all_but_the_last_seconds_and_leaves_no_program() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("killed")?;
    let recorder = capture.start(&[])?;
    let held = held_by(recorder.pid())?;
    assert!(held.len() > 10 && held.iter().all(|&(what, id)| exists(what, id)), "{held:?}");
    // A quiet table: this is all that happens to TCP and to processes of this name.
    let truth = workload(&["tcp", "--families", "v4", "--settle-ms", "60"])?;
    let children = workload(&["exec", "--codes", "5"])?;
    pause(6000);
    recorder.signal(libc::SIGKILL)?;
    let recording = recorder.wait()?;
    assert_eq!(recording.ran.status.code(), None);
    assert!(!capture.path().exists());
    let partial = capture.partial();
    let number = |query: &str| -> Result<i64> { int(&sql(&partial, &format!("SELECT * FROM (SELECT {query}) AS answer (n)"))?[0]["n"]) };
    let bytes = int(&truth["totals"]["tx_bytes"])?;
    assert_eq!(number("sum(bytes) FROM tcp_send WHERE comm IN ('wl-client', 'wl-server')")?, bytes);
    assert_eq!(number("sum(tx_bytes) FROM tcp_close WHERE comm IN ('wl-client', 'wl-server')")?, bytes);
    let forks = number(&format!("count(*) FROM process_fork WHERE NOT is_thread AND pid = {}", children["pid"]))?;
    assert_eq!(forks, int(&children["totals"]["forks"])?);
    // Busy and per-second tables reach almost to the end, and the tables of the start are there.
    for table in ["sched_switch", "system_sample", "clock"] {
        let span = number(&format!("(max(CAST(ts AS BIGINT)) - (SELECT CAST(ts AS BIGINT) FROM capture)) / 1000000 FROM {table}"))?;
        assert!(span > 2000, "{table}: {span} ms");
    }
    for table in ["process", "probe", "mount", "tcp_socket"] {
        assert!(number(&format!("count(*) FROM {table}"))? >= 1 || table == "tcp_socket", "{table}");
    }
    // The summary works, too.
    analyze(&partial, &[])?.succeeded()?;
    assert_gone(&held)
}

#[test]
fn an_ended_recording_leaves_no_program() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("programs")?;
    let recorder = capture.start(&[])?;
    let held = held_by(recorder.pid())?;
    assert!(held.len() > 10, "{held:?}");
    recorder.stop()?.succeeded()?;
    assert_gone(&held)
}

#[test]
fn a_recording_can_be_asked_while_it_goes_on() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("live")?;
    let recorder = capture.start(&[])?;
    let truth = workload(&["tcp", "--families", "v4", "--settle-ms", "60"])?;
    let bytes = int(&truth["totals"]["tx_bytes"])?;
    let partial = capture.partial();
    wait_until("what happened is in the capture", Duration::from_secs(10), || {
        let rows = sql(&partial, "SELECT coalesce(sum(bytes), 0) AS n FROM tcp_send WHERE comm IN ('wl-client', 'wl-server')")?;
        Ok(int(&rows[0]["n"])? == bytes)
    })?;
    recorder.stop()?.succeeded()?;
    Ok(())
}

#[test]
fn the_duration_is_kept() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for (duration, seconds) in [("50ms", 0.05), ("300ms", 0.3), ("2s", 2.0)] {
        let capture = Capture::place("duration")?;
        let recording = capture.start(&["--duration", duration])?.wait()?;
        let (ended_by, took) = window(&capture)?;
        assert_eq!(ended_by, "duration");
        assert!((seconds..seconds + 0.3).contains(&took), "{duration}: {took} s");
        assert!(recording.stopped_in < Duration::from_secs_f64(seconds) + USABLE_AFTER);
        analyze(capture.path(), &["tables"])?.succeeded()?;
    }
    Ok(())
}

#[test]
fn the_size_is_bounded() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("size")?;
    let recorder = capture.start(&["--max-size", "1M", "--duration", "30s"])?;
    // Until it ends: enough switches for some megabytes.
    let load = workload(&["pingpong", "300000"])?;
    assert!(int(&load["switches"])? > 0);
    let recording = recorder.wait()?.succeeded()?;
    assert_eq!(window(&capture)?.0, "max-size", "{}", recording.ran.stderr);
    let size = capture.path().metadata().context("size")?.len();
    assert!((500_000..6_000_000).contains(&size), "{size}");
    Ok(())
}

#[test]
fn a_directory_can_be_asked_for() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("dir")?;
    let recorder = capture.start(&["--format", "dir"])?;
    let truth = workload(&["threads", "3"])?;
    recorder.stop()?.succeeded()?;
    assert!(capture.path().is_dir() && capture.path().join("manifest.json").is_file());
    let forks = capture.number(&format!("SELECT count(*) FROM process_fork WHERE pid = {}", truth["pid"]))?;
    assert_eq!(forks, int(&truth["count"])?);
    assert_eq!(window(&capture)?.0, "SIGINT");
    for entry in walk(capture.path())? {
        let mode = entry.metadata().context("mode")?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", entry.display());
        assert!(entry.is_dir() || entry.extension().is_some_and(|e| e == "parquet" || e == "json"), "{}", entry.display());
    }
    Ok(())
}

fn walk(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = vec![dir.to_owned()];
    for entry in std::fs::read_dir(dir).context(dir.display())? {
        let path = entry.context(dir.display())?.path();
        found.extend(if path.is_dir() { walk(&path)? } else { vec![path] });
    }
    Ok(found)
}

#[test]
fn captures_are_for_their_owner_only() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("mode")?;
    let recorder = capture.start(&[])?;
    pause(3500);
    for path in walk(&capture.partial())? {
        let mode = path.metadata().context("mode")?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
    }
    recorder.stop()?.succeeded()?;
    let mode = capture.path().metadata().context("mode")?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    Ok(())
}

#[test]
fn notes_and_the_command_line_are_kept() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("notes")?;
    capture.start(&["-M", "ticket=4711", "--note", "why=it is = slow", "-d", "100ms"])?.wait()?;
    let manifest = manifest(capture.path())?;
    assert_eq!(manifest["notes"], serde_json::json!({ "ticket": "4711", "why": "it is = slow" }));
    let command: Vec<&str> = manifest["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(command[1..3], ["-M", "ticket=4711"]);
    Ok(())
}

/// Runs the recorder, which must refuse with 2 and words.
fn refused(args: &[&str], words: &[&str]) -> Result<()> {
    let ran = run(Program::Record, args)?;
    assert_eq!(ran.status.code(), Some(2), "{args:?}: {}", ran.stderr);
    assert_eq!(ran.stdout, "");
    for word in words {
        assert!(ran.stderr.contains(word), "{args:?}: '{word}' is not in: {}", ran.stderr);
    }
    Ok(())
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_touched() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = TempDir::new("refused")?;
    let path = dir.path().join("there.ebrec");
    std::fs::write(&path, "precious").context("write")?;
    let there = path.to_string_lossy().into_owned();
    refused(&["-d", "1s", "-o", &there], &["exists", "--force"])?;
    assert_eq!(std::fs::read_to_string(&path).context("read")?, "precious");
    refused(&["--probes", "nonsense", "-o", "/dev/null/x"], &["nonsense", "process", "sched", "tcp"])?;
    refused(&["--duration", "soon"], &["soon"])?;
    refused(&["--duration", "0s"], &["no length"])?;
    refused(&["--pid", "4194305"], &["4194305"])?;
    refused(&["--comm", "a name that is far too long"], &["15"])?;
    refused(&["--cgroup", "/no/such/cgroup", "-d", "1s"], &["/no/such/cgroup"])?;
    refused(&["--memory", "lots"], &["lots"])?;
    refused(&["-M", "nothing"], &["nothing"])?;
    refused(&["--nonsense"], &["--nonsense"])?;
    refused(&["-d", "1s", "-o", "/no/such/dir/a.ebrec"], &["/no/such/dir"])?;
    assert_eq!(std::fs::read_dir(dir.path()).context("list")?.count(), 1);
    Ok(())
}

#[test]
fn force_overwrites_a_capture_but_no_other_directory() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("force")?;
    std::fs::write(capture.path(), "old").context("write")?;
    capture.start(&["-d", "100ms", "--force"])?.wait()?;
    assert_eq!(window(&capture)?.0, "duration");
    std::fs::remove_file(capture.path()).context("remove")?;
    std::fs::create_dir(capture.path()).context("mkdir")?;
    std::fs::write(capture.path().join("precious"), "").context("write")?;
    refused(&["-d", "100ms", "--force", "-o", &capture.arg()], &["not a capture"])?;
    assert!(capture.path().join("precious").exists());
    Ok(())
}

#[test]
fn without_privilege_it_says_what_is_missing() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Where nobody can read and write: the build's directory may be closed to others.
    let dir = TempDir::new("nobody")?;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).context("chmod")?;
    let copy = dir.path().join("ebrec-record");
    std::fs::copy(program(Program::Record)?, &copy).context("copy the recorder")?;
    let file = dir.path().join("a.ebrec");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("-o").arg(&file).args(["-d", "1s"]);
    let output = command.stdin(Stdio::null()).output().context("run setpriv")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("CAP_BPF") && stderr.contains("ebrec check"), "{stderr}");
    assert!(!file.exists() && !dir.path().join("a.ebrec.partial").exists());
    let mut check = Command::new("setpriv");
    let check = check.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("check").output().context("check")?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert_ne!(check.status.code(), Some(0), "{said}");
    assert!(said.contains("setcap"), "{said}");
    Ok(())
}

/// A file system of this size, unmounted at the end.
struct Small {
    dir: TempDir,
}

impl Small {
    fn new(size: &str) -> Result<Self> {
        let dir = TempDir::new("small")?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path()).status();
        if mount.context("mount")?.success() { Ok(Self { dir }) } else { ebrec_tests::fail("cannot mount a tmpfs") }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_keeps_what_was_sealed() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let small = Small::new("8M")?;
    let file = small.dir.path().join("a.ebrec");
    let recorder = Recorder::start(&["-o", &file.to_string_lossy(), "-d", "60s"])?;
    let truth = workload(&["threads", "7"])?;
    // A quiet table's rows are on the disk after five seconds: two until they are a batch, three until the segment is sealed.
    std::thread::sleep(Duration::from_secs(7));
    wait_until("the disk is full", Duration::from_secs(40), || {
        workload(&["pingpong", "20000"])?;
        Ok(recorder.stderr().contains("ended early"))
    })?;
    let Recording { ran, .. } = recorder.wait()?;
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
    let last = ran.stderr.lines().last().unwrap_or_default();
    let partial = small.dir.path().join("a.ebrec.partial");
    assert!(last.contains("ebrec analyze") && last.contains(&*partial.to_string_lossy()), "{last}");
    let rows = sql(&partial, "SELECT count(*) AS n FROM sched_switch")?;
    assert!(int(&rows[0]["n"])? > 1000, "{rows:?}");
    // What happened at the start was sealed long before.
    let rows = sql(&partial, &format!("SELECT count(*) AS n FROM process_fork WHERE pid = {}", truth["pid"]))?;
    assert_eq!(rows[0]["n"], truth["count"]);
    Ok(())
}

#[test]
fn nothing_recorded_is_told_by_the_exit_code() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("nothing")?;
    let recorder = capture.start(&["--comm", "nobody-has-this", "-d", "100ms"])?;
    let recording = recorder.wait()?;
    assert_eq!(recording.ran.status.code(), Some(1), "{}", recording.ran.stderr);
    assert_eq!(capture.number("SELECT count(*) FROM process")?, 0);
    Ok(())
}

#[test]
fn a_command_is_not_left_behind_by_a_recorder_that_fails() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = TempDir::new("command")?;
    let ran = run(Program::Record, ["-o", &dir.path().join("a.ebrec").to_string_lossy(), "--", "no-such-command-anywhere"])?;
    assert!(ran.stderr.contains("cannot be executed"), "{}", ran.stderr);
    let marker = dir.path().join("marker");
    std::fs::write(dir.path().join("b.ebrec"), "").context("write")?;
    refused(&["-o", &dir.path().join("b.ebrec").to_string_lossy(), "--", "touch", &marker.to_string_lossy()], &["exists"])?;
    assert!(!marker.exists());
    Ok(())
}

#[test]
fn two_recorders_do_not_disturb_each_other() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (one, other) = (Capture::place("one")?, Capture::place("other")?);
    let (first, second) = (one.start(&[])?, other.start(&["--probes", "tcp"])?);
    let mut held = Held::start(&["tcp-hold"])?;
    held.tell("send 5000")?;
    held.tell("close")?;
    held.finish()?;
    second.stop()?.succeeded()?;
    first.stop()?.succeeded()?;
    for capture in [&one, &other] {
        assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_send WHERE comm IN ('wl-client', 'wl-server')")?, 2 * 15_000);
    }
    Ok(())
}
