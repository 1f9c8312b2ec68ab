//! Reads, writes, copies, syncs and truncates of every kind, and what must not be taken for one.

use super::log::{File, Io, Log, NOWHERE, Open};
use crate::sys;
use ebrec_tests::{Context, Result, fail};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

const RW_NEW: (i32, &str) = (libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, "O_RDWR|O_CREAT|O_TRUNC");
const APPEND_NEW: (i32, &str) = (libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND, "O_WRONLY|O_CREAT|O_APPEND");
const RWF_APPEND: i64 = 0x10;

/// Opens a new file.
pub fn create(log: &mut Log, name: &[u8], flags: (i32, &'static str)) -> Result<File> {
    let path = log.path(name);
    log.opened(&Open { flags, mode: Some(0o644), ..Open::at(name, path) })
}

/// A call with its arguments; what it returned, or `-errno`.
fn call(number: libc::c_long, args: [i64; 6]) -> i64 {
    // SAFETY: the callers pass addresses of buffers that live across the call, or one that the kernel refuses.
    let ret = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret < 0 { -i64::from(sys::errno()) } else { ret }
}

/// Makes calls on files, notes them, and checks that they did what this workload believes of them.
struct Worker<'a> {
    log: &'a mut Log,
    buffer: Vec<u8>,
}

/// The calls that take one buffer: name, number, operation, whether they name an offset.
const READ: (&str, libc::c_long, &str) = ("read", libc::SYS_read, "read");
const WRITE: (&str, libc::c_long, &str) = ("write", libc::SYS_write, "write");
const PREAD: (&str, libc::c_long, &str) = ("pread64", libc::SYS_pread64, "read");
const PWRITE: (&str, libc::c_long, &str) = ("pwrite64", libc::SYS_pwrite64, "write");
const READV: (&str, libc::c_long, &str) = ("readv", libc::SYS_readv, "read");
const WRITEV: (&str, libc::c_long, &str) = ("writev", libc::SYS_writev, "write");
const PREADV: (&str, libc::c_long, &str) = ("preadv", libc::SYS_preadv, "read");
const PWRITEV: (&str, libc::c_long, &str) = ("pwritev", libc::SYS_pwritev, "write");
const PREADV2: (&str, libc::c_long, &str) = ("preadv2", libc::SYS_preadv2, "read");
const PWRITEV2: (&str, libc::c_long, &str) = ("pwritev2", libc::SYS_pwritev2, "write");

impl Worker<'_> {
    /// `bytes` from or to a buffer. `argument` is the offset that is passed, `offset` the one that is meant.
    fn plain(&mut self, what: (&str, libc::c_long, &str), file: &File, bytes: u64, argument: i64, offset: i64, ret: i64) -> Result<()> {
        let (name, number, op) = what;
        self.buffer.resize(bytes as usize, b'x');
        let got = call(number, [i64::from(file.fd), self.buffer.as_mut_ptr() as i64, bytes as i64, argument, 0, 0]);
        self.note(op, name, file, Io { offset: Some(offset), requested: Some(bytes), ret: got, counts: true }, ret)
    }

    /// The same in pieces of these lengths.
    fn pieces(
        &mut self,
        what: (&str, libc::c_long, &str),
        file: &File,
        lengths: &[usize],
        (argument, flags): (i64, i64),
        offset: Option<i64>,
        ret: i64,
    ) -> Result<()> {
        let (name, number, op) = what;
        let bytes: usize = lengths.iter().sum();
        self.buffer.resize(bytes, b'y');
        let mut at = self.buffer.as_mut_ptr();
        let mut vector = Vec::new();
        for &length in lengths {
            vector.push(libc::iovec { iov_base: at.cast(), iov_len: length });
            at = at.wrapping_add(length);
        }
        let got = call(number, [i64::from(file.fd), vector.as_ptr() as i64, lengths.len() as i64, argument, 0, flags]);
        self.note(op, name, file, Io { offset, requested: Some(bytes as u64), ret: got, counts: true }, ret)
    }

    /// A call that moves no bytes.
    fn other(
        &mut self,
        op: &str,
        what: (&str, libc::c_long),
        file: &File,
        args: [i64; 3],
        place: (Option<i64>, Option<u64>),
    ) -> Result<()> {
        let got = call(what.1, [i64::from(file.fd), args[0], args[1], args[2], 0, 0]);
        self.note(op, what.0, file, Io { offset: place.0, requested: place.1, ret: got, counts: false }, 0)
    }

    fn note(&mut self, op: &str, name: &str, file: &File, io: Io, ret: i64) -> Result<()> {
        if io.ret != ret {
            return fail(format!("{name} returned {} instead of {ret}", io.ret));
        }
        self.log.row(op, name, file, io);
        Ok(())
    }

    fn seek(file: &File, to: i64) -> Result<()> {
        // SAFETY: no pointers.
        sys::check("lseek", unsafe { libc::lseek(file.fd, to, libc::SEEK_SET) })?;
        Ok(())
    }
}

pub fn run(log: &mut Log) -> Result<()> {
    let data = create(log, b"data", RW_NEW)?;
    let mut worker = Worker { log, buffer: Vec::new() };
    one_buffer(&mut worker, &data)?;
    many_buffers(&mut worker, &data)?;
    failures(&mut worker, &data)?;
    appends(&mut worker)?;
    names(&mut worker, &data)?;
    copies(&mut worker, &data)?;
    syncs(&mut worker, &data)?;
    no_files(&mut worker)
}

fn one_buffer(worker: &mut Worker<'_>, data: &File) -> Result<()> {
    worker.plain(WRITE, data, 4096, 0, 0, 4096)?;
    worker.plain(WRITE, data, 1, 0, 4096, 1)?;
    worker.plain(WRITE, data, 0, 0, 4097, 0)?;
    worker.plain(WRITE, data, 100_000, 0, 4097, 100_000)?;
    worker.plain(PWRITE, data, 10, 200_000, 200_000, 10)?;
    // 200010 bytes now, the position is at 104097.
    worker.plain(READ, data, 3, 0, 104_097, 3)?;
    Worker::seek(data, 200_000)?;
    worker.plain(READ, data, 4096, 0, 200_000, 10)?;
    worker.plain(READ, data, 4096, 0, 200_010, 0)?;
    worker.plain(PREAD, data, 100, 5000, 5000, 100)?;
    worker.plain(PREAD, data, 100, 200_000, 200_000, 10)?;
    worker.plain(PREAD, data, 100, 300_000, 300_000, 0)?;
    // Beyond what 32 bits can tell.
    worker.plain(PWRITE, data, 7, 5_000_000_000, 5_000_000_000, 7)?;
    worker.plain(PREAD, data, 7, 5_000_000_000, 5_000_000_000, 7)?;
    worker.other("truncate", ("ftruncate", libc::SYS_ftruncate), data, [200_010, 0, 0], (Some(200_010), None))?;
    // A duplicate shares the position.
    Worker::seek(data, 50)?;
    // SAFETY: no pointers.
    let twin = File { fd: sys::check("dup", unsafe { libc::dup(data.fd) })?, ..data.clone() };
    worker.plain(READ, &twin, 20, 0, 50, 20)?;
    worker.plain(READ, data, 20, 0, 70, 20)?;
    close(&twin);
    Ok(())
}

fn many_buffers(worker: &mut Worker<'_>, data: &File) -> Result<()> {
    Worker::seek(data, 1000)?;
    worker.pieces(WRITEV, data, &[10, 20, 30], (0, 0), Some(1000), 60)?;
    worker.pieces(READV, data, &[7; 100], (0, 0), Some(1060), 700)?;
    worker.pieces(READV, data, &[1; 1024], (0, 0), Some(1760), 1024)?;
    worker.pieces(PWRITEV, data, &[5, 0, 6], (9000, 0), Some(9000), 11)?;
    worker.pieces(PREADV, data, &[4096, 4096], (200_000, 0), Some(200_000), 10)?;
    worker.pieces(PREADV2, data, &[64], (-1, 0), Some(2784), 64)?;
    worker.pieces(PREADV2, data, &[64, 1], (128, 0), Some(128), 65)?;
    worker.pieces(PWRITEV2, data, &[32], (-1, 0), Some(2848), 32)?;
    worker.pieces(PWRITEV2, data, &[32, 33], (256, 0), Some(256), 65)?;
    // Where the end was isn't what the call says.
    worker.pieces(PWRITEV2, data, &[8], (256, RWF_APPEND), None, 8)?;
    worker.pieces(READV, data, &[], (0, 0), Some(2880), 0)
}

fn failures(worker: &mut Worker<'_>, data: &File) -> Result<()> {
    let path = worker.log.path(b"data");
    let read_only = worker.log.opened(&Open::at(b"data", path))?;
    worker.plain(WRITE, &read_only, 10, 0, 0, -i64::from(libc::EBADF))?;
    close(&read_only);
    worker.plain(PREAD, data, 10, -5, -5, -i64::from(libc::EINVAL))?;
    let got = call(libc::SYS_pread64, [i64::from(data.fd), NOWHERE as i64, 10, 0, 0, 0]);
    let io = Io { offset: Some(0), requested: Some(10), ret: got, counts: true };
    worker.note("read", "pread64", data, io, -i64::from(libc::EFAULT))?;
    // A vector that can't be read: nobody knows what was asked for.
    let got = call(libc::SYS_readv, [i64::from(data.fd), NOWHERE as i64, 2, 0, 0, 0]);
    let io = Io { offset: Some(2880), requested: None, ret: got, counts: true };
    worker.note("read", "readv", data, io, -i64::from(libc::EFAULT))?;
    // Not open: no file, no row.
    match call(libc::SYS_read, [98_765, 0, 0, 0, 0, 0]) {
        ret if ret == -i64::from(libc::EBADF) => Ok(()),
        other => fail(format!("read of no file: {other}")),
    }
}

fn appends(worker: &mut Worker<'_>) -> Result<()> {
    let log = create(worker.log, b"log", APPEND_NEW)?;
    let path = worker.log.path(b"log");
    let other = worker.log.opened(&Open { flags: (libc::O_WRONLY, "O_WRONLY"), ..Open::at(b"log", path) })?;
    worker.plain(WRITE, &log, 100, 0, 0, 100)?;
    worker.plain(PWRITE, &other, 50, 1000, 1000, 50)?;
    // To where the other left the end, not to where its own last write ended.
    worker.plain(WRITE, &log, 10, 0, 1050, 10)?;
    worker.pieces(WRITEV, &log, &[1, 2], (0, 0), Some(1060), 3)?;
    // pwrite(2), bugs: appends nevertheless.
    let got = call(libc::SYS_pwrite64, [i64::from(log.fd), worker.buffer.as_ptr() as i64, 1, 5, 0, 0]);
    worker.note("write", "pwrite64", &log, Io { offset: None, requested: Some(1), ret: got, counts: true }, 1)?;
    close(&log);
    close(&other);
    Ok(())
}

/// Files whose name changes, or goes, while they are open.
fn names(worker: &mut Worker<'_>, data: &File) -> Result<()> {
    let moved = create(worker.log, b"before", RW_NEW)?;
    worker.plain(WRITE, &moved, 3, 0, 0, 3)?;
    rename(worker.log, b"before", b"after")?;
    let moved = File { path: worker.log.path(b"after"), ..moved };
    worker.plain(WRITE, &moved, 3, 0, 3, 3)?;
    rename(worker.log, b"after", b"sub/after")?;
    let moved = File { path: worker.log.path(b"sub/after"), ..moved };
    worker.plain(WRITE, &moved, 3, 0, 6, 3)?;
    worker.log.unlink("unlinkat", libc::AT_FDCWD, &moved.path, Some(moved.path.clone()), 0)?;
    worker.plain(WRITE, &moved, 3, 0, 9, 3)?;
    worker.plain(PREAD, &moved, 100, 0, 0, 12)?;
    close(&moved);
    // The same name once more is another file.
    let again = create(worker.log, b"before", RW_NEW)?;
    worker.plain(WRITE, &again, 5, 0, 0, 5)?;
    close(&again);
    // A second name for the same file.
    std::fs::hard_link(path_of(&data.path), path_of(&worker.log.path(b"data-too"))).context("link")?;
    let path = worker.log.path(b"data-too");
    let too = worker.log.opened(&Open::at(b"data-too", path))?;
    worker.plain(READ, &too, 5, 0, 0, 5)?;
    worker.plain(PREAD, data, 5, 0, 0, 5)?;
    close(&too);
    Ok(())
}

/// Between files, and between files and pipes.
fn copies(worker: &mut Worker<'_>, data: &File) -> Result<()> {
    let copy = create(worker.log, b"copy", RW_NEW)?;
    let (out, into) = sys::pipe()?;
    let [from, to, pipe_out, pipe_in] = [data.fd, copy.fd, out.as_raw_fd(), into.as_raw_fd()].map(i64::from);
    Worker::seek(data, 100)?;
    let at = |offset: i64, requested: u64, ret: i64| Io { offset: Some(offset), requested: Some(requested), ret, counts: true };
    // sendfile: from its position, then from a place that is named; to the other's position.
    let got = call(libc::SYS_sendfile, [to, from, 0, 4000, 0, 0]);
    worker.note("read", "sendfile", data, at(100, 4000, got), 4000)?;
    worker.note("write", "sendfile", &copy, at(0, 4000, got), 4000)?;
    let mut place: i64 = 10_000;
    let got = call(libc::SYS_sendfile, [to, from, &raw mut place as i64, 500, 0, 0]);
    worker.note("read", "sendfile", data, at(10_000, 500, got), 500)?;
    worker.note("write", "sendfile", &copy, at(4000, 500, got), 500)?;
    let got = call(libc::SYS_sendfile, [pipe_in, from, 0, 300, 0, 0]);
    worker.note("read", "sendfile", data, at(4100, 300, got), 300)?;
    // splice: from a pipe to a file and back.
    let mut place: i64 = 8000;
    let got = call(libc::SYS_splice, [pipe_out, 0, to, &raw mut place as i64, 300, 0]);
    worker.note("write", "splice", &copy, at(8000, 300, got), 300)?;
    let got = call(libc::SYS_splice, [from, 0, pipe_in, 0, 200, 0]);
    worker.note("read", "splice", data, at(4400, 200, got), 200)?;
    let got = call(libc::SYS_splice, [pipe_out, 0, to, 0, 4096, 0]);
    worker.note("write", "splice", &copy, at(4500, 4096, got), 200)?;
    let (mut source, mut target): (i64, i64) = (1000, 20_000);
    let got = call(libc::SYS_copy_file_range, [from, &raw mut source as i64, to, &raw mut target as i64, 700, 0]);
    worker.note("read", "copy_file_range", data, at(1000, 700, got), 700)?;
    worker.note("write", "copy_file_range", &copy, at(20_000, 700, got), 700)?;
    let got = call(libc::SYS_copy_file_range, [from, 0, to, 0, 700, 0]);
    worker.note("read", "copy_file_range", data, at(4600, 700, got), 700)?;
    worker.note("write", "copy_file_range", &copy, at(4700, 700, got), 700)?;
    close(&copy);
    Ok(())
}

fn syncs(worker: &mut Worker<'_>, data: &File) -> Result<()> {
    worker.other("sync", ("fsync", libc::SYS_fsync), data, [0; 3], (None, None))?;
    worker.other("sync", ("fdatasync", libc::SYS_fdatasync), data, [0; 3], (None, None))?;
    worker.other("sync", ("sync_file_range", libc::SYS_sync_file_range), data, [4096, 8192, 7], (Some(4096), Some(8192)))?;
    worker.other("truncate", ("ftruncate", libc::SYS_ftruncate), data, [12, 0, 0], (Some(12), None))?;
    // By name: nothing else is known of the file. What fails may be no file.
    for (name, ret) in [(&b"data\0"[..], 0), (b"sub\0", -i64::from(libc::EISDIR)), (b"absent\0", -i64::from(libc::ENOENT))] {
        let got = call(libc::SYS_truncate, [name.as_ptr() as i64, 5, 0, 0, 0, 0]);
        if got != ret {
            return fail(format!("truncate returned {got} instead of {ret}"));
        }
    }
    worker.log.row("truncate", "truncate", data, Io { offset: Some(5), ..Io::default() });
    let row = worker.log.ios.last_mut().context("no row")?;
    for unknown in ["fs", "dev", "inode"] {
        row[unknown] = serde_json::Value::Null;
    }
    Ok(())
}

/// Pipes, sockets, devices and directories: none of them is a regular file.
fn no_files(worker: &mut Worker<'_>) -> Result<()> {
    let (out, into) = sys::pipe()?;
    let (left, right) = std::os::unix::net::UnixStream::pair().context("socketpair")?;
    let zero = worker.log.opened(&Open::at(b"/dev/zero", b"/dev/zero".to_vec()))?;
    let mut byte = 0_u8;
    let at = &raw mut byte as i64;
    for _ in 0..10 {
        for (number, fd) in [
            (libc::SYS_write, into.as_raw_fd()),
            (libc::SYS_read, out.as_raw_fd()),
            (libc::SYS_write, left.as_raw_fd()),
            (libc::SYS_read, right.as_raw_fd()),
            (libc::SYS_read, zero.fd),
        ] {
            if call(number, [i64::from(fd), at, 1, 0, 0, 0]) != 1 {
                return fail("one byte could not be passed on");
            }
        }
    }
    close(&zero);
    Ok(())
}

fn rename(log: &Log, from: &[u8], to: &[u8]) -> Result<()> {
    std::fs::rename(path_of(&log.path(from)), path_of(&log.path(to))).context("rename")
}

fn path_of(path: &[u8]) -> &std::path::Path {
    std::path::Path::new(std::ffi::OsStr::from_bytes(path))
}

fn close(file: &File) {
    // SAFETY: our own descriptor, not used afterwards.
    unsafe { libc::close(file.fd) };
}
