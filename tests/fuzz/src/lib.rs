//! What is fuzzed: each target takes any bytes and must neither panic nor take long nor much memory.
//!
//! Also included by `format/tests/corpus.rs`, which runs them over what is in `corpus/` and mutations of it, without coverage.

use arrow::array::RecordBatch;
use ebrec_format::capture::{Capture, LOOSE, PACK};
use ebrec_format::events::session::{CaptureRow, Loss, ProbeRow};
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::manifest::{FORMAT_VERSION, MANIFEST, Manifest};
use ebrec_format::pack::PackWriter;
use ebrec_format::table::{Row, batch_of};
use ebrec_format::wire::{NULL32, NULL64};
use ebrec_format::{events, segment};
use std::path::{Path, PathBuf};

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 5] =
    [("capture", capture), ("directory", directory), ("manifest", manifest), ("table", table), ("records", records)];

const START: i64 = 1_700_000_000_000_000_000;
/// Rows that are read of each segment.
const ROWS: usize = 100_000;

/// A place for files, one for each process, where no disk is needed for them.
fn place(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let place = base.join(format!("ebrec-fuzz-{name}-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&place);
    place
}

/// Reads all that a capture has, as far as it lets itself be read.
fn read(path: &Path) {
    let Ok(capture) = Capture::open(path) else { return };
    let names: Vec<String> = capture.tables().map(str::to_owned).collect();
    for name in names {
        for segment in capture.segments(&name) {
            let _ = segment.rows(ROWS);
        }
    }
}

/// A finished capture: a ZIP file.
pub fn capture(bytes: &[u8]) {
    let place = place("capture");
    let file = place.join("c.ebrec");
    if std::fs::write(&file, bytes).is_ok() {
        read(&file);
    }
    let _ = std::fs::remove_dir_all(place);
}

/// The pack of a recording that was killed.
pub fn directory(bytes: &[u8]) {
    let place = place("directory");
    let _ = std::fs::create_dir_all(place.join(LOOSE));
    if std::fs::write(place.join(PACK), bytes).is_ok() {
        read(&place);
    }
    let _ = std::fs::remove_dir_all(place);
}

/// A manifest.
pub fn manifest(bytes: &[u8]) {
    let place = place("manifest");
    if std::fs::write(place.join(MANIFEST), bytes).is_ok() {
        read(&place);
    }
    let _ = std::fs::remove_dir_all(place);
}

/// A Parquet file of a directory.
pub fn table(bytes: &[u8]) {
    let place = place("table");
    let folder = place.join("probe");
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::create_dir_all(place.join(LOOSE));
    if std::fs::write(folder.join("000001-000001.parquet"), bytes).is_ok() {
        read(&place);
    }
    // The same as a table from which a manifest would be made.
    let folder = place.join("capture");
    let _ = std::fs::create_dir_all(&folder);
    if std::fs::write(folder.join("000001-000001.parquet"), bytes).is_ok() {
        read(&place);
    }
    let _ = std::fs::remove_dir_all(place);
}

/// Records as the kernel writes them: first the number of the table, then records, each with its length in front.
pub fn records(bytes: &[u8]) {
    let Some((&number, mut rest)) = bytes.split_first() else { return };
    let tables: Vec<_> = events::tables().collect();
    let table = tables[usize::from(number) % tables.len()];
    let mut context = Context { boot_to_utc_ns: START, resolver: &mut NoResolver };
    let mut sink = (table.builder)();
    while let Some((&[low, high], tail)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes([low, high])).min(tail.len());
        sink.append_record(&tail[..len], &mut context);
        rest = &tail[len..];
    }
    let batch = sink.finish(&mut context);
    let _ = segment::encode(table, &[batch]);
}

/// What fuzzing of a target begins with.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "capture" | "directory" => vec![pack()],
        "manifest" => vec![serde_json::to_vec(&first_page()).unwrap_or_default()],
        "table" => small_tables().into_iter().map(|(_, bytes)| bytes).collect(),
        _ => (0..events::tables().count()).map(of_zeros).collect(),
    }
}

/// Two records of a table: of zeros, and of ones with something behind.
fn of_zeros(number: usize) -> Vec<u8> {
    let mut seed = vec![number as u8];
    for byte in [0, 0xff, b'/'] {
        seed.extend_from_slice(&512_u16.to_le_bytes());
        seed.extend_from_slice(&[byte; 512]);
    }
    seed
}

fn first_page() -> Manifest {
    Manifest { format_version: FORMAT_VERSION, started_ns: START, ended_ns: START + 5_000_000_000, complete: true, ..Manifest::default() }
}

fn encoded<R: Row>(rows: &[R]) -> Vec<u8> {
    let batch: RecordBatch = batch_of(rows, &mut Context { boot_to_utc_ns: START, resolver: &mut NoResolver });
    segment::encode(R::table(), &[batch]).unwrap_or_default()
}

fn small_tables() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| Some(text.to_owned());
    let row = CaptureRow {
        ts: 0,
        end_ts: NULL64,
        host: text("host"),
        kernel: text("6.1"),
        arch: text("x86_64"),
        cpus: 2,
        format_version: FORMAT_VERSION,
        recorder: text("0.1"),
        command: text("ebrec record"),
        ended_by: None,
    };
    let probe = |hook: Option<String>| ProbeRow {
        probe: text("sched"),
        hook,
        mechanism: text("tp_btf"),
        status: text("active"),
        reason: None,
        runs: NULL64,
        run_time_ns: 7,
    };
    let loss = |n: u64| Loss { ts: n, end_ts: n + 1, cpu: NULL32, table_name: text("sched_switch"), reason: text("ring full"), lost: n };
    vec![
        ("capture", encoded(&[row])),
        ("probe", encoded(&[probe(text("switch")), probe(None)])),
        ("loss", encoded(&(0..100).map(loss).collect::<Vec<_>>())),
    ]
}

/// A whole capture.
fn pack() -> Vec<u8> {
    let place = place("seed");
    let path = place.join("pack.zip");
    let written = std::fs::File::create(&path).and_then(|file| {
        let mut pack = PackWriter::new(file);
        for (name, bytes) in small_tables() {
            pack.append(&format!("{name}/000001-000001.parquet"), &bytes)?;
        }
        pack.append(MANIFEST, &serde_json::to_vec(&first_page())?)?;
        pack.finish()
    });
    let bytes = written.and_then(|_| std::fs::read(&path)).unwrap_or_default();
    let _ = std::fs::remove_dir_all(place);
    bytes
}
