//! Where queries put what doesn't fit into memory: a directory of this process below the system's directory for temporary files.
//!
//! It goes with the process ([`crate::ending`]). A process that is killed (SIGKILL, power) leaves it; each process holds a lock on a file in its directory
//! for as long as it lives, so a later run knows what nobody uses any more, and removes it.

use crate::ending::Temporary;
use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const PREFIX: &str = "ebrec-spill-";
const LOCK: &str = "lock";
/// Names of a crowded directory that are looked at.
const MOST: usize = 100_000;

#[derive(Debug)]
struct Spill {
    directory: Temporary,
    /// Locked until the process ends.
    _lock: File,
}

/// The directory, made at the first call; `None` if there is no place for one: queries that would spill are refused then.
pub fn directory() -> Option<PathBuf> {
    static SPILL: OnceLock<Option<Spill>> = OnceLock::new();
    let spill = SPILL.get_or_init(|| {
        let below = std::env::temp_dir();
        sweep(&below);
        make(&below).ok()
    });
    spill.as_ref().map(|spill| spill.directory.path().to_owned())
}

fn make(below: &Path) -> io::Result<Spill> {
    let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
    for nth in 0..100 {
        let path = below.join(format!("{PREFIX}{}-{nth}", std::process::id()));
        let mut builder = DirBuilder::new();
        // What is spilled is what the capture holds.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        if let Err(why) = builder.create(&path) {
            error = why;
            continue;
        }
        let directory = Temporary::new(path);
        let lock = File::create_new(directory.path().join(LOCK))?;
        lock.lock()?;
        // Between its making and its lock another process may have taken it for a leftover.
        if directory.path().join(LOCK).exists() {
            return Ok(Spill { directory, _lock: lock });
        }
    }
    Err(error)
}

/// Removes what dead processes of this user left.
fn sweep(below: &Path) {
    let Ok(entries) = std::fs::read_dir(below) else { return };
    for entry in entries.take(MOST).flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir() && is_ours(&metadata)) && is_abandoned(&path) {
            // What can't be removed now can be later.
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

fn is_abandoned(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        // Just made, or half removed: the latter is old soon.
        Err(_) => {
            let made = std::fs::metadata(path).and_then(|metadata| metadata.modified());
            made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() > 60))
        }
    }
}

/// Whether this user made it: in a directory that all may write to, anybody can take such a name.
#[cfg(unix)]
fn is_ours(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    // Where there is no /proc, nothing is removed.
    static UID: OnceLock<Option<u32>> = OnceLock::new();
    let uid = UID.get_or_init(|| std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid()));
    uid.is_some_and(|uid| uid == metadata.uid())
}

#[cfg(not(unix))]
fn is_ours(_: &Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_uses_is_removed() -> io::Result<()> {
        let below = std::env::temp_dir().join(format!("ebrec-sweep-{}", std::process::id()));
        std::fs::create_dir_all(&below)?;
        let used = make(&below)?;
        let dead = below.join(format!("{PREFIX}1-0"));
        std::fs::create_dir_all(dead.join("datafusion-x"))?;
        std::fs::write(dead.join(LOCK), "")?;
        std::fs::write(dead.join("datafusion-x/a"), "rows")?;
        let young = below.join(format!("{PREFIX}2-0"));
        std::fs::create_dir(&young)?;
        let other = below.join("something-else");
        std::fs::create_dir(&other)?;
        sweep(&below);
        assert_eq!([used.directory.path(), &dead, &young, &other].map(Path::exists), [true, false, true, true]);
        drop(used);
        std::fs::remove_dir_all(&below)
    }
}
