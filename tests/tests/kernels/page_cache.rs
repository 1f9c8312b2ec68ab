//! The page cache against the truth of `page-cache`.

use crate::capture::{Capture, Findings, list, sum};
use ebrec_tests::Result;
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
