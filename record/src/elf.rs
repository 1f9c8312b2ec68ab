//! ELF files of anybody, in any container: what is read of one is bounded, and every length in it is checked (by `object`).

use crate::stacks::build_id_of_notes;
use anyhow::Result;
use object::elf::{
    EM_AARCH64, EM_X86_64, FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64, SHN_UNDEF, SHT_DYNSYM, SHT_NOTE, SHT_SYMTAB, STT_FUNC, Sym64,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::read::{SectionIndex, StringTable};
use object::{LittleEndian, ReadCache, ReadRef};
use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

/// What is read of a file in all. The tables of the largest programs' symbols are some ten MiB; a C library's are a hundredth of it.
pub const MOST_BYTES: u64 = 64 << 20;
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };

/// Reads parts of a file until [`MOST_BYTES`] are read: a sparse file has room for tables that no memory has.
#[derive(Debug, Clone, Copy)]
pub struct Bounded<'a> {
    cache: &'a ReadCache<&'a File>,
    left: &'a Cell<u64>,
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let text = self.cache.read_bytes_at_until(range, delimiter)?;
        self.left.set(self.left.get().checked_sub(text.len() as u64).ok_or(())?);
        Ok(text)
    }
}

/// A 64-bit little-endian ELF file, as all are on the machines that ebrec runs on.
#[derive(Debug)]
pub struct Elf<'a> {
    /// The file.
    pub data: Bounded<'a>,
    /// Its first bytes.
    pub header: &'a FileHeader64<LittleEndian>,
    /// What is mapped of it, and how.
    pub segments: &'a [ProgramHeader64<LittleEndian>],
    /// Its parts.
    pub sections: SectionTable<'a, FileHeader64<LittleEndian>, Bounded<'a>>,
}

impl Elf<'_> {
    /// Reads a file's tables of contents and lets `look` see them. Everything that is wrong with the file is an error.
    pub fn read<T>(file: &File, look: impl FnOnce(&Elf) -> Result<T>) -> Result<T> {
        let (cache, left) = (ReadCache::new(file), Cell::new(MOST_BYTES));
        let data = Bounded { cache: &cache, left: &left };
        let header = FileHeader64::<LittleEndian>::parse(data)?;
        let endian = header.endian()?;
        look(&Elf { data, header, segments: header.program_headers(endian, data)?, sections: header.sections(endian, data)? })
    }

    /// Where it is mapped.
    pub fn loads(&self) -> Loads {
        let loads = self.segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD);
        Loads(
            loads
                .map(|segment| Load {
                    offset: segment.p_offset(LittleEndian),
                    address: segment.p_vaddr(LittleEndian),
                    bytes: segment.p_filesz(LittleEndian),
                })
                .collect(),
        )
    }
}

/// The parts of a file that are mapped.
#[derive(Debug, Clone)]
pub struct Loads(Vec<Load>);

#[derive(Debug, Clone, Copy)]
struct Load {
    offset: u64,
    address: u64,
    bytes: u64,
}

impl Loads {
    /// Where in the file the byte is that has this address.
    pub fn offset(&self, address: u64) -> Option<u64> {
        self.0.iter().find_map(|load| moved(address, load.address, load.bytes, load.offset))
    }

    /// The address that a place in the file has.
    pub fn address(&self, offset: u64) -> Option<u64> {
        self.0.iter().find_map(|load| moved(offset, load.offset, load.bytes, load.address))
    }
}

/// Where `at` comes when `bytes` from `from` on are moved to `to`; `None` if it isn't one of them.
fn moved(at: u64, from: u64, bytes: u64, to: u64) -> Option<u64> {
    at.checked_sub(from).filter(|&within| within < bytes)?.checked_add(to)
}

/// A function in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Which of the names that were asked for.
    pub name: usize,
    /// Where its first instruction is in the file.
    pub offset: u64,
}

/// Functions with the same name that are looked at: a library has a handful, of several versions.
const MOST_FUNCTIONS: usize = 64;
/// Notes of a file that are looked at.
const MOST_NOTES: u64 = 64 << 10;

/// Whether a file begins as programs and libraries do.
pub fn is_elf(file: &File) -> bool {
    let mut magic = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut magic, 0).is_ok() && magic == object::elf::ELFMAG
}

/// The build id of a file, if it has one.
pub fn build_id(file: &File) -> Option<Vec<u8>> {
    let of = |elf: &Elf| {
        let sections =
            elf.sections.iter().filter(|section| section.sh_type(LittleEndian) == SHT_NOTE && section.sh_size(LittleEndian) <= MOST_NOTES);
        let segments =
            elf.segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_NOTE && segment.p_filesz(LittleEndian) <= MOST_NOTES);
        let in_sections = sections.filter_map(|section| section.data(LittleEndian, elf.data).ok());
        let in_segments = segments.filter_map(|segment| segment.data(LittleEndian, elf.data).ok());
        Ok(in_sections.chain(in_segments).find_map(build_id_of_notes))
    };
    Elf::read(file, of).ok().flatten()
}

/// The functions among `names` that a program or library of this machine defines. The same function may have several symbols.
pub fn functions(file: &File, names: &[String]) -> Result<Vec<Function>> {
    Elf::read(file, |elf| {
        if elf.header.e_machine(LittleEndian) != MACHINE {
            anyhow::bail!("of another machine");
        }
        let loads = elf.loads();
        let mut found = Vec::new();
        for section in elf.sections.iter().filter(|section| [SHT_DYNSYM, SHT_SYMTAB].contains(&section.sh_type(LittleEndian))) {
            let symbols: &[Sym64<LittleEndian>] = section.data_as_array(LittleEndian, elf.data)?;
            let strings = elf.sections.section(SectionIndex(section.sh_link(LittleEndian) as usize))?.data(LittleEndian, elf.data)?;
            let strings = StringTable::new(strings, 0, strings.len() as u64);
            for symbol in symbols {
                if symbol.st_type() != STT_FUNC || symbol.st_shndx(LittleEndian) == SHN_UNDEF {
                    continue;
                }
                let Ok(text) = symbol.name(LittleEndian, strings) else { continue };
                let Some(name) = names.iter().position(|wanted| wanted.as_bytes() == text) else { continue };
                anyhow::ensure!(found.len() < MOST_FUNCTIONS, "it has too many of the functions");
                let function = loads.offset(symbol.st_value(LittleEndian)).map(|offset| Function { name, offset });
                found.extend(function.filter(|function| !found.contains(function)));
            }
        }
        Ok(found)
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests' own files")]
mod tests {
    use super::*;
    use std::io::Write;

    /// This program itself: its tests' names are not, but `main` and libc's start are symbols of it.
    #[test]
    fn functions_of_a_file_are_found() -> Result<()> {
        let open = || File::open("/proc/self/exe");
        let names = ["main".to_owned(), "no_such_function".to_owned()];
        let found = functions(&open()?, &names)?;
        assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), [0]);
        assert!(found[0].offset > 0 && found[0].offset < open()?.metadata()?.len());
        Ok(())
    }

    #[test]
    fn places_have_the_addresses_of_their_segments() {
        let loads = Loads(vec![
            Load { offset: 0, bytes: 0x1000, address: 0x40_0000 },
            Load { offset: 0x1000, bytes: 0x500, address: u64::MAX - 0x100 },
        ]);
        assert_eq!(loads.address(0x10), Some(0x40_0010));
        assert_eq!(loads.offset(0x40_0010), Some(0x10));
        assert_eq!(loads.address(0x1010), Some(u64::MAX - 0xf0));
        assert_eq!(loads.address(0x1400), None, "beyond the last address");
        assert_eq!(loads.address(0x1500), None);
        assert_eq!(loads.offset(0x3f_ffff), None);
    }

    #[test]
    fn broken_files_are_refused_or_empty() -> Result<()> {
        let whole = std::fs::read("/proc/self/exe")?;
        let path = std::env::temp_dir().join(format!("ebrec-elf-{}", std::process::id()));
        let mut seed = 7_u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed >> 8
        };
        for turn in 0..300 {
            let mut bytes = whole[..4096].to_vec();
            bytes.truncate(if turn % 3 == 0 { random() as usize % 4096 } else { 4096 });
            for _ in 0..random() % 16 {
                if !bytes.is_empty() {
                    let at = random() as usize % bytes.len().min(if turn % 2 == 0 { 64 } else { 4096 });
                    bytes[at] = random() as u8;
                }
            }
            File::create(&path)?.write_all(&bytes)?;
            // An error or nothing, but an end.
            let _ = functions(&File::open(&path)?, &["main".to_owned()]);
        }
        std::fs::remove_file(&path)?;
        Ok(())
    }

    /// A table of section headers that says to be of terabytes, in a file that has the room.
    #[test]
    fn a_sparse_file_takes_no_memory() -> Result<()> {
        let path = std::env::temp_dir().join(format!("ebrec-sparse-{}", std::process::id()));
        let mut header = std::fs::read("/proc/self/exe")?[..64].to_vec();
        header[40..48].copy_from_slice(&4096_u64.to_le_bytes());
        // No number of sections: the first one's size has it.
        header[60..62].fill(0);
        let mut first = vec![0; 64];
        first[32..40].copy_from_slice(&(1_u64 << 34).to_le_bytes());
        header.resize(4096, 0);
        File::create(&path)?.write_all(&[header, first].concat())?;
        File::options().write(true).open(&path)?.set_len(2 << 40)?;
        let refused = functions(&File::open(&path)?, &["main".to_owned()]);
        std::fs::remove_file(&path)?;
        assert!(refused.is_err(), "{refused:?}");
        Ok(())
    }
}
