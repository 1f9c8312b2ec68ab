//! Samples of stacks against the truth of `burn` and `nap`, whose functions have known names.

use crate::capture::{Capture, Findings, list};
use ebrec_tests::{Context, Result};
use serde_json::Value;

const SAMPLE: &str = "profile sample";
const OFF_CPU: &str = "profile off_cpu";

/// The functions of the burner and of the sleeper, leaf first.
const BURNERS: [&str; 3] = ["ebrec_burn_leaf", "ebrec_burn_middle", "ebrec_burn_outer"];
const SLEEPERS: [&str; 2] = ["ebrec_nap_leaf", "ebrec_nap_outer"];

fn names(frames: &Value) -> Vec<&str> {
    frames.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Threads that used the CPU, of a program that had removed itself and ended before the window did.
pub fn burn(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let tids: Vec<String> = list(&truth["threads"]).iter().map(|thread| thread["tid"].to_string()).collect();
    let rows = capture.sql(&format!(
        "SELECT k.frames, k.locations, k.process_id = s.process_id AS own
         FROM cpu_sample s LEFT JOIN stack k ON k.stack_id = s.user_stack_id WHERE s.pid = {} AND s.tid IN ({})",
        truth["burner_pid"],
        tids.join(",")
    ))?;
    let expected = truth["cpu_ns"].as_f64().context("no cpu_ns")? / 1e9 * 99.0;
    // As many as the CPU time says, as in tests/profile.rs. But a VM takes time for its own that it didn't have: the ticks of that
    // time are lost. Three of four are more than two busy VMs lose.
    let most = expected + 4.0 * expected.sqrt() + 6.0;
    found.check(SAMPLE, (expected / 4.0..most).contains(&(rows.len() as f64)), || format!("{} samples, not {expected:.0}", rows.len()));
    let named: Vec<&Value> = rows.iter().filter(|row| names(&row["frames"]).starts_with(&BURNERS)).collect();
    // The others are the thread's start and its looks at the clock, which take longer in a VM.
    found.check(SAMPLE, named.len() * 10 >= rows.len() * 8, || {
        format!("{} of {} samples are in {BURNERS:?}: {:?}", named.len(), rows.len(), rows.iter().find(|row| !named.contains(row)))
    });
    let elsewhere = named.iter().find(|row| row["locations"][0]["module"] != truth["path"] || row["own"] != true);
    found.check(SAMPLE, elsewhere.is_none(), || format!("not of {}: {elsewhere:?}", truth["path"]));
    Ok(())
}

/// Each sleep is a sample: how long it was off the CPU, and where it slept.
pub fn nap(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let rows = capture.sql(&format!(
        "SELECT o.duration_ns, o.state, u.frames, k.frames AS kernel FROM off_cpu_sample o
         JOIN stack u ON u.stack_id = o.user_stack_id JOIN stack k ON k.stack_id = o.kernel_stack_id WHERE o.tid = {}",
        truth["tid"]
    ))?;
    let naps: Vec<&Value> = rows.iter().filter(|row| names(&row["frames"]).starts_with(&SLEEPERS)).collect();
    let number = |key: &str| truth[key].as_i64().context(format!("no {key}"));
    let times = number("times")?;
    // A VM that stands still for longer than a nap wakes a task that has not yet gone to sleep.
    found.check(OFF_CPU, (times - 2..=times).contains(&(naps.len() as i64)), || format!("{} naps of {times}: {rows:?}", naps.len()));
    let slept: i64 = naps.iter().filter_map(|nap| nap["duration_ns"].as_i64()).sum();
    let (asked, most) = (number("asked_ns")?, number("slept_ns")?);
    // It is off the CPU a little later than it asks, and on it a little before it knows.
    found.check(OFF_CPU, (asked / 2..=most).contains(&slept), || format!("off the CPU for {slept} ns of {asked} to {most}"));
    for nap in naps {
        found.equal(OFF_CPU, "state", &nap["state"], "S");
        let kernel = names(&nap["kernel"]);
        // Names of the kernel's functions may be hidden.
        let is_nap = kernel.iter().any(|name| name.contains("nanosleep")) || kernel.iter().all(|name| name.starts_with('['));
        found.check(OFF_CPU, is_nap, || format!("it slept in {kernel:?}"));
    }
    Ok(())
}
