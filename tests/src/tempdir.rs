//! A directory that goes away with the test that made it.

use crate::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new empty directory, removed when dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    made_by: u32,
}

impl TempDir {
    /// Makes one whose name says what it is for.
    pub fn new(purpose: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made_by = std::process::id();
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ebrec-{purpose}-{made_by}-{count}"));
        std::fs::create_dir_all(&path).context(format!("create {}", path.display()))?;
        let path = path.canonicalize().context(format!("resolve {}", path.display()))?;
        Ok(Self { path, made_by })
    }

    /// Where it is, as an absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A forked child that unwinds must not take its parent's directory away.
        if std::process::id() == self.made_by {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
