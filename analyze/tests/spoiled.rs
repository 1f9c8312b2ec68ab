//! Captures that are spoiled in a way that only shows when a table is read: refused by name, never a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{directory, ebrec};
use std::path::{Path, PathBuf};

fn quiet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/quiet.ebrec")
}

fn ask(path: &Path, args: &[&str]) -> (i32, String) {
    let path = path.to_str().unwrap();
    let output = ebrec(&[&[path], args].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked") && !said.contains("internal error"), "{said}");
    (output.status.code().unwrap_or(-1), said)
}

/// The schema of Arrow that Parquet keeps beside its own is not needed, so it can't do harm.
#[test]
fn a_spoiled_arrow_schema_changes_no_answer() {
    let whole = std::fs::read(quiet()).unwrap();
    let path = directory("spoiled-schema").join("c.ebrec");
    let key = b"ARROW:schema";
    let query = ["sql", "SELECT count(*) FROM process_exec", "--output", "csv"];
    let truth = ask(&quiet(), &query);
    assert_eq!(truth.0, 0);
    let table = b"process_exec/";
    let begin = whole.windows(table.len()).position(|window| window == table).unwrap();
    let at = begin + whole[begin..].windows(key.len()).position(|window| window == key).unwrap() + key.len();
    for place in (at + 60..at + 360).step_by(15) {
        let mut bytes = whole.clone();
        bytes[place] = b'A';
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(ask(&path, &query), truth, "byte {place}");
    }
}
