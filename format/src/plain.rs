//! Columns of numbers as Parquet column chunks, in the encoding PLAIN, through [`crate::coded`]'s pages.
//!
//! Parquet's own writer has a compressor of its own for every column that it writes, of a megabyte each. With a hundred columns in the
//! making that was more than everything else that the recorder takes.

use crate::coded::{DataPage, chunk, compress, put_levels};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::take;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int32Type, Int64Type, ToByteSlice as _};
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

/// One column of a row group in the making.
pub(crate) struct PlainColumn {
    nullable: bool,
    page_rows: usize,
    /// Rows that are in no page yet.
    rows: usize,
    /// For each of these 1 if it has a value, else 0; nothing as long as all have.
    levels: Vec<u32>,
    /// The values of those that have one.
    values: Vec<u8>,
    /// The same of truth values, which a page holds as bits.
    bits: Vec<bool>,
    pages: Vec<DataPage>,
}

/// Whether columns of this type are written here.
pub(crate) fn can_write(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int32 | DataType::Int64 | DataType::Float64 | DataType::Boolean)
}

impl PlainColumn {
    /// An empty one, whose pages have `page_rows` rows.
    pub(crate) fn new(nullable: bool, page_rows: usize) -> PlainColumn {
        PlainColumn { nullable, page_rows, rows: 0, levels: Vec::new(), values: Vec::new(), bits: Vec::new(), pages: Vec::new() }
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let pages: usize = self.pages.iter().map(|page| page.bytes.len()).sum();
        self.levels.capacity() * size_of::<u32>() + self.values.capacity() + self.bits.capacity() + pages
    }

    /// Adds rows: plain values, or a dictionary of them.
    pub(crate) fn append(&mut self, array: &ArrayRef) -> Result<()> {
        if let Some(coded) = array.as_any_dictionary_opt() {
            return self.append(&take(coded.values(), coded.keys(), None)?);
        }
        if !self.nullable && array.null_count() > 0 {
            return Err(ParquetError::General("a null in a column that has none".to_owned()));
        }
        let mut at = 0;
        while at < array.len() {
            let rows = (array.len() - at).min(self.page_rows - self.rows);
            self.append_to_page(&array.slice(at, rows))?;
            at += rows;
            if self.rows == self.page_rows {
                self.end_page()?;
            }
        }
        Ok(())
    }

    fn append_to_page(&mut self, array: &ArrayRef) -> Result<()> {
        if let Some(valid) = array.nulls().filter(|valid| valid.null_count() > 0) {
            self.levels.resize(self.rows, 1);
            self.levels.extend(valid.iter().map(u32::from));
        } else if !self.levels.is_empty() {
            self.levels.resize(self.rows + array.len(), 1);
        }
        self.rows += array.len();
        match array.data_type() {
            DataType::Int32 => put_values(&mut self.values, array.as_primitive::<Int32Type>()),
            DataType::Int64 => put_values(&mut self.values, array.as_primitive::<Int64Type>()),
            DataType::Float64 => put_values(&mut self.values, array.as_primitive::<Float64Type>()),
            DataType::Boolean => self.bits.extend(array.as_boolean().iter().flatten()),
            other => return Err(ParquetError::General(format!("{other} is not written plainly"))),
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<()> {
        let mut plain = Vec::with_capacity(self.values.len() + self.bits.len() / 8 + 16);
        if self.nullable {
            put_levels(&mut plain, self.rows, &self.levels);
        }
        plain.append(&mut self.values);
        // Least significant bits first.
        plain.extend(self.bits.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit))));
        self.bits.clear();
        self.levels.clear();
        self.pages.push(DataPage { rows: std::mem::take(&mut self.rows), plain_len: plain.len(), bytes: compress(&plain)? });
        Ok(())
    }

    /// The column chunk.
    pub(crate) fn finish(mut self, column: &ColumnDescPtr, compression: Compression) -> Result<(Bytes, ColumnCloseResult)> {
        if self.rows > 0 {
            self.end_page()?;
        }
        chunk(column, compression, None, self.pages)
    }
}

/// The values of the rows that have one, least significant byte first.
fn put_values<T: ArrowPrimitiveType>(out: &mut Vec<u8>, array: &PrimitiveArray<T>) {
    out.reserve(size_of_val(array.values().as_ref()));
    if cfg!(target_endian = "big") {
        array.iter().flatten().for_each(|value| out.extend(value.to_byte_slice().iter().rev()));
    } else if array.null_count() == 0 {
        out.extend_from_slice(array.values().to_byte_slice());
    } else {
        array.iter().flatten().for_each(|value| out.extend_from_slice(value.to_byte_slice()));
    }
}
