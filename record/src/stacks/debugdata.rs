//! Symbols that a stripped program carries compressed: `.gnu_debugdata`, as Fedora, RHEL and openSUSE have it in every program.
//!
//! blazesym can read it too, but decompresses without a limit what any user may have put into a program, and without that ability it refuses
//! the whole file. So the file is taken apart here: what is decompressed, of limited size and memory, is one file in memory, and the parts of the original
//! that tell of its exported symbols are another, without that section. The section is described in gdb's manual, "MiniDebugInfo".

use crate::elf::{Elf, Loads};
use anyhow::{Context, Result};
use object::elf::{SHT_DYNSYM, SHT_GNU_HASH, SHT_HASH, SHT_NOTE, SHT_NULL, SHT_STRTAB, SectionHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{LittleEndian, ReadRef, bytes_of, bytes_of_slice};
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

/// What the compressed symbols may become, and the memory that it may take; compressed they are some hundred KiB, of the largest programs a few MiB.
const MOST_DECOMPRESSED: u64 = 64 << 20;

/// The two files.
#[derive(Debug)]
pub struct Taken {
    /// The original's exported symbols, at the same offsets.
    pub exported: File,
    /// The others; its addresses are those of the original.
    pub others: File,
    /// Where the original is mapped.
    pub loads: Loads,
}

/// Takes a file apart; `None` if it isn't a program with such a section.
pub fn take(path: &str) -> Option<Taken> {
    Elf::read(&File::open(path).ok()?, taken).ok()
}

fn taken(elf: &Elf) -> Result<Taken> {
    let mut sections: Vec<SectionHeader64<LittleEndian>> = elf.sections.iter().copied().collect();
    let (nth, compressed) = elf.sections.section_by_name(LittleEndian, b".gnu_debugdata").context("no symbols inside")?;
    // Nobody shall find it any more.
    if let Some(section) = sections.get_mut(nth.0) {
        section.sh_name.set(LittleEndian, 0);
        section.sh_type.set(LittleEndian, SHT_NULL);
    }
    let compressed = compressed.data(LittleEndian, elf.data)?;
    let reader = lzma_rust2::XzReader::new_mem_limit(compressed, true, (MOST_DECOMPRESSED >> 10) as u32);
    let mut bytes = Vec::new();
    reader.take(MOST_DECOMPRESSED + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= MOST_DECOMPRESSED, "its symbols are too large");

    let mut parts = vec![
        (0, bytes_of(elf.header)),
        (elf.header.e_phoff(LittleEndian), bytes_of_slice(elf.segments)),
        (elf.header.e_shoff(LittleEndian), bytes_of_slice(&sections)),
    ];
    for section in &sections {
        if [SHT_STRTAB, SHT_HASH, SHT_NOTE, SHT_DYNSYM, SHT_GNU_HASH].contains(&section.sh_type(LittleEndian)) {
            parts.push((section.sh_offset(LittleEndian), section.data(LittleEndian, elf.data)?));
        }
    }
    let made = |parts: &[(u64, &[u8])], bytes| {
        let file = memory()?;
        parts.iter().try_for_each(|(offset, part)| file.write_all_at(part, *offset))?;
        // What is between is a hole, which takes no memory.
        file.set_len(bytes)?;
        std::io::Result::Ok(file)
    };
    let bytes_of_file = elf.data.len().map_err(|()| anyhow::anyhow!("it has no length"))?;
    let exported = made(&parts, bytes_of_file)?;
    let others = made(&[(0, &bytes)], bytes.len() as u64)?;
    Ok(Taken { exported, others, loads: elf.loads() })
}

/// A file that is only in memory.
fn memory() -> std::io::Result<File> {
    // SAFETY: the name ends with NUL; a descriptor or -1 is returned.
    let fd = unsafe { libc::memfd_create(c"ebrec-symbols".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
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
}
