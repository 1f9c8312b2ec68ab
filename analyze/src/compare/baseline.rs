//! A baseline: the measurements of some captures in one small file, so that the captures needn't be kept.
//!
//! The file is a line that says what it is, then JSON, compressed with zstd. It is untrusted input like a capture: its size is bounded while it is
//! read, and what can't have been measured is refused.

use super::measure::{BLOCKS, Measurement, State};
use crate::error::{Error, Result};
use crate::output::file::{Inputs, Pending};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;

/// The first bytes of a baseline, and the version of what follows.
const MAGIC: &[u8] = b"ebrec-baseline 1\n";
/// What all versions begin with.
const ANY_VERSION: &[u8] = b"ebrec-baseline ";
/// So much JSON is read at most.
const MOST: u64 = 1 << 30;

/// A named set of measurements.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baseline {
    /// Its name.
    pub name: String,
    /// The measurements, in the order in which they were added.
    pub captures: Vec<Measurement>,
}

/// Whether a file is a baseline, by its first bytes.
pub fn is_baseline(path: &Path) -> bool {
    let mut first = [0; ANY_VERSION.len()];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && first == ANY_VERSION
}

/// Reads a baseline.
pub fn read(path: &Path) -> Result<Baseline> {
    let failed = |why: &dyn std::fmt::Display| Error::new(path.display(), why).hint("make it anew: ebrec baseline create FILE CAPTURE…");
    let mut file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(|_| failed(&"not a baseline"))?;
    if !magic.starts_with(ANY_VERSION) {
        return Err(failed(&"not a baseline"));
    }
    if magic != MAGIC {
        return Err(failed(&"the baseline was made by another version of ebrec"));
    }
    let mut json = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(file).map_err(|error| failed(&error))?;
    decoder.take(MOST + 1).read_to_end(&mut json).map_err(|error| failed(&format!("the file is damaged ({error})")))?;
    if json.len() as u64 > MOST {
        return Err(failed(&"the file is too large for a baseline"));
    }
    let baseline: Baseline = serde_json::from_slice(&json).map_err(|error| failed(&format!("the file is damaged ({error})")))?;
    if baseline.captures.is_empty() || !baseline.captures.iter().all(is_valid) {
        return Err(failed(&"the file is damaged"));
    }
    Ok(baseline)
}

/// Whether it can have been measured.
fn is_valid(measurement: &Measurement) -> bool {
    let mut states = measurement.sources.values();
    measurement.window_ns > 0
        && states.all(|state| match state {
            State::Missing(_) => true,
            State::Measured { lost, metrics, .. } => {
                let mut groups = metrics.values().flat_map(|measured| &measured.groups);
                (0.0..=1.0).contains(lost)
                    && groups.all(|(_, blocks)| blocks.len() == BLOCKS && blocks.iter().all(|cell| cell.sketch.is_valid()))
            }
        })
}

/// Writes a baseline. An existing file is replaced only if `replace`, and then when the new one is whole; `captures` never are.
pub fn write(path: &Path, baseline: &Baseline, replace: bool, captures: &Inputs) -> Result<u64> {
    let failed = |error: std::io::Error| Error::new(path.display(), error).hint("give another file");
    let json = serde_json::to_vec(baseline).map_err(|error| failed(error.into()))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(zstd::encode_all(json.as_slice(), 9).map_err(failed)?);
    let mut file = Pending::new(path, replace, captures)?;
    file.write_all(&bytes).map_err(failed)?;
    file.commit()?;
    Ok(bytes.len() as u64)
}
