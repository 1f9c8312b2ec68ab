//! softirqs and hardirqs beside the tables `softirq` and `hardirq`.

use crate::tool::{Histogram, Tool, above, histograms};
use ebrec_tests::{Capture, Context, Result, int, recorded, require_bpf, target_dir, text, workload};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Histograms in powers of two of a nanosecond, up to the largest that the tools distinguish.
fn captured(capture: &Capture, table: &str, name: &str) -> Result<BTreeMap<String, Histogram>> {
    let rows = capture.sql(&format!("SELECT {name} AS name, at_least_ns, CAST(sum(count) AS BIGINT) AS n FROM {table} GROUP BY 1, 2"))?;
    let mut all = BTreeMap::<String, Histogram>::new();
    for row in rows {
        *all.entry(text(&row["name"])?.to_owned()).or_default().entry(int(&row["at_least_ns"])?).or_default() += int(&row["n"])?;
    }
    Ok(all)
}

/// Nobody can count interrupts in exactly a recording's window from outside; but one of the tools runs within it and another one
/// around it, so the capture's counts are between theirs: in all exactly, and above an edge up to the neighbouring bucket, because
/// each program's own time is in the others' intervals. So is that of an interrupt which comes between two programs, and may be longer than
/// what it interrupts: two in a hundred are left to that. Returns how many were compared.
fn compared(tool: &str, table: &str, name: &str, activity: impl Fn() -> Result<()>) -> Result<Option<i64>> {
    let Some(around) = Tool::start_summary(tool, &["-d", "-N"])? else { return Ok(None) };
    let (within, capture) = recorded(&["--probes", "irq"], || {
        let Some(within) = Tool::start_summary(tool, &["-d", "-N"])? else { return Ok(Vec::new()) };
        activity()?;
        within.stop()
    })?;
    let (around, within) = (histograms(&around.stop()?)?, histograms(&within)?);
    let captured = captured(&capture, table, name)?;
    let none = Histogram::new();
    let mut compared = 0;
    for key in around.keys().chain(captured.keys()) {
        let [around, within, captured] = [&around, &within, &captured].map(|of| of.get(key).unwrap_or(&none));
        let what = format!("{table} {key}:\nwithin {within:?}\ncaptured {captured:?}\naround {around:?}");
        assert!(above(within, 0) <= above(captured, 0) && above(captured, 0) <= above(around, 0), "{what}");
        for edge in (12..18).map(|power| 1_i64 << power) {
            let outliers = 3 + above(around, 0) / 50;
            assert!(above(within, edge) <= above(captured, edge / 2) + outliers, "{edge} {what}");
            assert!(above(captured, edge) <= above(around, edge / 2) + outliers, "{edge} {what}");
        }
        compared += above(within, 0);
    }
    Ok(Some(compared))
}

#[test]
fn softirqs_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Each packet over loopback is one.
    let compared = compared("softirqs", "softirq", "vector", || workload(&["interrupts", "1"]).map(|_| ()))?;
    assert!(compared.is_none_or(|n| n > 1000), "{compared:?}");
    Ok(())
}

#[test]
fn hardirqs_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = target_dir();
    std::fs::create_dir_all(&dir).context(dir.display())?;
    let path = dir.join(format!("hardirqs-{}", std::process::id()));
    // Each of these writes waits for the disk, which tells by an interrupt that it is done.
    let write = || {
        let file = File::options().write(true).create(true).truncate(true).custom_flags(libc::O_DSYNC).open(&path);
        let file = file.context(path.display())?;
        (0..300).try_for_each(|_| file.write_all_at(&[0; 4096], 0)).context(path.display())
    };
    let compared = compared("hardirqs", "hardirq", "name", write);
    let _ = std::fs::remove_file(&path);
    if compared?.is_some_and(|n| n < 300) {
        // Hyper-V's, for one, come without a handler of their own; and a file system in memory has no disk.
        let _ = writeln!(std::io::stderr(), "SKIPPED: hardirqs: no disk here interrupts with a handler");
    }
    Ok(())
}
