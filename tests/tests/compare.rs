//! `ebrec compare` on recordings of a program whose behaviour is known to have changed.

use ebrec_tests::{Capture, Context, Program, Result, list, recorded, require_bpf, run, text, workload};
use serde_json::Value;

/// A recording of a program that sleeps 120 times for so many milliseconds.
fn naps(ms: &str) -> Result<Capture> {
    let (_, capture) = recorded(&["--probes", "process,sched"], || workload(&["nap", "120", "--ms", ms]))?;
    Ok(capture)
}

fn compared(args: &[&str]) -> Result<(Option<i32>, Value)> {
    let ran = run(Program::Analyze, ["compare", "--output", "json"].iter().chain(args))?;
    Ok((ran.status.code(), serde_json::from_str(&ran.stdout).context(format!("JSON: {}", ran.stderr))?))
}

/// The row of the program's time off the CPU.
fn median(json: &Value) -> Result<&Value> {
    let is = |row: &&Value| row["metric"] == "offcpu" && row["statistic"] == "p50" && row["group"]["comm"] == "ebrec-workload";
    list(&json["rows"])?.iter().find(is).context("no row of the program")
}

#[test]
fn what_changed_between_recordings_is_found_with_its_size() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (base, same, slow) = (naps("8")?, naps("8")?, naps("40")?);
    let (code, json) = compared(&[&base.arg(), &slow.arg()])?;
    let row = median(&json)?;
    // Five times as long; the metric is neutral, so that it is no regression.
    assert_eq!(text(&row["verdict"])?, "changed", "{row}");
    let part = |field: &str| row[field].as_f64().context(format!("{field}: {row}"));
    assert!((1.5..6.0).contains(&part("change")?) && part("low")? < 4.2, "{row}");
    assert!((8e6..16e6).contains(&part("base")?) && (40e6..60e6).contains(&part("new")?), "{row}");
    assert!(code.is_some_and(|code| code < 2));
    // A condition makes it one.
    let (code, _) = compared(&["--fail-on", "offcpu{comm=ebrec-workload}.p50 > +100%", &base.arg(), "--", &slow.arg()])?;
    assert_eq!(code, Some(1));
    let (code, json) = compared(&["--fail-on", "offcpu{comm=ebrec-workload}.p50 > +100%", &base.arg(), "--", &same.arg()])?;
    assert_eq!(code, Some(0), "{}", median(&json)?);
    assert_ne!(text(&median(&json)?["verdict"])?, "changed");
    Ok(())
}
