//! Rows as Parquet.
//!
//! Layout by column kind ([`crate::kind::Encoding`]), zstd, rows sorted by `ts`, page index on, so that a time window
//! reads only the row groups and pages that it overlaps. Only encodings that DuckDB and pandas read are used.

use crate::kind::Encoding;
use crate::table::Table;
use arrow::array::AsArray;
use arrow::compute::{SortColumn, SortOptions};
use arrow::compute::{concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::TimestampNanosecondType;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use std::borrow::Cow;

/// Rows of one row group: a window query skips in these steps.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// How a table is written.
pub fn properties(table: &Table) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("ebrec ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(32 * 1024)
        .set_write_batch_size(8 * 1024)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false);
    for column in (table.columns)() {
        let mut parts = vec![column.name.clone()];
        if (column.kind.arrow)().is_nested() {
            parts.extend(["list".to_owned(), "item".to_owned()]);
        }
        let path = ColumnPath::new(parts);
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
    builder.build()
}

/// One Parquet file with the rows of `batches`, sorted by `ts` if the table has one.
pub fn encode(table: &Table, batches: &[RecordBatch]) -> Result<Vec<u8>, ParquetError> {
    let sorted = sorted(table, batches)?;
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, table.schema(), Some(properties(table)))?;
    for batch in sorted.iter() {
        writer.write(batch)?;
    }
    writer.close()?;
    Ok(out)
}

/// The rows of a Parquet file that [`encode`] made.
pub fn decode(bytes: Vec<u8>) -> Result<Vec<RecordBatch>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes_of(bytes))?.with_batch_size(64 * 1024).build()?;
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
    let whole = concat_batches(&table.schema(), batches)?;
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
