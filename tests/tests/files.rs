//! Opened and removed files and what is done with them: the tables `file_open`, `file_unlink`, `file_io` and `file_path` equal the truth, row by row.

use ebrec_tests::{Capture, Context, Recorder, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::Value;
use std::collections::BTreeSet;

/// Two file systems: that of the tests' directory, and one in memory.
fn done_and_recorded(args: &[&str]) -> Result<(Value, Capture)> {
    recorded(args, || workload(&["files", &std::env::temp_dir().to_string_lossy(), "/dev/shm"]))
}

/// A text of the capture as the workload tells bytes: hexadecimal.
fn hex(value: &Value) -> Value {
    let Some(text) = value.as_str() else { return value.clone() };
    ebrec_format::text::unescape(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// The workload's rows of a table while it worked in `dir`, in the order of its calls; the two ends of a copy have one time.
fn rows(capture: &Capture, table: &str, truth: &Value, dir: &Value) -> Result<Vec<Value>> {
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let (begin, end) = (int(&dir["begin"]["boot_ns"])? + boot_to_utc, int(&dir["end"]["boot_ns"])? + boot_to_utc);
    let order = if table == "file_io" { "ts, op" } else { "ts" };
    capture.sql(&format!(
        "SELECT *, CAST(ts AS BIGINT) AS ts_ns FROM {table} WHERE pid = {} AND CAST(ts AS BIGINT) BETWEEN {begin} AND {end} ORDER BY {order}",
        truth["pid"]
    ))
}

/// Every column that the workload knows; no row more, no row less.
fn assert_equal(table: &str, rows: &[Value], expected: &Value) -> Result<()> {
    let expected = list(expected)?;
    for (place, (row, truth)) in rows.iter().zip(expected).enumerate() {
        for (column, value) in truth.as_object().context("not a row")? {
            let is = if column.ends_with("path") { hex(&row[column]) } else { row[column].clone() };
            assert_eq!(is, *value, "{table} {place}: {column}\nrow   {row}\ntruth {truth}");
        }
        assert_eq!(row["comm"], "wl-files");
        let latency = int(&row["latency_ns"])?;
        assert!(latency > 0 && rows.get(place + 1).is_none_or(|next| reaches(row, next, latency)), "{row}");
    }
    assert_eq!(rows.len(), expected.len(), "{table}");
    Ok(())
}

/// Whether a call was over before the next began, or both are ends of one copy.
fn reaches(row: &Value, next: &Value, latency: i64) -> bool {
    let (Some(began), Some(next_began)) = (row["ts_ns"].as_i64(), next["ts_ns"].as_i64()) else { return false };
    began + latency <= next_began || (began == next_began && row["call"] == next["call"] && row["op"] != next["op"])
}

#[test]
fn every_open_and_unlink_is_a_row() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = done_and_recorded(&["--probes", "open"])?;
    for dir in list(&truth["dirs"])? {
        assert_equal("file_open", &rows(&capture, "file_open", &truth, dir)?, &dir["opens"])?;
        assert_equal("file_unlink", &rows(&capture, "file_unlink", &truth, dir)?, &dir["unlinks"])?;
    }
    Ok(())
}

/// The report filelife: every file that was made and removed under the same name.
#[test]
fn files_that_went_have_an_age() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = done_and_recorded(&["--probes", "open"])?;
    for dir in list(&truth["dirs"])? {
        let paths = |table: &str, column: &str, value: Value| -> Result<Vec<Value>> {
            Ok(list(&dir[table])?.iter().filter(|row| row[column] == value).map(|row| row["full_path"].clone()).collect())
        };
        let made = paths("opens", "is_new", true.into())?;
        let expected: Vec<Value> = paths("unlinks", "errno", 0.into())?.into_iter().filter(|path| made.contains(path)).collect();
        assert!(expected.len() >= 3, "{expected:?}");
        let rows = rows(&capture, "filelife", &truth, dir)?;
        assert_eq!(rows.iter().map(|row| hex(&row["path"])).collect::<Vec<_>>(), expected);
        for row in rows {
            assert_eq!(row["made_pid"], truth["pid"]);
            assert!((1..10_000_000_000).contains(&int(&row["age_ns"])?), "{row}");
        }
    }
    Ok(())
}

#[test]
fn every_operation_on_a_regular_file_is_a_row() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = done_and_recorded(&["--probes", "file"])?;
    for dir in list(&truth["dirs"])? {
        assert_equal("file_io", &rows(&capture, "file_io", &truth, dir)?, &dir["ios"])?;
    }
    for dir in list(&truth["dirs"])?.iter().filter(|dir| !dir["uring"].is_null()) {
        let hook = capture.row("SELECT mechanism, reason FROM probe WHERE probe = 'file' AND hook = 'uring'")?;
        if hook["mechanism"].is_null() {
            // Said, instead of silently absent.
            assert!(hook["reason"].is_string(), "{hook}");
        } else {
            assert_equal("file_io", &rows(&capture, "file_io", &truth, &dir["uring"])?, &dir["uring"]["ios"])?;
        }
    }
    let file_systems: Vec<&str> = list(&truth["dirs"])?.iter().map(|dir| text(&dir["fs"])).collect::<Result<_>>()?;
    assert!(file_systems.contains(&"tmpfs") && file_systems.len() == 2, "{file_systems:?}");
    Ok(())
}

#[test]
fn a_file_is_told_once() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = done_and_recorded(&["--probes", "file,open"])?;
    let mut names = BTreeSet::new();
    for dir in list(&truth["dirs"])? {
        names.extend(list(&dir["ios"])?.iter().map(|row| format!("{} {}", row["inode"], row["path"])));
    }
    // Under each of its names; among them the files that it prepared before.
    let told = capture.sql(&format!("SELECT inode, path, fs FROM file_path WHERE pid = {}", truth["pid"]))?;
    let told: Vec<String> = told.iter().map(|row| format!("{} {}", row["inode"], hex(&row["path"]).as_str().unwrap_or_default())).collect();
    for name in &names {
        let name = name.replace('"', "");
        // Two files had this name one after the other, and the second may have got the inode of the first.
        let most = if name.ends_with(&hex(&"/before".into()).as_str().unwrap_or_default()) { 2 } else { 1 };
        assert!((1..=most).contains(&told.iter().filter(|file| **file == name).count()), "{name}");
    }
    Ok(())
}

#[test]
fn a_filter_by_process_holds_for_files_too() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("files-filter")?;
    let program = ebrec_tests::program(ebrec_tests::Program::Workload)?.to_string_lossy().into_owned();
    let args = ["-o", &capture.arg(), "--probes", "file,open", "--", &program, "files", "/dev/shm"];
    let ran = Recorder::start(&args)?.wait()?.succeeded()?;
    let truth: Value = serde_json::from_str(&ran.ran.stdout).context("truth")?;
    for dir in list(&truth["dirs"])? {
        assert_equal("file_io", &rows(&capture, "file_io", &truth, dir)?, &dir["ios"])?;
        assert_equal("file_open", &rows(&capture, "file_open", &truth, dir)?, &dir["opens"])?;
    }
    for table in ["file_io", "file_open", "file_unlink", "file_path"] {
        assert_eq!(capture.number(&format!("SELECT count(*) FROM {table} WHERE pid <> {}", truth["pid"]))?, 0);
    }
    Ok(())
}
