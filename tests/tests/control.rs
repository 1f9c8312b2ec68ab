//! Whatever terminal, disk, signals and COMMAND do: a recording begins and ends at its time, and leaves a capture.

use ebrec_tests::{Capture, Context, Program, Recorder, Result, TempDir, fail, int, program, require_bpf, workload};
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

fn manifest(capture: &Path) -> Result<Value> {
    let unzip = Command::new("unzip").arg("-p").arg(capture).arg("manifest.json").output().context("run unzip")?;
    serde_json::from_slice(&unzip.stdout).context("manifest")
}

/// What ended a recording, and how long its window was, seconds.
fn window(manifest: &Value) -> Result<(String, f64)> {
    let ns = int(&manifest["ended_ns"])? - int(&manifest["started_ns"])?;
    Ok((manifest["ended_by"].as_str().unwrap_or_default().to_owned(), ns as f64 / 1e9))
}

fn lost(manifest: &Value) -> i64 {
    manifest["tables"].as_object().into_iter().flatten().filter_map(|(_, table)| table["lost"].as_i64()).sum()
}

fn recorder() -> Result<Command> {
    Ok(Command::new(program(Program::Record)?))
}

#[test]
fn the_status_of_the_command_is_passed_on() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = TempDir::new("status")?;
    let text = dir.path().join("text");
    std::fs::write(&text, "not executable").context("write")?;
    let text = text.to_string_lossy().into_owned();
    let cases: [(i32, &[&str]); 5] = [
        (0, &["true"]),
        (42, &["sh", "-c", "exit 42"]),
        (143, &["sh", "-c", "kill -TERM $$"]),
        (127, &["no-such-command"]),
        (126, &[&text]),
    ];
    for (status, command) in cases {
        let capture = Capture::place("status")?;
        let ran = recorder()?.args(["--probes", "process", "-q", "-o", &capture.arg(), "--"]).args(command).output().context("record")?;
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(status), "{command:?}: {said}");
        // The recording itself succeeded, so there is a capture; why nothing was started is said, quiet or not.
        assert!(capture.path().is_file(), "{command:?}: {said}");
        assert_eq!(said.contains("cannot be executed: ") && said.contains(command[0]), status == 126 || status == 127, "{said}");
    }
    Ok(())
}

#[test]
fn the_command_runs_with_what_the_recorder_was_started_with() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("class")?;
    let out = capture.dir().join("out");
    // Policy and nice value: fields 41 and 19 of proc_pid_stat(5), of a shell whose name has no space.
    let script = format!(
        "cut -d' ' -f19,41 /proc/$$/stat >{0}; cat /proc/$$/oom_score_adj >>{0}; grep Sig[BI] /proc/$$/status >>{0}",
        out.display()
    );
    let run = |recorded: bool| -> Result<String> {
        let mut command = Command::new("nice");
        command.args(["-n", "7"]);
        if recorded {
            command.arg(program(Program::Record)?).args(["--probes", "process", "-q", "-o", &capture.arg(), "--"]);
        }
        let ran = command.args(["sh", "-c", &script]).output().context("run")?;
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        std::fs::read_to_string(&out).context("what it wrote")
    };
    // The C library uses two signals beyond these for itself.
    let usual =
        |text: String| text.lines().map(|line| line.get(line.len().saturating_sub(7)..).unwrap_or(line).to_owned()).collect::<Vec<_>>();
    assert_eq!(usual(run(true)?), usual(run(false)?));
    // And the recorder had what it says.
    let scheduling = manifest(capture.path())?["recorder"]["scheduling"].clone();
    assert!(scheduling.as_str().is_some_and(|text| text.starts_with("SCHED_RR 1")), "{scheduling}");
    Ok(())
}

#[test]
fn without_the_real_time_class_it_says_so() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("ordinary")?;
    let recording = capture.start(&["--probes", "process", "--no-realtime", "-d", "200ms"])?.wait()?.succeeded()?;
    let scheduling = manifest(capture.path())?["recorder"]["scheduling"].clone();
    let scheduling = scheduling.as_str().context("scheduling")?;
    assert!(scheduling.contains("no real-time class (--no-realtime)"), "{scheduling}");
    assert!(recording.ran.stderr.contains(scheduling), "{}", recording.ran.stderr);
    Ok(())
}

#[test]
fn what_cannot_be_said_matters_to_nobody() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let full = File::options().write(true).open("/dev/full").context("/dev/full")?;
    let (reader, closed) = std::io::pipe().context("pipe")?;
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(OwnedFd::from(closed))] {
        let capture = Capture::place("unsaid")?;
        let status =
            recorder()?.args(["--probes", "process", "-d", "300ms", "-o", &capture.arg()]).stderr(stderr).status().context("record")?;
        assert_eq!(status.code(), Some(0));
        assert!(capture.path().is_file());
    }
    Ok(())
}

#[test]
fn a_reader_that_does_not_read_holds_nothing_up() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("unread")?;
    let (_reader, mut writer) = std::io::pipe().context("pipe")?;
    // SAFETY: F_SETPIPE_SZ and F_GETPIPE_SZ take numbers.
    let room = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&writer), libc::F_GETPIPE_SZ) };
    std::io::Write::write_all(&mut writer, &vec![b'x'; usize::try_from(room).context("size of a pipe")?]).context("fill the pipe")?;
    let began = Instant::now();
    let mut child = recorder()?
        .args(["--probes", "process", "-d", "500ms", "-o", &capture.arg()])
        .stderr(Stdio::from(OwnedFd::from(writer)))
        .spawn()
        .context("record")?;
    let status = child.wait().context("wait")?;
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(window(&manifest(capture.path())?)?.0, "duration");
    Ok(())
}

/// A recorder that was started with signals ignored, as nohup and some wrappers do. Its stderr is a file.
fn ignoring(signal: i32, args: &[&str], log: &Path) -> Result<std::process::Child> {
    let mut command = recorder()?;
    command.args(args).stderr(File::create(log).context("log")?);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            libc::signal(signal, libc::SIG_IGN);
            Ok(())
        });
    }
    command.spawn().context("record")
}

fn says(log: &Path, words: &str) -> Result<()> {
    let began = Instant::now();
    while !std::fs::read_to_string(log).unwrap_or_default().contains(words) {
        if began.elapsed() > Duration::from_secs(30) {
            return fail(format!("it never said '{words}'"));
        }
        pause(10);
    }
    Ok(())
}

#[test]
fn a_hangup_that_is_ignored_stays_ignored() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("nohup")?;
    let log = capture.dir().join("log");
    let mut child = ignoring(libc::SIGHUP, &["--probes", "process", "-d", "1s", "-o", &capture.arg()], &log)?;
    says(&log, "recording for")?;
    // SAFETY: signals our own child, which is not reaped yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGHUP) };
    assert_eq!(child.wait().context("wait")?.code(), Some(0));
    let (by, seconds) = window(&manifest(capture.path())?)?;
    assert!(by == "duration" && (1.0..1.1).contains(&seconds), "{by} {seconds}");
    Ok(())
}

#[test]
fn the_command_is_seen_to_end_although_sigchld_was_ignored() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("sigchld")?;
    let log = capture.dir().join("log");
    let mut child = ignoring(libc::SIGCHLD, &["--probes", "process", "-o", &capture.arg(), "--", "sh", "-c", "exit 3"], &log)?;
    assert_eq!(child.wait().context("wait")?.code(), Some(3));
    assert_eq!(window(&manifest(capture.path())?)?.0, "sh exited with 3");
    Ok(())
}

/// A terminal: the side of the person, and that of the program.
fn terminal() -> Result<(File, File)> {
    let (mut master, mut slave) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: two descriptors to write to; no name and no modes; `size` is valid.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
    if opened != 0 {
        return Err(ebrec_tests::Error::os("open a terminal"));
    }
    // The program must not have the person's side, or the terminal never goes.
    // SAFETY: both were just returned to us and nobody else owns them.
    unsafe {
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok((File::from_raw_fd(master), File::from_raw_fd(slave)))
    }
}

/// Starts a recorder on a terminal of its own.
fn on_terminal(slave: &File, args: &[&str]) -> Result<std::process::Child> {
    let side = || slave.try_clone().context("clone");
    let mut command = recorder()?;
    command.args(args).stdin(side()?).stdout(side()?).stderr(side()?);
    // SAFETY: all are async-signal-safe; the terminal is the child's stdin.
    unsafe {
        command.pre_exec(|| {
            // However the tests were started.
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    command.spawn().context("record")
}

#[test]
fn a_lost_terminal_keeps_what_was_recorded() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("lost")?;
    let (mut master, slave) = terminal()?;
    let mut child = on_terminal(&slave, &["--probes", "process", "-d", "60s", "-o", &capture.arg()])?;
    drop(slave);
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("recording for") {
        let mut bytes = [0; 4096];
        let n = master.read(&mut bytes).context("read the terminal")?;
        said.extend_from_slice(&bytes[..n]);
    }
    let truth = workload(&["exec", "--codes", "5"])?;
    drop(master);
    // The hangup ends it, as Ctrl-C does.
    assert_eq!(child.wait().context("wait")?.code(), Some(0));
    let manifest = manifest(capture.path())?;
    assert_eq!((window(&manifest)?.0.as_str(), &manifest["complete"]), ("SIGHUP", &Value::Bool(true)));
    let forks = capture.number(&format!("SELECT count(*) FROM process_fork WHERE NOT is_thread AND pid = {}", truth["pid"]))?;
    assert_eq!(forks, int(&truth["totals"]["forks"])?);
    Ok(())
}

#[test]
fn a_stopped_terminal_does_not_stop_the_clock_and_80_columns_are_enough() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("stopped")?;
    let (mut master, slave) = terminal()?;
    // As Ctrl-S does.
    // SAFETY: an operation without a pointer on a terminal of ours.
    unsafe { libc::tcflow(std::os::fd::AsRawFd::as_raw_fd(&slave), libc::TCOOFF) };
    let mut child = on_terminal(&slave, &["-d", "2s", "-o", &capture.arg()])?;
    let began = Instant::now();
    while !capture.path().is_file() && began.elapsed() < Duration::from_secs(30) {
        pause(50);
    }
    let there = capture.path().is_file();
    // SAFETY: likewise.
    unsafe { libc::tcflow(std::os::fd::AsRawFd::as_raw_fd(&slave), libc::TCOON) };
    drop(slave);
    let mut said = Vec::new();
    // The end of a terminal is an error.
    let _ = master.read_to_end(&mut said);
    assert_eq!(child.wait().context("wait")?.code(), Some(0));
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(there, "the capture waited for the terminal: {said}");
    let (by, seconds) = window(&manifest(capture.path())?)?;
    assert!(by == "duration" && (2.0..2.1).contains(&seconds), "{by} {seconds}");
    // The progress line was in the way of the first one.
    let lines = said.lines().map(|line| line.rsplit("\x1b[K").next().unwrap_or(line));
    let lines = lines.skip_while(|line| !line.starts_with("probe ")).take_while(|line| !line.starts_with("ebrec-record"));
    let wide: Vec<&str> = lines.clone().filter(|line| line.chars().count() > 80).collect();
    assert!(lines.count() > 10 && wide.is_empty(), "{wide:?}\n{said}");
    Ok(())
}

/// A file system on a loop device, which can be frozen. Thawed and unmounted at the end.
struct Disk {
    dir: TempDir,
}

impl Disk {
    fn new() -> Result<Self> {
        let disk = Self { dir: TempDir::new("disk")? };
        let image = disk.dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(256 << 20)).context("make an image")?;
        std::fs::create_dir(disk.place()).context("mkdir")?;
        let ok = |command: &mut Command| command.output().is_ok_and(|ran| ran.status.success());
        let made = ok(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        if made && ok(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.place())) { Ok(disk) } else { fail("no loop mounts") }
    }

    fn place(&self) -> std::path::PathBuf {
        self.dir.path().join("mnt")
    }

    fn freeze(&self, how: &str) -> Result<()> {
        let done = Command::new("fsfreeze").arg(how).arg(self.place()).status().context("run fsfreeze")?;
        if done.success() { Ok(()) } else { fail("cannot freeze") }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(self.place()).stderr(Stdio::null()).status();
        let _ = Command::new("umount").arg("-l").arg(self.place()).status();
    }
}

#[test]
fn a_frozen_disk_does_not_move_the_end_of_the_window() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let disk = Disk::new()?;
    let capture = disk.place().join("a.ebrec");
    let recorder = Recorder::start(&["--probes", "sched,syscall", "-d", "2s", "-o", &capture.to_string_lossy()])?;
    let began = Instant::now();
    let links = |pid: u32| -> usize {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("bpf_link"))).count()
    };
    let load = std::thread::spawn(|| workload(&["pingpong", "200000"]));
    pause(700);
    disk.freeze("-f")?;
    assert!(links(recorder.pid()) > 0);
    while began.elapsed() < Duration::from_millis(2300) {
        pause(10);
    }
    let left = links(recorder.pid());
    pause(700);
    disk.freeze("-u")?;
    let recording = recorder.wait()?.succeeded()?;
    load.join().ok().context("the load panicked")??;
    assert_eq!(left, 0, "programs are still attached 300 ms after the window");
    let manifest = manifest(&capture)?;
    let (by, seconds) = window(&manifest)?;
    assert!(by == "duration" && (2.0..2.1).contains(&seconds), "{by} {seconds}: {}", recording.ran.stderr);
    Ok(())
}

#[test]
fn an_overloaded_host_is_recorded_without_loss_and_in_time() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Two hundred pairs that keep each other runnable, and calls as fast as they go.
    let mut load = Command::new(program(Program::Workload)?);
    let mut load = load.args(["overload", "200", "--seconds", "30"]).stdout(Stdio::null()).spawn().context("the load")?;
    let tried = || -> Result<(Capture, ebrec_tests::Recording)> {
        pause(1000);
        let capture = Capture::place("overload")?;
        let recording = capture.start(&["--probes", "default,syscall", "-d", "4s"])?.wait()?.succeeded()?;
        Ok((capture, recording))
    };
    let ran = tried();
    let _ = load.kill();
    let _ = load.wait();
    let (capture, recording) = ran?;
    let manifest = manifest(capture.path())?;
    let rows: i64 = manifest["tables"].as_object().into_iter().flatten().filter_map(|(_, table)| table["rows"].as_i64()).sum();
    let (by, seconds) = window(&manifest)?;
    assert_eq!(lost(&manifest), 0, "of {rows}");
    assert!(rows > 500_000, "{rows}");
    assert!(by == "duration" && (4.0..4.1).contains(&seconds), "{by} {seconds}");
    // The recorder's own count: who listens to it here needs a CPU, too. Without the class it is 20 to 50 s.
    let started = int(&manifest["recorder"]["start_ns"])?;
    assert!(started < 1_000_000_000, "started after {started} ns; heard of after {:?}", recording.started_in);
    Ok(())
}
