//! The one error type of this crate: a sentence that says what was tried and why it failed.
//!
//! It replaces `anyhow` because the workload may depend on nothing but std, libc and serde_json.

use std::fmt;

/// What went wrong, as a sentence for a person.
#[derive(Debug)]
pub struct Error(String);

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that is this sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// The failure of `what`, with the reason from `errno`.
    pub fn os(what: &str) -> Self {
        Self(format!("{what}: {}", std::io::Error::last_os_error()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// An `Err` of this sentence.
pub fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(message))
}

/// Says what was tried when something fails.
pub trait Context<T> {
    /// Puts `what` in front of the reason.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|why| Error(format!("{what}: {why}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.ok_or_else(|| Error(what.to_string()))
    }
}
