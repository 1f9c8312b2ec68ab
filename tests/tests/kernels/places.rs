//! A CPU that comes online while it records, and a clock that is set.

use crate::capture::{Capture, Findings};
use ebrec_tests::{Context, Result};
use serde_json::Value;

const SAMPLE: &str = "profile sample";
const SWITCH: &str = "sched switch";

/// The truth of a program that kept CPU 1 busy, which had been offline.
pub fn cpu(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let pid = &truth["pid"];
    let of_cpu = |table: &str, column: &str| capture.number(&format!("SELECT count(*) FROM {table} WHERE {column} = {pid} AND cpu = 1"));
    let expected = truth["elapsed_ns"].as_f64().context("no elapsed_ns")? / 1e9 * 99.0;
    let samples = of_cpu("cpu_sample", "pid")? as f64;
    // As for `burn`: a VM loses ticks of the time that it didn't have.
    found
        .check(SAMPLE, samples >= (expected / 4.0).max(1.0), || format!("{samples} samples on the CPU that came online, of {expected:.0}"));
    found.check(SWITCH, of_cpu("sched_switch", "next_pid")? > 0, || "no switch on the CPU that came online".to_owned());
    Ok(())
}

/// The clock was set a day ahead and two days back, but time went on in the capture.
pub fn clock(capture: &Capture, found: &mut Findings) -> Result<()> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let steps = capture.number("SELECT max(real_ns - boot_ns) - min(real_ns - boot_ns) FROM clock")?;
    found.check(SWITCH, (steps - 2 * DAY_NS).abs() < DAY_NS / 100, || format!("the table clock shows {steps} ns between its extremes"));
    let places = capture.number("SELECT count(DISTINCT CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    found.equal(SWITCH, "places of the capture's clock", places, 1);
    for table in ["sched_switch", "process_exec", "cpu_sample", "system_sample"] {
        // A row that followed the clock would be a day away.
        let far = capture.number(&format!(
            "SELECT count(*) FROM {table} t, capture c WHERE CAST(t.ts AS BIGINT) < CAST(c.ts AS BIGINT) - 10000000000
             OR CAST(t.ts AS BIGINT) > CAST(c.end_ts AS BIGINT) + 10000000000"
        ))?;
        found.equal(SWITCH, format!("rows of {table} far outside of the window"), far, 0);
    }
    let seconds = capture.number("SELECT (CAST(end_ts AS BIGINT) - CAST(ts AS BIGINT)) / 1000000000 FROM capture")?;
    found.check(SWITCH, (5..600).contains(&seconds), || format!("a window of {seconds} s"));
    Ok(())
}
