//! runqlat and cpudist beside the table `sched_switch`.

use crate::tool::{Histogram, Tool, assert_alike, histograms};
use ebrec_tests::{Capture, Result, int, list, recorded, require_bpf, workload};

/// The histogram, in powers of two of a microsecond, of one column of the switches to a process.
fn captured(capture: &Capture, pid: i64, column: &str) -> Result<Histogram> {
    let rows = capture.sql(&format!(
        "SELECT CAST(CASE WHEN {column} < 2000 THEN 0 ELSE power(2, floor(log2({column} / 1000))) END AS BIGINT) AS low, count(*) AS n
         FROM sched_switch WHERE next_pid = {pid} AND {column} IS NOT NULL GROUP BY 1"
    ))?;
    rows.iter().map(|row| Ok((int(&row["low"])?, int(&row["n"])?))).collect()
}

#[test]
fn runqlat_and_cpudist_agree() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Of one pair of processes: each is known by its pid. So all processes, one histogram each.
    let Some(runqlat) = Tool::start_summary("runqlat", &["-P"])? else { return Ok(()) };
    let Some(cpudist) = Tool::start_summary("cpudist", &["-O", "-P"])? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "sched"], || workload(&["pingpong", "30000"]))?;
    for (tool, column) in [(runqlat, "next_waited_ns"), (cpudist, "next_off_cpu_ns")] {
        let printed = histograms(&tool.stop()?)?;
        for player in list(&truth["processes"])? {
            let pid = int(&player["pid"])?;
            // The heading is the pid and the name.
            let live = printed.iter().find(|(name, _)| name.split_whitespace().next() == Some(&pid.to_string()));
            let live = live.map(|(_, histogram)| histogram.clone()).unwrap_or_default();
            let captured = captured(&capture, pid, column)?;
            let total = |histogram: &Histogram| histogram.values().sum::<i64>();
            assert!(total(&live) > 0, "no histogram of {pid}: {printed:?}");
            // The same waits. Only a fork's last moments may be outside of one of the two windows.
            assert!((total(&live) - total(&captured)).abs() <= 3, "{column} {live:?} {captured:?}");
            assert_alike(&live, &captured, 4, 3, column);
        }
    }
    Ok(())
}
