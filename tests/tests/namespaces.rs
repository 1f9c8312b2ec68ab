//! In a container: filters mean what they mean there, and what the recorder looks up in /proc is found there.

use ebrec_tests::{Capture, Context, Program, Recorder, Result, fail, list, program, require_bpf, workload};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// A command in new namespaces.
fn unshare(options: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(options);
    command
}

/// `ebrec-record ARGS…` in new namespaces, to its end; what it said on stderr, and its exit status.
fn record_in(options: &[&str], args: &[&str]) -> Result<(String, Option<i32>)> {
    let output = unshare(options).arg(program(Program::Record)?).args(args).stdin(Stdio::null()).output().context("run unshare")?;
    Ok((String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code()))
}

const LOAD: &str = "i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i + 1)); done; exit 0";

fn execs(capture: &Capture, comm: &str) -> Result<i64> {
    capture.number(&format!("SELECT count(*) FROM process_exec WHERE comm = '{comm}'"))
}

#[test]
fn a_command_in_a_pid_namespace_is_recorded() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // With a /proc of the namespace, and with the host's.
    for options in [&["-p", "-f", "--mount-proc"][..], &["-p", "-f"]] {
        let capture = Capture::place("namespace")?;
        let (said, code) = record_in(options, &["--probes", "process", "-o", &capture.arg(), "--", "sh", "-c", LOAD])?;
        assert_eq!((execs(&capture, "true")?, code), (20, Some(0)), "{options:?}: {said}");
        assert!(said.contains("pid namespace"), "{said}");
        let others = capture.number("SELECT count(*) FROM process_exec WHERE ret = 0 AND comm NOT IN ('true', 'sh')")?;
        assert_eq!(others, 0, "{options:?}");
    }
    Ok(())
}

/// Also that what is found by a pid in /proc is that process's: arguments, cgroup, functions.
#[test]
fn a_pid_is_one_of_the_recorders_namespace() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for options in [&["-p", "-f", "--mount-proc"][..], &["-p", "-f"]] {
        let capture = Capture::place("namespace")?;
        let (recorder, workload, dir) = (program(Program::Record)?, program(Program::Workload)?, capture.dir().display());
        // The copy's path is in the namespace's processes only. Process 1 executes others meanwhile.
        let script = format!(
            "cp {workload} {dir}/worker; mkfifo {dir}/go
             sh -c 'read go <{dir}/go; {dir}/worker burn 1 --ms 400 >{dir}/truth; {dir}/worker exec --codes 3 >/dev/null; exit 0' & worker=$!
             {recorder} --probes process,profile --pid $worker -o {dir}/a.ebrec 2>{dir}/said & recorder=$!
             until grep -q '^ebrec-record: recording' {dir}/said || ! kill -0 $recorder; do sleep 0.05; done
             echo go >{dir}/go; /bin/true; /bin/true; wait $worker; kill -INT $recorder; wait $recorder",
            workload = workload.display(),
            recorder = recorder.display(),
        );
        let output = unshare(options).args(["sh", "-c", &script]).output().context("run unshare")?;
        let said = std::fs::read_to_string(capture.dir().join("said")).context("what it said")?;
        assert!(output.status.success(), "{options:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(execs(&capture, "true")?, 0, "{options:?}");
        assert!(execs(&capture, "worker")? >= 2, "{options:?}");
        let row = capture.row("SELECT args, cgroup, ppid FROM process WHERE comm = 'sh'")?;
        let args: Vec<&str> = list(&row["args"])?.iter().filter_map(Value::as_str).take(2).collect();
        assert_eq!(args, ["sh", "-c"], "{options:?}");
        assert!(row["cgroup"].as_str().is_some_and(|path| path.starts_with('/')), "{row}");
        let row = capture.row(
            "SELECT count(*) AS samples, count(*) FILTER (WHERE k.frames[1] = 'ebrec_burn_leaf') AS named
             FROM cpu_sample s JOIN stack k ON k.stack_id = s.user_stack_id WHERE s.comm LIKE 'worker%' OR s.comm LIKE 'wl-%'",
        )?;
        // The others are the program's start; a name can only come from /proc, by the right pid.
        assert!(row["named"].as_i64().is_some_and(|named| named >= 10), "{options:?}: {row}");
    }
    Ok(())
}

#[test]
fn a_library_that_comes_into_use_in_a_pid_namespace_is_found() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("namespace")?;
    let (recorder, dir) = (program(Program::Record)?, capture.dir().display());
    let lookups = concat!(env!("CARGO_MANIFEST_DIR"), "/lookups.c");
    // Its own copy of the C library, so that no probe is in it before.
    let script = format!(
        "set -e; cc -O1 -o {dir}/lookups {lookups}; cp $(ldd {dir}/lookups | sed -n 's/.*=> \\(.*libc.so.6\\) .*/\\1/p') {dir}
         {recorder} --probes dns -o {dir}/a.ebrec -- sh -c 'LD_LIBRARY_PATH={dir} WAIT_MS=500 {dir}/lookups localhost >{dir}/truth'",
        recorder = recorder.display(),
    );
    let output = unshare(&["-p", "-f", "--mount-proc"]).args(["sh", "-c", &script]).output().context("run unshare")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = capture.sql("SELECT DISTINCT function FROM dns_lookup WHERE comm = 'lookups' ORDER BY function")?;
    assert_eq!(rows.len(), 5, "{rows:?}");
    // The kernel's pid of who had it mapped, as in the other tables.
    let library = capture.row(&format!("SELECT pid FROM probe_library WHERE path = '{dir}/libc.so.6'"))?;
    assert_eq!(library["pid"], capture.row("SELECT DISTINCT pid FROM dns_lookup WHERE comm = 'lookups'")?["pid"]);
    Ok(())
}

#[test]
fn what_is_no_process_here_is_refused() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // The thread that records in this program has a number of its own, which is no process's.
    let thread = std::thread::spawn(|| {
        // SAFETY: no preconditions.
        let tid = unsafe { libc::gettid() };
        record_in(&["-i"], &["-p", &tid.to_string(), "-d", "100ms", "-o", "/nonexistent-but-not-reached.ebrec"])
    });
    let of_thread = thread.join().map_err(|_| ebrec_tests::Error::new("a thread panicked"))??;
    let host_pid = std::process::id().to_string();
    let of_host = record_in(&["-p", "-f", "--mount-proc"], &["-p", &host_pid, "-d", "100ms", "-o", "/nonexistent-but-not-reached.ebrec"])?;
    for (said, code) in [of_thread, of_host] {
        assert!(said.contains("there is no process") && code == Some(2), "{code:?} {said}");
    }
    Ok(())
}

#[test]
fn a_cgroup_is_one_that_the_namespace_shows() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let Some(mount) = mount else {
        eprintln!("SKIPPED: cgroup v2 is not mounted");
        return Ok(());
    };
    let capture = Capture::place("namespace")?;
    // The namespace's root is two below the host's; the recorder is another one below, and what it records beside it.
    let (root, recorder, dir) = (format!("{mount}/ebrec-ns-{}", std::process::id()), program(Program::Record)?, capture.dir().display());
    let script = format!(
        "set -e; mkdir -p {root}/c; echo $$ >{root}/c/cgroup.procs
         exec unshare -C -m sh -c 'mkdir -p {root}/c/recorder {root}/c/load; echo $$ >{root}/c/recorder/cgroup.procs
           mkdir {dir}/cg; mount -t cgroup2 none {dir}/cg
           {recorder} --probes process --cgroup load -o {dir}/a.ebrec 2>{dir}/said & recorder=$!
           until grep -q \"^ebrec-record: recording\" {dir}/said || ! kill -0 $recorder; do sleep 0.05; done
           sh -c \"echo \\$\\$ >{root}/c/load/cgroup.procs; /bin/true; /bin/true; exit 0\"; /bin/true
           kill -INT $recorder; wait $recorder'",
        recorder = recorder.display(),
    );
    let output = Command::new("sh").args(["-c", &script]).output().context("run sh");
    let said = std::fs::read_to_string(capture.dir().join("said")).unwrap_or_default();
    for below in ["c/load", "c/recorder", "c", ""] {
        let _ = std::fs::remove_dir(format!("{root}/{below}"));
    }
    let output = output?;
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(execs(&capture, "true")?, 2);
    Ok(())
}

#[test]
fn what_cannot_be_translated_is_refused_with_a_sentence() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("namespace")?;
    let args = ["-d", "200ms", "-o", &capture.arg()];
    for (options, word) in [(&["-U", "-r"][..], "user namespace"), (&["-T", "-f", "--boottime", "100000"], "time namespace")] {
        let supported = unshare(options).arg("true").output().is_ok_and(|output| output.status.success());
        if !supported {
            eprintln!("SKIPPED: no {word} here");
            continue;
        }
        let (said, code) = record_in(options, &args)?;
        assert!(said.contains(word) && code == Some(2), "{options:?}: {code:?} {said}");
        assert!(!capture.path().exists() && !capture.partial().exists());
    }
    Ok(())
}

#[test]
fn check_says_what_a_pid_means() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let check = |options: &[&str]| -> Result<Value> {
        let output = unshare(options).arg(program(Program::Record)?).args(["check", "--json"]).output().context("run unshare")?;
        serde_json::from_slice(&output.stdout).context("check --json")
    };
    let inside = check(&["-p", "-f", "--mount-proc"])?;
    assert!(inside["pid_namespace"].as_str().is_some_and(|text| text.contains("--pid")), "{inside}");
    assert_eq!(check(&["-i"])?["pid_namespace"], json!(null));
    Ok(())
}

/// The recorder itself has another number in the kernel than in its namespace.
#[test]
fn the_recorder_knows_itself_in_a_pid_namespace() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("namespace")?;
    let mut command = unshare(&["-p", "-f", "--kill-child", "--mount-proc"]);
    let recorder = Recorder::start_command(command.arg(program(Program::Record)?).args([
        "--probes",
        "process,open",
        "-d",
        "1s",
        "-o",
        &capture.arg(),
    ]))?;
    // Something has to be recorded.
    workload(&["exec", "--codes", "2"])?;
    let _ = recorder.wait()?.succeeded()?;
    // Those of its own capture: others may record, too.
    let own = capture.number(&format!("SELECT count(*) FROM file_open WHERE path LIKE '{}/%'", capture.dir().display()))?;
    if own == 0 { Ok(()) } else { fail(format!("{own} opens of the recorder's own")) }
}
