//! softirqs and hardirqs beside the tables `softirq` and `hardirq`.

use crate::tool::{Histogram, Tool, above, histograms};
use ebrec_tests::{Capture, Result, int, recorded, require_bpf, text, workload};
use std::collections::BTreeMap;

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
/// what it interrupts: two in a hundred are left to that.
fn agrees(tool: &str, table: &str, name: &str) -> Result<i64> {
    let Some(around) = Tool::start_summary(tool, &["-d", "-N"])? else { return Ok(i64::MAX) };
    let (within, capture) = recorded(&["--probes", "irq"], || {
        let Some(within) = Tool::start_summary(tool, &["-d", "-N"])? else { return Ok(Vec::new()) };
        workload(&["interrupts", "1"])?;
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
    Ok(compared)
}

#[test]
fn softirqs_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Each packet over loopback is one.
    let compared = agrees("softirqs", "softirq", "vector")?;
    assert!(compared > 1000, "{compared}");
    Ok(())
}

#[test]
fn hardirqs_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // A device may have nothing to say in a second; timers are not among them.
    agrees("hardirqs", "hardirq", "name").map(|_| ())
}
