//! The one place where a capture's files get their names, are replaced and are removed.
//!
//! The order is always the same: the data is synced, then it gets its name, then the directory is synced, and only then what it
//! stands for is removed. Whatever fails on the way, nothing has been removed by then. So at any instant, and after a power loss at
//! any instant, the names that are there lead to whole files, and what was sealed is behind one of them.

use anyhow::{Context, Result, bail};
use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Suffix of a file that isn't whole yet. No reader looks at it.
const TEMPORARY: &str = "tmp";

/// Creates a file that only its owner can read: captures contain secrets. What somebody has put in its place, a link above all, is not
/// written to: under sudo the directory is another user's, and so is the file then ([`crate::owner`]).
pub fn create(path: &Path) -> Result<File> {
    let _ = std::fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    crate::owner::give(&file);
    Ok(file)
}

/// Creates a directory that only its owner can enter, and makes its name durable.
pub fn create_directory(path: &Path) -> Result<()> {
    begin_directory(path)?;
    sync_directory(parent(path))
}

/// Creates one whose name will be made durable by a [`sync_directory`] to come: that waits for the disk.
pub fn begin_directory(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot create {}", path.display()))?;
    if let Ok(directory) = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path) {
        crate::owner::give(&directory);
    }
    Ok(())
}

/// Makes the names in a directory durable. Not every file system lets a directory be synced; those that can't say so.
pub fn sync_directory(path: &Path) -> Result<()> {
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::EBADF | libc::EROFS)) => {
            Err(error).with_context(|| format!("cannot sync {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The directory that a name is in.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Files that get their names together, so that their directories are synced once.
#[derive(Default)]
pub struct Group {
    named: Vec<(PathBuf, PathBuf)>,
}

impl Group {
    /// Writes and syncs a file under a temporary name.
    pub fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = path.with_extension(TEMPORARY);
        let mut file = create(&temporary)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // It may be what the disk has no room for.
            let _ = std::fs::remove_file(&temporary);
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
        self.named.push((temporary, path.to_owned()));
        Ok(())
    }

    /// Gives the files their names and makes the names durable.
    pub fn name(self) -> Result<()> {
        let mut directories: Vec<PathBuf> = Vec::new();
        for (temporary, path) in &self.named {
            std::fs::rename(temporary, path).with_context(|| format!("cannot write {}", path.display()))?;
            let directory = parent(path);
            if !directories.iter().any(|known| known == directory) {
                directories.push(directory.to_owned());
            }
        }
        directories.iter().try_for_each(|directory| sync_directory(directory))
    }
}

/// Gives a finished file or directory its final name, and makes that durable. With `force` it takes the place of what has the
/// name, in one step; returned is where that is now, for the caller to remove. Without, a name that is taken is an error.
///
/// A file keeps its old name as well where the file system has links, so that whoever reads it at this moment still finds it.
pub fn publish(made: &Path, name: &Path, force: bool) -> Result<Option<PathBuf>> {
    let failed = || format!("cannot create {}", name.display());
    let is_file = made.symlink_metadata().with_context(failed)?.is_file();
    let linked = made.with_extension("finished");
    let made = if is_file && std::fs::hard_link(made, &linked).is_ok() { linked.as_path() } else { made };
    let old = match rename_with(made, name, libc::RENAME_NOREPLACE) {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::AlreadyExists && force => {
            if is_file && !name.symlink_metadata().is_ok_and(|old| old.is_dir()) {
                std::fs::rename(made, name).with_context(failed)?;
                None
            } else {
                exchange(made, name).with_context(failed)?;
                Some(made.to_owned())
            }
        }
        Err(error) => {
            if made == linked {
                let _ = std::fs::remove_file(&linked);
            }
            return Err(error).with_context(failed);
        }
    };
    sync_directory(parent(name))?;
    Ok(old)
}

/// What has the name `name` and `made` change places.
fn exchange(made: &Path, name: &Path) -> io::Result<()> {
    match rename_with(made, name, libc::RENAME_EXCHANGE) {
        Err(error) if lacks_flags(&error) => {
            // Two steps, between which the old one has another name: both are there at any time.
            let aside = free_name(made, "old");
            std::fs::rename(name, &aside)?;
            std::fs::rename(made, name)?;
            std::fs::rename(&aside, made)
        }
        other => other,
    }
}

/// rename(2) with flags. A file system without `RENAME_NOREPLACE` is asked whether the name is free.
fn rename_with(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    let [c_from, c_to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (c_from, c_to) = (c_from?, c_to?);
    // SAFETY: both paths are terminated and live across the call. Not the C library's function, which old ones lack.
    let done = unsafe { libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, c_from.as_ptr(), libc::AT_FDCWD, c_to.as_ptr(), flags) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if flags == libc::RENAME_NOREPLACE && lacks_flags(&error) {
        return if to.symlink_metadata().is_ok() { Err(ErrorKind::AlreadyExists.into()) } else { std::fs::rename(from, to) };
    }
    Err(error)
}

fn lacks_flags(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::ENOTSUP))
}

/// `PATH.SUFFIX`, or with the first number for which nothing has that name.
pub fn free_name(path: &Path, suffix: &str) -> PathBuf {
    let mut number = 1;
    loop {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { format!(".{suffix}") } else { format!(".{suffix}{number}") });
        if Path::new(&name).symlink_metadata().is_err() {
            return name.into();
        }
        number += 1;
    }
}

/// Puts what a recording that was killed has left out of the way of a new one. It is removed when the new one is complete.
pub fn set_aside(partial: &Path) -> Result<PathBuf> {
    let aside = free_name(partial, "old");
    std::fs::rename(partial, &aside).with_context(|| format!("cannot rename {}", partial.display()))?;
    sync_directory(parent(partial))?;
    Ok(aside)
}

/// Holds a recording's directory, so that no other recorder takes it for one that was killed. `None` where the file system has no locks.
pub fn hold(directory: &Path) -> Result<Option<File>> {
    let handle = File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
    match handle.try_lock() {
        Ok(()) => Ok(Some(handle)),
        Err(std::fs::TryLockError::WouldBlock) => bail!("{} is being written by another recorder", directory.display()),
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes a file or a directory that something else stands for now. What is left of it does no harm.
pub fn remove(path: &Path) {
    let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let _ = if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ebrec-durable-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_name_that_is_taken_is_only_replaced_by_force() {
        let dir = place("taken");
        let (made, name) = (dir.join("pack.zip"), dir.join("c.ebrec"));
        std::fs::write(&made, "new").unwrap();
        std::fs::write(&name, "old").unwrap();
        assert!(publish(&made, &name, false).is_err());
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "old");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
        assert_eq!(publish(&made, &name, true).unwrap(), None);
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "new");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_and_a_file_take_each_others_place() {
        let dir = place("exchange");
        let (made, name) = (dir.join("pack.zip"), dir.join("c.ebrec"));
        std::fs::write(&made, "new").unwrap();
        std::fs::create_dir(&name).unwrap();
        std::fs::write(name.join("manifest.json"), "old").unwrap();
        let old = publish(&made, &name, true).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "new");
        assert_eq!(std::fs::read_to_string(old.join("manifest.json")).unwrap(), "old");
        remove(&old);
        let (made, name) = (dir.join("c.partial"), dir.join("c.ebrec"));
        std::fs::create_dir(&made).unwrap();
        let old = publish(&made, &name, true).unwrap().unwrap();
        assert!(name.is_dir());
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "new");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_was_set_aside_is_never_overwritten() {
        let dir = place("aside");
        let partial = dir.join("c.ebrec.partial");
        let mut names = Vec::new();
        for _ in 0..3 {
            std::fs::create_dir(&partial).unwrap();
            names.push(set_aside(&partial).unwrap());
        }
        assert_eq!(names, ["c.ebrec.partial.old", "c.ebrec.partial.old2", "c.ebrec.partial.old3"].map(|name| dir.join(name)));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_is_held_once() {
        let dir = place("held");
        let first = hold(&dir).unwrap();
        assert!(first.is_some() && hold(&dir).is_err());
        drop(first);
        assert!(hold(&dir).is_ok());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_has_no_name_before_it_is_whole() {
        let dir = place("group");
        let mut group = Group::default();
        group.write(&dir.join("a.parquet"), b"a").unwrap();
        assert!(!dir.join("a.parquet").exists());
        group.write(&dir.join("b.parquet"), b"b").unwrap();
        group.name().unwrap();
        assert_eq!(std::fs::read(dir.join("a.parquet")).unwrap(), b"a");
        assert!(Group::default().write(&dir.join("nowhere/c.parquet"), b"c").is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
