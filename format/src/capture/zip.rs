//! The directory of a finished capture, which is a ZIP file: nothing it says is believed before it was checked.

use super::{OpenError, Segment, Source, identity, not_a_capture, opened, parse_manifest};
use crate::manifest::{MANIFEST, Manifest};
use crate::pack::{MAX_ENTRIES, MAX_NAME};
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

/// An entry as the directory has it.
struct Entry {
    name: String,
    /// Where its header begins.
    header: u64,
    start: u64,
    end: u64,
    crc: u32,
}

/// The manifest and the segments.
pub fn read(path: &Path) -> Result<(Manifest, Vec<Segment>, Vec<String>), OpenError> {
    let file = opened(path, super::files::open_regular(path, true))?;
    let entries = entries(&file).map_err(|error| not_a_capture(path, format!("{error}; was it copied completely?")))?;
    let source = Source::open(file);
    let (mut manifest, mut crc, mut odd) = (None, 0, 0);
    let mut segments = Vec::new();
    for entry in entries {
        let segment = Segment { source: source.clone(), offset: entry.start, len: entry.end - entry.start, name: entry.name };
        if segment.name == MANIFEST {
            (manifest, crc) = (Some(segment), entry.crc);
        } else if identity(&segment.name).is_some() {
            segments.push(segment);
        } else if segment.name.ends_with(".parquet") {
            odd += 1;
        }
    }
    let Some(manifest) = manifest else { return Err(not_a_capture(path, "a ZIP file without manifest.json")) };
    if manifest.len > super::MAX_MANIFEST {
        return Err(not_a_capture(path, format!("manifest.json has {} bytes", manifest.len)));
    }
    let bytes = manifest.read_all().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    if crc32fast::hash(&bytes) != crc {
        return Err(not_a_capture(path, "manifest.json is damaged: its checksum is another"));
    }
    let mut remarks = Vec::new();
    if odd > 0 {
        remarks.push(format!("{odd} Parquet files in it have no name of a segment; they are left out"));
    }
    Ok((parse_manifest(path, &bytes)?, segments, remarks))
}

/// The entries, all of them stored, within the file, each for itself.
fn entries(file: &File) -> Result<Vec<Entry>, Box<dyn std::error::Error>> {
    let len = file.metadata()?.len();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file.try_clone()?, &mut buffer)?;
    let mut found = Vec::new();
    let mut names = HashSet::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry()? {
        if found.len() == MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} entries").into());
        }
        let raw = entry.file_path();
        let raw = raw.as_ref();
        // A folder, as zip adds it for each that it packs.
        if raw.ends_with(b"/") {
            continue;
        }
        if raw.len() > MAX_NAME {
            return Err(format!("an entry's name has {} bytes", raw.len()).into());
        }
        let name = std::str::from_utf8(raw)?.to_owned();
        let shown = || name.escape_debug().to_string();
        if entry.compression_method() != CompressionMethod::STORE || entry.compressed_size_hint() != entry.uncompressed_size_hint() {
            return Err(format!("{} is compressed; repack it with zip -0", shown()).into());
        }
        if !names.insert(name.clone()) {
            return Err(format!("{} is in it twice", shown()).into());
        }
        found.push((name, entry.local_header_offset(), entry.crc32(), entry.wayfinder()));
    }
    let mut out = Vec::with_capacity(found.len());
    for (name, header, crc, wayfinder) in found {
        let (start, end) = archive.get_entry(wayfinder)?.compressed_data_range();
        if header > start || start > end || end > len {
            return Err(format!("{} is not wholly in the file", name.escape_debug()).into());
        }
        out.push(Entry { name, header, start, end, crc });
    }
    // The same bytes under many names would be read many times.
    let mut places: Vec<&Entry> = out.iter().collect();
    places.sort_by_key(|entry| entry.header);
    if let Some(pair) = places.windows(2).find(|pair| pair[1].header < pair[0].end) {
        return Err(format!("{} and {} overlap", pair[0].name.escape_debug(), pair[1].name.escape_debug()).into());
    }
    Ok(out)
}
