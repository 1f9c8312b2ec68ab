//! What a process did with the page cache is what it did: the table `page_cache`, and the counters of the host.

use ebrec_tests::{Result, int, list, recorded, require_bpf, workload};
use serde_json::Value;

const COUNTS: [&str; 6] = ["accesses", "misses", "readahead", "fault_misses", "added", "dirtied"];

#[test]
fn hits_misses_readahead_and_dirtied_pages_are_those_of_each_process() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "page_cache"], || workload(&["page-cache"]))?;
    let sums = COUNTS.map(|count| format!("CAST(coalesce(sum({count}), 0) AS BIGINT) AS {count}")).join(", ");
    for case in list(&truth["cases"])? {
        let row = capture.row(&format!("SELECT {sums} FROM page_cache WHERE pid = {}", case["pid"]))?;
        for count in COUNTS {
            match &case[count] {
                Value::Null => {}
                Value::Array(any_of) => assert!(any_of.contains(&row[count]), "{count} of {case}\n{row}"),
                number => assert_eq!(row[count], *number, "{count} of {case}\n{row}"),
            }
        }
        if case["misses"].is_null() {
            let (misses, readahead) = (int(&row["misses"])?, int(&row["readahead"])?);
            assert_eq!(misses + readahead, int(&case["added"])?, "{row}");
            assert!(misses >= 16 && readahead > misses, "{row}");
        }
    }
    Ok(())
}

#[test]
fn intervals_begin_at_multiples_of_their_length_and_are_told_once_per_cpu() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "page_cache"], || workload(&["page-cache"]))?;
    let offset = capture.boot_to_utc_ns()?;
    // The first one may begin with the window.
    let from = capture.number("SELECT CAST(ts AS BIGINT) FROM capture")?;
    let row = capture.row(&format!(
        "SELECT count(*) AS n, count(*) FILTER (WHERE interval_ns <> 100000000
                    OR (CAST(ts AS BIGINT) <> {from} AND (CAST(ts AS BIGINT) - {offset}) % interval_ns <> 0)) AS odd,
                count(DISTINCT concat(CAST(ts AS BIGINT), ' ', cpu, ' ', process_id)) AS places
         FROM page_cache WHERE pid IN ({})",
        list(&truth["cases"])?.iter().map(|case| case["pid"].to_string()).collect::<Vec<_>>().join(",")
    ))?;
    assert!(int(&row["n"])? >= 10, "{row}");
    assert_eq!((&row["odd"], &row["places"]), (&0.into(), &row["n"]), "{row}");
    Ok(())
}

#[test]
fn a_filter_by_process_keeps_others_out() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let me = std::process::id().to_string();
    let (truth, capture) = recorded(&["--probes", "page_cache", "--pid", &me], || workload(&["page-cache"]))?;
    let accesses: i64 = list(&truth["cases"])?.iter().filter_map(|case| case["accesses"].as_i64()).sum();
    let pids: Vec<String> = list(&truth["cases"])?.iter().map(|case| case["pid"].to_string()).collect();
    let seen = capture.number(&format!("SELECT CAST(sum(accesses) AS BIGINT) FROM page_cache WHERE pid IN ({})", pids.join(",")))?;
    assert_eq!(seen, accesses);
    let others = format!("SELECT count(*) FROM page_cache WHERE pid NOT IN ({},{},{me})", pids.join(","), truth["pid"]);
    assert_eq!(capture.number(&others)?, 0);
    Ok(())
}
