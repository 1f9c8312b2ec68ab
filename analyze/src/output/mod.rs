//! Getting results out: formats for people, for programs, for documents.

pub mod cells;
pub mod escape;
pub mod file;
pub mod hist;
pub mod machine;
pub mod report;
pub mod stacks;
pub mod table;
pub mod text;

use crate::cli::Globals;
use crate::error::{Error, Result};
use clap::ValueEnum;
use escape::{Escaped, Through};
use file::{Inputs, Pending};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
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
    /// Whether the file may be replaced if it exists.
    pub force: bool,
    /// What is read, and never replaced.
    pub inputs: Arc<Inputs>,
    /// `--rows`: the largest number of rows of a table; 0 is all.
    pub rows: Option<usize>,
    /// Whether text that a spreadsheet would compute is marked as text in CSV.
    pub spreadsheet: bool,
    /// Whether to say nothing on stderr but errors.
    pub quiet: bool,
}

impl Settings {
    /// As the options say, for a command that reads `inputs`.
    pub fn of(globals: &Globals, inputs: Inputs) -> Settings {
        // As everywhere, a dash is stdout, and so is its name.
        let file = globals.out.clone().filter(|path| !["-", "/dev/stdout"].iter().any(|stdout| path.as_os_str() == *stdout));
        Settings {
            format: globals.format,
            file,
            force: globals.force,
            inputs: Arc::new(inputs),
            rows: globals.rows,
            spreadsheet: globals.spreadsheet,
            quiet: globals.quiet,
        }
    }

    /// Says before the work begins what [`Settings::open`] would refuse after it.
    pub fn check(&self) -> Result<()> {
        if self.spreadsheet && self.format != Format::Csv {
            return Err(Error::text("--spreadsheet is about CSV").hint("--output csv --spreadsheet"));
        }
        match &self.file {
            Some(path) => file::check(path, self.force, &self.inputs),
            None if self.format == Format::Parquet && self.on_terminal() => {
                Err(Error::text("Parquet is not for terminals").hint("write it to a file: -o NAME.parquet"))
            }
            None => Ok(()),
        }
    }

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

    /// Opens the destination. What goes to a file is there when [`Destination::finish`] was called, and not before.
    pub fn open(&self) -> Result<Destination> {
        self.check()?;
        let inner = match &self.file {
            Some(path) => Inner::File(Pending::new(path, self.force, &self.inputs)?),
            None => Inner::Stream(Box::new(io::stdout())),
        };
        // Tables and Markdown are made harmless when they are made.
        let through = match self.format {
            Format::Json | Format::Jsonl => Through::Json,
            Format::Csv if self.on_terminal() => Through::Terminal,
            _ => Through::Raw,
        };
        Ok(Destination(Escaped::new(BufWriter::with_capacity(1 << 16, inner), through)))
    }

    /// Says something that isn't data.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }
}

/// Says a line on stderr. Nobody can be told that stderr is closed or full.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape::terminal(text));
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

enum Inner {
    Stream(Box<dyn Write + Send>),
    File(Pending),
}

impl Write for Inner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Inner::Stream(stream) => stream.write(bytes),
            Inner::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Inner::Stream(stream) => stream.flush(),
            Inner::File(file) => file.flush(),
        }
    }
}

/// An opened destination. Dropped before [`Destination::finish`], a file has never been there.
pub struct Destination(Escaped<BufWriter<Inner>>);

impl Destination {
    /// A destination in memory.
    pub fn memory() -> (Destination, Memory) {
        let memory = Memory::default();
        let inner = Inner::Stream(Box::new(memory.clone()));
        (Destination(Escaped::new(BufWriter::with_capacity(1 << 12, inner), Through::Raw)), memory)
    }

    /// Writes what is left, and gives a file its name.
    pub fn finish(self) -> Result<()> {
        let mut buffer = self.0.into_inner();
        buffer.flush()?;
        match buffer.into_inner().map_err(io::IntoInnerError::into_error)? {
            Inner::Stream(_) => Ok(()),
            Inner::File(file) => file.commit(),
        }
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
