//! The first page of a capture: `manifest.json`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the format that this crate writes. Columns are only ever added, so a newer reader reads an older capture;
/// the number rises when an older reader could misunderstand a newer capture.
pub const FORMAT_VERSION: u32 = 1;

/// Name of the manifest's file.
pub const MANIFEST: &str = "manifest.json";

/// How the reason of a hook begins that isn't attached because no option asked for it; in parentheses the option that would.
pub const NOT_ASKED: &str = "not asked for";

/// What a capture says about itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the recorder.
    pub format_version: u32,
    /// Version of the recorder.
    pub recorder_version: String,
    /// The host.
    pub host: Host,
    /// How the recorder was called.
    pub command: Vec<String>,
    /// When all hooks were attached, ns since 1970.
    pub started_ns: i64,
    /// When recording ended; while it runs, when the manifest was last written. ns since 1970.
    pub ended_ns: i64,
    /// Whether the recording came to its end. If not, it still runs or was killed.
    pub complete: bool,
    /// What ended it: `duration`, `SIGINT`, `max-size`, ….
    pub ended_by: String,
    /// What was added to boot-clock instants to make them UTC, ns.
    pub boot_to_utc_ns: i64,
    /// Filters, as given: `pid`, `comm`, `cgroup`, ….
    pub filters: BTreeMap<String, Vec<String>>,
    /// Sampling rates and other settings that shape the data.
    pub settings: BTreeMap<String, String>,
    /// The probes by name: whether they were asked for, and their hooks.
    pub probes: BTreeMap<String, ProbeState>,
    /// The tables that were recorded, by name.
    pub tables: BTreeMap<String, TableState>,
    /// What recording cost.
    pub recorder: Cost,
    /// The user's `-M key=value` notes.
    pub notes: BTreeMap<String, String>,
}

/// The host that a capture is from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// CPUs online.
    pub cpus: u32,
    /// Distribution, as /etc/os-release names it.
    pub os: String,
    /// Identity of the boot.
    pub boot_id: String,
}

/// A probe in a capture.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeState {
    /// Whether it was asked for.
    pub requested: bool,
    /// Its hooks.
    pub hooks: Vec<HookState>,
}

/// A hook in a capture.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HookState {
    /// Its name.
    pub hook: String,
    /// The tables that it feeds, if the recorder tells; else any of the probe's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// What it is attached with, `None` if it isn't.
    pub mechanism: Option<String>,
    /// Why it isn't attached.
    pub reason: Option<String>,
    /// How often its program ran, where the kernel counts.
    pub runs: Option<u64>,
    /// Time its program took, where the kernel counts, ns.
    pub run_time_ns: Option<u64>,
}

impl HookState {
    /// Whether it isn't attached because no option asked for it.
    pub fn is_off(&self) -> bool {
        self.mechanism.is_none() && self.reason.as_ref().is_some_and(|reason| reason.starts_with(NOT_ASKED))
    }
}

/// A table in a capture.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TableState {
    /// Rows.
    pub rows: u64,
    /// Bytes of Parquet.
    pub bytes: u64,
    /// Rows that are missing.
    pub lost: u64,
}

/// What recording cost the host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// CPU time of the recorder, user and system, ns.
    pub cpu_ns: u64,
    /// The part of it until all hooks were attached, ns.
    pub setup_cpu_ns: u64,
    /// Largest resident set, bytes. Ring pages count twice, because they are mapped twice: `heap_bytes`, `ring_bytes` and `map_bytes` are
    /// what recording took.
    pub max_rss_bytes: u64,
    /// Ring buffers, all together, bytes.
    pub ring_bytes: u64,
    /// In which scheduling classes its threads ran.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scheduling: String,
    /// Whether its memory was locked, so that it can't be paged out.
    pub memory_locked: bool,
    /// The largest of the same without the rings: what the recorder allocated, and what it had mapped of files. 0: not told.
    pub heap_bytes: u64,
    /// The kernel's maps beside the rings, bytes. 0: not told.
    pub map_bytes: u64,
    /// What of others could not be read, and why, with how often: what depends on it is null.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<String, u64>,
    /// From start to all hooks attached, ns.
    pub start_ns: u64,
    /// From the end of the window until no program is attached any more, ns.
    pub detach_ns: u64,
    /// From the end of the window to the usable file, ns.
    pub stop_ns: u64,
}
