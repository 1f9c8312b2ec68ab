//! sigsnoop and killsnoop beside the table `signal`.

use crate::tool::{Tool, number};
use ebrec_tests::{Context, Result, int, list, recorded, require_bpf, workload};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// sender, signal, target
type Sent = (i64, i64, i64);

fn count(sent: impl IntoIterator<Item = Sent>) -> BTreeMap<Sent, i64> {
    let mut counts = BTreeMap::new();
    for one in sent {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

/// TIME PID COMM SIG TPID RESULT, of signals that were sent from one of `pids` to one of them. A name may have spaces.
fn seen(printed: &[String], pids: &BTreeSet<i64>) -> BTreeMap<Sent, i64> {
    count(printed.iter().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, pid, _, .., signal, target, "0"] => {
            let sent = (number(pid).ok()?, number(signal).ok()?, number(target).ok()?);
            // Signal 0 asks whether there is such a process, and sends nothing.
            (sent.1 != 0 && pids.contains(&sent.0) && pids.contains(&sent.2)).then_some(sent)
        }
        _ => None,
    }))
}

#[test]
fn sigsnoop_and_killsnoop_agree() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(sigsnoop) = Tool::start("sigsnoop", &[])? else { return Ok(()) };
    let Some(killsnoop) = Tool::start("killsnoop", &[])? else { return Ok(()) };
    for tool in [&sigsnoop, &killsnoop] {
        tool.wait_until_it_traces(&format!(" {} ", std::process::id()), || {
            let mut asleep = Command::new("/bin/sleep").arg("60").spawn().context("run sleep")?;
            asleep.kill().and_then(|()| asleep.wait()).map(|_| ()).context("kill sleep")
        })?;
    }
    let (truth, capture) = recorded(&["--probes", "signal"], || workload(&["signals", "20"]))?;
    let mut pids = BTreeSet::new();
    for sent in list(&truth["sent"])? {
        pids.extend([int(&sent["sender"])?, int(&sent["target"])?]);
    }
    let own = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let captured = |condition: &str| {
        let rows = capture
            .sql(&format!("SELECT pid, signal, target_tid FROM signal WHERE pid IN ({own}) AND target_pid IN ({own}) {condition}"))?;
        let sent: Result<Vec<Sent>> =
            rows.iter().map(|row| Ok((int(&row["pid"])?, int(&row["signal"])?, int(&row["target_tid"])?))).collect();
        sent.map(count)
    };
    let all = captured("")?;
    assert_eq!(seen(&sigsnoop.stop()?, &pids), all);
    // It traces the system calls kill, tkill and tgkill: not sigqueue, and not what the kernel sends.
    assert_eq!(seen(&killsnoop.stop()?, &pids), captured("AND code IN ('SI_USER', 'SI_TKILL')")?);
    assert!(all.values().sum::<i64>() > 60, "{all:?}");
    Ok(())
}
