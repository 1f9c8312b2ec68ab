//! Opening a capture: a finished `.ebrec` file, a directory, or the `.partial` directory of a recording that still
//! runs or was killed.
//!
//! # How a capture is laid out
//!
//! Each table is a list of Parquet *segments*. A recording writes into a directory `NAME.ebrec.partial/`:
//!
//! * `pack.zip`: the large segments, `TABLE/FIRST-LAST.parquet`, appended one by one and never touched again;
//! * `loose/TABLE.FIRST-LAST.parquet`: what a table has gathered since, sealed every few seconds so that a quiet table loses
//!   no history in a crash;
//! * `manifest.json`.
//!
//! `FIRST` and `LAST` count the flushes of a table. When its loose segments are large enough, they become one entry of
//! the pack that covers their numbers; a crash between that and their removal leaves both, and the covered loose ones are ignored.
//! A large segment that was sealed among them is an entry of its own with a number in between: what is in the pack is never ignored.
//! At the end every table's rest is packed, the manifest follows, the ZIP directory is written, and the pack is renamed to
//! `NAME.ebrec`. No byte is written twice, so the time from stop to usable file does not grow with the recording.
//! With `--format dir` the same names are files of a directory.

use crate::manifest::{FORMAT_VERSION, MANIFEST, Manifest};
use crate::pack::{self, Entry};
use rawzip::{RECOMMENDED_BUFFER_SIZE, ZipArchive};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Suffix of the directory of an unfinished recording.
pub const PARTIAL_SUFFIX: &str = ".partial";
/// The growing pack in it.
pub const PACK: &str = "pack.zip";
/// The directory of small segments in it.
pub const LOOSE: &str = "loose";
/// A manifest of more than this is not one.
const MAX_MANIFEST: u64 = 16 << 20;

/// Why a capture can't be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{path}: no such capture{hint}")]
    Missing {
        /// What was asked for.
        path: PathBuf,
        /// Where it might be.
        hint: String,
    },
    /// The file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path}: not an ebrec capture ({why})")]
    NotACapture {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It was made by a newer recorder.
    #[error("{path}: capture format {found}, this program reads up to {FORMAT_VERSION}; use a newer ebrec")]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format version.
        found: u32,
    },
}

/// How a capture lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A finished file or directory.
    Complete,
    /// A recording that still runs or was killed.
    Partial,
}

/// A capture, opened: the manifest and where the segments are.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Where it is.
    pub path: PathBuf,
    /// What it says about itself.
    pub manifest: Manifest,
    /// Whether it was finished.
    pub state: State,
    /// What was odd about it, for the user to know: a torn segment, say.
    pub remarks: Vec<String>,
    segments: BTreeMap<String, Vec<Segment>>,
}

/// A Parquet file of a table, or the range of a larger file that holds one.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Name within the capture.
    pub name: String,
    file: Arc<File>,
    offset: u64,
    /// Its size, bytes.
    pub len: u64,
}

impl Segment {
    /// `len` bytes from `at`, both within the segment.
    pub fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{}: read beyond the segment", self.name)));
        }
        let mut bytes = vec![0; len];
        read_exact_at(&self.file, &mut bytes, self.offset + at)?;
        Ok(bytes)
    }

    /// All of it.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        self.read(0, len)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let n = file.seek_read(bytes, offset)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

impl Capture {
    /// Opens a capture of any form.
    pub fn open(path: &Path) -> Result<Capture, OpenError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { path: path.to_owned(), hint: hint(path) },
            _ => OpenError::Io { path: path.to_owned(), source },
        };
        let metadata = std::fs::metadata(path).map_err(io_error)?;
        let found = if metadata.is_dir() { from_dir(path)? } else { from_zip(path)? };
        if found.manifest.format_version > FORMAT_VERSION {
            return Err(OpenError::TooNew { path: path.to_owned(), found: found.manifest.format_version });
        }
        Ok(found)
    }

    /// The names of the tables that have a segment.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.segments.keys().map(String::as_str)
    }

    /// The segments of a table, oldest first.
    pub fn segments(&self, table: &str) -> &[Segment] {
        self.segments.get(table).map_or(&[], Vec::as_slice)
    }

    /// Bytes of a table.
    pub fn bytes(&self, table: &str) -> u64 {
        self.segments(table).iter().map(|segment| segment.len).sum()
    }
}

fn hint(path: &Path) -> String {
    let mut partial = path.as_os_str().to_owned();
    partial.push(PARTIAL_SUFFIX);
    if Path::new(&partial).is_dir() {
        format!("; the recording did not end, open {} instead", Path::new(&partial).display())
    } else {
        String::new()
    }
}

fn not_a_capture(path: &Path, why: impl ToString) -> OpenError {
    OpenError::NotACapture { path: path.to_owned(), why: why.to_string() }
}

fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, OpenError> {
    serde_json::from_slice(bytes).map_err(|error| not_a_capture(path, format!("manifest.json: {error}")))
}

fn from_zip(path: &Path) -> Result<Capture, OpenError> {
    let file = File::open(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let entries = zip_entries(&file).map_err(|error| not_a_capture(path, format!("{error}; was it copied completely?")))?;
    let file = Arc::new(file);
    let segments = entries.into_iter().map(|entry| segment_of(entry, &file)).collect::<Vec<_>>();
    let Some(manifest) = segments.iter().find(|segment| segment.name == MANIFEST).filter(|segment| segment.len < MAX_MANIFEST) else {
        return Err(not_a_capture(path, "a ZIP file without manifest.json"));
    };
    let manifest = manifest.read_all().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let manifest = parse_manifest(path, &manifest)?;
    Ok(assemble(path, manifest, State::Complete, segments))
}

fn segment_of(entry: Entry, file: &Arc<File>) -> Segment {
    Segment { name: entry.name, file: file.clone(), offset: entry.offset, len: entry.len }
}

/// The entries of a finished ZIP file, all of them stored and within the file.
fn zip_entries(file: &File) -> Result<Vec<Entry>, Box<dyn std::error::Error>> {
    let len = file.metadata()?.len();
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipArchive::from_file(file.try_clone()?, &mut buffer)?;
    let mut found = Vec::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry()? {
        if entry.compression_method() != rawzip::CompressionMethod::STORE {
            return Err("an entry is compressed; repack it with zip -0".into());
        }
        let name = String::from_utf8(entry.file_path().as_ref().to_vec())?;
        found.push((name, entry.wayfinder()));
    }
    let mut out = Vec::with_capacity(found.len());
    for (name, wayfinder) in found {
        let (start, end) = archive.get_entry(wayfinder)?.compressed_data_range();
        if start > end || end > len {
            return Err(format!("{name} is not wholly in the file").into());
        }
        out.push(Entry { name, offset: start, len: end - start });
    }
    Ok(out)
}

fn from_dir(path: &Path) -> Result<Capture, OpenError> {
    let io_error = |source| OpenError::Io { path: path.to_owned(), source };
    let manifest = match std::fs::read(path.join(MANIFEST)) {
        Ok(bytes) => parse_manifest(path, &bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_a_capture(path, "a directory without manifest.json")),
        Err(source) => return Err(io_error(source)),
    };
    let mut remarks = Vec::new();
    let mut segments = Vec::new();
    if let Ok(mut pack) = File::open(path.join(PACK)) {
        let end = pack.metadata().map_err(io_error)?.len();
        let entries = pack::scan(&mut pack).map_err(io_error)?;
        let read = entries.last().map_or(0, |entry| entry.offset + entry.len);
        if read < end {
            remarks.push(format!("the last {} bytes of {PACK} are a segment that was not finished; it is left out", end - read));
        }
        let pack = Arc::new(pack);
        segments.extend(entries.into_iter().map(|entry| segment_of(entry, &pack)));
    }
    for directory in std::fs::read_dir(path).map_err(io_error)? {
        let directory = directory.map_err(io_error)?.path();
        if directory.is_dir() {
            parquet_files(&directory, &mut segments, &mut remarks).map_err(io_error)?;
        }
    }
    let state = if path.join(LOOSE).is_dir() { State::Partial } else { State::Complete };
    let mut capture = assemble(path, manifest, state, segments);
    capture.remarks.extend(remarks);
    Ok(capture)
}

fn parquet_files(directory: &Path, segments: &mut Vec<Segment>, remarks: &mut Vec<String>) -> io::Result<()> {
    let folder = directory.file_name().unwrap_or_default().to_string_lossy();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        if !file_name.ends_with(".parquet") {
            continue;
        }
        // A recording that goes on may have packed and removed it since.
        let Ok(file) = File::open(&path) else { continue };
        let len = file.metadata()?.len();
        if len < 12 {
            remarks.push(format!("{} is empty; it is left out", path.display()));
            continue;
        }
        segments.push(Segment { name: format!("{folder}/{file_name}"), file: Arc::new(file), offset: 0, len });
    }
    Ok(())
}

/// A segment's table and the flushes it covers: `TABLE/FIRST-LAST.parquet` or `loose/TABLE.FIRST-LAST.parquet`.
fn identity(name: &str) -> Option<(&str, u64, u64)> {
    let (folder, file) = name.strip_suffix(".parquet")?.split_once('/')?;
    let (table, range) = if folder == LOOSE { file.rsplit_once('.')? } else { (folder, file) };
    let (first, last) = range.split_once('-')?;
    Some((table, first.parse().ok()?, last.parse().ok()?))
}

fn is_loose(name: &str) -> bool {
    name.split_once('/').is_some_and(|(folder, _)| folder == LOOSE)
}

fn assemble(path: &Path, manifest: Manifest, state: State, all: Vec<Segment>) -> Capture {
    let mut known: Vec<(String, u64, u64, Segment)> = all
        .into_iter()
        .filter_map(|segment| {
            identity(&segment.name).map(|(t, first, last)| (t.to_owned(), first, last)).map(|(t, f, l)| (t, f, l, segment))
        })
        .collect();
    // By table and first flush, the widest first, so that a segment covered by another follows it.
    known.sort_by(|a, b| (&a.0, a.1, std::cmp::Reverse(a.2)).cmp(&(&b.0, b.1, std::cmp::Reverse(b.2))));
    let mut segments: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
    let mut covered: Option<(String, u64)> = None;
    for (table, _, last, segment) in known {
        let until = covered.take().filter(|(t, _)| *t == table).map(|(_, until)| until);
        covered = Some((table.clone(), until.map_or(last, |until| until.max(last))));
        if is_loose(&segment.name) && until.is_some_and(|until| last <= until) {
            continue;
        }
        segments.entry(table).or_default().push(segment);
    }
    Capture { path: path.to_owned(), manifest, state, remarks: Vec::new(), segments }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(names: &[&str]) -> io::Result<Vec<String>> {
        // Which file is no matter: nothing is read.
        let nothing = Arc::new(File::open("Cargo.toml")?);
        let segment = |name: &&str| Segment { name: (*name).to_owned(), file: nothing.clone(), offset: 0, len: 12 };
        let capture = assemble(Path::new("x"), Manifest::default(), State::Partial, names.iter().map(segment).collect());
        Ok(capture.segments.into_values().flatten().map(|segment| segment.name).collect())
    }

    #[test]
    fn a_large_segment_between_those_that_were_merged_is_read() -> io::Result<()> {
        // Rows that came late (1, 3) became one segment at the end; 2 and 4 were large.
        let names = ["syscall/000002-000002.parquet", "syscall/000004-000004.parquet", "syscall/000001-000003.parquet"];
        let mut left = left(&names)?;
        left.sort();
        let mut all = names.map(str::to_owned);
        all.sort();
        assert_eq!(left, all);
        Ok(())
    }

    #[test]
    fn loose_segments_that_are_in_the_pack_are_not_read_twice() -> io::Result<()> {
        let packed = ["signal/000001-000003.parquet", "signal/000002-000002.parquet"];
        let loose = ["loose/signal.000001-000001.parquet", "loose/signal.000003-000003.parquet", "loose/signal.000004-000004.parquet"];
        assert_eq!(left(&[&packed[..], &loose[..]].concat())?, [packed[0], packed[1], loose[2]]);
        let merged = ["loose/signal.000001-000003.parquet", "loose/signal.000001-000001.parquet", "loose/signal.000003-000003.parquet"];
        assert_eq!(left(&merged)?, merged[..1]);
        // Another table's numbers mean nothing here.
        assert_eq!(left(&["oom/000001-000009.parquet", "loose/signal.000002-000002.parquet"])?.len(), 2);
        Ok(())
    }
}
