//! A Parquet footer that may come from anybody, before it is believed.
//!
//! Readers of Parquet compute with what a footer says: they allocate the sizes and seek to the places in it, and some panic where it contradicts
//! itself. Here is checked what a recorder's own footers always fulfil. The schema of Arrow that is kept beside Parquet's own is dropped: the
//! types of a capture follow from Parquet's alone.

use parquet::basic::Compression;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
use std::sync::Arc;

/// A row group with more rows than this is none of ours ([`crate::segment::ROW_GROUP_ROWS`] are what a recorder writes).
const MOST_ROWS: i64 = 1 << 24;
/// A column of a row group that takes more than this when it is read is refused: 4 KiB for each row of a recorder's group.
const MOST_BYTES: i64 = 1 << 30;

/// The footer of a file of `len` bytes without what isn't needed of it, or why it can't be one.
pub fn checked(metadata: &Arc<ParquetMetaData>, len: u64) -> Result<Arc<ParquetMetaData>, String> {
    let file = metadata.file_metadata();
    let mut rows = 0_i64;
    for group in metadata.row_groups() {
        check_group(group, len)?;
        rows = rows.saturating_add(group.num_rows());
    }
    if rows != file.num_rows() {
        return Err(format!("it says it has {} rows, and {rows} in its row groups", file.num_rows()));
    }
    check_pages(metadata, len)?;
    if file.key_value_metadata().is_none() {
        return Ok(metadata.clone());
    }
    let plain = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        None,
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let builder = ParquetMetaDataBuilder::new(plain)
        .set_row_groups(metadata.row_groups().to_vec())
        .set_column_index(metadata.column_index().cloned())
        .set_offset_index(metadata.offset_index().cloned());
    Ok(Arc::new(builder.build()))
}

fn check_group(group: &RowGroupMetaData, len: u64) -> Result<(), String> {
    if !(0..=MOST_ROWS).contains(&group.num_rows()) {
        return Err(format!("a row group has {} rows", group.num_rows()));
    }
    group.columns().iter().try_for_each(|column| check_column(column, group.num_rows(), len))
}

fn check_column(column: &ColumnChunkMetaData, rows: i64, len: u64) -> Result<(), String> {
    let wrong = |why: String| Err(format!("column {} {why}", column.column_path().string().escape_debug()));
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let inside = |offset: i64, size: i64| {
        let end = offset.checked_add(size).and_then(|end| u64::try_from(end).ok());
        offset >= 0 && size >= 0 && end.is_some_and(|end| end <= len)
    };
    if column.file_path().is_some() {
        return wrong("is in another file".to_owned());
    }
    if column.data_page_offset() < start || !inside(start, column.compressed_size()) || !inside(column.data_page_offset(), 0) {
        return wrong("is not wholly in the file".to_owned());
    }
    if !(0..=MOST_BYTES).contains(&column.uncompressed_size()) {
        return wrong(format!("takes {} bytes", column.uncompressed_size()));
    }
    // A row of a list may have many values, any other has one.
    let descr = column.column_descr();
    let values = if descr.max_rep_level() == 0 { column.num_values() == rows } else { (0..=MOST_BYTES).contains(&column.num_values()) };
    if !values {
        return wrong(format!("has {} values in {rows} rows", column.num_values()));
    }
    if !matches!(column.compression(), Compression::UNCOMPRESSED | Compression::ZSTD(_)) {
        return wrong("is compressed in a way that a recorder doesn't use".to_owned());
    }
    Ok(())
}

/// The places of pages, where they are known.
fn check_pages(metadata: &ParquetMetaData, len: u64) -> Result<(), String> {
    let Some(groups) = metadata.offset_index() else { return Ok(()) };
    if groups.len() != metadata.row_groups().len() {
        return Err("it has pages of other row groups".to_owned());
    }
    for (columns, group) in groups.iter().zip(metadata.row_groups()) {
        if columns.len() != group.columns().len() {
            return Err("it has pages of other columns".to_owned());
        }
        for index in columns {
            let mut first = -1;
            for page in index.page_locations() {
                let end = page.offset.checked_add(i64::from(page.compressed_page_size)).and_then(|end| u64::try_from(end).ok());
                if page.offset < 0 || page.compressed_page_size < 0 || end.is_none_or(|end| end > len) {
                    return Err("a page is not wholly in the file".to_owned());
                }
                if page.first_row_index <= first || page.first_row_index >= group.num_rows().max(1) {
                    return Err("its pages don't follow each other".to_owned());
                }
                first = page.first_row_index;
            }
        }
    }
    Ok(())
}
