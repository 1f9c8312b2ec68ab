//! Rows as Parquet.
//!
//! Layout by column kind ([`crate::kind::Encoding`]), zstd, rows sorted by `ts`, page index on, so that a time window
//! reads only the row groups and pages that it overlaps. Only encodings that DuckDB and pandas read are used.

use crate::coded::{CodedColumn, can_code};
use crate::kind::{Encoding, KindInfo};
use crate::plain::{PlainColumn, can_write};
use crate::table::Table;
use arrow::array::AsArray;
use arrow::compute::{SortColumn, SortOptions};
use arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use std::borrow::Cow;

/// Rows of one row group: a window query skips in these steps.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Rows of one page.
const PAGE_ROWS: usize = 32 * 1024;

fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

/// Whether pages that the calling thread compresses from now on shall take less time and more room: for a recorder that falls behind.
pub fn hurry(hurry: bool) {
    crate::coded::hurry(hurry);
}

/// How a table is written.
pub fn properties(table: &Table) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression())
        .set_created_by(concat!("ebrec ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(8 * 1024)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false);
    for column in (table.columns)() {
        for path in leaf_paths(vec![column.name.clone()], &(column.kind.arrow)()).into_iter().map(ColumnPath::new) {
            builder = match column.kind.encoding {
                Encoding::Delta => builder.set_column_encoding(path.clone(), parquet::basic::Encoding::DELTA_BINARY_PACKED),
                Encoding::Dictionary => builder.set_column_dictionary_enabled(path.clone(), true),
                Encoding::Plain => builder,
            };
            if column.name == "ts" {
                // Windows are what is sought. The extremes of other columns exclude next to nothing, and cost time and room.
                builder = builder.set_column_statistics_enabled(path, EnabledStatistics::Page);
            }
        }
    }
    builder.build()
}

/// The columns of Parquet that a column of Arrow becomes.
fn leaf_paths(path: Vec<String>, of: &DataType) -> Vec<Vec<String>> {
    let below = |names: &[&str]| path.iter().cloned().chain(names.iter().map(|&name| name.to_owned())).collect();
    match of {
        DataType::List(item) => leaf_paths(below(&["list", item.name()]), item.data_type()),
        DataType::Struct(fields) => fields.iter().flat_map(|field| leaf_paths(below(&[field.name()]), field.data_type())).collect(),
        _ => vec![path],
    }
}

/// One Parquet file with the rows of `batches`, sorted by `ts` if the table has one.
pub fn encode(table: &Table, batches: &[RecordBatch]) -> Result<Vec<u8>, ParquetError> {
    let sorted = sorted(table, batches)?;
    let mut writer = Writer::new(table)?;
    for batch in sorted.iter() {
        writer.write(batch)?;
    }
    writer.finish()
}

/// A column of a row group in the making.
enum Column {
    /// Written from codes.
    Coded(Box<CodedColumn>),
    /// Written as they are.
    Plain(PlainColumn),
    /// Written by parquet; a nested one has several.
    Arrow(Vec<ArrowColumnWriter>),
}

/// How a column is written.
#[derive(Debug, Clone, Copy)]
enum Way {
    Coded,
    Plain,
    Arrow,
}

fn way(kind: &KindInfo) -> Way {
    match kind.encoding {
        Encoding::Dictionary if can_code(&(kind.arrow)()) => Way::Coded,
        Encoding::Plain if can_write(&(kind.arrow)()) => Way::Plain,
        _ => Way::Arrow,
    }
}

/// A Parquet file in the making.
pub struct Writer {
    schema: SchemaRef,
    ways: Vec<Way>,
    file: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    columns: Vec<Column>,
    rows: usize,
}

impl Writer {
    /// An empty file for rows of `table`.
    pub fn new(table: &Table) -> Result<Writer, ParquetError> {
        let schema = table.schema();
        let ways = (table.columns)().iter().map(|column| way(column.kind)).collect();
        let (file, factory) = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(table)))?.into_serialized_writer()?;
        Ok(Writer { schema, ways, file, factory, columns: Vec::new(), rows: 0 })
    }

    /// Adds rows. A column of few distinct values may come as a dictionary of its type, which is cheaper.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        if batch.num_columns() != self.schema.fields().len() {
            return Err(ParquetError::General("rows of another table".to_owned()));
        }
        let mut at = 0;
        while at < batch.num_rows() {
            if self.columns.is_empty() {
                self.begin_row_group()?;
            }
            let rows = (batch.num_rows() - at).min(ROW_GROUP_ROWS - self.rows);
            for ((column, field), array) in self.columns.iter_mut().zip(self.schema.fields()).zip(batch.columns()) {
                let array = array.slice(at, rows);
                match column {
                    Column::Coded(coded) => coded.append(&array)?,
                    Column::Plain(plain) => plain.append(&array)?,
                    Column::Arrow(writers) => {
                        for (leaf, writer) in compute_leaves(field, &array)?.iter().zip(writers) {
                            writer.write(leaf)?;
                        }
                    }
                }
            }
            at += rows;
            self.rows += rows;
            if self.rows == ROW_GROUP_ROWS {
                self.end_row_group()?;
            }
        }
        Ok(())
    }

    fn begin_row_group(&mut self) -> Result<(), ParquetError> {
        let mut writers = self.factory.create_column_writers(self.file.flushed_row_groups().len())?.into_iter();
        for (field, way) in self.schema.fields().iter().zip(&self.ways) {
            let own: Vec<ArrowColumnWriter> = writers.by_ref().take(leaves(field.data_type())).collect();
            self.columns.push(match way {
                Way::Coded => Column::Coded(Box::new(CodedColumn::new(field.is_nullable(), PAGE_ROWS))),
                Way::Plain => Column::Plain(PlainColumn::new(field.is_nullable(), PAGE_ROWS)),
                Way::Arrow => Column::Arrow(own),
            });
        }
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), ParquetError> {
        let descriptions = self.file.schema_descr().columns().to_vec();
        let mut leaf = 0;
        let mut group = self.file.next_row_group()?;
        for column in self.columns.drain(..) {
            match column {
                Column::Coded(coded) => {
                    let (bytes, closed) = coded.finish(&descriptions[leaf], compression())?;
                    group.append_column(&bytes, closed)?;
                    leaf += 1;
                }
                Column::Plain(plain) => {
                    let (bytes, closed) = plain.finish(&descriptions[leaf], compression())?;
                    group.append_column(&bytes, closed)?;
                    leaf += 1;
                }
                Column::Arrow(writers) => {
                    for writer in writers {
                        writer.close()?.append_to_row_group(&mut group)?;
                        leaf += 1;
                    }
                }
            }
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// What it takes in memory, about: others choose how long their names are, so a segment is ended by this, too.
    pub fn bytes(&self) -> usize {
        let of = |column: &Column| match column {
            Column::Coded(coded) => coded.bytes(),
            Column::Plain(plain) => plain.bytes(),
            Column::Arrow(writers) => writers.iter().map(ArrowColumnWriter::memory_size).sum(),
        };
        self.columns.iter().map(of).sum::<usize>() + self.file.bytes_written()
    }

    /// The whole file.
    pub fn finish(mut self) -> Result<Vec<u8>, ParquetError> {
        if self.rows > 0 {
            self.end_row_group()?;
        }
        self.file.into_inner()
    }
}

/// How many Parquet columns a column becomes.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) => leaves(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}

/// The rows of a Parquet file that [`encode`] made.
pub fn decode(bytes: Vec<u8>) -> Result<Vec<RecordBatch>, ParquetError> {
    // The types are those of Parquet. What is written beside them for Arrow says the same, and need not be read.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes_of(bytes), options)?.with_batch_size(64 * 1024).build()?;
    Ok(reader.collect::<Result<Vec<_>, _>>()?)
}

fn bytes_of(bytes: Vec<u8>) -> bytes::Bytes {
    bytes.into()
}

/// `batches` in order of `ts`: as they are if they already are in order, which is the usual case.
fn sorted<'a>(table: &Table, batches: &'a [RecordBatch]) -> Result<Cow<'a, [RecordBatch]>, ArrowError> {
    if !table.has_ts() || in_order(batches) {
        return Ok(Cow::Borrowed(batches));
    }
    // Not the table's schema: a column of few values may come as a dictionary of its type.
    let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(Cow::Borrowed(batches)) };
    let whole = concat_batches(&schema, batches)?;
    let column = SortColumn { values: whole.column(0).clone(), options: Some(SortOptions { descending: false, nulls_first: true }) };
    let order = lexsort_to_indices(&[column], None)?;
    Ok(Cow::Owned(vec![take_record_batch(&whole, &order)?]))
}

/// A batch in order of `ts`.
pub fn sort(table: &Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    Ok(sorted(table, std::slice::from_ref(batch))?.first().cloned().unwrap_or_else(|| table.empty()))
}

fn in_order(batches: &[RecordBatch]) -> bool {
    let mut last = i64::MIN;
    for batch in batches {
        let Some(ts) = batch.column(0).as_primitive_opt::<TimestampNanosecondType>() else { return true };
        let values = ts.values();
        if values.first().is_some_and(|&first| first < last) || !values.is_sorted() {
            return false;
        }
        last = values.last().copied().unwrap_or(last);
    }
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::events;
    use arrow::array::{Array, ArrayRef, BooleanArray, DictionaryArray, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{Int32Type, Schema};
    use std::sync::Arc;

    /// The same numbers on every machine.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }

        /// A value of `distinct` ones, repeated for a while now and then; null at times, if it may be.
        fn values(&mut self, rows: usize, distinct: u64, nulls: bool) -> Vec<Option<i64>> {
            let mut out = Vec::new();
            while out.len() < rows {
                let times = if self.below(4) == 0 { self.below(70) } else { 1 };
                let value = if nulls && self.below(5) == 0 { None } else { Some(self.below(distinct) as i64 * 37 - 5) };
                out.extend((0..times).map(|_| value));
            }
            out.truncate(rows);
            out
        }
    }

    fn column(random: &mut Random, field: &arrow::datatypes::Field, rows: usize, distinct: u64, first_ts: i64) -> ArrayRef {
        let values = random.values(rows, distinct, field.is_nullable() && distinct != 3);
        match field.data_type() {
            DataType::Int32 => Arc::new(values.iter().map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
            DataType::Int64 => Arc::new(values.into_iter().collect::<Int64Array>()),
            DataType::Utf8 => Arc::new(values.iter().map(|v| v.map(|v| format!("word {v}"))).collect::<StringArray>()),
            DataType::Boolean => Arc::new(values.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
            DataType::Timestamp(..) => {
                let ts: Vec<i64> = (0..rows as i64).map(|row| first_ts + row).collect();
                Arc::new(arrow::array::TimestampNanosecondArray::from(ts).with_timezone("UTC"))
            }
            other => unreachable!("{other}"),
        }
    }

    /// As the builders do it: values with some that no row has, and numbers of them.
    fn as_dictionary(array: &ArrayRef) -> ArrayRef {
        let keys: Int32Array = (0..array.len()).map(|row| array.is_valid(row).then_some(row as i32)).collect();
        match array.data_type() {
            DataType::Int32 | DataType::Int64 | DataType::Utf8 => Arc::new(DictionaryArray::<Int32Type>::new(keys, array.clone())),
            _ => array.clone(),
        }
    }

    #[test]
    fn what_is_written_is_read_whatever_the_values() {
        let table = events::table("sched_switch").unwrap();
        let mut random = Random(7);
        // Widths of no bit to seventeen, several pages and row groups, and rows that don't fill groups of eight.
        for (distinct, rows) in [(1, 5), (1, 40_000), (2, 8), (3, 100_003), (9, 1_001), (200, 300_000), (5_000, 33_333), (90_000, 140_000)]
        {
            let mut writer = Writer::new(table).unwrap();
            let mut truth: Vec<RecordBatch> = Vec::new();
            let mut at = 0;
            while at < rows {
                let len = (rows - at).min(16_000);
                let columns: Vec<ArrayRef> =
                    table.schema().fields().iter().map(|field| column(&mut random, field, len, distinct, at as i64)).collect();
                let plain = RecordBatch::try_new(table.schema(), columns).unwrap();
                if at % 32_000 == 0 {
                    let coded: Vec<ArrayRef> = plain.columns().iter().map(as_dictionary).collect();
                    let fields: Vec<_> = table
                        .schema()
                        .fields()
                        .iter()
                        .zip(&coded)
                        .map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone()))
                        .collect();
                    writer.write(&RecordBatch::try_new(Arc::new(Schema::new(fields)), coded).unwrap()).unwrap();
                } else {
                    writer.write(&plain).unwrap();
                }
                truth.push(plain);
                at += len;
            }
            let read = decode(writer.finish().unwrap()).unwrap();
            let read = concat_batches(&table.schema(), &read).unwrap();
            assert_eq!(read, concat_batches(&table.schema(), &truth).unwrap(), "{distinct} values in {rows} rows");
        }
    }

    #[test]
    fn late_rows_are_sorted_whatever_their_form() {
        let table = events::table("sched_switch").unwrap();
        let mut random = Random(9);
        let columns: Vec<ArrayRef> = table.schema().fields().iter().map(|field| column(&mut random, field, 100, 9, 0)).collect();
        let truth = RecordBatch::try_new(table.schema(), columns).unwrap();
        let backwards: Int32Array = (0..100).rev().collect();
        let late = take_record_batch(&truth, &backwards).unwrap();
        let coded: Vec<ArrayRef> = late.columns().iter().map(as_dictionary).collect();
        let fields: Vec<_> =
            late.schema().fields().iter().zip(&coded).map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone())).collect();
        let late = RecordBatch::try_new(Arc::new(Schema::new(fields)), coded).unwrap();
        let mut writer = Writer::new(table).unwrap();
        writer.write(&sort(table, &late).unwrap()).unwrap();
        let read = decode(writer.finish().unwrap()).unwrap();
        assert_eq!(concat_batches(&table.schema(), &read).unwrap(), truth);
    }

    #[test]
    fn a_null_where_none_can_be_is_an_error() {
        let table = events::table("sched_switch").unwrap();
        let mut columns: Vec<ArrayRef> = table.empty().columns().to_vec();
        for (column, field) in columns.iter_mut().zip(table.schema().fields()) {
            *column = arrow::array::new_null_array(field.data_type(), 3);
        }
        let fields: Vec<_> = table.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let mut writer = Writer::new(table).unwrap();
        assert!(writer.write(&batch).and_then(|()| writer.finish()).is_err());
    }
}
