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
//! `FIRST` and `LAST` count the flushes of a table. Loose segments are merged as they become many, and when they are large enough they become
//! one entry of the pack; what they became covers their numbers. A crash between that and their removal leaves both, and the covered
//! loose ones are ignored. A large segment that was sealed among them is an entry of its own with a number in between: what is in the
//! pack is never ignored. At the end every table's rest is packed, the manifest follows, the ZIP directory is written, and the pack gets
//! the name `NAME.ebrec`. Only what is loose is ever written again, so the time from stop to usable file does not grow with the
//! recording. With `--format dir` the same names are files of a directory.
//!
//! Each file is synced before it gets its name, and its name is before what it replaces is removed. So the names that are there
//! after a crash at any instant lead to whole files. The manifest may be missing then: it is made of what the segments say ([`rebuild`]).
//!
//! # What is not believed
//!
//! A capture may come from anybody. What isn't a regular file is refused before it is opened; the manifest has a largest size; entries of a ZIP file
//! must be stored, lie within the file, not overlap and have different names; names that are no segment's lead nowhere. What is in a
//! segment is checked when it is read.

mod dir;
mod files;
mod rebuild;
mod zip;

use crate::manifest::{FORMAT_VERSION, Manifest};
use files::Source;
pub use rebuild::is_guarded;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

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
    source: Source,
    offset: u64,
    /// Its size, bytes.
    pub len: u64,
}

impl Segment {
    /// `len` bytes from `at`, both within the segment.
    pub fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        self.check(at, len)?;
        let mut bytes = vec![0; len];
        self.source.read_exact_at(&mut bytes, self.offset + at)?;
        Ok(bytes)
    }

    /// The same into memory that is there already.
    fn read_into(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.check(at, bytes.len())?;
        self.source.read_exact_at(bytes, self.offset + at)
    }

    fn check(&self, at: u64, len: usize) -> io::Result<()> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{}: read beyond the segment", self.name)));
        }
        Ok(())
    }

    /// All of it.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        self.read(0, len)
    }
}

impl Capture {
    /// Opens a capture of any form.
    pub fn open(path: &Path) -> Result<Capture, OpenError> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Missing { path: path.to_owned(), hint: hint(path) });
            }
            Err(error) => return opened(path, Err(error)),
        };
        let found = if metadata.is_dir() {
            from_dir(path)?
        } else if metadata.is_file() {
            let (manifest, segments, remarks) = zip::read(path)?;
            Capture { remarks, ..assemble(path, manifest, State::Complete, segments) }
        } else {
            return Err(not_a_capture(path, "a FIFO, socket or device"));
        };
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
        return format!("; the recording did not end, open {} instead", Path::new(&partial).display());
    }
    let ended = path.to_str().and_then(|path| path.strip_suffix(PARTIAL_SUFFIX)).filter(|ended| Path::new(ended).exists());
    ended.map_or_else(String::new, |ended| format!("; the recording has ended, open {ended} instead"))
}

/// The error with the path that it is about.
fn opened<T>(path: &Path, result: io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => not_a_capture(path, source),
        _ => OpenError::Io { path: path.to_owned(), source },
    })
}

fn not_a_capture(path: &Path, why: impl ToString) -> OpenError {
    OpenError::NotACapture { path: path.to_owned(), why: why.to_string() }
}

/// The manifest, which must at least say which format it is of and when the recording began.
fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, OpenError> {
    let spoiled = |why: &str| not_a_capture(path, format!("manifest.json: {why}"));
    // A list would be taken for the fields of an object, one after the other.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(spoiled("it is not an object"));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| spoiled(&error.to_string().escape_debug().to_string()))?;
    if manifest.format_version == 0 {
        return Err(spoiled("it does not say which format the capture has"));
    }
    if manifest.started_ns == 0 {
        return Err(spoiled("it does not say when the recording began"));
    }
    Ok(manifest)
}

fn from_dir(path: &Path) -> Result<Capture, OpenError> {
    let found = dir::read(path)?;
    let mut capture = Capture { remarks: found.remarks, ..assemble(path, found.manifest, found.state, found.segments) };
    if capture.state == State::Partial {
        let tables = capture.segments.iter().map(|(table, segments)| (table.as_str(), segments.as_slice()));
        capture.manifest.ended_ns = rebuild::latest(tables, capture.manifest.ended_ns);
    }
    Ok(capture)
}

/// A segment's table and the flushes it covers: `TABLE/FIRST-LAST.parquet` or `loose/TABLE.FIRST-LAST.parquet`.
fn identity(name: &str) -> Option<(&str, u64, u64)> {
    let (folder, file) = name.strip_suffix(".parquet")?.split_once('/')?;
    let (table, range) = if folder == LOOSE { file.rsplit_once('.')? } else { (folder, file) };
    let (first, last) = range.split_once('-')?;
    // A name as a recorder writes it, which is the name of a table in SQL.
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (table != LOOSE && (1..=64).contains(&table.len()) && table.chars().all(plain) && first <= last).then_some((table, first, last))
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
    // By table and first flush, the widest first, of equals the one that isn't loose: a segment covered by another follows it.
    known.sort_by(|a, b| {
        let key = |of: &(String, u64, u64, Segment)| (of.1, std::cmp::Reverse(of.2), is_loose(&of.3.name));
        a.0.cmp(&b.0).then_with(|| key(a).cmp(&key(b)))
    });
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
        let nothing = Source::At(PathBuf::from("nowhere"));
        let segment = |name: &&str| Segment { name: (*name).to_owned(), source: nothing.clone(), offset: 0, len: 12 };
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
    fn only_names_as_a_recorder_writes_them_are_segments() {
        assert_eq!(identity("loose/tcp_send.000001-000003.parquet"), Some(("tcp_send", 1, 3)));
        assert_eq!(identity("tcp_send/000001-000003.parquet"), Some(("tcp_send", 1, 3)));
        for other in [
            "../etc/000001-000001.parquet",
            "/etc/000001-000001.parquet",
            "a/b/000001-000001.parquet",
            "..\\a/000001-000001.parquet",
            "\u{1b}[2J/000001-000001.parquet",
            "tcp_send/000003-000001.parquet",
            "tcp_send/x-000001.parquet",
            "tcp_send/000001.parquet",
            "tcp_send/000001-000001.csv",
            "/000001-000001.parquet",
            "loose/000001-000001.parquet",
        ] {
            assert_eq!(identity(other), None, "{other}");
        }
        assert_eq!(identity(&format!("{}/000001-000001.parquet", "x".repeat(65))), None);
    }

    #[test]
    fn a_manifest_says_what_it_must() {
        let parse = |text: &str| parse_manifest(Path::new("x"), text.as_bytes());
        for text in ["", "null", "[]", "{}", "[1, \"0.1\"]", "7", r#"{"format_version": 1}"#, r#"{"started_ns": 5}"#] {
            assert!(parse(text).is_err_and(|error| error.to_string().contains("manifest.json")), "{text}");
        }
        assert!(parse(r#"{"format_version": 1, "started_ns": 7, "ended_ns": 7}"#).is_ok());
        let forged = parse("{\"format_version\": \"\u{1b}[2J\"}").err().map(|error| error.to_string());
        assert!(forged.is_some_and(|text| !text.contains('\u{1b}')));
    }

    #[test]
    fn loose_segments_that_are_in_the_pack_are_not_read_twice() -> io::Result<()> {
        let packed = ["signal/000001-000003.parquet", "signal/000002-000002.parquet"];
        let loose = ["loose/signal.000001-000001.parquet", "loose/signal.000003-000003.parquet", "loose/signal.000004-000004.parquet"];
        assert_eq!(left(&[&packed[..], &loose[..]].concat())?, [packed[0], packed[1], loose[2]]);
        let merged = ["loose/signal.000001-000003.parquet", "loose/signal.000001-000001.parquet", "loose/signal.000003-000003.parquet"];
        assert_eq!(left(&merged)?, merged[..1]);
        // One that went into the pack alone has the numbers that it had.
        let alone = ["loose/signal.000007-000007.parquet", "signal/000007-000007.parquet"];
        assert_eq!(left(&[&packed[..], &alone[..]].concat())?, [packed[0], packed[1], alone[1]]);
        // Another table's numbers mean nothing here.
        assert_eq!(left(&["oom/000001-000009.parquet", "loose/signal.000002-000002.parquet"])?.len(), 2);
        Ok(())
    }
}
