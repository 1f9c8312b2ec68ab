//! Getting results out: formats for people, for programs, for documents.

pub mod cells;
pub mod hist;
pub mod machine;
pub mod report;
pub mod stacks;
pub mod table;
pub mod text;

use crate::error::{Error, Result};
use clap::ValueEnum;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that a terminal shows unless `--rows` says otherwise.
pub const TERMINAL_ROWS: usize = 100;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// Comma-separated values with a heading.
    Csv,
    /// One JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// A Markdown table.
    Markdown,
    /// Apache Parquet.
    Parquet,
    /// Stacks, one line each, as other tools for flame graphs take them.
    Folded,
    /// Stacks as a flame graph (SVG); of a comparison, their difference.
    Flamegraph,
    /// A comparison as test results for CI systems (XML).
    Junit,
}

/// Where and how results go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The format.
    pub format: Format,
    /// The file, `None` for stdout.
    pub file: Option<PathBuf>,
    /// `--rows`: the largest number of rows of a table; 0 is all.
    pub rows: Option<usize>,
    /// Whether to say nothing on stderr but errors.
    pub quiet: bool,
}

impl Settings {
    /// Whether results appear on a terminal.
    pub fn on_terminal(&self) -> bool {
        self.file.is_none() && io::stdout().is_terminal()
    }

    /// Columns of the terminal, `None` if results don't appear on one.
    pub fn width(&self) -> Option<usize> {
        self.on_terminal().then(|| terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0)))
    }

    /// The largest number of rows of a table.
    pub fn limit(&self) -> Option<usize> {
        let default = self.on_terminal().then_some(TERMINAL_ROWS);
        self.rows.map_or(default, |rows| (rows > 0).then_some(rows))
    }

    /// Opens the destination, which was opened `before` so many times: a file is continued then.
    pub fn open_again(&self, before: usize) -> Result<Destination> {
        let Some(path) = self.file.as_ref().filter(|_| before > 0) else { return self.open() };
        let file = File::options().append(true).open(path).map_err(|error| Error::new(path.display(), error))?;
        Ok(Destination { inner: BufWriter::with_capacity(1 << 16, Box::new(file)), escape: false })
    }

    /// Opens the destination.
    pub fn open(&self) -> Result<Destination> {
        let inner: Box<dyn Write + Send> = match &self.file {
            Some(path) => Box::new(create(path)?),
            None if self.format == Format::Parquet && self.on_terminal() => {
                return Err(Error::text("Parquet is not for terminals").hint("write it to a file: -o NAME.parquet"));
            }
            None => Box::new(io::stdout()),
        };
        // JSON escapes control characters itself, tables and Markdown are escaped when they are made.
        let escape = self.format == Format::Csv && self.on_terminal();
        Ok(Destination { inner: BufWriter::with_capacity(1 << 16, inner), escape })
    }

    /// Says something that isn't data.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            // Nobody can be told that stderr is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

fn create(path: &Path) -> Result<File> {
    File::create(path).map_err(|error| Error::new(path.display(), error).hint("give a file that can be written with -o"))
}

/// What was written to memory.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    /// Takes it out, as text.
    pub fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination {
    /// A destination in memory.
    pub fn memory() -> (Destination, Memory) {
        let memory = Memory::default();
        (Destination { inner: BufWriter::with_capacity(1 << 12, Box::new(memory.clone())), escape: false }, memory)
    }
}

/// An opened destination.
pub struct Destination {
    inner: BufWriter<Box<dyn Write + Send>>,
    escape: bool,
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.escape {
            let text = String::from_utf8_lossy(bytes);
            let lines: Vec<String> = text.split('\n').map(text::escape).collect();
            self.inner.write_all(lines.join("\n").as_bytes())?;
            return Ok(bytes.len());
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
