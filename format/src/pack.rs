//! Writing the container: a ZIP file whose entries are stored, not compressed.
//!
//! No ZIP crate is used for writing because of one property: here each entry is complete on disk, with its checksum
//! and size in front, before the next one begins. So a recording that is killed leaves a file whose entries
//! [`scan`] finds without the directory that a ZIP has at its end. [`crate::capture`] reads finished files with a crate.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
/// 1 January 1980, the earliest date that ZIP can write: the real times are in the manifest.
const DOS_DATE: u16 = 0x0021;
/// Version 2.0 of the format: every unzip reads it, busybox's too, which knows no 64-bit fields.
const VERSION: u16 = 20;
/// Version 4.5, the first with 64-bit offsets: what begins beyond 4 GiB needs it.
const VERSION_64: u16 = 45;
/// Made on Unix: the upper half of the external attributes is a file's mode there.
const MADE_BY: u16 = 3 << 8 | VERSION_64;
/// A pack with more entries than this is none of ours: each table has some for every minute.
pub const MAX_ENTRIES: usize = 1 << 18;
/// Nor is one with a name of so many bytes.
pub const MAX_NAME: usize = 512;
/// The name is UTF-8.
const FLAGS: u16 = 1 << 11;
/// Regular file, mode 0600, in the upper half of the external attributes.
const MODE: u32 = 0o100_600 << 16;

/// An entry of a pack: a name and where its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The entry's name.
    pub name: String,
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// How many there are.
    pub len: u64,
}

/// A ZIP file in the making.
#[derive(Debug)]
pub struct PackWriter {
    file: File,
    position: u64,
    entries: Vec<(Entry, u32, u64)>,
    /// Whether something is at the end that could not be cut off: what followed it would never be found.
    torn: bool,
}

impl PackWriter {
    /// Begins a pack in an empty file.
    pub fn new(file: File) -> PackWriter {
        PackWriter { file, position: 0, entries: Vec::new(), torn: false }
    }

    /// Bytes written so far.
    pub fn len(&self) -> u64 {
        self.position
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.position == 0
    }

    /// Adds an entry. If this fails (disk full), the file is cut back to what it was.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            return Err(io::Error::other("the pack's end is torn"));
        }
        let too_large = |_| io::Error::other(format!("{name} is too large for an entry"));
        let len: u32 = u32::try_from(bytes.len()).map_err(too_large)?;
        let name_len = u16::try_from(name.len()).map_err(too_large)?;
        let crc = crc32fast::hash(bytes);
        let mut header = Vec::with_capacity(30 + name.len());
        for field in [LOCAL_HEADER.to_le_bytes().as_slice(), &VERSION.to_le_bytes(), &FLAGS.to_le_bytes(), &[0; 4], &DOS_DATE.to_le_bytes()]
        {
            header.extend_from_slice(field);
        }
        for field in [crc, len, len] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        header.extend_from_slice(&name_len.to_le_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(name.as_bytes());
        let written = self.file.write_all(&header).and_then(|()| self.file.write_all(bytes));
        if let Err(error) = written {
            let cut = self.file.set_len(self.position).and_then(|()| self.file.seek(SeekFrom::Start(self.position)));
            self.torn = cut.is_err();
            return Err(error);
        }
        let offset = self.position + header.len() as u64;
        self.entries.push((Entry { name: name.to_owned(), offset, len: u64::from(len) }, crc, self.position));
        self.position = offset + u64::from(len);
        Ok(())
    }

    /// Makes what was appended so far durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Writes the directory and syncs: from here on any unzip reads it.
    pub fn finish(mut self) -> io::Result<File> {
        let mut central = Vec::new();
        for (entry, crc, header_at) in &self.entries {
            let size = entry.len as u32;
            let near = u32::try_from(*header_at).ok().filter(|at| *at != u32::MAX);
            let version = if near.is_some() { VERSION } else { VERSION_64 };
            for field in [
                CENTRAL_HEADER.to_le_bytes().as_slice(),
                &MADE_BY.to_le_bytes(),
                &version.to_le_bytes(),
                &FLAGS.to_le_bytes(),
                &[0; 4],
                &DOS_DATE.to_le_bytes(),
            ] {
                central.extend_from_slice(field);
            }
            for field in [*crc, size, size] {
                central.extend_from_slice(&field.to_le_bytes());
            }
            central.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
            central.extend_from_slice(&(if near.is_some() { 0_u16 } else { 12 }).to_le_bytes());
            central.extend_from_slice(&[0; 6]);
            central.extend_from_slice(&MODE.to_le_bytes());
            central.extend_from_slice(&near.unwrap_or(u32::MAX).to_le_bytes());
            central.extend_from_slice(entry.name.as_bytes());
            if near.is_none() {
                central.extend_from_slice(&1u16.to_le_bytes());
                central.extend_from_slice(&8u16.to_le_bytes());
                central.extend_from_slice(&header_at.to_le_bytes());
            }
        }
        let (count, size, at) = (self.entries.len() as u64, central.len() as u64, self.position);
        let fits = count < u64::from(u16::MAX) && size < u64::from(u32::MAX) && at < u64::from(u32::MAX);
        if !fits {
            central.extend_from_slice(&END_64.to_le_bytes());
            central.extend_from_slice(&44u64.to_le_bytes());
            central.extend_from_slice(&MADE_BY.to_le_bytes());
            central.extend_from_slice(&VERSION_64.to_le_bytes());
            central.extend_from_slice(&[0; 8]);
            for field in [count, count, size, at] {
                central.extend_from_slice(&field.to_le_bytes());
            }
            central.extend_from_slice(&END_64_LOCATOR.to_le_bytes());
            central.extend_from_slice(&[0; 4]);
            central.extend_from_slice(&(at + size).to_le_bytes());
            central.extend_from_slice(&1u32.to_le_bytes());
        }
        central.extend_from_slice(&END.to_le_bytes());
        central.extend_from_slice(&[0; 4]);
        // What doesn't fit says so: the 64-bit end has it.
        let [count, size, at] = if fits { [count, size, at] } else { [u64::MAX; 3] };
        for count in [count as u16; 2] {
            central.extend_from_slice(&count.to_le_bytes());
        }
        for field in [size as u32, at as u32] {
            central.extend_from_slice(&field.to_le_bytes());
        }
        central.extend_from_slice(&[0; 2]);
        self.file.write_all(&central)?;
        self.file.sync_data()?;
        Ok(self.file)
    }
}

/// What [`scan`] found.
#[derive(Debug)]
pub struct Scanned {
    /// The complete entries.
    pub entries: Vec<Entry>,
    /// Bytes after them that are no entry: one that was not finished.
    pub torn: u64,
}

/// The complete entries of a pack whose end may be missing: reads header after header until one is torn.
pub fn scan(file: &mut File) -> io::Result<Scanned> {
    let end = file.metadata()?.len();
    let mut entries = Vec::new();
    let mut at = 0;
    let mut torn = true;
    while entries.len() < MAX_ENTRIES {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 30];
        let read = read_up_to(file, &mut header)?;
        let u32_at = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let u16_at = |i: usize| u16::from_le_bytes([header[i], header[i + 1]]);
        if read >= 4 && u32_at(0) == CENTRAL_HEADER {
            // It was finished: this is the directory.
            torn = false;
        }
        // Anything that PackWriter doesn't write ends the scan: another method, a size that isn't there.
        if read < header.len() || u32_at(0) != LOCAL_HEADER || u16_at(8) != 0 || u32_at(18) != u32_at(22) {
            break;
        }
        let mut name = vec![0; usize::from(u16_at(26))];
        if name.len() > MAX_NAME || read_up_to(file, &mut name)? < name.len() {
            break;
        }
        let offset = at + 30 + name.len() as u64 + u64::from(u16_at(28));
        let len = u64::from(u32_at(18));
        let (true, Ok(name)) = (offset + len <= end, String::from_utf8(name)) else { break };
        // After a power loss the file may be long enough and yet hold zeros.
        if !crc_matches(file, offset, len, u32_at(14))? {
            break;
        }
        entries.push(Entry { name, offset, len });
        at = offset + len;
    }
    Ok(Scanned { entries, torn: if torn { end.saturating_sub(at) } else { 0 } })
}

/// Fills the buffer, or less at the end of the file. A disk's error is one, not an end.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match file.read(&mut buffer[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

fn crc_matches(file: &mut File, offset: u64, len: u64, crc: u32) -> io::Result<bool> {
    file.seek(SeekFrom::Start(offset))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut reader = file.take(len);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.finalize() == crc);
        }
        hasher.update(&buffer[..n]);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::path::PathBuf;
    use std::process::Command;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("ebrec-pack-{name}-{}.zip", std::process::id()))
    }

    fn open(path: &PathBuf) -> File {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap()
    }

    fn entries() -> Vec<(String, Vec<u8>)> {
        (0..5_u8).map(|i| (format!("table/{i:06}-{i:06}.parquet"), vec![i; 100 * usize::from(i)])).collect()
    }

    fn written(path: &PathBuf) -> PackWriter {
        let mut pack = PackWriter::new(open(path));
        assert!(pack.is_empty());
        for (name, bytes) in entries() {
            pack.append(&name, &bytes).unwrap();
        }
        pack
    }

    fn read(file: &mut File, entry: &Entry) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(entry.len).unwrap()];
        file.seek(SeekFrom::Start(entry.offset)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_pack_that_is_cut_anywhere_has_its_whole_entries() {
        let path = place("cut");
        let pack = written(&path);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(pack.len(), whole.len() as u64);
        let ends: Vec<usize> = pack.entries.iter().map(|(entry, ..)| usize::try_from(entry.offset + entry.len).unwrap()).collect();
        for len in 0..=whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut file = File::open(&path).unwrap();
            let found = scan(&mut file).unwrap();
            let whole_ones = ends.iter().filter(|end| **end <= len).count();
            assert_eq!(found.entries.len(), whole_ones, "cut to {len}");
            assert_eq!(found.torn, (len - ends[..whole_ones].last().unwrap_or(&0)) as u64, "cut to {len}");
            for (entry, (name, bytes)) in found.entries.iter().zip(entries()) {
                assert_eq!((entry.name.as_str(), read(&mut file, entry)), (name.as_str(), bytes));
            }
        }
        // After a power loss the length may be there and the bytes not.
        let mut zeroed = whole.clone();
        zeroed[ends[2] + 40..].fill(0);
        std::fs::write(&path, &zeroed).unwrap();
        assert_eq!(scan(&mut File::open(&path).unwrap()).unwrap().entries.len(), 3);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_finished_pack_is_scanned_as_whole() {
        let path = place("finished");
        let mut file = written(&path).finish().unwrap();
        let found = scan(&mut file).unwrap();
        assert_eq!((found.entries.len(), found.torn), (5, 0));
        std::fs::remove_file(path).unwrap();
    }

    /// The fields of a finished pack, by the names that APPNOTE.TXT gives them.
    #[test]
    fn the_directory_says_unix_and_needs_no_more_than_it_must() {
        let path = place("fields");
        let fields = |pack: PackWriter, at: u64| {
            drop(pack.finish().unwrap());
            let mut bytes = Vec::new();
            let mut file = File::open(&path).unwrap();
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let u16_at = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());

        let pack = written(&path);
        let central = pack.len();
        let bytes = fields(pack, central);
        assert_eq!((bytes[4], bytes[5]), (45, 3), "version made by: 4.5, Unix");
        assert_eq!(u16_at(&bytes, 6), 20, "version needed to extract");
        assert_eq!(u16_at(&bytes, 10), 0, "stored");
        assert_eq!(u32_at(&bytes, 38), 0o100_600 << 16, "external attributes");
        assert_eq!(u32_at(&bytes, 42), 0, "offset of the local header");
        let end = bytes.len() - 22;
        assert_eq!(u32_at(&bytes, end), END);
        assert_eq!((u16_at(&bytes, end + 8), u16_at(&bytes, end + 10)), (5, 5));
        assert_eq!((u32_at(&bytes, end + 12) as usize, u64::from(u32_at(&bytes, end + 16))), (end, central));

        // Beyond 4 GiB: the file has a hole.
        let mut pack = PackWriter::new(open(&path));
        pack.append("table/000001-000001.parquet", b"first").unwrap();
        pack.position = (1 << 32) - 1;
        pack.file.seek(SeekFrom::Start(pack.position)).unwrap();
        pack.append("table/000002-000002.parquet", b"second").unwrap();
        let central = pack.len();
        let bytes = fields(pack, central);
        let second = 46 + 27;
        assert_eq!((u16_at(&bytes, 6), u16_at(&bytes, second + 6)), (20, 45), "version needed to extract");
        assert_eq!((u32_at(&bytes, second + 42), u64_at(&bytes, second + 46 + 27 + 4)), (u32::MAX, (1 << 32) - 1));
        let end_64 = bytes.len() - 22 - 20 - 56;
        assert_eq!((u32_at(&bytes, end_64), bytes[end_64 + 12], bytes[end_64 + 13], u16_at(&bytes, end_64 + 14)), (END_64, 45, 3, 45));
        assert_eq!((u64_at(&bytes, end_64 + 24), u64_at(&bytes, end_64 + 32), u64_at(&bytes, end_64 + 48)), (2, 2, central));
        assert_eq!(u64_at(&bytes, end_64 + 56 + 8), central + end_64 as u64);
        assert_eq!(bytes[bytes.len() - 22..][..4], END.to_le_bytes());
        std::fs::remove_file(path).unwrap();
    }

    /// Others read what is written here: Python's zipfile, Info-ZIP and busybox, which `make test` installs.
    #[test]
    fn python_and_unzip_read_a_pack() {
        let path = place("others");
        drop(written(&path).finish().unwrap());
        let code = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
                    print([(i.filename, len(z.read(i)), i.create_system, i.extract_version, i.create_version, oct(i.external_attr >> 16)) for i in z.infolist()])";
        let python = Command::new("python3").args(["-c", code]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&python.stdout);
        assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
        assert!(said.contains("('table/000003-000003.parquet', 300, 3, 20, 45, '0o100600')"), "{said}");
        let unzip = Command::new("unzip").arg("-t").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&unzip.stdout);
        assert!(unzip.status.success() && said.contains("No errors detected"), "{said}");
        let busybox = Command::new("busybox").args(["unzip", "-p"]).arg(&path).arg("table/000003-000003.parquet").output().unwrap();
        assert_eq!(busybox.stdout, [3; 300], "{}", String::from_utf8_lossy(&busybox.stderr));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_entry_that_does_not_fit_leaves_the_pack_as_it_was() {
        // A file that may be read only takes nothing.
        let path = place("full");
        let pack = written(&path);
        let whole = std::fs::read(&path).unwrap();
        let mut broken =
            PackWriter { file: File::open(&path).unwrap(), position: pack.position, entries: pack.entries.clone(), torn: false };
        assert!(broken.append("table/000009-000009.parquet", &[9; 10]).is_err());
        assert_eq!((broken.len(), broken.entries.len()), (pack.len(), 5));
        assert!(broken.append("table/000009-000009.parquet", &[]).unwrap_err().to_string().contains("torn"));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        std::fs::remove_file(path).unwrap();
    }

    /// Offsets beyond 4 GiB, without writing so much: the file has a hole.
    #[test]
    fn a_pack_of_more_than_four_gibibytes_is_read() {
        let path = place("large");
        let file = open(&path);
        let mut pack = PackWriter::new(file);
        pack.append("table/000001-000001.parquet", b"first").unwrap();
        let hole = 5_u64 << 30;
        pack.file.seek(SeekFrom::Start(hole)).unwrap();
        pack.position = hole;
        pack.append("table/000002-000002.parquet", b"second").unwrap();
        drop(pack.finish().unwrap());
        let code = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\nprint(z.read('table/000001-000001.parquet'), z.read('table/000002-000002.parquet'))";
        let python = Command::new("python3").args(["-c", code]).arg(&path).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), "b'first' b'second'", "{}", String::from_utf8_lossy(&python.stderr));
        std::fs::remove_file(path).unwrap();
    }
}
