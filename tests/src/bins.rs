//! Finds and runs the programs under test.

use crate::{Context, Result, fail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The front command `ebrec`.
    Front,
    /// `ebrec-record`.
    Record,
    /// `ebrec-analyze`.
    Analyze,
    /// `ebrec-workload`.
    Workload,
}

impl Program {
    /// Its file name, and the environment variable that says where it is.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Front => ("ebrec", "EBREC"),
            Self::Record => ("ebrec-record", "EBREC_RECORD"),
            Self::Analyze => ("ebrec-analyze", "EBREC_ANALYZE"),
            Self::Workload => ("ebrec-workload", "EBREC_WORKLOAD"),
        }
    }
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    let in_workspace = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(in_workspace, PathBuf::from)
}

/// Where the program is: where its environment variable says, else the newest build in the target directory.
pub fn program(program: Program) -> Result<PathBuf> {
    let (name, variable) = program.names();
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { fail(format!("{variable}={} is not a file", path.display())) };
    }
    let beside_test = std::env::current_exe().ok().and_then(|test| Some(test.parent()?.parent()?.to_owned()));
    let places = beside_test.into_iter().chain(["release", "debug"].map(|profile| target_dir().join(profile)));
    let newest = places.map(|place| place.join(name)).filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).max();
    let (_, path) = newest.context(format!("no {name} in {}: build it, or set {variable}", target_dir().display()))?;
    Ok(path)
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it told.
    pub stderr: String,
}

impl Ran {
    /// Fails, with what it said, unless it exited with 0.
    pub fn succeeded(self) -> Result<Self> {
        if self.status.success() { Ok(self) } else { fail(format!("{}: {}", self.status, self.stderr.trim())) }
    }
}

/// Runs a program to its end, without input.
pub fn run<S: AsRef<OsStr>>(which: Program, args: impl IntoIterator<Item = S>) -> Result<Ran> {
    let path = program(which)?;
    let output = Command::new(&path).args(args).stdin(Stdio::null()).output();
    let output = output.context(format!("run {}", path.display()))?;
    Ok(Ran {
        status: output.status,
        stdout: String::from_utf8(output.stdout).context("stdout")?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
