//! The process and sched tables against the truth of `exec`, `threads`, `pid-reuse` and `pingpong`.

use crate::capture::{Capture, Findings, list, sum};
use ebrec_format::text::unescape;
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FORK: &str = "process fork";
const EXEC: &str = "process exec";
const EXEC_FAILED: &str = "process exec_failed";
const EXIT: &str = "process exit";
const SWITCH: &str = "sched switch";

/// A text of the capture as the workload tells bytes: hexadecimal.
fn hex(value: &Value) -> Value {
    let Some(text) = value.as_str() else { return value.clone() };
    unescape(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

fn hex_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The file of a successful exec: the kernel makes one name of execveat's two arguments.
fn filename_of(exec: &Value) -> Value {
    let name = exec["filename"].as_str().unwrap_or_default();
    match exec["dirfd"].as_i64() {
        Some(fd) if exec["errno"] == 0 && name.is_empty() => hex_of(&format!("/dev/fd/{fd}")).into(),
        Some(fd) if exec["errno"] == 0 => format!("{}{name}", hex_of(&format!("/dev/fd/{fd}/"))).into(),
        _ => name.into(),
    }
}

/// Children, one by one: their birth, what they executed or tried to, their end.
pub fn exec(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let has_sched = capture.rows("probe", "hook", &json!("wakeup_new"))?.iter().any(|row| !row["mechanism"].is_null());
    let mut totals = (0, 0);
    for child in list(&truth["children"]) {
        let (case, pid) = (child["case"].as_str().unwrap_or_default(), &child["pid"]);
        let forks = capture.rows("process_fork", "child_pid", pid)?;
        let births: Vec<&Value> = forks.iter().filter(|row| row["is_thread"] == false).collect();
        found.equal(FORK, format!("{case}: forks"), births.len(), 1);
        found.check(FORK, births.iter().all(|row| row["pid"] == child["ppid"] && row["child_tid"] == *pid), || {
            format!("{case}: {births:?}")
        });
        let threads = forks.len() - births.len();

        let rows = capture.rows("process_exec", "pid", pid)?;
        let execs = list(&child["execs"]);
        let failures = execs.iter().filter(|exec| exec["errno"] != 0).count();
        let failed_rows = rows.iter().filter(|row| row["ret"] != 0).count();
        found.equal(EXEC_FAILED, format!("{case}: failed execs"), failed_rows, failures);
        found.equal(EXEC, format!("{case}: execs"), rows.len() - failed_rows, execs.len() - failures);
        for (row, exec) in rows.iter().zip(execs) {
            let ok = exec["errno"] == 0;
            let hook = if ok { EXEC } else { EXEC_FAILED };
            *(if ok { &mut totals.0 } else { &mut totals.1 }) += 1;
            found.equal(hook, format!("{case}: ret"), row["ret"].as_i64(), exec["errno"].as_i64().map(|errno| -errno));
            found.equal(hook, format!("{case}: filename"), hex(&row["filename"]), filename_of(exec));
            let args: Vec<Value> = list(&row["args"]).iter().map(hex).collect();
            let expected = if ok { &child["image"]["cmdline"] } else { &exec["argv"] };
            found.equal(hook, format!("{case}: arguments"), &json!(args), expected);
            found.equal(hook, format!("{case}: comm"), &row["comm"], if ok { &child["image"]["comm"] } else { &exec["comm_before"] });
            // A thread that succeeds takes its process over, and with it the leader's tid.
            found.equal(hook, format!("{case}: tid"), &row["tid"], if ok { pid } else { &exec["tid"] });
            found.equal(hook, format!("{case}: ppid"), &row["ppid"], &child["ppid"]);
        }

        let exits = capture.rows("process_exit", "pid", pid)?;
        found.equal(EXIT, format!("{case}: tasks that ended"), exits.len(), 1 + threads);
        let ends: Vec<&Value> = exits.iter().filter(|row| row["is_thread"] == false).collect();
        found.equal(EXIT, format!("{case}: processes that ended"), ends.len(), 1);
        for end in ends {
            for part in ["exit_code", "signal", "core_dumped"] {
                found.equal(EXIT, format!("{case}: {part}"), &end[part], &child["status"][part]);
            }
        }
        let ids = forks.iter().map(|row| &row["child_process_id"]).chain(rows.iter().chain(&exits).map(|row| &row["process_id"]));
        found.equal(FORK, format!("{case}: identities"), ids.map(Value::to_string).collect::<BTreeSet<_>>().len(), 1);
        if has_sched {
            let woken = capture.rows("sched_wakeup", "wakee_tid", pid)?;
            let first: Vec<_> = woken.iter().filter(|row| row["is_new"] == true).map(|row| &row["pid"]).collect();
            found.equal("sched wakeup_new", format!("{case}: first wake-ups"), first, [&child["ppid"]]);
        }
    }
    found.equal(EXEC, "execs in all", Some(totals.0), truth["totals"]["execs_ok"].as_u64());
    found.equal(EXEC_FAILED, "failed execs in all", Some(totals.1), truth["totals"]["execs_failed"].as_u64());
    Ok(())
}

pub fn threads(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let pid = &truth["pid"];
    let forks = capture.rows("process_fork", "pid", pid)?;
    let exits = capture.rows("process_exit", "pid", pid)?;
    found.equal(FORK, "threads", forks.iter().filter(|row| row["is_thread"] == true).count(), list(&truth["threads"]).len());
    for thread in list(&truth["threads"]) {
        found.equal(FORK, "forks of a thread", forks.iter().filter(|row| row["child_tid"] == thread["tid"]).count(), 1);
        let ends: Vec<_> = exits.iter().filter(|row| row["tid"] == thread["tid"]).map(|row| (&row["comm"], &row["is_thread"])).collect();
        found.equal(EXIT, "end of a thread", ends, [(&thread["comm"], &json!(true))]);
    }
    found.equal(EXIT, "ends of the process", exits.iter().filter(|row| row["is_thread"] == false).count(), 1);
    Ok(())
}

/// Processes with the same pid: each has an identity of its own, by which its exit and its bytes are found.
pub fn reuse(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let exits = capture.rows("process_exit", "pid", &truth["reused_pid"])?;
    let instances = list(&truth["instances"]);
    found.equal(EXIT, "processes of one pid", exits.len(), instances.len());
    let ids: BTreeSet<_> = exits.iter().map(|row| row["process_id"].as_i64()).collect();
    found.equal(EXIT, "identities of one pid", ids.len(), instances.len());
    for (exit, instance) in exits.iter().zip(instances) {
        found.equal(EXIT, "exit code and name", (&exit["exit_code"], &exit["comm"]), (&instance["exit_code"], &instance["comm"]));
        let sent = capture.rows("tcp_send", "process_id", &exit["process_id"])?;
        found.equal("tcp send", "bytes of one identity", Some(sum(&sent, "bytes")), instance["client"]["tx_bytes"].as_u64());
    }
    Ok(())
}

/// Switches between two marks.
pub fn pingpong(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let boot_to_utc = capture.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    for player in list(&truth["processes"]) {
        let mark = |which: &str| player[which]["boot_ns"].as_i64().map(|ns| ns + boot_to_utc).context(format!("no mark {which}"));
        let within = format!("CAST(ts AS BIGINT) BETWEEN {} AND {}", mark("start")?, mark("end")?);
        let (name, tid) = (player["comm"].as_str().unwrap_or_default(), &player["tid"]);
        let left = |state: &str| {
            capture.number(&format!("SELECT count(*) FROM sched_switch WHERE prev_tid = {tid} AND {within} AND prev_state {state}"))
        };
        let (voluntary, involuntary) = (player["voluntary"].as_i64(), player["involuntary"].as_i64());
        found.equal(SWITCH, format!("{name}: voluntary switches"), Some(left("<> 'R'")?), voluntary);
        found.equal(SWITCH, format!("{name}: involuntary switches"), Some(left("= 'R'")?), involuntary);
        let unknown = format!(
            "SELECT count(*) FROM sched_switch WHERE next_tid = {tid} AND {within}
             AND (next_waited_ns IS NULL OR next_waited_ns < 0 OR next_waited_ns > next_off_cpu_ns)"
        );
        found.equal("sched runnable", format!("{name}: impossible waits"), capture.number(&unknown)?, 0);
        let woken = capture.number(&format!("SELECT count(*) FROM sched_wakeup WHERE wakee_tid = {tid} AND {within}"))?;
        let (least, most) = (voluntary.unwrap_or(0), voluntary.unwrap_or(0) + involuntary.unwrap_or(0));
        // One wake-up ends each wait; one that comes before the task has left its CPU ends none.
        found.check("sched wakeup", (least..=most).contains(&woken), || format!("{name}: {woken} wake-ups for {least} waits"));
    }
    Ok(())
}
