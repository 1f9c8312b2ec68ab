//! What is left of a recording after a kill, a power loss, a full disk: the part of `tests/proof/durability` that takes seconds.

use ebrec_tests::{Capture, Context, Program, Result, analyze, int, program, require_bpf, run, sql, workload};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn what_was_sealed_survives_kills_power_losses_and_limits() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("proof/durability");
    let mut proof = Command::new(script);
    proof.arg("--quick").env("EBREC_RECORD", program(Program::Record)?).env("EBREC_ANALYZE", program(Program::Analyze)?);
    let output = proof.output().context("run tests/proof/durability")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.matches("ok ").count() == 3, "{said}");
    Ok(())
}

/// Data is synced, then named, then the name is synced, then what it replaces is removed: as the system calls show it. That a name isn't synced
/// shows after a power loss only if nothing else made the file system write its log meanwhile.
#[test]
fn files_are_synced_before_they_are_named_and_names_before_anything_is_removed() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for format in ["file", "dir"] {
        let capture = Capture::place("order")?;
        let log = capture.dir().join("calls");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat2,unlink,unlinkat", "-o"]).arg(&log);
        strace.arg(program(Program::Record)?).args(["--probes", "process", "-d", "7s", "--format", format, "-o", &capture.arg()]);
        let output = strace.output().context("strace: install it (make test-deps)")?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let log = std::fs::read_to_string(&log).context("the calls")?;
        let (mut synced, mut unsynced, mut named) = (HashSet::new(), HashSet::new(), 0);
        // A call that took so long that another thread's came in between has two lines.
        let mut unfinished = HashMap::new();
        for line in log.lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
                unfinished.insert(thread, begun);
                continue;
            }
            if !line.ends_with(" = 0") {
                continue;
            }
            let call = if call.contains(" resumed>") { unfinished.remove(thread).context(line)? } else { call };
            let Some((call, arguments)) = call.trim().split_once('(') else { continue };
            let quoted: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
            let parent = |path: &str| path.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned();
            match (call, quoted.as_slice()) {
                ("fsync" | "fdatasync", _) => {
                    let path = arguments.split(['<', '>']).nth(1).context(line)?.to_owned();
                    unsynced.remove(&path);
                    synced.insert(path);
                }
                ("rename", [from, to]) => {
                    assert!(synced.remove(*from), "{format}: {line}: not synced before");
                    unsynced.insert(parent(to));
                    named += 1;
                }
                ("renameat2", [from, to]) => {
                    // The whole capture: all that is in it has its name by now.
                    assert!(unsynced.is_empty(), "{format}: {line}: {unsynced:?}");
                    assert!(synced.contains(*from) || synced.contains(&parent(from)), "{format}: {line}");
                    unsynced.insert(parent(to));
                    named += 1;
                }
                ("unlink", [path]) | ("unlinkat", [path]) if path.ends_with(".parquet") => {
                    assert!(unsynced.is_empty(), "{format}: {line}: removed before {unsynced:?} was synced");
                }
                _ => {}
            }
        }
        assert!(unsynced.is_empty() && named > 5, "{format}: {unsynced:?}, {named} names");
    }
    Ok(())
}

#[test]
fn the_old_capture_stays_until_the_new_one_is_complete() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("replaced")?;
    capture.start(&["--probes", "process", "-d", "100ms"])?.wait()?.succeeded()?;
    let first = std::fs::read(capture.path()).context("read")?;
    // Killed: the old one is there as it was, and what was recorded as well.
    let recorder = capture.start(&["--probes", "process", "--force"])?;
    assert_eq!(std::fs::read(capture.path()).context("read")?, first);
    // Another one doesn't take its directory for one that was left.
    let ran = run(Program::Record, ["-d", "1s", "--force", "-o", &capture.arg()])?;
    assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("another recorder"), "{}", ran.stderr);
    recorder.signal(libc::SIGKILL)?;
    recorder.wait()?;
    assert_eq!(std::fs::read(capture.path()).context("read")?, first);
    assert!(capture.partial().is_dir());
    // Complete: one file, the new one.
    capture.start(&["--probes", "process", "-d", "100ms", "--force"])?.wait()?.succeeded()?;
    assert_ne!(std::fs::read(capture.path()).context("read")?, first);
    assert_eq!(std::fs::read_dir(capture.dir()).context("list")?.count(), 1);
    Ok(())
}

#[test]
fn a_capture_never_exceeds_max_size() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("bounded")?;
    let limit = 2 << 20;
    let recorder = capture.start(&["--max-size", "2M", "--duration", "30s", "--probes", "sched,syscall"])?;
    workload(&["pingpong", "200000"])?;
    let recording = recorder.wait()?.succeeded()?;
    let size = capture.path().metadata().context("size")?.len();
    assert!((limit / 3..=limit).contains(&size), "{size}: {}", recording.ran.stderr);
    let row = capture.row("SELECT ended_by FROM capture")?;
    assert_eq!(row["ended_by"], "max-size");
    // What had no room any more is counted, and told.
    let refused = capture.number("SELECT CAST(coalesce(sum(lost), 0) AS BIGINT) AS n FROM loss WHERE reason = 'max-size'")?;
    assert!(refused == 0 || recording.ran.stderr.contains("events were lost"), "{refused}: {}", recording.ran.stderr);
    Ok(())
}

/// As the first seconds are when the manifest is lost.
#[test]
fn without_its_manifest_a_killed_recording_says_what_its_segments_say() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("no-manifest")?;
    let recorder = capture.start(&["--probes", "process"])?;
    let truth = workload(&["exec", "--codes", "5"])?;
    std::thread::sleep(Duration::from_secs(6));
    recorder.signal(libc::SIGKILL)?;
    recorder.wait()?;
    let partial = capture.partial();
    let before = analyze(&partial, &[])?.succeeded()?.stdout;
    std::fs::remove_file(partial.join("manifest.json")).context("remove the manifest")?;
    let ran = analyze(&partial, &[])?.succeeded()?;
    assert!(ran.stderr.contains("there is no manifest"), "{}", ran.stderr);
    let line = |text: &str, word: &str| text.lines().find(|line| line.starts_with(word)).unwrap_or_default().to_owned();
    assert_eq!(line(&ran.stdout, "host").split(", Linux").last(), line(&before, "host").split(", Linux").last());
    let start = |text: &str| line(text, "window").split(" from ").last().unwrap_or_default().to_owned();
    assert_eq!(start(&ran.stdout), start(&before));
    let rows = sql(&partial, &format!("SELECT count(*) AS n FROM process_fork WHERE NOT is_thread AND pid = {}", truth["pid"]))?;
    assert_eq!(int(&rows[0]["n"])?, int(&truth["totals"]["forks"])?);
    // What was not recorded is said to be so, as with a manifest.
    let ran = analyze(&partial, &["tcptop"])?;
    assert!(ran.stderr.contains("not captured"), "{}", ran.stderr);
    assert_eq!(analyze(&partial, &["execsnoop", "--strict"])?.status.code(), Some(2));
    Ok(())
}
