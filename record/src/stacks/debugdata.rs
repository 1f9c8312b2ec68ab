//! What of a file names its functions, as files in memory: so that it is read once, within limits, and can't change while it is used.
//!
//! blazesym maps what it reads. A file that its owner makes shorter meanwhile would end the recorder (SIGBUS), so only those of root are
//! mapped as they are ([`tongs::is_steady`]); of others the tables of symbols are copied.
//!
//! Symbols that a stripped program carries compressed (`.gnu_debugdata`, as Fedora, RHEL and openSUSE have it in every program) are unpacked here, too:
//! blazesym can read it too, but decompresses without a limit what any user may have put into a program, and without that ability it refuses
//! the whole file. So the file is taken apart here: what is decompressed, of limited size and memory, is one file in memory, and the parts of the original
//! that tell of its exported symbols are another, without that section. The section is described in gdb's manual, "MiniDebugInfo".

use crate::elf::{Elf, Loads};
#[cfg(doc)]
use crate::tongs;
use anyhow::{Context, Result};
use object::elf::{SHT_DYNSYM, SHT_GNU_HASH, SHT_HASH, SHT_NOTE, SHT_NULL, SHT_STRTAB, SHT_SYMTAB, SectionHeader64};
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
pub fn take(file: &File) -> Option<Taken> {
    Elf::read(file, taken).ok()
}

/// A copy of what a file says of its functions, at the same offsets; the second is what it takes.
pub fn copy(file: &File) -> Option<(File, u64)> {
    Elf::read(file, |elf| copied(elf, &elf.sections.iter().copied().collect::<Vec<_>>())).ok()
}

/// The tables of symbols, and all that leads to them.
fn copied(elf: &Elf, sections: &[SectionHeader64<LittleEndian>]) -> Result<(File, u64)> {
    let mut parts = vec![
        (0, bytes_of(elf.header)),
        (elf.header.e_phoff(LittleEndian), bytes_of_slice(elf.segments)),
        (elf.header.e_shoff(LittleEndian), bytes_of_slice(sections)),
    ];
    for section in sections {
        if [SHT_STRTAB, SHT_HASH, SHT_NOTE, SHT_DYNSYM, SHT_GNU_HASH, SHT_SYMTAB].contains(&section.sh_type(LittleEndian)) {
            parts.push((section.sh_offset(LittleEndian), section.data(LittleEndian, elf.data)?));
        }
    }
    let bytes = elf.data.len().map_err(|()| anyhow::anyhow!("it has no length"))?;
    Ok((made(&parts, bytes)?, parts.iter().map(|(_, part)| part.len() as u64).sum()))
}

fn made(parts: &[(u64, &[u8])], bytes: u64) -> std::io::Result<File> {
    let file = memory()?;
    parts.iter().try_for_each(|(offset, part)| file.write_all_at(part, *offset))?;
    // What is between is a hole, which takes no memory.
    file.set_len(bytes)?;
    Ok(file)
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

    let (exported, _) = copied(elf, &sections)?;
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
        assert!(crate::tongs::file("/proc/self/exe").is_ok_and(|file| take(&file).is_none()), "this program has no such section");
        assert!(crate::tongs::file("/etc/passwd").is_ok_and(|file| take(&file).is_none() && copy(&file).is_none()));
    }

    #[test]
    fn a_copy_names_the_same_functions() -> std::io::Result<()> {
        let file = crate::tongs::file("/proc/self/exe")?;
        let names = ["main".to_owned()];
        let of = |file: &File| crate::elf::functions(file, &names).unwrap_or_default();
        // Its tables may be larger than what is copied of anybody's.
        if let Some((copy, bytes)) = copy(&file) {
            assert_eq!(of(&copy), of(&file));
            assert_eq!(of(&copy).len(), 1);
            assert!(bytes < file.metadata()?.len());
        }
        Ok(())
    }
}
