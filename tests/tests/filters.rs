//! Filters act: what was asked for is all there, and nothing else is.

use ebrec_tests::{
    Capture, Context, Program, Recorder, Result, TempDir, analyze, int, list, program, recorded, require_bpf, text, workload,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Everybody that acts, by table.
const ACTORS: &str =
    "SELECT 'process_fork' AS t, pid, tid, comm FROM process_fork UNION ALL SELECT 'process_exec', pid, tid, comm FROM process_exec
    UNION ALL SELECT 'process_exit', pid, tid, comm FROM process_exit UNION ALL SELECT 'process', pid, tid, comm FROM process
    UNION ALL SELECT 'tcp_connection', pid, tid, comm FROM tcp_connection UNION ALL SELECT 'tcp_connect', pid, tid, comm FROM tcp_connect
    UNION ALL SELECT 'tcp_accept', pid, tid, comm FROM tcp_accept UNION ALL SELECT 'tcp_close', pid, tid, comm FROM tcp_close
    UNION ALL SELECT 'tcp_send', pid, tid, comm FROM tcp_send UNION ALL SELECT 'tcp_recv', pid, tid, comm FROM tcp_recv
    UNION ALL SELECT 'tcp_state', pid, tid, comm FROM tcp_state UNION ALL SELECT 'tcp_socket', pid, tid, comm FROM tcp_socket";

/// No row without one of `pids`: acting, or where two tasks take part, one of the two.
fn assert_only(capture: &Capture, pids: &BTreeSet<i64>) -> Result<()> {
    let wanted = pids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let strangers = capture.sql(&format!("SELECT DISTINCT t, pid, comm FROM ({ACTORS}) WHERE pid IS NULL OR pid NOT IN ({wanted})"))?;
    assert!(strangers.is_empty(), "{strangers:?}");
    // Where two tasks take part, of a stranger there is nothing: no name, and no time that would be a part of its times. That a CPU was
    // idle may be said.
    for (table, task, amounts) in [
        ("sched_switch", "prev_", "prev_ran_ns IS NOT NULL OR prev_state IS NOT NULL"),
        ("sched_switch", "next_", "next_waited_ns IS NOT NULL OR next_off_cpu_ns IS NOT NULL"),
        ("sched_wakeup", "", "false"),
        ("sched_wakeup", "wakee_", "false"),
    ] {
        let strangers = format!("SELECT count(*) FROM {table} WHERE {task}pid NOT IN ({wanted}) AND {task}pid <> 0");
        assert_eq!(capture.number(&strangers)?, 0, "{table}.{task}pid");
        let counted = format!("SELECT count(*) FROM {table} WHERE coalesce({task}pid, 0) NOT IN ({wanted}) AND ({amounts})");
        assert_eq!(capture.number(&counted)?, 0, "{table}.{task}pid");
    }
    let both = "SELECT (SELECT count(*) FROM sched_switch WHERE coalesce(prev_pid, 0) = 0 AND coalesce(next_pid, 0) = 0)
        + (SELECT count(*) FROM sched_wakeup WHERE coalesce(pid, 0) = 0 AND wakee_pid IS NULL)";
    assert_eq!(capture.number(both)?, 0, "rows about nobody");
    Ok(())
}

/// The bytes of one side's process, in the tables of calls and of ends.
fn assert_bytes(capture: &Capture, connections: &Value, side: &str) -> Result<()> {
    let sides = list(connections)?.iter().map(|connection| &connection[side]).collect::<Vec<_>>();
    let total = |key: &str| sides.iter().map(|side| int(&side[key])).sum::<Result<i64>>();
    assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_send")?, total("tx_bytes")?);
    assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_recv")?, total("rx_bytes")?);
    assert_eq!(capture.number("SELECT sum(tx_bytes) FROM tcp_close")?, total("tx_bytes")?);
    assert_eq!(capture.number("SELECT count(*) FROM tcp_connection")?, sides.len() as i64);
    Ok(())
}

/// A shell that waits for a line, then becomes the workload.
fn waiting(args: &str) -> Result<Child> {
    let script = format!("read go; {} {args}; exit 7", program(Program::Workload)?.display());
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    shell.context("start a shell")
}

/// Lets it go on; returns the workload's truth.
fn release(mut child: Child) -> Result<Value> {
    drop(child.stdin.take());
    let output = child.wait_with_output().context("wait for the shell")?;
    assert_eq!(output.status.code(), Some(7));
    serde_json::from_slice(&output.stdout).context("truth")
}

/// The processes of a run of the workload `tcp` in a shell.
fn processes_of(shell: u32, truth: &Value) -> Result<BTreeSet<i64>> {
    let first = &truth["connections"][0];
    Ok(BTreeSet::from([i64::from(shell), int(&truth["pid"])?, int(&first["client"]["pid"])?, int(&first["server"]["pid"])?]))
}

/// The same load, but not asked for.
fn bystander() -> Result<Value> {
    workload(&["tcp", "--families", "v4"])
}

#[test]
fn a_process_is_followed_with_its_descendants() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let child = waiting("tcp --families v4,v6 --refused 0 --settle-ms 60")?;
    let shell = child.id();
    let (truth, capture) = recorded(&["--pid", &shell.to_string()], || {
        bystander()?;
        let truth = release(child)?;
        bystander()?;
        Ok(truth)
    })?;
    let pids = processes_of(shell, &truth)?;
    assert_only(&capture, &pids)?;
    assert_eq!(capture.number("SELECT count(DISTINCT pid) FROM process_exit")?, pids.len() as i64);
    assert_eq!(capture.number("SELECT count(*) FROM process")?, 1);
    let bytes = int(&truth["totals"]["tx_bytes"])?;
    assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_send")?, bytes);
    assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_recv")?, bytes);
    assert_eq!(capture.number("SELECT sum(tx_bytes) FROM tcp_close")?, bytes);
    let connections = int(&truth["totals"]["connections"])?;
    for (table, expected) in [("tcp_connection", 2 * connections), ("tcp_connect", connections), ("tcp_accept", connections)] {
        // The workload itself tries first whether the loopback interface is up.
        let count = format!("SELECT count(*) FROM {table} WHERE comm IN ('wl-client', 'wl-server')");
        assert_eq!(capture.number(&count)?, expected, "{table}");
    }
    Ok(())
}

#[test]
fn a_name_selects_the_threads_that_have_it() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--comm", "wl-client"], || workload(&["tcp", "--refused", "3", "--settle-ms", "60"]))?;
    let client = int(&truth["connections"][0]["client"]["pid"])?;
    assert_only(&capture, &BTreeSet::from([client]))?;
    let names = capture.sql(&format!("SELECT DISTINCT comm FROM ({ACTORS})"))?;
    assert_eq!(names, [json!({ "comm": "wl-client" })]);
    let refused = capture.number("SELECT count(*) FROM tcp_connect WHERE errno = 111")?;
    assert_eq!(refused, 3);
    // Refused ones are connections, too.
    let others = capture.number("SELECT count(*) FROM tcp_connection")? - refused;
    assert_eq!(others, int(&truth["totals"]["connections"])?);
    let sent: i64 = list(&truth["connections"])?.iter().map(|both| int(&both["client"]["tx_bytes"])).sum::<Result<_>>()?;
    assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_send")?, sent);
    assert_eq!(capture.number("SELECT sum(tx_bytes) FROM tcp_close")?, sent);
    Ok(())
}

/// A cgroup below one of its own, removed at the end.
struct Cgroup {
    outer: PathBuf,
}

impl Cgroup {
    fn new() -> Result<Option<Self>> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let Some(mount) = mount else { return Ok(None) };
        let outer = PathBuf::from(mount).join(format!("ebrec-test-{}", std::process::id()));
        std::fs::create_dir_all(outer.join("inner")).context("make cgroups")?;
        Ok(Some(Self { outer }))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A test that failed leaves a shell that is about to end: a cgroup can go when its processes have gone.
        for dir in [self.outer.join("inner"), self.outer.clone()] {
            for _ in 0..100 {
                if std::fs::remove_dir(&dir).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

#[test]
fn a_cgroup_selects_the_processes_in_it_and_below() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(cgroup) = Cgroup::new()? else {
        eprintln!("SKIPPED: cgroup v2 is not mounted");
        return Ok(());
    };
    let child = waiting("tcp --families v4 --refused 0 --settle-ms 60")?;
    let shell = child.id();
    std::fs::write(cgroup.outer.join("inner/cgroup.procs"), shell.to_string()).context("move the shell")?;
    let (truth, capture) = recorded(&["--cgroup", &cgroup.outer.to_string_lossy()], || {
        bystander()?;
        let truth = release(child)?;
        bystander()?;
        Ok(truth)
    })?;
    let pids = processes_of(shell, &truth)?;
    assert_only(&capture, &pids)?;
    assert_eq!(capture.number("SELECT count(DISTINCT pid) FROM process_exit")?, pids.len() as i64);
    let path = capture.row("SELECT cgroup FROM process")?;
    assert!(text(&path["cgroup"])?.ends_with("/inner"), "{path}");
    let bytes = int(&truth["totals"]["tx_bytes"])?;
    assert_eq!(capture.number("SELECT sum(bytes) FROM tcp_send")?, bytes);
    assert_eq!(capture.number("SELECT sum(tx_bytes) FROM tcp_close")?, bytes);
    Ok(())
}

/// Names with backslashes are everyday names: systemd's escapes, programs of Wine. Whoever asks for one types what `ls` and `ps` show, or
/// copies what the capture has.
#[test]
fn names_with_backslashes_are_found_as_they_are_shown() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = TempDir::new("backslash")?;
    let file = dir.path().join("C:\\win\\a.exe");
    std::fs::copy("/bin/true", &file).context("copy a program")?;
    let Some(cgroup) = Cgroup::new()? else {
        eprintln!("SKIPPED: cgroup v2 is not mounted");
        return Ok(());
    };
    let slice = cgroup.outer.join("system-serial\\x2dgetty.slice");
    std::fs::create_dir(&slice).context("make a cgroup")?;
    let mut shell = Command::new("sh").args(["-c", "read go; \"$0\""]).arg(&file).stdin(Stdio::piped()).spawn().context("start a shell")?;
    std::fs::write(slice.join("cgroup.procs"), shell.id().to_string()).context("move the shell")?;
    let ran = recorded(&["--probes", "process"], || {
        drop(shell.stdin.take());
        shell.wait().context("wait for the shell")
    });
    std::fs::remove_dir(&slice).context("remove the cgroup")?;
    let (_, capture) = ran?;
    let below = format!("/{}/system-serial\\x2dgetty.slice", cgroup.outer.file_name().unwrap_or_default().to_string_lossy());
    let ran = analyze(capture.path(), &["--cgroup", &below, "execsnoop"])?.succeeded()?;
    assert_eq!(ran.stdout.lines().filter(|line| line.contains("a.exe")).count(), 1, "{below}: {}", ran.stdout);
    for name in ["C:\\win\\a.exe", "C:\\\\win\\\\a.exe"] {
        for args in [&["--comm", name, "execsnoop"][..], &["execsnoop", "-n", name]] {
            let ran = analyze(capture.path(), args)?.succeeded()?;
            assert_eq!(ran.stdout.lines().filter(|line| line.contains("a.exe")).count(), 1, "{args:?}: {}", ran.stdout);
        }
    }
    Ok(())
}

#[test]
fn one_side_of_connections_can_be_recorded_alone() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) =
        recorded(&["--comm", "wl-server"], || workload(&["tcp", "--families", "v4,mapped", "--refused", "0", "--settle-ms", "60"]))?;
    assert_bytes(&capture, &truth["connections"], "server")
}

#[test]
fn a_command_starts_when_recording_has_begun_and_is_recorded_whole() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("command")?;
    let out = capture.dir().join("truth.json");
    let workload = program(Program::Workload)?;
    let script = format!("{} exec --codes 20 > {}; exit 3", workload.display(), out.display());
    let recorder = Recorder::start(&["-o", &capture.arg(), "--", "sh", "-c", &script])?;
    let strangers = bystander()?;
    let recording = recorder.wait()?;
    // The command's own.
    assert_eq!(recording.ran.status.code(), Some(3), "{}", recording.ran.stderr);
    assert_eq!(capture.sql("SELECT lost FROM loss")?, Vec::<Value>::new());
    let truth: Value = serde_json::from_slice(&std::fs::read(&out).context("read the truth")?).context("truth")?;
    let mut pids = list(&truth["children"])?.iter().map(|child| int(&child["pid"])).collect::<Result<BTreeSet<_>>>()?;
    let main = int(&truth["pid"])?;
    let shell = int(&truth["children"][0]["ppid"])?;
    assert_eq!(shell, main);
    let sh = capture.row("SELECT pid FROM process_exec WHERE ret = 0 AND args[1] = 'sh'")?;
    pids.extend([main, int(&sh["pid"])?]);
    assert_only(&capture, &pids)?;
    assert!(!pids.contains(&int(&strangers["pid"])?));
    let of_truth = |key: &str| int(&truth["totals"][key]);
    // Beyond the children: the shell's own exec and the workload's.
    assert_eq!(capture.number("SELECT count(*) FROM process_exec WHERE ret = 0")?, of_truth("execs_ok")? + 2);
    let failed = format!("SELECT count(*) FROM process_exec WHERE ret < 0 AND pid <> {}", sh["pid"]);
    assert_eq!(capture.number(&failed)?, of_truth("execs_failed")?);
    assert_eq!(capture.number("SELECT count(*) FROM process_fork WHERE NOT is_thread")?, of_truth("forks")? + 1);
    assert_eq!(capture.number("SELECT count(*) FROM process_exit WHERE NOT is_thread")?, of_truth("exits")? + 2);
    let ended = capture.row("SELECT ended_by FROM capture")?;
    assert_eq!(ended["ended_by"], "sh exited with 3", "{}", recording.ran.stderr);
    // All of it in the window.
    let early = capture.number("SELECT count(*) FROM process_exec, capture WHERE process_exec.ts < capture.ts")?;
    assert_eq!(early, 0);
    Ok(())
}

/// What isn't asked for isn't in the answers, either: not as a fraction of what it did.
#[test]
fn a_report_gives_no_time_to_what_the_filters_leave_out() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut stranger = Command::new(program(Program::Workload)?).args(["spin", "20"]).spawn().context("start a loop")?;
    let busy = i64::from(stranger.id());
    let recorded = recorded(&["--probes", "process,sched", "--comm", "wl-switches"], || {
        workload(&["flood", "switches", "--ms", "500", "--rate", "500"])
    });
    stranger.kill().context("end the loop")?;
    stranger.wait().context("end the loop")?;
    let (_, capture) = recorded?;
    let told = ebrec_tests::analyze(capture.path(), &["--output", "json"])?.succeeded()?.stdout;
    let told: Value = serde_json::from_str(&told).context("the overview")?;
    let rows = list(&told["captures"][0]["sections"]["cpu"]["rows"])?;
    assert!(!rows.is_empty() && rows.iter().all(|row| row["pid"] != busy && row["cpu_ns"].is_i64()), "{rows:?}");
    // The switches from and to it are there: they are the others', too.
    assert!(capture.number("SELECT count(*) FROM sched_switch WHERE prev_pid IS NULL OR next_pid IS NULL")? > 100);
    Ok(())
}
