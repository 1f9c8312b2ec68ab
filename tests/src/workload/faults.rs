//! Pages of a file that are not in memory, touched one by one.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::Write;
use std::os::fd::AsRawFd;

/// The file, removed when this goes.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `major-faults [N] [--dir DIR]`: N pages. DIR must be on a disk.
pub fn run(args: &Args) -> Result<Value> {
    let pages = args.number_at(0, 50)? as usize;
    let dir = args.option("dir").map_or_else(std::env::temp_dir, Into::into);
    let scratch = Scratch(dir.join(format!("ebrec-faults-{}", sys::getpid())));
    let page = 4096;
    let mut file = std::fs::File::options().create_new(true).read(true).write(true).open(&scratch.0).context(scratch.0.display())?;
    file.write_all(&vec![7; pages * page]).context("write")?;
    file.sync_all().context("fsync")?;
    let fd = file.as_raw_fd();
    // SAFETY: no pointers.
    if unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) } != 0 {
        return fail("posix_fadvise");
    }
    // SAFETY: a new private mapping of the file's size, read within its bounds while the file is as long.
    let (address, sum) = unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), pages * page, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0);
        if memory == libc::MAP_FAILED {
            return Err(ebrec_tests::Error::os("mmap"));
        }
        // No page is read but the one that is touched.
        sys::check("madvise", libc::madvise(memory, pages * page, libc::MADV_RANDOM))?;
        let before = major_faults()?;
        let mut sum = 0_u64;
        for at in (0..pages * page).step_by(page) {
            sum += u64::from(memory.cast::<u8>().add(at).read_volatile());
        }
        let faults = major_faults()? - before;
        if faults != pages as i64 {
            return fail(format!("{faults} major faults for {pages} pages: is {} on a disk?", dir.display()));
        }
        (memory.addr(), sum)
    };
    if sum != 7 * pages as u64 {
        return fail("the pages hold something else");
    }
    Ok(json!({ "tid": sys::gettid(), "pages": pages, "page_bytes": page, "address": address }))
}

fn major_faults() -> Result<i64> {
    // SAFETY: all-zero is a valid rusage, which lives across the call.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        sys::check("getrusage", libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage))?;
        Ok(usage.ru_majflt)
    }
}
