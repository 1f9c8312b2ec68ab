//! Reads of a file that is not in the page cache, and that is; pages that are made dirty. Each case is a process of its own.

use crate::loopdev::LoopDevice;
use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, TempDir, fail};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const PAGE: u64 = 4096;
const FILE_PAGES: u64 = 1024;

/// `page-cache [--slow DEVICE]`: a file in TMPDIR, which must be on a disk, and a device of 4 MiB or more that takes its time for a request.
pub fn run(args: &Args) -> Result<Value> {
    let dir = TempDir::new("page-cache")?;
    let path = dir.path().join("file");
    std::fs::write(&path, vec![0x5a; (FILE_PAGES * PAGE) as usize]).context("write the file")?;
    File::open(&path).and_then(|file| file.sync_all()).context("fsync")?;
    let device = LoopDevice::new(16 << 20, false)?;
    let none = json!({ "accesses": 0, "misses": 0, "readahead": 0, "fault_misses": 0, "added": 0, "dirtied": 0 });
    let mut cases = Vec::new();
    let mut case = |name: &str, truth: Value, work: &dyn Fn() -> Result<()>| -> Result<()> {
        let pid = sys::fork(|| work().map(|()| 0))?;
        sys::wait_ok(pid).context(name)?;
        let mut of_case = none.clone();
        for (column, value) in truth.as_object().into_iter().flatten() {
            of_case[column] = value.clone();
        }
        of_case["case"] = name.into();
        of_case["pid"] = pid.into();
        cases.push(of_case);
        Ok(())
    };
    let apart = |file: &File| every(file, 100, 2, 0);
    let cold = || evict(&path);

    cold()?;
    case("cold, apart, without readahead", json!({ "accesses": 100, "misses": 100, "added": 100 }), &|| apart(&open(&path, true)?))?;
    case("warm", json!({ "accesses": 200 }), &|| {
        let file = open(&path, true)?;
        apart(&file).and_then(|()| apart(&file))
    })?;
    case("warm, across two pages", json!({ "accesses": 100, "misses": 50, "added": 50 }), &|| every(&open(&path, true)?, 50, 2, PAGE / 2))?;
    cold()?;
    // What was asked for and what came along depends on the window that the kernel chooses.
    case("cold, in sequence", json!({ "accesses": FILE_PAGES, "added": FILE_PAGES, "misses": null, "readahead": null }), &|| {
        sequence(&path)
    })?;
    case("warm, in sequence", json!({ "accesses": FILE_PAGES }), &|| sequence(&path))?;
    cold()?;
    case("cold, in one call", json!({ "accesses": 256, "misses": 256, "added": 256 }), &|| {
        open(&path, true)?.read_exact_at(&mut vec![0; 256 * PAGE as usize], 0).context("read")
    })?;
    cold()?;
    case("cold, scattered by readv", json!({ "accesses": 4, "misses": 4, "added": 4 }), &|| scattered(&open(&path, true)?))?;
    // Older kernels (5.10) look for the page behind the end, too, before they see that it is the end.
    case("past the end", json!({ "accesses": 1, "misses": [1, 2], "added": [1, 2] }), &|| {
        let read = open(&path, true)?.read_at(&mut [0; 8 * PAGE as usize], (FILE_PAGES - 1) * PAGE).context("read")?;
        if read == PAGE as usize { Ok(()) } else { fail(format!("read {read}")) }
    })?;
    cold()?;
    case("cold, by page faults", json!({ "fault_misses": 20, "added": 20 }), &|| touch(&open(&path, true)?, 20))?;
    cold()?;
    case("direct", json!({}), &|| {
        let file = File::options().read(true).custom_flags(libc::O_DIRECT | libc::O_NOATIME).open(&path).context("open")?;
        let mut memory = crate::loopdev::Aligned::new(64 * 1024)?;
        memory.read_at(&file, 64 * 1024, 0).map(|_| ())
    })?;
    if let Some(slow) = args.option("slow") {
        // The first pages are there, fewer than the kernel looks up at a time (15 or 31); the one behind them is on its way, because another
        // process asked for it. So the kernel finds that one locked, returns the first, and looks up the rest then.
        const THERE: u64 = 10;
        let slow = Path::new(slow);
        evict(slow)?;
        // A device that nobody has open has no pages.
        let kept = open(slow, true)?;
        kept.read_exact_at(&mut vec![0; (THERE * PAGE) as usize], 0).context("read the first pages")?;
        let other = sys::fork(|| every(&open(slow, true)?, 1, 1, THERE * PAGE).map(|()| 0))?;
        // However slow the VM is: it waits for the disk, or has waited (then the page is there, and the numbers are the same).
        let stat = format!("/proc/{other}/stat");
        sys::wait_until("the other reader waits for the disk", || {
            let state = std::fs::read_to_string(&stat).context(&stat)?;
            Ok([") D ", ") Z "].iter().any(|known| state.contains(known)))
        })?;
        case("half there, in one call", json!({ "accesses": 256, "misses": 256 - THERE - 1, "added": 256 - THERE - 1 }), &|| {
            open(slow, true)?.read_exact_at(&mut vec![0; 256 * PAGE as usize], 0).context("read")
        })?;
        sys::wait_ok(other).context("the other reader")?;
    }
    case("dirtied", json!({ "added": 300, "dirtied": 300 }), &|| write_pages(device.path(), 300))?;
    case("dirtied again", json!({ "dirtied": 300 }), &|| write_pages(device.path(), 300))?;
    Ok(json!({ "cases": cases }))
}

/// Opens for reading, without a trace in the file's access time; `random` switches readahead off.
fn open(path: &Path, random: bool) -> Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NOATIME).open(path).context("open")?;
    if random {
        advise(&file, libc::POSIX_FADV_RANDOM)?;
    }
    Ok(file)
}

fn advise(file: &File, advice: i32) -> Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, advice) } {
        0 => Ok(()),
        errno => fail(format!("posix_fadvise: {errno}")),
    }
}

/// A page's worth of bytes, `offset` behind the beginning of every `step`th page, `count` times.
fn every(file: &File, count: u64, step: u64, offset: u64) -> Result<()> {
    let mut page = [0; PAGE as usize];
    (0..count).try_for_each(|index| file.read_exact_at(&mut page, index * step * PAGE + offset).context("read"))
}

fn sequence(path: &Path) -> Result<()> {
    let file = open(path, false)?;
    let mut chunk = vec![0; 16 * PAGE as usize];
    (0..FILE_PAGES / 16).try_for_each(|_| std::io::Read::read_exact(&mut &file, &mut chunk).context("read"))
}

fn scattered(file: &File) -> Result<()> {
    let mut parts = [vec![0; PAGE as usize], vec![0; 2 * PAGE as usize], vec![0; PAGE as usize]];
    let mut slices = parts.each_mut().map(|part| std::io::IoSliceMut::new(part));
    let read = std::io::Read::read_vectored(&mut &*file, &mut slices).context("readv")?;
    if read == 4 * PAGE as usize { Ok(()) } else { fail(format!("readv read {read}")) }
}

/// A mapping of the whole file.
struct Mapped {
    at: *mut libc::c_void,
}

impl Mapped {
    fn new(file: &File) -> Result<Self> {
        let bytes = (FILE_PAGES * PAGE) as usize;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED { Err(ebrec_tests::Error::os("mmap")) } else { Ok(Self { at }) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, and nobody uses it any more.
        unsafe { libc::munmap(self.at, (FILE_PAGES * PAGE) as usize) };
    }
}

fn touch(file: &File, count: u64) -> Result<()> {
    let mapped = Mapped::new(file)?;
    // SAFETY: advice on our own mapping.
    let advised = unsafe { libc::madvise(mapped.at, (FILE_PAGES * PAGE) as usize, libc::MADV_RANDOM) };
    sys::check("madvise", advised)?;
    for index in 0..count {
        // SAFETY: within the mapping, which is readable and as long as the file.
        unsafe { std::ptr::read_volatile(mapped.at.cast::<u8>().add((index * 32 * PAGE) as usize)) };
    }
    Ok(())
}

/// Takes the file out of the page cache, and makes sure of it.
fn evict(path: &Path) -> Result<()> {
    let file = open(path, false)?;
    advise(&file, libc::POSIX_FADV_DONTNEED)?;
    let mapped = Mapped::new(&file)?;
    let mut resident = vec![0_u8; FILE_PAGES as usize];
    // SAFETY: one byte per page of the mapping.
    sys::check("mincore", unsafe { libc::mincore(mapped.at, (FILE_PAGES * PAGE) as usize, resident.as_mut_ptr()) })?;
    match resident.iter().filter(|page| **page & 1 != 0).count() {
        0 => Ok(()),
        left => fail(format!("{left} pages stay in the cache")),
    }
}

fn write_pages(device: &Path, count: u64) -> Result<()> {
    let file = File::options().write(true).open(device).context("open the device")?;
    file.write_all_at(&vec![1; (count * PAGE) as usize], 0).context("write")?;
    // Written before the next case dirties them again.
    file.sync_all().context("fsync")
}
