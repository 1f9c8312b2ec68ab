//! Symbols that a stripped program carries compressed: `.gnu_debugdata`, as Fedora, RHEL and openSUSE have it in every program.
//!
//! blazesym can read it too, but decompresses without a limit what any user may have put into a program, and without that ability it refuses
//! the whole file. So the file is taken apart here: what is decompressed, of limited size and memory, is one file in memory, and the parts of the original
//! that tell of its exported symbols are another, without that section. The section is described in gdb's manual, "MiniDebugInfo".

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

/// Compressed symbols are some hundred KiB, of the largest programs a few MiB.
const MOST_COMPRESSED: u64 = 16 << 20;
/// What they may become, and the memory that it may take.
const MOST_DECOMPRESSED: u64 = 64 << 20;
/// What is copied of a file's own tables.
const MOST_COPIED: u64 = 64 << 20;

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;
const PT_LOAD: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_HASH: u32 = 5;
const SHT_NOTE: u32 = 7;
const SHT_DYNSYM: u32 = 11;
const SHT_GNU_HASH: u32 = 0x6fff_fff6;
const SHT_NULL: u32 = 0;

/// The two files.
#[derive(Debug)]
pub struct Taken {
    /// The original's exported symbols, at the same offsets.
    pub exported: File,
    /// The others; its addresses are those of the original.
    pub others: File,
    loads: Vec<Load>,
}

/// A part of the file that is mapped.
#[derive(Debug)]
struct Load {
    offset: u64,
    bytes: u64,
    address: u64,
}

impl Taken {
    /// The address (of the symbols) that a place in the original file has.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let load = self.loads.iter().find(|load| (load.offset..load.offset.saturating_add(load.bytes)).contains(&offset))?;
        (offset - load.offset).checked_add(load.address)
    }
}

/// Takes a file apart; `None` if it isn't a 64-bit program of this byte order with such a section.
pub fn take(path: &str) -> Option<Taken> {
    let file = File::open(path).ok()?;
    let header = read(&file, 0, EHDR)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (phoff, shoff) = (u64_at(&header, 32)?, u64_at(&header, 40)?);
    let counts = [u16_at(&header, 54)?, u16_at(&header, 56)?, u16_at(&header, 58)?, u16_at(&header, 60)?, u16_at(&header, 62)?];
    let [phentsize, phnum, shentsize, shnum, shstrndx] = counts.map(usize::from);
    if phentsize != PHDR || shentsize != SHDR {
        return None;
    }
    let programs = read(&file, phoff, phnum * PHDR)?;
    let mut sections = read(&file, shoff, shnum * SHDR)?;
    let names = section(&sections, shstrndx)?;
    let names_text = read(&file, names.offset, usize::try_from(names.bytes).ok().filter(|&bytes| bytes <= 1 << 20)?)?;

    let memory = memory()?;
    let mut copied = 0;
    let mut compressed = None;
    for nth in 0..shnum {
        let this = section(&sections, nth)?;
        if names_text.get(this.name..)?.starts_with(b".gnu_debugdata\0") {
            compressed = Some(this);
            // Nobody shall find it any more.
            sections.get_mut(nth * SHDR + 4..nth * SHDR + 8)?.copy_from_slice(&SHT_NULL.to_le_bytes());
            sections.get_mut(nth * SHDR..nth * SHDR + 4)?.fill(0);
        } else if [SHT_STRTAB, SHT_HASH, SHT_NOTE, SHT_DYNSYM, SHT_GNU_HASH].contains(&this.kind) {
            copied += this.bytes;
            if copied > MOST_COPIED {
                return None;
            }
            memory.write_all_at(&read(&file, this.offset, usize::try_from(this.bytes).ok()?)?, this.offset).ok()?;
        }
    }
    let compressed = compressed.filter(|section| section.bytes <= MOST_COMPRESSED)?;
    memory.write_all_at(&header, 0).ok()?;
    memory.write_all_at(&programs, phoff).ok()?;
    memory.write_all_at(&sections, shoff).ok()?;
    // What is between is a hole, which takes no memory.
    memory.set_len(file.metadata().ok()?.len()).ok()?;

    let others = self::memory()?;
    let compressed = read(&file, compressed.offset, usize::try_from(compressed.bytes).ok()?)?;
    let reader = lzma_rust2::XzReader::new_mem_limit(compressed.as_slice(), true, (MOST_DECOMPRESSED >> 10) as u32);
    let mut bytes = Vec::new();
    reader.take(MOST_DECOMPRESSED + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MOST_DECOMPRESSED {
        return None;
    }
    others.write_all_at(&bytes, 0).ok()?;

    let loads = programs.chunks_exact(PHDR).filter(|program| u32_at(program, 0) == Some(PT_LOAD));
    let loads = loads.map(|program| Some(Load { offset: u64_at(program, 8)?, address: u64_at(program, 16)?, bytes: u64_at(program, 32)? }));
    Some(Taken { exported: memory, others, loads: loads.collect::<Option<_>>()? })
}

/// What is needed of a section's header.
struct Section {
    name: usize,
    kind: u32,
    offset: u64,
    bytes: u64,
}

fn section(headers: &[u8], nth: usize) -> Option<Section> {
    let header = headers.get(nth.checked_mul(SHDR)?..)?.get(..SHDR)?;
    Some(Section { name: u32_at(header, 0)? as usize, kind: u32_at(header, 4)?, offset: u64_at(header, 24)?, bytes: u64_at(header, 32)? })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// A part of a file, if it has it.
fn read(file: &File, offset: u64, bytes: usize) -> Option<Vec<u8>> {
    let end = offset.checked_add(bytes as u64)?;
    if end > file.metadata().ok()?.len() {
        return None;
    }
    let mut buffer = vec![0; bytes];
    file.read_exact_at(&mut buffer, offset).ok()?;
    Some(buffer)
}

/// A file that is only in memory.
fn memory() -> Option<File> {
    // SAFETY: the name ends with NUL; a descriptor or -1 is returned.
    let fd = unsafe { libc::memfd_create(c"ebrec-symbols".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    (fd >= 0).then(|| unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_such_program_is_left_alone() {
        assert!(take("/proc/self/exe").is_none(), "this program has no such section");
        assert!(take("/etc/hostname").is_none());
        assert!(take("/nonexistent").is_none());
    }

    #[test]
    fn places_have_the_addresses_of_their_segments() {
        let file = || memory().map(|file| file.try_clone().ok()).unwrap_or_default();
        let (Some(exported), Some(others)) = (file(), file()) else { return };
        let loads = vec![Load { offset: 0, bytes: 0x1000, address: 0x40_0000 }, Load { offset: 0x1000, bytes: 0x500, address: 0x60_2000 }];
        let taken = Taken { exported, others, loads };
        assert_eq!(taken.address(0x10), Some(0x40_0010));
        assert_eq!(taken.address(0x1010), Some(0x60_2010));
        assert_eq!(taken.address(0x1500), None);
    }
}
