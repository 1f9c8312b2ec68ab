//! Finds functions in a library file. The file may be anybody's, in any container: every length is checked, and what is
//! read is bounded.

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;

/// A C library's largest table is a hundredth of it.
const MOST_BYTES: u64 = 16 << 20;
const MOST_HEADERS: u64 = 4096;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const PT_LOAD: u32 = 1;
const STT_FUNC: u8 = 2;
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// A function in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Which of the names that were asked for.
    pub name: usize,
    /// Where its first instruction is in the file.
    pub offset: u64,
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn read(file: &File, at: u64, len: u64) -> Result<Bytes> {
        if len > MOST_BYTES {
            return Err(std::io::Error::other("a table of it is too large"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Bytes(bytes))
    }

    fn number(&self, at: usize, len: usize) -> Option<u64> {
        let bytes = self.0.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A NUL-ended text.
    fn text(&self, at: usize) -> &[u8] {
        let rest = self.0.get(at..).unwrap_or_default();
        &rest[..rest.iter().position(|&byte| byte == 0).unwrap_or(0)]
    }
}

/// The functions among `names` that a 64-bit ELF file of this machine defines. The same function may have several symbols.
pub fn functions(file: &File, names: &[String]) -> Result<Vec<Function>> {
    let bad = |what: &str| std::io::Error::other(what.to_owned());
    let header = Bytes::read(file, 0, 64).map_err(|_| bad("not an ELF file"))?;
    if header.0[..4] != *b"\x7fELF" || header.0[5] != 1 {
        return Err(bad("not an ELF file"));
    }
    if header.0[4] != 2 {
        return Err(bad("32-bit programs are not looked into"));
    }
    let field = |at, len| header.number(at, len).unwrap_or(0);
    if field(18, 2) != u64::from(MACHINE) {
        return Err(bad("of another machine"));
    }
    let table = |at, size, count| Bytes::read(file, at, size * u64::min(count, MOST_HEADERS));
    let segments = table(field(32, 8), field(54, 2), field(56, 2))?;
    let sections = table(field(40, 8), field(58, 2), field(60, 2))?;
    let loads: Vec<(u64, u64, u64)> = headers(&segments, field(54, 2))
        .filter(|&at| segments.number(at, 4) == Some(PT_LOAD.into()))
        .filter_map(|at| Some((segments.number(at + 16, 8)?, segments.number(at + 8, 8)?, segments.number(at + 32, 8)?)))
        .collect();
    let section = |at: usize| Some((sections.number(at + 24, 8)?, sections.number(at + 32, 8)?));
    let mut found = Vec::new();
    for at in headers(&sections, field(58, 2)) {
        let kind = sections.number(at + 4, 4);
        if kind != Some(SHT_DYNSYM.into()) && kind != Some(SHT_SYMTAB.into()) {
            continue;
        }
        let strings = sections.number(at + 40, 4).and_then(|link| section((link * field(58, 2)) as usize));
        let (Some((at, len)), Some((strings_at, strings_len))) = (section(at), strings) else { continue };
        let (symbols, strings) = (Bytes::read(file, at, len)?, Bytes::read(file, strings_at, strings_len)?);
        for symbol in symbols.0.chunks_exact(24) {
            let symbol = Bytes(symbol.to_vec());
            let name = symbol.number(0, 4).unwrap_or(0) as usize;
            let (defined, address) = (symbol.number(6, 2) != Some(0), symbol.number(8, 8).unwrap_or(0));
            if symbol.0[4] & 15 != STT_FUNC || !defined {
                continue;
            }
            let Some(name) = names.iter().position(|wanted| wanted.as_bytes() == strings.text(name)) else { continue };
            let load = loads.iter().find(|(start, _, len)| address >= *start && address - start < *len);
            if let Some((start, offset, _)) = load {
                let function = Function { name, offset: address - start + offset };
                if !found.contains(&function) {
                    found.push(function);
                }
            }
        }
    }
    Ok(found)
}

/// Where the headers of a table stand.
fn headers(table: &Bytes, size: u64) -> impl Iterator<Item = usize> + use<> {
    (0..table.0.len()).step_by((size as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// This program itself: its tests' names are not, but `main` and libc's start are symbols of it.
    #[test]
    fn functions_of_a_file_are_found() -> Result<()> {
        let file = File::open("/proc/self/exe")?;
        let names = ["main".to_owned(), "no_such_function".to_owned()];
        let found = functions(&file, &names)?;
        assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), [0]);
        assert!(found[0].offset > 0 && found[0].offset < file.metadata()?.len());
        Ok(())
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
        std::fs::remove_file(&path)
    }
}
