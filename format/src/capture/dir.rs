//! A capture that is a directory: with `--format dir`, or of a recording that still runs or was killed.
//!
//! A recorder may be at work in it. Rows only ever move from loose segments into larger ones, and a loose one is removed when the larger
//! one is there. So the loose ones are opened first, and what they may have moved to afterwards: no row is missed. When the
//! recording ends meanwhile, its directory goes away, and reading begins anew.

use super::files::open_regular;
use super::{LOOSE, MAX_MANIFEST, OpenError, PACK, Segment, Source, State, identity, not_a_capture, opened, parse_manifest, rebuild};
use crate::manifest::{MANIFEST, Manifest};
use crate::pack::{self, MAX_ENTRIES};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// So often is begun anew.
const TRIES: usize = 8;
/// A Parquet file ends with the length of its footer, and this.
const MAGIC: &[u8] = b"PAR1";
/// The shortest Parquet file.
const SHORTEST: u64 = 12;

/// What is in a directory.
pub struct Found {
    /// What it says about itself, or what its segments say.
    pub manifest: Manifest,
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Whether the recording has ended.
    pub state: State,
    /// What is odd.
    pub remarks: Vec<String>,
}

/// Reads a directory.
pub fn read(path: &Path) -> Result<Found, OpenError> {
    for _ in 0..TRIES {
        if let Some(found) = Reading::default().all(path)? {
            return Ok(found);
        }
    }
    let source = io::Error::other("it changes faster than it can be read; the recording is just ending, try again");
    Err(OpenError::Io { path: path.to_owned(), source })
}

#[derive(Default)]
struct Reading {
    segments: BTreeMap<String, Segment>,
    remarks: Vec<String>,
    /// A manifest in the pack: that of a recording that had come to its end.
    packed_manifest: Option<Segment>,
}

impl Reading {
    /// `None` if the recording went on in a way that makes it worthless.
    fn all(mut self, path: &Path) -> Result<Option<Found>, OpenError> {
        let loose = path.join(LOOSE);
        let before = directory(&loose);
        if before.is_some() {
            // A listing isn't made at one instant: what was renamed meanwhile may be missing in it, so there must be one without news.
            let mut again = 0;
            while self.folder(path, LOOSE)? && again < 100 {
                again += 1;
            }
        }
        self.pack(path)?;
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return opened(path, Err(error)),
        };
        for entry in entries {
            let entry = opened(path, entry)?;
            let name = entry.file_name();
            // Not a link, which may lead anywhere.
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Some(name) = name.to_str().filter(|name| *name != LOOSE)
            {
                self.folder(path, name)?;
            }
        }
        let read = self.manifest(path)?;
        if before != directory(&loose) {
            return Ok(None);
        }
        let segments: Vec<Segment> = self.segments.into_values().collect();
        if read.is_none() && segments.is_empty() {
            let why = if before.is_some() {
                "the recording was killed before it had sealed anything"
            } else {
                "a directory without manifest.json and without segments"
            };
            return Err(not_a_capture(path, why));
        }
        let state = if before.is_some() { State::Partial } else { State::Complete };
        let manifest = match read {
            Some(manifest) => manifest,
            None => {
                let (manifest, remark) = rebuild::manifest(&segments).map_err(|why| not_a_capture(path, why))?;
                self.remarks.push(remark);
                manifest
            }
        };
        Ok(Some(Found { manifest, segments, state, remarks: self.remarks }))
    }

    /// Adds the segments in a folder. Returns whether there were some that were not known before.
    fn folder(&mut self, path: &Path, folder: &str) -> Result<bool, OpenError> {
        let mut news = false;
        let entries = match std::fs::read_dir(path.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return opened(&path.join(folder), Err(error)),
        };
        for entry in entries {
            let file = opened(path, entry)?.path();
            let Some(name) = file.file_name().and_then(|name| name.to_str()).map(|name| format!("{folder}/{name}")) else { continue };
            if self.segments.contains_key(&name) || identity(&name).is_none() {
                continue;
            }
            if self.segments.len() >= MAX_ENTRIES {
                return Err(not_a_capture(path, format!("it has more than {MAX_ENTRIES} files")));
            }
            let handle = match open_regular(&file, false) {
                Ok(handle) => handle,
                // A recording that goes on may have packed and removed it since.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    news = true;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(not_a_capture(path, format!("{name}: {error}"))),
                Err(error) => return opened(&file, Err(error)),
            };
            let len = opened(&file, handle.metadata())?.len();
            let segment = Segment { name: name.clone(), source: Source::of(handle, file), offset: 0, len };
            if is_whole(&segment) {
                news = true;
                self.segments.insert(name, segment);
            } else {
                let remark = format!("{name} is empty or torn; it is left out");
                if !self.remarks.contains(&remark) {
                    self.remarks.push(remark);
                }
            }
        }
        Ok(news)
    }

    fn pack(&mut self, path: &Path) -> Result<(), OpenError> {
        let file = path.join(PACK);
        let mut handle = match open_regular(&file, false) {
            Ok(handle) => handle,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(not_a_capture(path, format!("{PACK}: {error}"))),
            Err(error) => return opened(&file, Err(error)),
        };
        let scanned = opened(&file, pack::scan(&mut handle))?;
        if scanned.torn > 0 {
            self.remarks.push(format!("the last {} bytes of {PACK} are a segment that was not finished; it is left out", scanned.torn));
        }
        let source = Source::open(handle);
        for entry in scanned.entries {
            let segment = Segment { source: source.clone(), offset: entry.offset, len: entry.len, name: entry.name };
            if segment.name == MANIFEST {
                self.packed_manifest = Some(segment);
            } else if identity(&segment.name).is_some() {
                self.segments.insert(segment.name.clone(), segment);
            }
        }
        Ok(())
    }

    /// What the capture says about itself, if it does. After a power loss a file may be there and hold nothing.
    fn manifest(&self, path: &Path) -> Result<Option<Manifest>, OpenError> {
        let mut bytes = Vec::new();
        if let Some(segment) = self.packed_manifest.as_ref().filter(|segment| segment.len <= MAX_MANIFEST) {
            bytes = opened(path, segment.read_all())?;
        } else {
            let file = path.join(MANIFEST);
            match open_regular(&file, false) {
                Ok(handle) => {
                    opened(&file, handle.take(MAX_MANIFEST + 1).read_to_end(&mut bytes))?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(not_a_capture(path, format!("{MANIFEST}: {error}"))),
                Err(error) => return opened(&file, Err(error)),
            }
        }
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(not_a_capture(path, format!("{MANIFEST} has more than {MAX_MANIFEST} bytes")));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        parse_manifest(path, &bytes).map(Some)
    }
}

/// Whether a segment has a footer: what a recording wrote is whole if it has a name, what a disk or somebody else made of it may not be.
fn is_whole(segment: &Segment) -> bool {
    let Some(at) = segment.len.checked_sub(8).filter(|_| segment.len >= SHORTEST) else { return false };
    let Ok(end) = segment.read(at, 8) else { return false };
    let length = end.first_chunk::<4>().map_or(u64::MAX, |length| u64::from(u32::from_le_bytes(*length)));
    end.ends_with(MAGIC) && length.saturating_add(8) <= segment.len
}

/// Which directory it is, if it is one.
fn directory(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().filter(Metadata::is_dir).map(|metadata| number(&metadata))
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn number(_: &Metadata) -> u64 {
    0
}
