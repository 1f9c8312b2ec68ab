//! execsnoop and exitsnoop beside the tables `process_exec` and `process_exit`.

use crate::tool::Tool;
use ebrec_tests::{Context, Result, int, list, recorded, require_bpf, text, workload};
use std::collections::BTreeSet;
use std::process::Command;

fn run_true() -> Result<()> {
    Command::new("/bin/true").arg("are-you-there").status().context("run true")?;
    Ok(())
}

#[test]
fn execsnoop_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // -x: failed ones too.
    let Some(tool) = Tool::start("execsnoop", &["-x"])? else { return Ok(()) };
    tool.wait_until_it_traces("are-you-there", run_true)?;
    let (truth, capture) = recorded(&["--probes", "process"], || workload(&["exec", "--codes", "10"]))?;
    let printed = tool.stop()?;
    let parent = truth["pid"].to_string();
    // PCOMM PID PPID RET ARGS; the name may hold spaces, so take the numbers as they come, from the case's pid on.
    let seen = |pid: i64, ret: i64| {
        let of_it = |line: &&String| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (pid, ret) = (pid.to_string(), ret.to_string());
            words.windows(3).any(|three| three[0] == pid && three[1] == parent && three[2] == ret)
        };
        printed.iter().filter(of_it).count()
    };
    let (mut agreed, mut unseen) = (0, BTreeSet::new());
    for child in list(&truth["children"])? {
        let pid = int(&child["pid"])?;
        let rows = capture.sql(&format!("SELECT ret, count(*) AS n FROM process_exec WHERE pid = {pid} GROUP BY ret"))?;
        for row in rows {
            let live = seen(pid, int(&row["ret"])?) as i64;
            if live == int(&row["n"])? {
                agreed += live;
            } else {
                unseen.insert(text(&child["case"])?.to_owned());
            }
        }
    }
    // It traces the system call execve, and finds its end by the thread that began it: so neither execveat, nor an exec
    // by a thread that is not the leader (it ends with the leader's tid). An argument with a newline takes two lines.
    let expected = ["execveat-dir", "execveat-file", "exec-by-thread"].map(str::to_owned);
    assert_eq!(unseen, BTreeSet::from(expected), "{printed:#?}");
    let all = int(&truth["totals"]["execs_ok"])? + int(&truth["totals"]["execs_failed"])?;
    assert_eq!(agreed, all - 3);
    Ok(())
}

#[test]
fn exitsnoop_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("exitsnoop", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("true", run_true)?;
    let (truth, capture) = recorded(&["--probes", "process"], || workload(&["exec", "--codes", "20"]))?;
    let printed = tool.stop()?;
    let mut differ = BTreeSet::new();
    let mut agreed = 0;
    for child in list(&truth["children"])? {
        let pid = int(&child["pid"])?;
        let row = capture.row(&format!("SELECT exit_code, signal, core_dumped FROM process_exit WHERE pid = {pid} AND NOT is_thread"))?;
        // PCOMM PID PPID TID AGE(s) EXIT_CODE, where the code is one of: 0, `code N`, `signal N (NAME)`, with `, core dumped`.
        let end = match (row["exit_code"].as_i64(), row["signal"].as_i64()) {
            (Some(0), None) => " 0".to_owned(),
            (Some(code), None) => format!(" code {code}"),
            (None, Some(signal)) => format!(" signal {signal}"),
            other => return ebrec_tests::fail(format!("{other:?}")),
        };
        let ids = format!(" {pid} {} {pid} ", truth["pid"]);
        let squeezed = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = printed.iter().map(squeezed).rfind(|line| line.contains(&ids));
        let line = line.unwrap_or_default();
        let live = line.split_once(&ids).map(|(_, rest)| rest.split_once(' ').map_or("", |(_, code)| code).to_owned()).unwrap_or_default();
        if format!(" {live}").starts_with(&end) && (end != " 0" || live == "0") {
            agreed += 1;
        } else {
            differ.insert((text(&child["case"])?.to_owned(), end, live));
        }
    }
    // It shows what each thread said itself, where wait() reports the process's end: the leader's own 3, or 0 after an exec
    // by another thread, and the line of the last thread has another tid.
    let cases: BTreeSet<&str> = differ.iter().map(|(case, ..)| case.as_str()).collect();
    assert!(cases.is_subset(&BTreeSet::from(["leader-first-exit", "leader-first-exit-group", "exec-by-thread"])), "{differ:#?}");
    assert!(agreed >= list(&truth["children"])?.len() - 3);
    Ok(())
}
