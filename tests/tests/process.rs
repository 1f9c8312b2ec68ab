//! Processes and threads in a capture are those that there were: `process_fork`, `process_exec`, `process_exit`, `process`.

use ebrec_format::text::unescape;
use ebrec_tests::{Context, Result, TempDir, int, list, recorded, require_bpf, text, workload};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

const PROCESS: &[&str] = &["--probes", "process"];

/// Text of a capture as the workload tells bytes: in hexadecimal.
fn hex_of_text(value: &Value) -> Result<String> {
    Ok(unescape(text(value)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hex(bytes: &str) -> String {
    bytes.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Those rows of a table whose acting process is `pid`.
fn rows_of<'a>(table: &'a [Value], pid: &Value) -> Vec<&'a Value> {
    table.iter().filter(|row| row["pid"] == *pid).collect()
}

/// The file as a row should name it.
fn filename_of(exec: &Value) -> Result<String> {
    let name = text(&exec["filename"])?.to_owned();
    // A failed call is told as it was made; for one that succeeded, the kernel has made one name of execveat's two arguments.
    match exec["dirfd"].as_i64() {
        Some(fd) if exec["errno"] == 0 && name.is_empty() => Ok(hex(&format!("/dev/fd/{fd}"))),
        Some(fd) if exec["errno"] == 0 => Ok(hex(&format!("/dev/fd/{fd}/")) + &name),
        _ => Ok(name),
    }
}

/// The v2 cgroup of this process: those that it starts are in it as well.
fn own_cgroup() -> Result<(String, u64)> {
    let text = std::fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup v2")?.to_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let dir = format!("{}{path}", mount.context("cgroup v2 is not mounted")?);
    Ok((path, std::fs::metadata(&dir).context(dir)?.ino()))
}

#[test]
fn every_exec_is_recorded_as_it_was_called() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROCESS, || workload(&["exec", "--codes", "3"]))?;
    let (_, cgroup) = own_cgroup()?;
    let (mut succeeded, mut failed) = (0, 0);
    let table = capture.table("process_exec")?;
    for child in list(&truth["children"])? {
        let rows = rows_of(&table, &child["pid"]);
        let execs = list(&child["execs"])?;
        assert_eq!(rows.len(), execs.len(), "{child}\n{rows:?}");
        for (row, exec) in rows.iter().zip(execs) {
            let ok = exec["errno"] == 0;
            *(if ok { &mut succeeded } else { &mut failed }) += 1;
            let case = format!("{}: {row}", child["case"]);
            assert_eq!(int(&row["ret"])?, -int(&exec["errno"])?, "{case}");
            assert_eq!(hex_of_text(&row["filename"])?, filename_of(exec)?, "{case}");
            let args: Vec<String> = list(&row["args"])?.iter().map(hex_of_text).collect::<Result<_>>()?;
            let expected = if ok { &child["image"]["cmdline"] } else { &exec["argv"] };
            assert_eq!(json!(args), *expected, "{case}");
            assert_eq!(row["args_truncated"], false, "{case}");
            let comm = if ok { &child["image"]["comm"] } else { &exec["comm_before"] };
            assert_eq!(row["comm"], *comm, "{case}");
            // A thread that succeeds takes its process over, and with it the leader's tid.
            let tid = if ok { &child["pid"] } else { &exec["tid"] };
            assert_eq!((&row["tid"], &row["ppid"], &row["uid"]), (tid, &child["ppid"], &json!(0)), "{case}");
            assert_eq!(row["cgroup_id"], cgroup, "{case}");
        }
    }
    assert_eq!((succeeded, failed), (int(&truth["totals"]["execs_ok"])?, int(&truth["totals"]["execs_failed"])?));
    Ok(())
}

/// The tracepoint comes when the program's credentials are in place: a setuid program's are its owner's.
#[test]
fn a_setuid_program_was_called_by_its_caller() -> Result<()> {
    const NOBODY: u32 = 65534;
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = TempDir::new("setuid")?;
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).context("open the directory")?;
    let (plain, setuid) = (dir.path().join("plain"), dir.path().join("setuid"));
    for (file, mode) in [(&plain, 0o755), (&setuid, 0o4755)] {
        std::fs::copy("/bin/true", file).context("copy a program")?;
        std::fs::set_permissions(file, Permissions::from_mode(mode)).context("set its mode")?;
    }
    let ((), capture) = recorded(PROCESS, || {
        for file in [&plain, &setuid] {
            Command::new(file).uid(NOBODY).gid(NOBODY).status().context("run it as nobody")?;
            Command::new(file).status().context("run it")?;
        }
        Ok(())
    })?;
    for file in [&plain, &setuid] {
        let rows = capture.sql(&format!("SELECT uid FROM process_exec WHERE filename = '{}' AND ret = 0 ORDER BY ts", file.display()))?;
        assert_eq!(
            rows.iter().map(|row| row["uid"].as_i64()).collect::<Vec<_>>(),
            [Some(i64::from(NOBODY)), Some(0)],
            "{}",
            file.display()
        );
    }
    Ok(())
}

#[test]
fn every_fork_is_recorded_with_its_child() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROCESS, || workload(&["exec", "--codes", "3"]))?;
    let table = capture.table("process_fork")?;
    let forks = rows_of(&table, &truth["pid"]);
    let children = list(&truth["children"])?;
    let forked: Vec<_> = forks.iter().map(|row| &row["child_pid"]).collect();
    assert_eq!(forked, children.iter().map(|child| &child["pid"]).collect::<Vec<_>>());
    let mut threads = 0;
    for (fork, child) in forks.iter().zip(children) {
        assert_eq!((&fork["child_tid"], &fork["is_thread"]), (&child["pid"], &json!(false)));
        assert_eq!((&fork["comm"], &fork["child_comm"]), (&json!("ebrec-workload"), &json!("ebrec-workload")));
        assert_ne!(fork["child_process_id"], fork["process_id"]);
        let of_child = rows_of(&table, &child["pid"]);
        let others = list(&child["tasks"])?.iter().skip(1).map(|task| &task["tid"]);
        let by_thread = list(&child["execs"])?.iter().map(|exec| &exec["tid"]).filter(|tid| **tid != child["pid"]);
        let expected: Vec<&Value> = by_thread.chain(others).collect();
        assert_eq!(of_child.iter().map(|row| &row["child_tid"]).collect::<Vec<_>>(), expected, "{child}");
        for row in &of_child {
            assert_eq!((&row["is_thread"], &row["child_pid"]), (&json!(true), &child["pid"]));
            assert_eq!(row["process_id"], row["child_process_id"]);
        }
        threads += of_child.len() as i64;
    }
    assert_eq!(threads, int(&truth["totals"]["threads"])?);
    Ok(())
}

#[test]
fn every_exit_is_recorded_as_wait_reports_it() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROCESS, || workload(&["exec", "--with-core"]))?;
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let table = capture.table("process_exit")?;
    let mut exits = 0;
    for child in list(&truth["children"])? {
        let ends: Vec<_> = rows_of(&table, &child["pid"]).into_iter().filter(|row| row["is_thread"] == false).collect();
        assert_eq!(ends.len(), 1, "{child}");
        let row = ends[0];
        let case = format!("{}: {row}, not {}", child["case"], child["status"]);
        for part in ["exit_code", "signal", "core_dumped"] {
            assert_eq!(row[part], child["status"][part], "{case}");
        }
        assert_eq!(row["ppid"], child["ppid"], "{case}");
        let ended = int(&row["ts_ns"])? - boot_to_utc;
        let began = ended - int(&row["lifetime_ns"])?;
        let (forked_after, reaped_before) = (int(&child["forked_after_boot_ns"])?, int(&child["reaped_before_boot_ns"])?);
        assert!(forked_after <= began && began < ended && ended <= reaped_before, "{case}");
        exits += 1;
    }
    assert_eq!(exits, int(&truth["totals"]["exits"])?);
    Ok(())
}

#[test]
fn a_leader_that_ends_first_does_not_end_its_process() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROCESS, || workload(&["exec", "--codes", "0", "--plain", "0"]))?;
    let table = capture.table("process_exit")?;
    let mut seen = 0;
    for child in list(&truth["children"])?.iter().filter(|child| text(&child["case"]).is_ok_and(|case| case.starts_with("leader-first"))) {
        let rows = rows_of(&table, &child["pid"]);
        let tids: Vec<_> = rows.iter().map(|row| (&row["tid"], &row["is_thread"])).collect();
        let (leader, last) = (&child["tasks"][0]["tid"], &child["tasks"][1]["tid"]);
        assert_eq!(tids, [(leader, &json!(true)), (last, &json!(false))]);
        assert_eq!(rows[1]["exit_code"], child["status"]["exit_code"]);
        // Of the leader's row, the lifetime is the task's; of the last one's, the process's.
        assert!(int(&rows[1]["lifetime_ns"])? > int(&rows[0]["lifetime_ns"])?);
        seen += 1;
    }
    assert_eq!(seen, 2);
    Ok(())
}

#[test]
fn an_exec_by_a_thread_ends_the_leader_and_keeps_the_process() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROCESS, || workload(&["exec", "--codes", "0", "--plain", "0"]))?;
    let child = list(&truth["children"])?.iter().find(|child| child["case"] == "exec-by-thread").context("no such case")?;
    let table = capture.table("process_exit")?;
    let exits = rows_of(&table, &child["pid"]);
    let ends: Vec<_> = exits.iter().map(|row| &row["is_thread"]).collect();
    assert_eq!(ends, [&json!(true), &json!(false)], "{exits:?}");
    let pid = &child["pid"];
    let identities = capture.number(&format!(
        "SELECT count(DISTINCT id) FROM (
           SELECT child_process_id AS id FROM process_fork WHERE child_pid = {pid}
           UNION ALL SELECT process_id FROM process_fork WHERE pid = {pid}
           UNION ALL SELECT process_id FROM process_exec WHERE pid = {pid}
           UNION ALL SELECT process_id FROM process_exit WHERE pid = {pid})"
    ))?;
    assert_eq!(identities, 1);
    Ok(())
}

#[test]
fn threads_are_recorded_from_creation_to_end() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROCESS, || workload(&["threads", "20"]))?;
    let pid = &truth["pid"];
    let expected: BTreeSet<i64> = list(&truth["threads"])?.iter().map(|thread| int(&thread["tid"])).collect::<Result<_>>()?;
    let forks = capture.sql(&format!("SELECT * FROM process_fork WHERE pid = {pid} AND is_thread"))?;
    assert_eq!(forks.iter().map(|row| int(&row["child_tid"])).collect::<Result<BTreeSet<_>>>()?, expected);
    assert_eq!(forks.len(), expected.len());
    let exits = capture.sql(&format!("SELECT * FROM process_exit WHERE pid = {pid} AND is_thread"))?;
    assert_eq!(exits.iter().map(|row| int(&row["tid"])).collect::<Result<BTreeSet<_>>>()?, expected);
    for thread in list(&truth["threads"])? {
        let row = exits.iter().find(|row| row["tid"] == thread["tid"]).context("no exit")?;
        assert_eq!((&row["comm"], &row["exit_code"]), (&thread["comm"], &json!(0)));
    }
    let end = capture.row(&format!("SELECT * FROM process_exit WHERE pid = {pid} AND NOT is_thread"))?;
    assert_eq!((&end["tid"], &end["exit_code"]), (pid, &json!(0)));
    let identities = forks.iter().chain(&exits).map(|row| int(&row["process_id"])).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(identities, BTreeSet::from([int(&end["process_id"])?]));
    Ok(())
}

#[test]
fn processes_with_the_same_pid_are_told_apart_in_every_table() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&[], || workload(&["pid-reuse", "--times", "3"]))?;
    let pid = &truth["reused_pid"];
    let exits = capture.sql(&format!(
        "SELECT *, CAST(ts AS BIGINT) AS ts_ns FROM process_exit WHERE pid = {pid} AND exit_code IN (11, 22, 33) ORDER BY ts"
    ))?;
    let instances = list(&truth["instances"])?;
    assert_eq!(exits.len(), instances.len());
    let identities = exits.iter().map(|row| int(&row["process_id"])).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(identities.len(), instances.len());
    for (exit, instance) in exits.iter().zip(instances) {
        let id = &exit["process_id"];
        assert_eq!((&exit["comm"], &exit["exit_code"]), (&instance["comm"], &instance["exit_code"]));
        let count = |query: &str| capture.number(&query.replace("ID", &id.to_string()));
        assert_eq!(count("SELECT count(*) FROM process_fork WHERE child_process_id = ID")?, 1);
        assert_eq!(count("SELECT sum(bytes) FROM tcp_send WHERE process_id = ID")?, int(&instance["client"]["tx_bytes"])?);
        assert_eq!(count("SELECT sum(tx_bytes) FROM tcp_close WHERE process_id = ID")?, int(&instance["client"]["tx_bytes"])?);
        for table in ["tcp_connection", "tcp_connect", "tcp_close"] {
            assert_eq!(count(&format!("SELECT count(*) FROM {table} WHERE process_id = ID"))?, 1, "{table}");
            let comm = capture.row(&format!("SELECT comm FROM {table} WHERE process_id = {id}"))?;
            assert_eq!(comm["comm"], instance["comm"], "{table}");
        }
        // It was switched (in or out), and nobody else of this pid while it lived.
        let from = int(&exit["ts_ns"])? - int(&exit["lifetime_ns"])?;
        let switches = |of: &str| {
            count(&format!("SELECT count(*) FROM sched_switch WHERE {of} AND CAST(ts AS BIGINT) BETWEEN {from} AND {}", exit["ts_ns"]))
        };
        assert!(switches(&format!("next_pid = {pid} AND next_process_id = ID"))? > 0);
        for other in ["next", "prev"] {
            assert_eq!(switches(&format!("{other}_pid = {pid} AND {other}_process_id <> ID"))?, 0);
        }
    }
    Ok(())
}

#[test]
fn processes_from_before_the_window_are_known_with_their_threads() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().context("start sleep")?;
    let tasks = || -> Result<BTreeSet<i64>> {
        let entries = std::fs::read_dir("/proc/self/task").context("read /proc/self/task")?;
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    };
    let before = tasks()?;
    let (after, capture) = recorded(PROCESS, || {
        sleeper.kill().context("kill sleep")?;
        sleeper.wait().context("wait for sleep")?;
        tasks()
    })?;
    let me = std::process::id();
    let row = capture.row(&format!("SELECT * FROM process WHERE pid = {}", sleeper.id()))?;
    assert_eq!((&row["tid"], &row["ppid"]), (&json!(sleeper.id()), &json!(me)));
    assert_eq!((&row["args"], &row["comm"]), (&json!(["sleep", "1000"]), &json!("sleep")));
    assert_eq!((&row["is_thread"], &row["is_kernel"], &row["uid"]), (&json!(false), &json!(false), &json!(0)));
    let (path, id) = own_cgroup()?;
    assert_eq!((&row["cgroup"], &row["cgroup_id"]), (&json!(path), &json!(id)));
    // Seen in the window, it is the same process, and its life began before.
    let exit = capture.row(&format!("SELECT * FROM process_exit WHERE pid = {}", sleeper.id()))?;
    assert_eq!((&exit["process_id"], &exit["signal"]), (&row["process_id"], &json!(libc::SIGKILL)));
    let lifetime = capture.number(&format!(
        "SELECT CAST(e.ts AS BIGINT) - CAST(p.started_ts AS BIGINT) - e.lifetime_ns FROM process_exit e JOIN process p USING (process_id)
         WHERE e.pid = {}",
        sleeper.id()
    ))?;
    assert_eq!(lifetime, 0);
    // Threads: those that were there all along are in it.
    let rows = capture.sql(&format!("SELECT tid, is_thread FROM process WHERE pid = {me}"))?;
    let tids = rows.iter().map(|row| int(&row["tid"])).collect::<Result<BTreeSet<_>>>()?;
    assert!(tids.is_superset(&before.intersection(&after).copied().collect()), "{tids:?} {before:?}");
    assert!(rows.iter().all(|row| row["is_thread"] == (row["tid"] != me)));
    let kernel = capture.number("SELECT count(*) FROM process WHERE is_kernel AND args IS NULL AND comm = 'kthreadd' AND pid = 2")?;
    assert_eq!(kernel, 1);
    Ok(())
}
