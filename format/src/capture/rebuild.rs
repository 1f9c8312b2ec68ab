//! What a capture's segments say about it, when its manifest can't: a recording that was killed before it had written one, or whose
//! manifest a power loss took. The tables `capture` and `probe` hold nearly all that the manifest holds.

use super::{Segment, identity};
use crate::events;
use crate::footer::checked;
use crate::manifest::{FORMAT_VERSION, HookState, Manifest, TableState};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The tables of the session are a few rows; a file of this size is something else.
const SMALL: u64 = 4 << 20;
/// Rows that are read of them.
const ROWS: usize = 4096;
/// How far the rows of a recording that goes on may be ahead of its manifest, which is written every second: a minute.
const AHEAD_NS: i64 = 60_000_000_000;

/// A manifest made of segments, and the remark that it was.
pub fn manifest(segments: &[Segment]) -> Result<(Manifest, String), String> {
    let mut manifest = Manifest { format_version: FORMAT_VERSION, ..Manifest::default() };
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for segment in segments {
        let Some((table, ..)) = identity(&segment.name) else { continue };
        let Ok(metadata) = footer(segment) else { continue };
        let state: &mut TableState = manifest.tables.entry(table.to_owned()).or_default();
        state.rows += u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
        state.bytes += segment.len;
        // What was there before has the time when it began.
        let within = events::probe_of(table).is_some() || matches!(table, "clock" | "system_sample");
        if let Some((min, max)) = instants(&metadata).filter(|_| within) {
            (first, last) = (first.min(min), last.max(max));
        }
    }
    // What is written at the end says more than what is written at the start.
    for segment in segments.iter().filter(|segment| identity(&segment.name).is_some_and(|(table, ..)| table == "capture")) {
        for batch in rows(segment) {
            let text = |name: &str| text(&batch, name, 0).unwrap_or_default();
            let number = |name: &str| int(&batch, name, 0);
            manifest.host.name = text("host");
            manifest.host.kernel = text("kernel");
            manifest.host.arch = text("arch");
            manifest.host.cpus = number("cpus").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            manifest.format_version = number("format_version").and_then(|n| u32::try_from(n).ok()).unwrap_or(FORMAT_VERSION);
            manifest.recorder_version = text("recorder");
            manifest.command = text("command").split_whitespace().map(str::to_owned).collect();
            manifest.ended_by = text("ended_by");
            first = instant(&batch, "ts").unwrap_or(first);
            last = instant(&batch, "end_ts").unwrap_or(last);
        }
    }
    for segment in segments.iter().filter(|segment| identity(&segment.name).is_some_and(|(table, ..)| table == "probe")) {
        manifest.probes.clear();
        for batch in rows(segment) {
            probes(&batch, &mut manifest);
        }
    }
    if first == i64::MAX {
        return Err("it has neither a manifest nor a row that says when it was recorded".to_owned());
    }
    manifest.started_ns = first;
    manifest.ended_ns = last.max(first);
    let remark = "there is no manifest (the host lost power, or the recording was killed at its start): host, window and probes are \
                  what the segments say, notes and filters are unknown";
    Ok((manifest, remark.to_owned()))
}

/// The latest instant in the last segments of each event table: what a recording that goes on has written since its last manifest.
pub fn latest<'a>(tables: impl Iterator<Item = (&'a str, &'a [Segment])>, ended_ns: i64) -> i64 {
    let events = tables.filter(|(table, _)| events::probe_of(table).is_some());
    let last = events.flat_map(|(_, segments)| segments.iter().rev().take(2));
    let instants = last.filter_map(|segment| instants(footer(segment).ok()?.as_ref())).map(|(_, last)| last);
    instants.filter(|last| (0..AHEAD_NS).contains(&last.saturating_sub(ended_ns))).max().unwrap_or(ended_ns)
}

fn probes(batch: &RecordBatch, manifest: &mut Manifest) {
    for row in 0..batch.num_rows() {
        let Some(probe) = text(batch, "probe", row) else { continue };
        let state = manifest.probes.entry(probe).or_insert_with(|| crate::manifest::ProbeState { requested: true, hooks: Vec::new() });
        match text(batch, "hook", row) {
            Some(hook) => state.hooks.push(HookState {
                hook,
                mechanism: text(batch, "mechanism", row),
                reason: text(batch, "reason", row),
                ..HookState::default()
            }),
            None => state.requested = false,
        }
    }
}

/// The footer, which is all that is read of a table of any size.
fn footer(segment: &Segment) -> Result<Arc<ParquetMetaData>, ParquetError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(segment)?;
    checked(&Arc::new(metadata), segment.len).map_err(ParquetError::General)
}

/// The first and the last instant of a file whose first column is `ts`.
fn instants(metadata: &ParquetMetaData) -> Option<(i64, i64)> {
    let groups = metadata.row_groups().iter().filter_map(|group| {
        let column = group.columns().first().filter(|column| column.column_descr().name() == "ts")?;
        match column.statistics()? {
            Statistics::Int64(values) => values.min_opt().copied().zip(values.max_opt().copied()),
            _ => None,
        }
    });
    groups.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
}

/// The rows of a small table; none of what is damaged.
fn rows(segment: &Segment) -> Vec<RecordBatch> {
    if segment.len > SMALL { Vec::new() } else { segment.rows(ROWS) }
}

impl Segment {
    /// Its first rows, `limit` of them at most, as far as they can be read. What the file says is checked; its types may be any.
    pub fn rows(&self, limit: usize) -> Vec<RecordBatch> {
        let reader = footer(self).and_then(|footer| {
            let metadata = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new())?;
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.clone(), metadata);
            builder.with_batch_size(limit.min(ROWS)).with_limit(limit).build()
        });
        let Ok(mut reader) = reader else { return Vec::new() };
        let mut batches = Vec::new();
        while let Some(Some(Ok(batch))) = guarded(|| reader.next()) {
            batches.push(batch);
        }
        batches
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding something whose panics mean that it is damaged: not for a panic hook to tell.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// The readers of Parquet panic at some bytes that no writer writes, in the pages, which nobody can check without reading them.
fn guarded<T>(decode: impl FnOnce() -> T) -> Option<T> {
    GUARDED.set(true);
    // What is left in an odd state by a panic is the reader, which is not used any more then.
    let decoded = catch_unwind(AssertUnwindSafe(decode)).ok();
    GUARDED.set(false);
    decoded
}

fn text(batch: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
    (row < column.len() && column.is_valid(row)).then(|| column.value(row).to_owned())
}

fn int(batch: &RecordBatch, name: &str, row: usize) -> Option<i64> {
    let column = batch.column_by_name(name)?;
    if row >= column.len() || column.is_null(row) {
        return None;
    }
    let wide = column.as_primitive_opt::<Int64Type>().map(|column| column.value(row));
    wide.or_else(|| column.as_primitive_opt::<Int32Type>().map(|column| i64::from(column.value(row))))
}

fn instant(batch: &RecordBatch, name: &str) -> Option<i64> {
    let column = batch.column_by_name(name)?.as_primitive_opt::<TimestampNanosecondType>()?;
    (!column.is_empty() && column.is_valid(0)).then(|| column.value(0))
}

impl Length for Segment {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Segment {
    type T = SegmentReader;

    fn get_read(&self, start: u64) -> Result<SegmentReader, ParquetError> {
        Ok(SegmentReader { segment: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.read(start, length)?.into())
    }
}

/// A segment from some place on.
#[derive(Debug)]
pub struct SegmentReader {
    segment: Segment,
    at: u64,
}

impl std::io::Read for SegmentReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.segment.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        self.segment.read_into(self.at, &mut buffer[..len])?;
        self.at += len as u64;
        Ok(len)
    }
}
