//! gethostlatency beside the table `dns_lookup`.

use crate::tool::Tool;
use ebrec_tests::{Context, Result, int, list, recorded, require_bpf, workload};
use std::path::Path;
use std::process::Command;

/// What the tool traces; of glibc's resolver calls those that give their result by other means are not among them.
const TRACED: &str = "('getaddrinfo', 'gethostbyname', 'gethostbyname2')";

#[test]
fn gethostlatency_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("gethostlatency", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("192.0.2.1", || {
        Command::new("getent").args(["ahosts", "192.0.2.1"]).output().map(|_| ()).context("run getent")
    })?;
    let script = format!("exec python3 {} ok nx fail slow", Path::new(env!("CARGO_MANIFEST_DIR")).join("lookups.py").display());
    let (truth, capture) = recorded(&["--probes", "dns"], || workload(&["dns", "--run", &script]))?;
    let pid = list(&truth["run"])?.first().context("no lookup")?["pid"].to_string();
    // TIME PID COMM LATms HOST
    let mut live = Vec::new();
    for line in tool.stop()? {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, of, .., ms, host] = words[..]
            && of == pid
        {
            live.push((host.to_owned(), ms.parse::<f64>().context(format!("not a number: {line}"))?));
        }
    }
    // Without a host it says nothing.
    let rows = capture.sql(&format!(
        "SELECT host, latency_ns FROM dns_lookup WHERE pid = {pid} AND host IS NOT NULL AND function IN {TRACED} ORDER BY ts"
    ))?;
    let mut differences = Vec::new();
    for (row, (host, ms)) in rows.iter().zip(&live) {
        // It keeps no more than the first 80 bytes of a name.
        let name = row["host"].as_str().unwrap_or_default();
        assert!(name == host || (name.starts_with(host) && host.len() >= 70), "{host} {name}");
        differences.push((int(&row["latency_ns"])? as f64 / 1e6 - ms).abs());
    }
    assert_eq!(rows.len(), live.len(), "{rows:#?} {live:#?}");
    assert_eq!(rows.len(), 3 * 5 + 3);
    // Both have a probe at the same instruction and one at its return, and between the two a task may lose its CPU, on a busy host for
    // some turns of the scheduler. That hits one call or another, but not most.
    differences.sort_by(f64::total_cmp);
    assert!(differences[rows.len() / 2] < 1.0 && differences[rows.len() - 3] < 50.0, "{differences:?}");
    // The server took its time for these.
    let slow_ms = int(&truth["slow_ns"])? as f64 / 1e6;
    let slow: Vec<f64> = live.iter().filter(|(host, _)| host.starts_with("slow.")).map(|(_, ms)| *ms).collect();
    assert!(slow.len() == 3 && slow.iter().all(|ms| *ms >= slow_ms), "{slow:?}");
    Ok(())
}
