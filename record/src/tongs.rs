//! What others control is opened with tongs: every path, /proc file, library, perf map and debug file that is not the recorder's own.
//!
//! Any user can put a FIFO, a device, a symbolic link, an endless or a sparse file where a library was, or mount a file system that
//! never answers. So nothing of others is opened before it is known to be a regular file ([`file`] looks with `O_PATH`, which asks
//! no driver), never so that it may wait (`O_NONBLOCK`), never beyond the root that a path belongs to ([`in_root_of`]), and never
//! read further than a limit. And because a read of a regular file may still never return (NFS, FUSE, `userfaultfd`, or a
//! process whose memory is locked), all of this happens on the threads of a [`Fetcher`], for which nobody waits longer than
//! there is patience. `record/clippy.toml` forbids the ways around this module.

use crate::scheduling::{Class, spawn};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// What is read at most of a file of the system: of /proc/vmstat, mountinfo, os-release and their like.
const MOST_SYSTEM_BYTES: usize = 4 << 20;
/// A file's flags, beyond what it is opened for: it must not be waited for, become our terminal, or be handed to COMMAND.
const FLAGS: libc::c_int = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;

/// Why something of others was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was gone by then, or the pid is another process's.
    Gone,
    /// It may not be read.
    Denied,
    /// It is a FIFO, a device, a directory, or another file than was mapped.
    Odd,
    /// It did not come in time.
    Slow,
    /// Something else.
    Failed,
}

impl Why {
    const ALL: [(Why, &'static str); 5] = [
        (Why::Gone, "gone"),
        (Why::Denied, "not permitted"),
        (Why::Odd, "not the file that it should be"),
        (Why::Slow, "no answer in time"),
        (Why::Failed, "unreadable"),
    ];

    /// What an error stands for.
    pub fn of(error: &io::Error) -> Why {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Why::Gone,
            Some(libc::EACCES | libc::EPERM) => Why::Denied,
            Some(libc::ELOOP | libc::ENOTDIR | libc::EXDEV | libc::ENXIO) => Why::Odd,
            None if error.kind() == io::ErrorKind::InvalidInput => Why::Odd,
            _ => Why::Failed,
        }
    }
}

/// What was to be read; the names are those that the manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Command line and cgroup of a process (table `process`).
    Process,
    /// What a process has mapped.
    Mappings,
    /// A library or program.
    Program,
    /// A perf map.
    PerfMap,
}

impl What {
    const ALL: [(What, &'static str); 4] = [
        (What::Process, "process details"),
        (What::Mappings, "mappings of a process"),
        (What::Program, "program or library"),
        (What::PerfMap, "perf map"),
    ];
}

static UNREAD: [[AtomicU64; Why::ALL.len()]; What::ALL.len()] = [const { [const { AtomicU64::new(0) }; Why::ALL.len()] }; What::ALL.len()];

/// Counts what could not be read: the column that depends on it is null.
pub fn count(what: What, why: Why) {
    UNREAD[what as usize][why as usize].fetch_add(1, Ordering::Relaxed);
}

/// What could not be read so far, and why, as the manifest tells it.
pub fn unread() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (what, name) in What::ALL {
        for (why, reason) in Why::ALL {
            let count = UNREAD[what as usize][why as usize].load(Ordering::Relaxed);
            if count > 0 {
                all.insert(format!("{name}: {reason}"), count);
            }
        }
    }
    all
}

fn odd(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_owned())
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| odd("its name contains NUL"))
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Opens without asking any driver, only to look.
fn look(path: &Path, more: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path ends with NUL.
    owned(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC | more) }.into())
}

/// What [`look`] found, opened for reading if it is a regular file.
fn reopen(found: OwnedFd) -> io::Result<File> {
    let found = File::from(found);
    let metadata = found.metadata()?;
    if !metadata.is_file() {
        return Err(odd("not a regular file"));
    }
    let path = c_path(Path::new(&path_of(&found)))?;
    // SAFETY: the path ends with NUL.
    Ok(File::from(owned(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | FLAGS) }.into())?))
}

/// A regular file of others, for reading. Anything else is not even opened.
pub fn file(path: impl AsRef<Path>) -> io::Result<File> {
    reopen(look(path.as_ref(), 0)?)
}

/// The directory that is the root of a process.
pub fn root_of(pid: u32) -> io::Result<OwnedFd> {
    look(Path::new(&format!("/proc/{pid}/root")), libc::O_DIRECTORY)
}

/// A directory below `root`, by a name that is no link.
pub fn directory_in(root: &OwnedFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    resolve(root, path.as_ref(), libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)
}

/// A regular file by its path below `root`: links and `..` don't lead out of it. `follow` tells whether there may be links at all.
pub fn in_root(root: &OwnedFd, path: impl AsRef<Path>, follow: bool) -> io::Result<File> {
    reopen(resolve(root, path.as_ref(), 0, if follow { 0 } else { libc::RESOLVE_NO_SYMLINKS })?)
}

fn resolve(root: &OwnedFd, path: &Path, flags: libc::c_int, how_to: u64) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: open_how is plain numbers, for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | flags) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | how_to;
    // SAFETY: the path ends with NUL; `how` is initialised and of the stated size.
    owned(unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>()) })
}

/// A regular file by its path as the process names it.
pub fn in_root_of(pid: u32, path: impl AsRef<Path>) -> io::Result<File> {
    in_root(&root_of(pid)?, path, true)
}

/// What a file has, up to `most` bytes; the second is whether there was more. Its size is not believed.
pub fn bytes_of(file: impl Read, most: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    let more = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, more))
}

/// A file of a process in /proc, and whether there was more. Empty is what is gone: a zombie, a thread of the kernel.
pub fn of_process(pid: u32, name: &str, most: usize) -> io::Result<(Vec<u8>, bool)> {
    bytes_of(system_file(format!("/proc/{pid}/{name}"))?, most)
}

/// A file that only the kernel and root write, opened for reading.
pub fn system_file(path: impl AsRef<Path>) -> io::Result<File> {
    let path = c_path(path.as_ref())?;
    // SAFETY: the path ends with NUL.
    let file = File::from(owned(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | FLAGS) }.into())?);
    if !file.metadata()?.is_file() {
        return Err(odd("not a regular file"));
    }
    Ok(file)
}

/// What such a file has.
pub fn system(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    Ok(bytes_of(system_file(path)?, MOST_SYSTEM_BYTES)?.0)
}

/// The same as text, bytes outside of UTF-8 escaped.
pub fn system_text(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(ebrec_format::text::escape(&system(path)?).into_owned())
}

/// The names in a directory of the system, sorted; those that aren't text are left out.
pub fn names(directory: impl AsRef<Path>) -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "directories of /proc and /sys, which the kernel makes")]
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Names of the directories in a directory of the kernel's; nothing if it isn't there (any more).
pub fn directories(directory: impl AsRef<Path>) -> Vec<OsString> {
    #[expect(clippy::disallowed_methods, reason = "directories of /sys, which the kernel makes")]
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let is_directory = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter_map(io::Result::ok).filter(is_directory).map(|entry| entry.file_name()).collect()
}

/// Whether a file stays as it is while it is mapped: only root may change it, and no other machine or program has it. A file that gets
/// shorter takes those with it that have it mapped (SIGBUS).
pub fn is_steady(file: &File) -> bool {
    /// File systems whose files come from elsewhere (include/uapi/linux/magic.h): FUSE, NFS, SMB, 9P, Ceph, AFS, Coda.
    const ELSEWHERE: [u32; 9] = [0x6573_5546, 0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f, 0x7375_7245];
    use std::os::unix::fs::MetadataExt;
    let by_root = file.metadata().is_ok_and(|metadata| metadata.uid() == 0 && metadata.mode() & 0o022 == 0);
    // SAFETY: statfs is plain numbers, for which zero is valid.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, `system` is valid to write to.
    by_root && unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut system) } == 0 && !ELSEWHERE.contains(&(system.f_type as u32))
}

/// The path under which an open file can be opened again.
pub fn path_of(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

type Errand = Box<dyn FnOnce() + Send>;

/// Threads that do what may never return. One works at a time; one that doesn't return is left behind, and ends when it does.
#[derive(Debug)]
pub struct Fetcher {
    name: &'static str,
    hand: Option<SyncSender<Errand>>,
    /// Threads that were left behind and have not returned yet.
    stuck: Arc<AtomicU32>,
}

/// So many threads may be left behind; then nothing more is fetched until one returns.
const MOST_STUCK: u32 = 4;

impl Fetcher {
    /// `name` is what its threads are called.
    pub fn new(name: &'static str) -> Fetcher {
        Fetcher { name, hand: None, stuck: Arc::default() }
    }

    /// Does something on another thread, for which the caller waits as long as `patience`. `None` if it takes longer: what it returns
    /// then is dropped there.
    pub fn fetch<T: Send + 'static>(&mut self, patience: Duration, errand: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (give, take) = sync_channel(1);
        let hand = match self.hand.take() {
            Some(hand) => hand,
            None if self.stuck.load(Ordering::Acquire) >= MOST_STUCK => return None,
            None => self.reach().ok()?,
        };
        hand.send(Box::new(move || drop(give.send(errand())))).ok()?;
        match take.recv_timeout(patience) {
            Ok(result) => {
                self.hand = Some(hand);
                Some(result)
            }
            // The errand panicked, and its thread is gone.
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                // Counted before the thread can see that it was left behind, which is when its queue ends.
                self.stuck.fetch_add(1, Ordering::AcqRel);
                drop(hand);
                None
            }
        }
    }

    fn reach(&self) -> io::Result<SyncSender<Errand>> {
        let (hand, errands): (_, Receiver<Errand>) = sync_channel(1);
        let stuck = self.stuck.clone();
        // Somebody waits for it, on a host where others may wait seconds for a CPU.
        spawn(Class::Favoured, self.name, move || {
            for errand in errands {
                errand();
            }
            // Either the fetcher is gone, and nobody counts, or this thread was left behind.
            let _ = stuck.fetch_update(Ordering::AcqRel, Ordering::Acquire, |stuck| stuck.checked_sub(1));
        })?;
        Ok(hand)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests' own files")]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::Instant;

    /// A directory of odd things that goes with its test.
    struct Odd(PathBuf);

    impl Odd {
        fn new(name: &str) -> io::Result<Odd> {
            let path = std::env::temp_dir().join(format!("ebrec-tongs-{name}-{}", std::process::id()));
            std::fs::create_dir(&path)?;
            Ok(Odd(path))
        }

        fn fifo(&self, name: &str) -> io::Result<PathBuf> {
            let path = self.0.join(name);
            let c = c_path(&path)?;
            // SAFETY: the path ends with NUL.
            if unsafe { libc::mkfifo(c.as_ptr(), 0o644) } != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(path)
        }
    }

    impl Drop for Odd {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() -> io::Result<()> {
        let odd = Odd::new("kinds")?;
        let began = Instant::now();
        for path in [odd.fifo("libc.so.6")?, "/dev/zero".into(), "/dev/tty".into(), odd.0.clone()] {
            let error = file(&path).err().map(|error| Why::of(&error));
            assert_eq!(error, Some(Why::Odd), "{}", path.display());
            assert!(system(&path).is_err(), "{}", path.display());
        }
        assert_eq!(file(odd.0.join("nothing")).err().map(|error| Why::of(&error)), Some(Why::Gone));
        assert!(began.elapsed() < Duration::from_secs(1));
        Ok(())
    }

    #[test]
    fn a_path_does_not_leave_its_root() -> io::Result<()> {
        let odd = Odd::new("root")?;
        std::fs::create_dir(odd.0.join("etc"))?;
        std::fs::File::create(odd.0.join("etc/hostname"))?.write_all(b"inside")?;
        symlink("/etc/hostname", odd.0.join("absolute"))?;
        symlink("../../../../../../etc/passwd", odd.0.join("upwards"))?;
        symlink("/proc/self/exe", odd.0.join("magic"))?;
        odd.fifo("fifo")?;
        let root = look(&odd.0, libc::O_DIRECTORY)?;
        let read = |path: &str, follow| in_root(&root, path, follow).and_then(|file| bytes_of(file, 100));
        assert_eq!(read("/etc/hostname", false)?.0, b"inside");
        assert_eq!(read("absolute", true)?.0, b"inside", "the root is where absolute links begin");
        assert!(read("absolute", false).is_err());
        for path in ["upwards", "magic", "fifo", "/proc/self/exe"] {
            assert!(read(path, true).is_err(), "{path}");
        }
        Ok(())
    }

    #[test]
    fn only_files_of_root_are_steady() -> io::Result<()> {
        let odd = Odd::new("steady")?;
        let path = odd.0.join("file");
        std::fs::write(&path, b"x")?;
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
        assert!(!is_steady(&file(&path)?), "anybody may make it shorter");
        // Whoever runs the tests may have it writable, or on another machine.
        if std::path::Path::new("/usr/bin/env").exists() {
            let program = file("/usr/bin/env")?;
            assert_eq!(is_steady(&program), std::os::unix::fs::MetadataExt::uid(&program.metadata()?) == 0);
        }
        Ok(())
    }

    #[test]
    fn no_file_is_read_beyond_the_limit() -> io::Result<()> {
        let odd = Odd::new("sizes")?;
        let path = odd.0.join("sparse");
        std::fs::File::create(&path)?.set_len(1 << 40)?;
        assert_eq!(bytes_of(file(&path)?, 5000)?, (vec![0; 5000], true));
        std::fs::write(&path, b"12345")?;
        assert_eq!(bytes_of(file(&path)?, 5)?, (b"12345".to_vec(), false));
        assert!(of_process(std::process::id(), "maps", 100)?.1, "there is more");
        assert!(of_process(u32::MAX, "maps", 100).is_err());
        Ok(())
    }

    #[test]
    fn nobody_waits_for_what_does_not_return() {
        let mut fetcher = Fetcher::new("ebrec-test");
        assert_eq!(fetcher.fetch(Duration::from_secs(5), || 7), Some(7));
        let began = Instant::now();
        let (hold, held) = sync_channel::<()>(0);
        let held = Arc::new(std::sync::Mutex::new(held));
        for _ in 0..MOST_STUCK {
            let held = held.clone();
            let never = move || drop(held.lock().map(|held| held.recv()));
            assert_eq!(fetcher.fetch(Duration::from_millis(10), never), None);
        }
        // All hands are bound: it says so at once.
        assert_eq!(fetcher.fetch(Duration::from_secs(60), || 7), None);
        assert!(began.elapsed() < Duration::from_secs(5));
        // They come back.
        drop(hold);
        let limit = Instant::now() + Duration::from_secs(5);
        while fetcher.fetch(Duration::from_secs(1), || 7) != Some(7) {
            assert!(Instant::now() < limit, "no hand came back");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_not_read_is_counted() {
        count(What::PerfMap, Why::Odd);
        assert!(unread().get("perf map: not the file that it should be").is_some_and(|&count| count > 0));
    }
}
