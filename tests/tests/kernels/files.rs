//! The tables of files against the truth of `files`.

use crate::capture::{Capture, Findings, list};
use ebrec_format::text::unescape;
use ebrec_tests::{Context, Result};
use serde_json::Value;

const OPEN: &str = "open calls";
const UNLINK: &str = "open unlinks";

/// The hook that sees a call on a file.
fn hook_of(row: &Value) -> &'static str {
    match row["call"].as_str().unwrap_or_default() {
        "read" | "write" | "pread64" | "pwrite64" => "file calls",
        "readv" | "writev" | "preadv" | "pwritev" | "preadv2" | "pwritev2" => "file vectors",
        "sendfile" | "copy_file_range" | "splice" => "file copies",
        "open" | "creat" | "openat" | "openat2" => "file opens",
        "truncate" => "file truncates",
        "io_uring" => "file uring",
        _ => "file syncs",
    }
}

/// A text of the capture as the workload tells bytes: hexadecimal.
fn hex(value: &Value) -> Value {
    let Some(text) = value.as_str() else { return value.clone() };
    unescape(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// Every call on every file system, in its order.
pub fn files(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let boot_to_utc = capture.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")?;
    for dir in list(&truth["dirs"]) {
        period(capture, truth, fs_of(dir), dir, boot_to_utc, found)?;
        let hooks = capture.rows("probe", "hook", &"uring".into())?;
        if !dir["uring"].is_null() && hooks.iter().any(|hook| !hook["mechanism"].is_null()) {
            period(capture, truth, fs_of(dir), &dir["uring"], boot_to_utc, found)?;
        }
    }
    Ok(())
}

fn fs_of(dir: &Value) -> &str {
    dir["fs"].as_str().unwrap_or_default()
}

/// What was done between two marks.
fn period(capture: &Capture, truth: &Value, fs: &str, dir: &Value, boot_to_utc: i64, found: &mut Findings) -> Result<()> {
    let mark = |which: &str| dir[which]["boot_ns"].as_i64().map(|ns| ns + boot_to_utc).context(format!("no mark {which}"));
    let rows = |table: &str, order: &str| {
        capture.sql(&format!(
            "SELECT * FROM {table} WHERE pid = {} AND CAST(ts AS BIGINT) BETWEEN {} AND {} ORDER BY {order}",
            truth["pid"],
            mark("begin")?,
            mark("end")?
        ))
    };
    compare(fs, &rows("file_open", "ts")?, list(&dir["opens"]), |_| OPEN, found);
    compare(fs, &rows("file_unlink", "ts")?, list(&dir["unlinks"]), |_| UNLINK, found);
    compare(fs, &rows("file_io", "ts, op")?, list(&dir["ios"]), hook_of, found);
    Ok(())
}

fn compare(fs: &str, rows: &[Value], truth: &[Value], hook_of: fn(&Value) -> &'static str, found: &mut Findings) {
    if let Some(first) = truth.first() {
        found.equal(hook_of(first), format!("{fs}: rows"), rows.len(), truth.len());
    }
    for (place, (row, truth)) in rows.iter().zip(truth).enumerate() {
        let differs: Vec<String> = truth
            .as_object()
            .into_iter()
            .flatten()
            .map(|(column, value)| (column, value, if column.ends_with("path") { hex(&row[column]) } else { row[column].clone() }))
            .filter(|(_, value, is)| is != *value)
            .map(|(column, value, is)| format!("{column} is {is} instead of {value}"))
            .collect();
        let right = differs.is_empty() && row["latency_ns"].as_i64() > Some(0);
        found.check(hook_of(truth), right, || format!("{fs}: row {place}, {}: {differs:?}", truth["call"]));
    }
}
