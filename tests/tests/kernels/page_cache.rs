//! The page cache and major faults against the truth of `page-cache` and `major-faults`.

use crate::capture::{Capture, Findings, list, sum};
use ebrec_tests::{Context, Result};
use serde_json::Value;

/// Hook that a count comes from.
const COUNTS: [(&str, &str); 6] = [
    ("accesses", "page_cache accesses"),
    ("misses", "page_cache added"),
    ("readahead", "page_cache added"),
    ("fault_misses", "page_cache faults"),
    ("added", "page_cache added"),
    ("dirtied", "page_cache dirtied"),
];

/// Sums of each case, which is a process.
pub fn page_cache(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    for case in list(&truth["cases"]) {
        let rows = capture.rows("page_cache", "pid", &case["pid"])?;
        for (count, hook) in COUNTS {
            let is = sum(&rows, count);
            match &case[count] {
                Value::Null => {}
                Value::Array(any_of) => found.check(hook, any_of.contains(&is.into()), || format!("{count} of {case} is {is}")),
                number => found.equal(hook, format!("{count} of {case}"), Some(is), number.as_u64()),
            }
        }
    }
    Ok(())
}

/// Pages of a mapped file that are touched one by one, in their order, by one loop.
pub fn faults(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let number = |key: &str| truth[key].as_i64().context(format!("no {key}"));
    let (first, step, pages) = (number("address")?, number("page_bytes")?, number("pages")?);
    let rows = capture.sql(&format!(
        "SELECT address, ip FROM major_fault WHERE tid = {} AND address BETWEEN {first} AND {} ORDER BY ts",
        truth["tid"],
        first + pages * step - 1
    ))?;
    let addresses: Vec<_> = rows.iter().filter_map(|row| row["address"].as_i64()).collect();
    found.equal("fault major", "addresses", addresses, (0..pages).map(|page| first + page * step).collect::<Vec<_>>());
    let instructions = || rows.iter().filter_map(|row| row["ip"].as_i64());
    let span = instructions().min().zip(instructions().max());
    // The loop may be unrolled.
    found.check("fault major", span.is_some_and(|(low, high)| low > 0 && high - low < 1024), || format!("instructions {span:?}"));
    Ok(())
}
