//! A capture that a test made, and questions to it.

use crate::{Context, Recorder, Recording, Result, TempDir, fail, sql};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A capture in a directory of its own, which goes away with it.
#[derive(Debug)]
pub struct Capture {
    dir: TempDir,
    path: PathBuf,
}

impl Capture {
    /// The place for a capture that is yet to be made.
    pub fn place(purpose: &str) -> Result<Self> {
        let dir = TempDir::new(purpose)?;
        let path = dir.path().join("a.ebrec");
        Ok(Self { dir, path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as an argument of a program.
    pub fn arg(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// The directory that it is while it is being recorded.
    pub fn partial(&self) -> PathBuf {
        self.dir.path().join("a.ebrec.partial")
    }

    /// The directory it is in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a recorder that makes it.
    pub fn start(&self, args: &[&str]) -> Result<Recorder> {
        Recorder::start(&[args, &["-o", &self.arg()]].concat())
    }

    /// The rows of a query, each an object.
    pub fn sql(&self, query: &str) -> Result<Vec<Value>> {
        sql(&self.path, query)
    }

    /// All rows of a table in order of time; `ts_ns` is `ts` as a number.
    pub fn table(&self, name: &str) -> Result<Vec<Value>> {
        self.sql(&format!("SELECT *, CAST(ts AS BIGINT) AS ts_ns FROM {name} ORDER BY ts"))
    }

    /// The only row of a query.
    pub fn row(&self, query: &str) -> Result<Value> {
        let mut rows = self.sql(query)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => fail(format!("not one row: {query}")),
        }
    }

    /// The only number of a query.
    pub fn number(&self, query: &str) -> Result<i64> {
        let row = self.row(query)?;
        let number = row.as_object().filter(|row| row.len() == 1).and_then(|row| row.values().next()?.as_i64());
        number.context(format!("not one number but {row}: {query}"))
    }

    /// What to add to CLOCK_BOOTTIME to get the capture's `ts` (as BIGINT).
    pub fn boot_to_utc_ns(&self) -> Result<i64> {
        self.number("SELECT max(CAST(ts AS BIGINT) - boot_ns) FROM clock")
    }
}

/// Records with `args` while `activity` goes on; the recording must succeed and lose nothing.
pub fn recorded<T>(args: &[&str], activity: impl FnOnce() -> Result<T>) -> Result<(T, Capture)> {
    let (truth, capture, _) = recording(args, activity)?;
    let lost = capture.sql("SELECT table_name, reason, lost FROM loss")?;
    if lost.is_empty() { Ok((truth, capture)) } else { fail(format!("records were lost: {lost:?}")) }
}

/// Records with `args` while `activity` goes on; the recording must succeed.
pub fn recording<T>(args: &[&str], activity: impl FnOnce() -> Result<T>) -> Result<(T, Capture, Recording)> {
    let capture = Capture::place("capture")?;
    let recorder = capture.start(args)?;
    let truth = activity()?;
    let recording = recorder.stop()?.succeeded()?;
    Ok((truth, capture, recording))
}
