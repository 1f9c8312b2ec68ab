//! What went wrong, said so that the user knows what to do.

use crate::output::escape::terminal;
use crate::output::say;
use datafusion::error::DataFusionError;
use ebrec_format::capture::OpenError;
use std::fmt;

/// An error as the user reads it: what failed and why, then what to do.
#[derive(Debug, Clone)]
pub struct Error {
    what: String,
    hint: Option<String>,
    broken_pipe: bool,
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// `<what>: <why>`.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display) -> Error {
        Error::text(format!("{what}: {why}"))
    }

    /// A whole sentence.
    pub fn text(text: impl Into<String>) -> Error {
        Error { what: text.into(), hint: None, broken_pipe: false }
    }

    /// Adds the line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(terminal(&hint.into()));
        self
    }

    /// Whether the reader of our output went away, which is no error.
    pub fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }

    /// An error of writing or encoding output.
    fn of_output(error: &(dyn std::error::Error + 'static)) -> Error {
        let mut cause = Some(error);
        let mut broken_pipe = false;
        while let Some(error) = cause {
            broken_pipe |= error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
            cause = error.source();
        }
        Error { broken_pipe, ..Error::new("output", error) }
    }

    /// What to do, if there is something.
    pub fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Says it on stderr, each line after `prefix`.
    pub fn say(&self, prefix: &str) {
        say(&format!("{prefix}{self}"));
        if let Some(hint) = self.what_to_do() {
            say(&format!("{prefix}{hint}"));
        }
    }
}

/// On one line, as a terminal may show it: a file name or a column name in it may hold anything.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&terminal(&self.what))
    }
}

impl std::error::Error for Error {}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        let hint = match &error {
            OpenError::Missing { .. } => "give the path of a .ebrec file; record one with: ebrec record --duration 10s",
            OpenError::Io { .. } => "check the file's permissions",
            OpenError::NotACapture { .. } => "a capture is a .ebrec file or a .ebrec.partial directory that ebrec record wrote",
            OpenError::TooNew { .. } => "install the newest ebrec on this machine; the recorder may be as old as you like",
        };
        Error::text(error.to_string()).hint(hint)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::of_output(&error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Error::of_output(&error)
    }
}

impl From<parquet::errors::ParquetError> for Error {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Error::of_output(&error)
    }
}

/// Turns DataFusion's errors into ours: the innermost cause without the layers it came through, and a remedy where one is known.
impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        if let Some(ours) = ours(&error) {
            return ours;
        }
        let root = error.find_root();
        // Some go on with a list of what else could have been meant.
        let message = root.strip_backtrace();
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        match root {
            DataFusionError::SQL(parser, _) => {
                let text = parser.to_string();
                Error::new("SQL", text.trim_start_matches("sql parser error: ")).hint("ebrec-analyze FILE sql --help shows examples")
            }
            DataFusionError::SchemaError(..) => Error::new("SQL", message.trim_start_matches("Schema error: "))
                .hint("ebrec-analyze FILE describe TABLE lists a table's columns"),
            DataFusionError::Plan(_) => Error::new("SQL", message.trim_start_matches("Error during planning: ")),
            DataFusionError::ResourcesExhausted(why) => {
                // The lines before the last list who holds how much, for DataFusion's developers.
                let why = why.lines().last().unwrap_or_default().trim_start_matches("Error: ");
                Error::new("memory", why).hint("give it more memory (--memory 2G) or a shorter window (--from, --to)")
            }
            DataFusionError::ParquetError(_) => Error::new("capture", message.trim_start_matches("Parquet error: "))
                .hint("the file is damaged or was not copied completely"),
            _ => Error::new("query", message),
        }
    }
}

/// The error that one of our own parts raised inside of DataFusion.
fn ours(error: &DataFusionError) -> Option<Error> {
    match error {
        DataFusionError::External(inner) => {
            inner.downcast_ref::<Error>().cloned().or_else(|| inner.downcast_ref::<DataFusionError>().and_then(ours))
        }
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => ours(inner),
        DataFusionError::Shared(inner) => ours(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(ours),
        DataFusionError::ArrowError(inner, _) => match &**inner {
            arrow::error::ArrowError::ExternalError(inner) => {
                inner.downcast_ref::<Error>().cloned().or_else(|| inner.downcast_ref::<DataFusionError>().and_then(ours))
            }
            _ => None,
        },
        _ => None,
    }
}
