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
/// Version 4.5 of the format, the first with 64-bit offsets.
const VERSION: u16 = 45;
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
}

impl PackWriter {
    /// Begins a pack in an empty file.
    pub fn new(file: File) -> PackWriter {
        PackWriter { file, position: 0, entries: Vec::new() }
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
            self.file.set_len(self.position)?;
            self.file.seek(SeekFrom::Start(self.position))?;
            return Err(error);
        }
        let offset = self.position + header.len() as u64;
        self.entries.push((Entry { name: name.to_owned(), offset, len: u64::from(len) }, crc, self.position));
        self.position = offset + u64::from(len);
        Ok(())
    }

    /// A second handle of the file, for syncing it from another thread.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Writes the directory and syncs: from here on any unzip reads it.
    pub fn finish(mut self) -> io::Result<File> {
        let mut central = Vec::new();
        for (entry, crc, header_at) in &self.entries {
            let size = entry.len as u32;
            // The offset always goes into the 64-bit field: one form, whatever the size of the file.
            for field in [
                CENTRAL_HEADER.to_le_bytes().as_slice(),
                &VERSION.to_le_bytes(),
                &[VERSION as u8, 3],
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
            central.extend_from_slice(&12u16.to_le_bytes());
            central.extend_from_slice(&[0; 6]);
            central.extend_from_slice(&MODE.to_le_bytes());
            central.extend_from_slice(&u32::MAX.to_le_bytes());
            central.extend_from_slice(entry.name.as_bytes());
            central.extend_from_slice(&1u16.to_le_bytes());
            central.extend_from_slice(&8u16.to_le_bytes());
            central.extend_from_slice(&header_at.to_le_bytes());
        }
        let (count, size, at) = (self.entries.len() as u64, central.len() as u64, self.position);
        central.extend_from_slice(&END_64.to_le_bytes());
        central.extend_from_slice(&44u64.to_le_bytes());
        central.extend_from_slice(&VERSION.to_le_bytes());
        central.extend_from_slice(&VERSION.to_le_bytes());
        central.extend_from_slice(&[0; 8]);
        for field in [count, count, size, at] {
            central.extend_from_slice(&field.to_le_bytes());
        }
        central.extend_from_slice(&END_64_LOCATOR.to_le_bytes());
        central.extend_from_slice(&[0; 4]);
        central.extend_from_slice(&(at + size).to_le_bytes());
        central.extend_from_slice(&1u32.to_le_bytes());
        central.extend_from_slice(&END.to_le_bytes());
        central.extend_from_slice(&[0; 4]);
        central.extend_from_slice(&[0xff; 12]);
        central.extend_from_slice(&[0; 2]);
        self.file.write_all(&central)?;
        self.file.sync_data()?;
        Ok(self.file)
    }
}

/// The complete entries of a pack whose end is missing: reads header after header until one is torn.
pub fn scan(file: &mut File) -> io::Result<Vec<Entry>> {
    let end = file.metadata()?.len();
    let mut entries = Vec::new();
    let mut at = 0;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 30];
        if file.read_exact(&mut header).is_err() {
            break;
        }
        let u32_at = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
        let u16_at = |i: usize| u16::from_le_bytes([header[i], header[i + 1]]);
        // Anything that PackWriter doesn't write ends the scan: another method, a size that isn't there.
        if u32_at(0) != LOCAL_HEADER || u16_at(8) != 0 || u32_at(18) != u32_at(22) {
            break;
        }
        let mut name = vec![0; usize::from(u16_at(26))];
        if file.read_exact(&mut name).is_err() {
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
    Ok(entries)
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
