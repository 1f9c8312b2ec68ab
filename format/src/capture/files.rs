//! Opening the files of a capture, which may come from anybody: nothing here waits, and nothing is read that isn't a regular file.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many files are kept open, of all captures. Others are opened when they are read: a process may have 1024, usually.
const HELD: usize = 600;

static HELD_NOW: AtomicUsize = AtomicUsize::new(0);

/// Opens a regular file, anything else is an error. `follow` allows a symbolic link: in what the user named, never within a capture.
pub fn open_regular(path: &Path, follow: bool) -> io::Result<File> {
    let metadata = if follow { std::fs::metadata(path)? } else { std::fs::symlink_metadata(path)? };
    // Before it is opened, because opening alone can do something to a device.
    check(&metadata)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // It may have been replaced since.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | if follow { 0 } else { libc::O_NOFOLLOW });
    }
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = match kind {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a directory",
        _ => "a FIFO, socket or device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a file")))
}

/// A file that can be read at any place.
#[derive(Debug, Clone)]
pub enum Source {
    /// It is open.
    Open(Arc<OpenFile>),
    /// It is opened each time.
    At(PathBuf),
}

/// An open file; counted.
#[derive(Debug)]
pub struct OpenFile(File);

impl Drop for OpenFile {
    fn drop(&mut self) {
        HELD_NOW.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Source {
    /// Keeps a file open.
    pub fn open(file: File) -> Source {
        HELD_NOW.fetch_add(1, Ordering::Relaxed);
        Source::Open(Arc::new(OpenFile(file)))
    }

    /// Keeps a file open, unless there are many already.
    pub fn of(file: File, path: PathBuf) -> Source {
        if HELD_NOW.load(Ordering::Relaxed) < HELD { Source::open(file) } else { Source::At(path) }
    }

    /// Fills `bytes` from `offset` on.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Source::Open(file) => read_exact_at(&file.0, bytes, offset),
            Source::At(path) => read_exact_at(&open_regular(path, false)?, bytes, offset),
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_read(bytes, offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}
