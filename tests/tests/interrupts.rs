//! Interrupts in a capture are those that the kernel counts: the tables `softirq` and `hardirq`.

use ebrec_tests::Program;
use ebrec_tests::{Capture, Context, Result, int, recorded, require_bpf, run, workload};
use serde_json::Value;
use std::collections::BTreeMap;

/// The kernel's counts now.
fn counts() -> Result<Value> {
    let ran = run(Program::Workload, ["interrupts", "0"])?.succeeded()?;
    let truth: Value = serde_json::from_str(&ran.stdout).context("truth")?;
    Ok(truth["before"].clone())
}

fn number(counts: &Value, table: &str, key: &str) -> i64 {
    counts[table][key].as_i64().unwrap_or(0)
}

fn sums(capture: &Capture, query: &str) -> Result<BTreeMap<String, i64>> {
    capture.sql(query)?.iter().map(|row| Ok((row["key"].to_string().trim_matches('"').to_owned(), int(&row["n"])?))).collect()
}

#[test]
fn interrupts_are_as_many_as_the_kernel_counts() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // The window contains what the workload counted, and is contained in what is counted around it.
    let before = counts()?;
    let (truth, capture) = recorded(&["--probes", "irq"], || workload(&["interrupts", "1"]))?;
    let after = counts()?;
    let soft = sums(&capture, "SELECT vector AS key, CAST(sum(count) AS BIGINT) AS n FROM softirq GROUP BY vector")?;
    // Handlers that share an interrupt each run for it.
    let hard = sums(&capture, "SELECT irq AS key, CAST(sum(count) / count(DISTINCT name) AS BIGINT) AS n FROM hardirq GROUP BY irq")?;
    let mut compared = 0;
    for (table, counted) in [("soft", &soft), ("hard", &hard)] {
        let keys = after[table].as_object().context(table)?.keys();
        for key in keys {
            let inner = number(&truth["after"], table, key) - number(&truth["before"], table, key);
            let outer = number(&after, table, key) - number(&before, table, key);
            let counted = counted.get(key).copied().unwrap_or(0);
            // An edge-triggered interrupt that comes while its handler runs is counted at once, but handled in the run that goes on
            // (handle_edge_irq of kernel/irq/chip.c): the kernel's count may be a few ahead of the handler's runs.
            let merged = if table == "hard" { 2 + inner / 20 } else { 0 };
            assert!(inner <= counted + merged && counted <= outer, "{table} {key}: {inner} <= {counted} <= {outer}");
            compared += counted;
        }
    }
    // A packet over loopback is a NET_RX; several may come in one.
    assert!(number(&truth["after"], "soft", "net_rx") > number(&truth["before"], "soft", "net_rx"), "{truth}");
    assert!(compared > 1000, "{compared}");
    Ok(())
}

#[test]
fn sums_and_buckets_agree() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (_, capture) = recorded(&["--probes", "irq"], || workload(&["interrupts", "1"]))?;
    for table in ["softirq", "hardirq"] {
        let row = capture.row(&format!(
            "SELECT count(*) AS rows,
                    count(*) FILTER (WHERE total_ns < count * at_least_ns OR (at_least_ns < 536870912 AND total_ns >= count * 2 * greatest(at_least_ns, 1))) AS outside,
                    count(*) FILTER (WHERE max_ns > total_ns OR max_ns * count < total_ns) AS wrong_max,
                    count(*) FILTER (WHERE CAST(ts AS BIGINT) - CAST(since_ts AS BIGINT) < max_ns) AS too_long
             FROM {table}"
        ))?;
        assert_eq!((&row["outside"], &row["wrong_max"], &row["too_long"]), (&0.into(), &0.into(), &0.into()), "{table} {row}");
        assert!(table == "hardirq" || int(&row["rows"])? > 0);
    }
    // A CPU can't spend more time in soft interrupts than there is.
    let busy = capture.row(
        "SELECT max(share) AS share FROM (SELECT sum(total_ns) / (max(CAST(ts AS BIGINT)) - min(CAST(since_ts AS BIGINT)))  AS share FROM softirq GROUP BY cpu)",
    )?;
    assert!(int(&busy["share"])? == 0, "{busy}");
    Ok(())
}
