//! Block I/O of known operations, places and sizes on a device that nobody else uses.

use crate::loopdev::{Aligned, LoopDevice, disk_of, queue_setting};
use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// _IO(0x12, 119) of include/uapi/linux/fs.h.
const BLKDISCARD: libc::c_ulong = 0x1277;
const KIB: u64 = 1024;
const SIZE: u64 = 64 * KIB * KIB;

/// What the device was asked to do, one entry for each row that is expected of it.
struct Log<'a> {
    device: &'a Path,
    io: Vec<Value>,
    /// What may take any number of rows, but no other bytes.
    merged: Vec<Value>,
    has_cache: bool,
    has_fua: bool,
}

impl Log<'_> {
    fn open(&self, flags: i32) -> Result<File> {
        let open = File::options().read(true).write(true).custom_flags(flags).open(self.device);
        open.context(self.device.display())
    }

    /// One request of `op`, made between `from` and now.
    fn one(&mut self, op: &str, at: u64, bytes: u64, from: u64) -> Result<()> {
        self.io.push(json!({ "op": op, "sector": at / 512, "bytes": bytes, "from": from, "to": sys::boot_ns()? }));
        Ok(())
    }

    /// One flush, if the device has a cache to flush.
    fn flush(&mut self, from: u64) -> Result<()> {
        if self.has_cache {
            self.io.push(json!({ "op": "flush", "sector": null, "bytes": 0, "from": from, "to": sys::boot_ns()? }));
        }
        Ok(())
    }
}

/// `block [--device PATH] [--scheduler NAME] [--repeat N]`: a device of its own over a file unless one is named.
pub fn run(args: &Args) -> Result<Value> {
    let own = if args.option("device").is_none() { Some(LoopDevice::new(SIZE, false)?) } else { None };
    let device = match (&own, args.option("device")) {
        (Some(own), _) => own.path().to_owned(),
        (None, path) => PathBuf::from(path.unwrap_or_default()),
    };
    let (disk, dev) = disk_of(&device)?;
    let scheduler = Scheduler::set(&disk, args.option("scheduler"))?;
    let has_cache = queue_setting(&disk, "write_cache").as_deref() == Some("write back");
    let has_fua = queue_setting(&disk, "fua").as_deref() == Some("1");
    let can_discard = queue_setting(&disk, "discard_max_bytes").is_some_and(|bytes| bytes != "0");
    let stat = || std::fs::read_to_string(format!("/sys/block/{disk}/stat")).context("the disk's counters");
    let mut log = Log { device: &device, io: Vec::new(), merged: Vec::new(), has_cache, has_fua };
    let before = stat()?;
    let repeat = args.number_or("repeat", 1)?;
    for _ in 0..repeat {
        direct(&mut log)?;
        synced(&mut log)?;
        buffered(&mut log)?;
        if can_discard {
            discards(&mut log)?;
        }
    }
    let after = stat()?;
    drop(scheduler);
    Ok(json!({
        "disk": disk, "dev": dev, "tid": sys::gettid(), "comm": sys::comm()?, "io": log.io, "merged": log.merged,
        "has_cache": has_cache, "can_discard": can_discard, "stat_before": before.trim(), "stat_after": after.trim(),
    }))
}

/// Past the page cache: each call is one request.
fn direct(log: &mut Log<'_>) -> Result<()> {
    let file = log.open(libc::O_DIRECT)?;
    let mut memory = Aligned::new(64 * 1024)?;
    for (index, bytes) in [4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB, 4 * KIB].into_iter().enumerate() {
        let at = (index as u64 + 1) * 256 * KIB;
        let from = sys::boot_ns()?;
        memory.write_at(&file, bytes as usize, at)?;
        log.one("write", at, bytes, from)?;
        let from = sys::boot_ns()?;
        if memory.read_at(&file, bytes as usize, at)? != 0 {
            return fail("a read failed");
        }
        log.one("read", at, bytes, from)?;
    }
    Ok(())
}

/// Writes that must be on the medium when they return: held back by the kernel where that takes a flush.
fn synced(log: &mut Log<'_>) -> Result<()> {
    let file = log.open(libc::O_DIRECT | libc::O_DSYNC)?;
    let mut memory = Aligned::new(4096)?;
    for index in 0..3 {
        let at = 4096 * KIB + index * 512 * KIB;
        let from = sys::boot_ns()?;
        memory.write_at(&file, 4096, at)?;
        log.one("write", at, 4 * KIB, from)?;
        // One that makes up for what the device can't do (blk_insert_flush), and the one of generic_write_sync(), which doesn't know.
        if !log.has_fua {
            log.flush(from)?;
        }
        log.flush(from)?;
    }
    Ok(())
}

/// Through the page cache, written when fsync() asks for it: pages that lie apart are a request each, those that lie
/// together are merged.
fn buffered(log: &mut Log<'_>) -> Result<()> {
    let file = log.open(0)?;
    let mut memory = Aligned::new(1024 * 1024)?;
    let from = sys::boot_ns()?;
    let places: Vec<u64> = (0..8).map(|index| 8192 * KIB + index * 128 * KIB).collect();
    for at in &places {
        memory.write_at(&file, 4096, *at)?;
    }
    file.sync_all().context("fsync")?;
    for at in places {
        log.one("write", at, 4 * KIB, from)?;
    }
    log.flush(from)?;
    let from = sys::boot_ns()?;
    let at = 16384 * KIB;
    memory.write_at(&file, 1024 * 1024, at)?;
    file.sync_all().context("fsync")?;
    log.merged.push(json!({ "op": "write", "sector": at / 512, "bytes": 1024 * KIB, "from": from, "to": sys::boot_ns()? }));
    log.flush(from)?;
    // Nothing left to write: a flush alone.
    let from = sys::boot_ns()?;
    file.sync_all().context("fsync")?;
    log.flush(from)?;
    // Out of the cache, or closing the device would have it forgotten later.
    // SAFETY: no pointers.
    let dropped = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if dropped == 0 { Ok(()) } else { fail("posix_fadvise") }
}

fn discards(log: &mut Log<'_>) -> Result<()> {
    let file = log.open(0)?;
    for index in 0..2 {
        let at = 32768 * KIB + index * 1024 * KIB;
        let range = [at, 512 * KIB];
        let from = sys::boot_ns()?;
        // SAFETY: two numbers that live across the call.
        sys::check("BLKDISCARD", unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD as _, range.as_ptr()) })?;
        log.one("discard", at, 512 * KIB, from)?;
    }
    Ok(())
}

/// `block-errors`: reads beyond the end of the file that a loop device was made over.
pub fn errors(_: &Args) -> Result<Value> {
    // Past the page cache, or the missing end would be read as zeros.
    let own = LoopDevice::new(1024 * KIB, true)?;
    let (disk, dev) = disk_of(own.path())?;
    own.image().set_len(516 * KIB).context("truncate the image")?;
    let file = File::options().read(true).custom_flags(libc::O_DIRECT).open(own.path()).context("open the device")?;
    let mut memory = Aligned::new(64 * 1024)?;
    let mut io = Vec::new();
    // Before the end, across it (done in part, and sent again for the rest), behind it.
    for (at, bytes) in [(0, 16), (512, 16), (768, 16)] {
        let from = sys::boot_ns()?;
        let errno = memory.read_at(&file, bytes * 1024, at * KIB)?;
        io.push(json!({
            "op": "read", "sector": at * 2, "bytes": bytes * 1024, "error": errno, "from": from, "to": sys::boot_ns()?,
        }));
    }
    Ok(json!({ "disk": disk, "dev": dev, "tid": sys::gettid(), "comm": sys::comm()?, "io": io }))
}

/// A disk's scheduler, set back when dropped.
struct Scheduler {
    path: String,
    before: Option<String>,
}

impl Scheduler {
    fn set(disk: &str, to: Option<&str>) -> Result<Self> {
        let path = format!("/sys/block/{disk}/queue/scheduler");
        let Some(to) = to else { return Ok(Self { path, before: None }) };
        let names = std::fs::read_to_string(&path).context(&path)?;
        let in_use = names.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name.to_owned());
        std::fs::write(&path, to).context(format!("set {path} to {to}"))?;
        Ok(Self { path, before: in_use })
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = std::fs::write(&self.path, before);
        }
    }
}
