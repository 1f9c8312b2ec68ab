//! A table's segments: the one that is being written, and those that are sealed and small.

use super::disk::Content;
use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::TimestampNanosecondType;
use arrow::record_batch::RecordBatch;
use ebrec_format::manifest::TableState;
use ebrec_format::segment;
use ebrec_format::table::Table;
use std::sync::Arc;
use std::time::Instant;

/// One whose columns take this much memory is sealed at once: others choose how long their names are.
const SEGMENT_BYTES: usize = 16 << 20;
/// A segment of this many rows is sealed at once.
const SEGMENT_ROWS: usize = 1 << 19;
/// Or with so many bytes of rows.
const SEGMENT_RAW: u64 = 256 << 20;
/// So many rows that came late are sealed at once.
const LATE_ROWS: usize = 1 << 16;
/// Or so many bytes of them, because they are kept as they are.
const LATE_RAW: u64 = 16 << 20;
/// What a row is taken to need in a file before the table's own rows have shown it.
const ROW_BYTES: u64 = 24;

/// A sealed segment.
pub struct Sealed {
    /// Its rows.
    pub rows: usize,
    /// What they take in memory when they are read, at most.
    pub raw: u64,
    /// The file.
    pub bytes: Vec<u8>,
}

/// A sealed segment that is small and will become part of a larger one.
pub struct Loose {
    /// The first and the last flush of the table that are in it.
    pub first: u64,
    /// See `first`.
    pub last: u64,
    /// Its rows.
    pub rows: usize,
    /// See [`Sealed::raw`].
    pub raw: u64,
    /// Bytes of its file.
    pub len: u64,
    /// How often its rows were merged.
    pub level: u32,
    /// The file's bytes, as long as they are not on the disk.
    pub content: Arc<Content>,
}

struct Open {
    writer: segment::Writer,
    rows: usize,
    raw: u64,
    since: Instant,
    last_ts: i64,
    /// Rows that are older than what was written before them.
    late: Vec<RecordBatch>,
    late_rows: usize,
    late_raw: u64,
}

/// A table of the capture in the making.
pub struct TableFile {
    /// Which one.
    pub table: &'static Table,
    open: Option<Open>,
    /// The number of the next flush.
    pub next: u64,
    /// Sealed and small.
    pub loose: Vec<Loose>,
    /// What the manifest will say.
    pub state: TableState,
    /// Segments that are sealed for good.
    pub packed: usize,
    /// Rows and bytes of all that was sealed, for guessing.
    sealed: (u64, u64),
    /// A file of this table without a row.
    pub empty: u64,
}

impl TableFile {
    /// A table without rows. `empty` is the size of a file without one.
    pub fn new(table: &'static Table, empty: u64) -> TableFile {
        TableFile { table, open: None, next: 1, loose: Vec::new(), state: TableState::default(), packed: 0, sealed: (0, 0), empty }
    }

    /// Whether it has no segment, not even one in the making.
    pub fn has_none(&self) -> bool {
        self.open.is_none() && self.loose.is_empty() && self.packed == 0
    }

    /// When the oldest row that isn't sealed came.
    pub fn since(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.since)
    }

    /// How large the open segment will be.
    pub fn open_bytes(&self) -> u64 {
        let Some(open) = &self.open else { return 0 };
        let (rows, bytes) = self.sealed;
        let each = if rows < 1000 { ROW_BYTES } else { bytes.div_ceil(rows) };
        let frames = if open.late_rows > 0 { 2 } else { 1 };
        (open.rows + open.late_rows) as u64 * each + frames * self.empty
    }

    /// What the open segment takes in memory, about.
    pub fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.writer.bytes() + usize::try_from(open.late_raw).unwrap_or(usize::MAX))
    }

    /// Adds rows. Returns whether the segment is large enough: at the latest when its rows take `most_raw` bytes of memory.
    pub fn write(&mut self, batch: &RecordBatch, most_raw: u64) -> Result<bool> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open {
                writer: segment::Writer::new(self.table).context("cannot begin a segment")?,
                rows: 0,
                raw: 0,
                since: Instant::now(),
                last_ts: i64::MIN,
                late: Vec::new(),
                late_rows: 0,
                late_raw: 0,
            }),
        };
        let mut batch = batch.clone();
        let each = raw_bytes(&batch).div_ceil(batch.num_rows().max(1) as u64);
        if self.table.has_ts() {
            if !instants(&batch).is_sorted() {
                batch = segment::sort(self.table, &batch)?;
            }
            // What took long is told when it is over, under the time when it began. Such rows would break the order that windows
            // rely on, so they become a segment of their own.
            let late = instants(&batch).partition_point(|&ts| ts < open.last_ts);
            if late > 0 {
                open.late_rows += late;
                open.late_raw += each * late as u64;
                open.late.push(copy(self.table, &batch.slice(0, late))?);
                batch = batch.slice(late, batch.num_rows() - late);
            }
            open.last_ts = instants(&batch).last().copied().unwrap_or(open.last_ts);
        }
        open.writer.write(&batch)?;
        open.rows += batch.num_rows();
        open.raw += each * batch.num_rows() as u64;
        let large = open.raw >= SEGMENT_RAW.min(most_raw) || open.late_raw >= LATE_RAW || open.writer.bytes() >= SEGMENT_BYTES;
        Ok(large || open.rows >= SEGMENT_ROWS || open.late_rows >= LATE_ROWS)
    }

    /// Lets go of rows that are not sealed.
    pub fn forget(&mut self) {
        self.open = None;
    }

    /// Ends the open segment: as one file, and what came too late for it as another, before it.
    pub fn seal(&mut self) -> Result<Vec<Sealed>> {
        let Some(open) = self.open.take() else { return Ok(Vec::new()) };
        let mut sealed = Vec::new();
        if open.late_rows > 0 {
            let bytes = segment::encode(self.table, &open.late).context("cannot write late rows")?;
            sealed.push(Sealed { rows: open.late_rows, raw: open.late_raw, bytes });
        }
        if open.rows > 0 {
            let bytes = open.writer.finish().context("cannot end a segment")?;
            sealed.push(Sealed { rows: open.rows, raw: open.raw, bytes });
        }
        for segment in &sealed {
            self.sealed.0 += segment.rows as u64;
            self.sealed.1 += segment.bytes.len() as u64;
        }
        Ok(sealed)
    }
}

/// The `ts` of a batch's rows.
fn instants(batch: &RecordBatch) -> &[i64] {
    batch.column(0).as_primitive_opt::<TimestampNanosecondType>().map_or(&[], |ts| ts.values())
}

/// Rows without what they are a part of: a slice would keep its whole batch, and a dictionary all the values that the batch had.
fn copy(table: &Table, batch: &RecordBatch) -> Result<RecordBatch> {
    let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
    let schema = table.schema();
    let columns = take_record_batch(batch, &all)?
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(c, f)| cast(c, f.data_type()))
        .collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// What the rows take in memory, at most, when they are read back: there each has a text of its own.
fn raw_bytes(batch: &RecordBatch) -> u64 {
    let of = |column: &dyn Array| {
        let coded = column.as_any_dictionary_opt().and_then(|coded| coded.values().as_string_opt::<i32>());
        match coded {
            Some(values) => {
                let longest = values.offsets().lengths().max().unwrap_or(0);
                (batch.num_rows() * (longest + size_of::<i32>())) as u64
            }
            None => column.to_data().get_slice_memory_size().unwrap_or(column.get_array_memory_size()) as u64,
        }
    };
    batch.columns().iter().map(|column| of(column.as_ref())).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
    use arrow::datatypes::Int32Type;

    #[test]
    fn a_text_that_is_stored_once_counts_for_each_row() {
        let values: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(4096), "y".to_owned()]));
        let keys = Int32Array::from_iter_values((0..1000).map(|row| row % 2));
        let coded: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, values));
        let raw = raw_bytes(&RecordBatch::try_from_iter([("path", coded)]).unwrap());
        assert!((500 * 4096..1000 * 4200).contains(&raw), "{raw}");
    }
}
