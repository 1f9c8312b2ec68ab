//! opensnoop beside the table `file_open`.

use crate::tool::{Tool, number};
use ebrec_tests::{Context, Result, int, recorded, require_bpf, workload};
use std::collections::BTreeMap;
use std::process::Command;

/// uid, descriptor or -1, errno, the path's beginning
type Open = (i64, i64, i64, String);

/// What a line can show of a path: the tool keeps 254 bytes, and a newline ends its line.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).lines().next().unwrap_or_default().trim_end().to_owned()
}

fn count(opens: impl IntoIterator<Item = Open>) -> BTreeMap<Open, i64> {
    let mut counts = BTreeMap::new();
    for open in opens {
        *counts.entry(open).or_default() += 1;
    }
    counts
}

#[test]
fn opensnoop_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Two of it: all opens with the user, and failed ones alone.
    let Some(tool) = Tool::start("opensnoop", &["-U"])? else { return Ok(()) };
    let Some(failed) = Tool::start("opensnoop", &["-U", "-x"])? else { return Ok(()) };
    let open_nothing =
        || Command::new("/bin/cat").arg("/are-you-there").stderr(std::process::Stdio::null()).status().map(|_| ()).context("run cat");
    tool.wait_until_it_traces("/are-you-there", open_nothing)?;
    failed.wait_until_it_traces("/are-you-there", open_nothing)?;
    let (truth, capture) = recorded(&["--probes", "open"], || workload(&["files", "/dev/shm"]))?;
    let pid = truth["pid"].to_string();
    let seen = |printed: &[String]| {
        // UID PID COMM FD ERR PATH, where the path may be empty or have spaces.
        let mine = printed.iter().filter_map(|line| {
            let (ids, mut rest) = line.split_once(" wl-files ")?;
            let [uid, of] = ids.split_whitespace().collect::<Vec<_>>()[..] else { return None };
            let mut next = || {
                let (word, behind) = rest.trim_start().split_once(' ').unwrap_or((rest.trim_start(), ""));
                rest = behind;
                number(word).ok()
            };
            let (fd, errno) = (next()?, next()?);
            (of == pid).then_some((number(uid).ok()?, fd, errno, shown(rest.as_bytes())))
        });
        count(mine)
    };
    let (all, failed) = (seen(&tool.stop()?), seen(&failed.stop()?));
    let rows = capture.sql(&format!("SELECT uid, fd, errno, path FROM file_open WHERE pid = {pid} AND comm = 'wl-files'"))?;
    let mut captured = Vec::new();
    for row in &rows {
        let path = row["path"].as_str().map(ebrec_format::text::unescape).unwrap_or_default();
        captured.push((int(&row["uid"])?, row["fd"].as_i64().unwrap_or(-1), int(&row["errno"])?, shown(&path)));
    }
    // It shows the real user, where the table has the effective one: one open was made without root's rights.
    assert!(captured.iter_mut().filter(|open| open.2 == i64::from(libc::EACCES)).all(|open| std::mem::replace(&mut open.0, 0) == 65534));
    let failures = count(captured.iter().filter(|open| open.2 != 0).cloned());
    let captured = count(captured);
    assert_eq!(failed, failures);
    // What it says is all there, and as often.
    for (open, live) in &all {
        assert!(captured.get(open) >= Some(live), "{open:?} {live} {captured:#?}");
    }
    // creat() it doesn't trace, and openat2() in later versions only: the workload makes one and three of these.
    let unseen: BTreeMap<&Open, i64> =
        captured.iter().map(|(open, n)| (open, n - all.get(open).unwrap_or(&0))).filter(|(_, n)| *n > 0).collect();
    let is_known = |open: &Open| ["made", "/plain", "plain"].contains(&open.3.as_str()) || open.3.ends_with("/plain");
    assert!(unseen.values().sum::<i64>() <= 4 && unseen.keys().all(|open| is_known(open)), "{unseen:?}");
    assert!(all.values().sum::<i64>() > 60 && failed.values().sum::<i64>() >= 10, "{all:#?} {failed:#?}");
    Ok(())
}
