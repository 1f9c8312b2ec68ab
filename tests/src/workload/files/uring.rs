//! Reads, writes and a sync by io_uring: no system call names the file.

use super::io::create;
use super::log::{File, Io, Log, Open};
use crate::sys;
use ebrec_tests::{Result, fail};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

// include/uapi/linux/io_uring.h
const OFF_SQES: i64 = 0x1000_0000;
const ENTER_GETEVENTS: u32 = 1;
const OP_READV: u8 = 1;
const OP_FSYNC: u8 = 3;
const OP_READ: u8 = 22;
const OP_WRITE: u8 = 23;

/// `struct io_uring_params` as words, by the names of its fields.
type Params = [u32; 30];
const SQ_ENTRIES: usize = 0;
const CQ_ENTRIES: usize = 1;
const SQ_TAIL: usize = 11;
const SQ_MASK: usize = 12;
const SQ_ARRAY: usize = 16;
const CQ_HEAD: usize = 20;
const CQ_MASK: usize = 22;
const CQ_CQES: usize = 25;

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Default)]
struct Request {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    rw_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A ring with which one request is made at a time.
struct Ring {
    fd: i32,
    params: Params,
    rings: *mut u8,
    requests: *mut Request,
}

fn map(fd: i32, bytes: usize, offset: i64) -> Result<*mut u8> {
    // SAFETY: a new mapping, placed by the kernel. It lives as long as the process.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE, fd, offset)
    };
    if at == libc::MAP_FAILED { Err(ebrec_tests::Error::os("mmap a ring")) } else { Ok(at.cast()) }
}

impl Ring {
    /// `None` where the kernel has no io_uring, or lets nobody use it.
    fn new() -> Result<Option<Self>> {
        let mut params: Params = [0; 30];
        // SAFETY: the parameters are 120 bytes and live across the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, params.as_mut_ptr()) } as i32;
        if fd < 0 {
            return Ok(None);
        }
        // Both queues in one mapping: IORING_FEAT_SINGLE_MMAP, since 5.4.
        let submissions = params[SQ_ARRAY] as usize + params[SQ_ENTRIES] as usize * 4;
        let completions = params[CQ_CQES] as usize + params[CQ_ENTRIES] as usize * 16;
        let rings = map(fd, submissions.max(completions), 0)?;
        let requests = map(fd, params[SQ_ENTRIES] as usize * size_of::<Request>(), OFF_SQES)?.cast();
        Ok(Some(Self { fd, params, rings, requests }))
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: offsets within the mapping that the kernel gave, aligned, shared with the kernel.
        unsafe { AtomicU32::from_ptr(self.rings.add(offset as usize).cast()) }
    }

    /// Makes a request and waits for what comes of it.
    fn call(&self, request: Request) -> Result<i64> {
        let params = &self.params;
        let tail = self.word(params[SQ_TAIL]);
        let place = tail.load(Ordering::Acquire) & self.word(params[SQ_MASK]).load(Ordering::Relaxed);
        // SAFETY: `place` is below the number of entries; the kernel doesn't look at it before the tail has moved.
        unsafe { self.requests.add(place as usize).write(request) };
        self.word(params[SQ_ARRAY] + place * 4).store(place, Ordering::Relaxed);
        tail.fetch_add(1, Ordering::Release);
        // SAFETY: no pointers.
        let entered = unsafe { libc::syscall(libc::SYS_io_uring_enter, self.fd, 1, 1, ENTER_GETEVENTS, 0, 0) };
        sys::check("io_uring_enter", entered)?;
        let head = self.word(params[CQ_HEAD]);
        let place = head.load(Ordering::Acquire) & self.word(params[CQ_MASK]).load(Ordering::Relaxed);
        // struct io_uring_cqe: user data, then the result.
        let result = self.word(params[CQ_CQES] + place * 16 + 8).load(Ordering::Acquire) as i32;
        head.fetch_add(1, Ordering::Release);
        Ok(i64::from(result))
    }

    /// A read or write of one buffer, noted.
    fn transfer(&self, log: &mut Log, opcode: u8, file: &File, bytes: u32, (argument, offset): (i64, i64), result: i64) -> Result<()> {
        let mut buffer = vec![b'u'; bytes as usize];
        let addr = buffer.as_mut_ptr() as u64;
        let ret = self.call(Request { opcode, fd: file.fd, off: argument as u64, addr, len: bytes, ..Request::default() })?;
        let op = if opcode == OP_WRITE { "write" } else { "read" };
        note(log, op, file, Io { offset: Some(offset), requested: Some(u64::from(bytes)), ret, counts: true }, result)
    }
}

fn note(log: &mut Log, op: &str, file: &File, io: Io, result: i64) -> Result<()> {
    if io.ret != result {
        return fail(format!("a {op} by io_uring returned {} instead of {result}", io.ret));
    }
    log.row(op, "io_uring", file, io);
    Ok(())
}

/// Whether there was a ring.
pub fn run(log: &mut Log) -> Result<bool> {
    let Some(ring) = Ring::new()? else { return Ok(false) };
    let file = create(log, b"uring", (libc::O_RDWR | libc::O_CREAT, "O_RDWR|O_CREAT"))?;
    let path = log.path(b"uring");
    let read_only = log.opened(&Open::at(b"uring", path))?;
    ring.transfer(log, OP_WRITE, &file, 10_000, (0, 0), 10_000)?;
    ring.transfer(log, OP_WRITE, &file, 1000, (50_000, 50_000), 1000)?;
    // -1 is the file's position, which moves.
    ring.transfer(log, OP_WRITE, &file, 7, (-1, 0), 7)?;
    ring.transfer(log, OP_WRITE, &file, 7, (-1, 7), 7)?;
    ring.transfer(log, OP_READ, &read_only, 4096, (8192, 8192), 4096)?;
    ring.transfer(log, OP_READ, &read_only, 4096, (50_500, 50_500), 500)?;
    ring.transfer(log, OP_READ, &read_only, 4096, (60_000, 60_000), 0)?;
    ring.transfer(log, OP_WRITE, &read_only, 10, (30, 30), -i64::from(libc::EBADF))?;
    let mut buffer = [0_u8; 300];
    let pieces = [libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 100 }; 3];
    let request = Request { opcode: OP_READV, fd: file.fd, off: 20, addr: pieces.as_ptr() as u64, len: 3, ..Request::default() };
    let ret = ring.call(request)?;
    note(log, "read", &file, Io { offset: Some(20), requested: None, ret, counts: true }, 300)?;
    let ret = ring.call(Request { opcode: OP_FSYNC, fd: file.fd, ..Request::default() })?;
    note(log, "sync", &file, Io { ret, ..Io::default() }, 0)?;
    // Not a regular file.
    let (out, into) = sys::pipe()?;
    for (opcode, fd) in [(OP_WRITE, into.as_raw_fd()), (OP_READ, out.as_raw_fd())] {
        let request = Request { opcode, fd, off: 0, addr: buffer.as_mut_ptr() as u64, len: 9, ..Request::default() };
        if ring.call(request)? != 9 {
            return fail("nine bytes through a pipe, by io_uring");
        }
    }
    for fd in [file.fd, read_only.fd, ring.fd] {
        // SAFETY: our own descriptors, not used afterwards.
        unsafe { libc::close(fd) };
    }
    Ok(true)
}
