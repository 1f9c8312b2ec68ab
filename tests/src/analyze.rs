//! Asks the analyzer about a capture.

use crate::{Context, Program, Ran, Result, fail, run};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;

/// Runs `ebrec-analyze CAPTURE ARGS…`.
pub fn analyze(capture: &Path, args: &[&str]) -> Result<Ran> {
    run(Program::Analyze, std::iter::once(capture.as_os_str()).chain(args.iter().map(OsStr::new)))
}

/// The rows of a query, each an object.
pub fn sql(capture: &Path, query: &str) -> Result<Vec<Value>> {
    let ran = analyze(capture, &["sql", query, "--output", "json"])?.succeeded().context(format!("sql {query}"))?;
    match serde_json::from_str(&ran.stdout).context(format!("rows of {query}"))? {
        Value::Array(rows) => Ok(rows),
        other => fail(format!("rows of {query} are not a list but {other}")),
    }
}
