//! Sending and receiving with a chosen system call, counted call by call.

use crate::net::Side;
use crate::sys;
use ebrec_tests::{Context, Error, Result, fail};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};

/// The call that sends.
#[derive(Clone, Copy, PartialEq)]
#[allow(missing_docs, reason = "named for the call")]
pub enum SendBy {
    Write,
    Send,
    Sendmsg,
    Sendfile,
}

/// The call that receives.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "named for the call")]
pub enum RecvBy {
    Read,
    Recv,
    Recvmsg,
}

impl SendBy {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 4] =
        [(Self::Write, "write"), (Self::Send, "send"), (Self::Sendmsg, "sendmsg"), (Self::Sendfile, "sendfile")];
}

impl RecvBy {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Read, "read"), (Self::Recv, "recv"), (Self::Recvmsg, "recvmsg")];
}

/// Sends `bytes` in calls of at most `chunk`.
pub fn send(side: &mut Side, bytes: u64, chunk: usize, by: SendBy) -> Result<()> {
    let fd = side.fd()?;
    let mut buffer = vec![b'.'; chunk];
    let file = if by == SendBy::Sendfile { Some(memory_file(bytes)?) } else { None };
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk as u64) as usize;
        let data = buffer.as_mut_ptr().cast::<libc::c_void>();
        let sent = match (by, &file) {
            // SAFETY: `data` has at least `now` bytes.
            (SendBy::Write, _) => unsafe { libc::write(fd, data, now) },
            // SAFETY: as above.
            (SendBy::Send, _) => unsafe { libc::send(fd, data, now, libc::MSG_NOSIGNAL) },
            (SendBy::Sendmsg, _) => {
                let half = now / 2;
                with_message(&mut [iovec(&mut buffer[..half]), iovec(&mut buffer[half..now])], |message| {
                    // SAFETY: the message and its buffers live across the call.
                    unsafe { libc::sendmsg(fd, message, libc::MSG_NOSIGNAL) }
                })
            }
            // SAFETY: both descriptors are open; the file's own offset is used.
            (SendBy::Sendfile, Some(file)) => unsafe { libc::sendfile(fd, file.as_raw_fd(), std::ptr::null_mut(), now) },
            (SendBy::Sendfile, None) => return fail("no file to send"),
        };
        let sent = sys::check("send", sent)? as u64;
        if sent == 0 {
            return fail("a send sent nothing");
        }
        if by == SendBy::Sendfile {
            side.tally.sendfile_calls += 1;
            side.tally.sendfile_bytes += sent;
        } else {
            side.tally.send_calls += 1;
        }
        side.tally.tx_bytes += sent;
        left -= sent;
    }
    Ok(())
}

/// Receives exactly `bytes` in calls that take at most `chunk`; peeks before each if `peek`.
pub fn recv(side: &mut Side, bytes: u64, chunk: usize, by: RecvBy, peek: bool) -> Result<()> {
    let mut left = bytes;
    let mut buffer = vec![0; chunk];
    while left > 0 {
        let now = &mut buffer[..left.min(chunk as u64) as usize];
        if peek {
            // SAFETY: `now` lives across the call and its length is given.
            let seen = unsafe { libc::recv(side.fd()?, now.as_mut_ptr().cast(), now.len(), libc::MSG_PEEK) };
            side.tally.peek_bytes += sys::check("recv(MSG_PEEK)", seen)? as u64;
            side.tally.peek_calls += 1;
        }
        match recv_once(side, now, by)? {
            Ok(0) => return fail(format!("the stream ended {left} bytes early")),
            Ok(got) => left -= got as u64,
            Err(errno) => return Err(Error::new(format!("receive: {}", std::io::Error::from_raw_os_error(errno)))),
        }
    }
    Ok(())
}

/// Receives the end of the stream.
pub fn recv_eof(side: &mut Side, by: RecvBy) -> Result<()> {
    match recv_once(side, &mut [0; 16], by)? {
        Ok(0) => Ok(()),
        other => fail(format!("expected the end of the stream, got {other:?}")),
    }
}

/// Receives the news that the other side reset the connection.
pub fn recv_reset(side: &mut Side, by: RecvBy) -> Result<()> {
    match recv_once(side, &mut [0; 16], by)? {
        Err(libc::ECONNRESET) => Ok(()),
        other => fail(format!("expected a reset, got {other:?}")),
    }
}

/// One receiving call, counted: bytes, or `errno`.
fn recv_once(side: &mut Side, into: &mut [u8], by: RecvBy) -> Result<std::result::Result<usize, i32>> {
    let fd = side.fd()?;
    let (data, len) = (into.as_mut_ptr().cast::<libc::c_void>(), into.len());
    let got = match by {
        // SAFETY: `data` has `len` bytes and lives across the call.
        RecvBy::Read => unsafe { libc::read(fd, data, len) },
        // SAFETY: as above.
        RecvBy::Recv => unsafe { libc::recv(fd, data, len, 0) },
        RecvBy::Recvmsg => with_message(&mut [iovec(into)], |message| {
            // SAFETY: the message and its buffer live across the call.
            unsafe { libc::recvmsg(fd, message, 0) }
        }),
    };
    let tally = &mut side.tally;
    Ok(match got {
        -1 => {
            let errno = sys::errno();
            *tally.recv_errors.entry(errno).or_default() += 1;
            Err(errno)
        }
        0 => {
            tally.eof_calls += 1;
            Ok(0)
        }
        got => {
            tally.recv_calls += 1;
            tally.rx_bytes += got as u64;
            Ok(got as usize)
        }
    })
}

fn iovec(buffer: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }
}

fn with_message(parts: &mut [libc::iovec], call: impl FnOnce(*mut libc::msghdr) -> isize) -> isize {
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    call(&raw mut message)
}

/// A file in memory, of this many bytes, read from its start.
fn memory_file(bytes: u64) -> Result<File> {
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe { libc::memfd_create(c"wl-sendfile".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: a new descriptor that nobody else owns.
    let mut file = unsafe { File::from_raw_fd(sys::check("memfd_create", fd)?) };
    file.write_all(&vec![b'f'; bytes as usize]).context("fill the memory file")?;
    std::io::Seek::rewind(&mut file).context("rewind the memory file")?;
    Ok(file)
}
