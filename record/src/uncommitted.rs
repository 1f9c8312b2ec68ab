//! What stands in a ring behind a record that was begun and never finished.
//!
//! A program reserves a record, fills it, and commits it. If its task is preempted in between (programs of probes in libraries can be on any
//! kernel, all can be since Linux 7), or dies there, no reader gets past that record, and the kernel has no word for what waits behind it. While
//! recording, the task gets its CPU back and the rings their reader; at the end what is still held back is read around the record.

use anyhow::{Context, Result, bail};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// include/uapi/linux/bpf.h: BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT and BPF_RINGBUF_HDR_SZ.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: u64 = 8;

/// A ring's data, which the kernel shows twice in a row, so that no record is in two pieces.
#[derive(Debug)]
pub struct Data {
    mapped: *const u8,
    mapped_len: usize,
    page: usize,
    size: u64,
}

/// One that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A whole record.
    Whole(&'a [u8]),
    /// One that isn't finished; what it has so far may be of another, before it.
    Unfinished(&'a [u8]),
}

impl Data {
    /// Maps the data of a ring of `size` bytes, read-only.
    pub fn of(ring: &impl AsFd, size: u32) -> Result<Data> {
        // SAFETY: no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).context("no page size")?;
        let mapped_len = page + 2 * size as usize;
        let (fd, offset) = (ring.as_fd().as_raw_fd(), libc::off_t::try_from(page).context("no page size")?);
        // SAFETY: a new mapping of a file, behind the consumer's page; the kernel refuses what isn't there.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), mapped_len, libc::PROT_READ, libc::MAP_SHARED, fd, offset) };
        if mapped == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("cannot map a ring buffer");
        }
        Ok(Data { mapped: mapped.cast_const().cast(), mapped_len, page, size: u64::from(size) })
    }

    /// The records from one position of the ring to another, each with its length and flags as the header has them.
    ///
    /// # Errors
    ///
    /// If the headers don't lead to the end. What was read until then was there.
    pub fn read(&self, from: u64, to: u64, mut take: impl FnMut(Record<'_>)) -> Result<()> {
        let mut at = from;
        while at < to {
            let place = self.page + (at & (self.size - 1)) as usize;
            // SAFETY: within the mapping, since `place` is less than a page and `size`, and behind that are `size` bytes more; aligned to
            // eight bytes, as positions are. A program may write to it at any time.
            let header = unsafe { AtomicU32::from_ptr(self.mapped.add(place).cast_mut().cast()) }.load(Ordering::Acquire);
            let len = u64::from(header & !(BUSY | DISCARDED));
            let next = at + (HEADER + len).next_multiple_of(8);
            if len == 0 || len > self.size || next > to {
                bail!("a ring buffer has a record of {len} bytes, {} bytes before its end", to - at);
            }
            // SAFETY: as above: `len` is at most `size`. A whole record is not written to any more before the reader says that it has read it; of
            // one that isn't, no more is asked than what its bytes are now.
            let bytes = unsafe { std::slice::from_raw_parts(self.mapped.add(place + HEADER as usize), len as usize) };
            if header & BUSY != 0 {
                take(Record::Unfinished(bytes));
            } else if header & DISCARDED == 0 {
                take(Record::Whole(bytes));
            }
            at = next;
        }
        Ok(())
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, and nothing borrows from it any more.
        unsafe { libc::munmap(self.mapped.cast_mut().cast(), self.mapped_len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 8192;

    /// A ring as the kernel makes it, in a file: a page of the consumer's, one of the producer's, the data twice.
    fn ring(data: &[u8]) -> Result<Data> {
        // SAFETY: no pointers.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).context("no page size")?;
        let mut bytes = vec![0; 2 * page];
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(data);
        let path = std::env::temp_dir().join(format!("ebrec-ring-{}", std::process::id()));
        std::fs::write(&path, bytes)?;
        let data = Data::of(&crate::tongs::file(&path)?, SIZE);
        std::fs::remove_file(&path)?;
        data
    }

    fn put(data: &mut [u8], at: u64, flags: u32, text: &[u8]) -> u64 {
        let header = (text.len() as u32 | flags).to_ne_bytes();
        for (i, byte) in header.iter().chain(&[0; 4]).chain(text).enumerate() {
            data[(at as usize + i) % SIZE as usize] = *byte;
        }
        at + (HEADER + text.len() as u64).next_multiple_of(8)
    }

    #[test]
    fn what_stands_behind_an_unfinished_record_is_read() -> Result<()> {
        let mut data = vec![0; SIZE as usize];
        // Across the end of the ring, in its third turn.
        let from = u64::from(3 * SIZE - 40);
        let mut at = put(&mut data, from, BUSY, b"begun");
        at = put(&mut data, at, 0, b"whole, and of more than one word");
        at = put(&mut data, at, DISCARDED, b"given up");
        at = put(&mut data, at, 0, b"last");
        let ring = ring(&data)?;
        let mut found = Vec::new();
        ring.read(from, at, |record| {
            found.push(match record {
                Record::Whole(bytes) => (true, bytes.to_vec()),
                Record::Unfinished(bytes) => (false, bytes.to_vec()),
            });
        })?;
        let expected = [(false, &b"begun"[..]), (true, b"whole, and of more than one word"), (true, b"last")];
        assert_eq!(found, expected.map(|(whole, bytes)| (whole, bytes.to_vec())));
        // Headers that lead nowhere.
        assert!(ring.read(from, at + 64, |_| {}).is_err());
        Ok(())
    }
}
