//! Columns of few distinct values as Parquet column chunks.
//!
//! The recorder already knows the code of nearly every value: it turned a task's name into text once, not once per event. The
//! Parquet writer would look each value up again by its bytes, which was more than half of the recorder's work. So these columns
//! are kept as codes until the row group is whole, and their pages written here: a dictionary page (PLAIN), and data pages of
//! codes (RLE_DICTIONARY: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>), through parquet's own page writer.

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int32Type, Int64Type};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// The code of a null.
const NULL: u32 = u32::MAX;
/// Of a dictionary's entry that no row has used yet.
const UNUSED: u32 = u32::MAX - 1;
/// Integers from 0 up to here find their code without hashing: processors, error numbers, system calls.
const SMALL: usize = 1024;

/// Values by code, as a dictionary page holds them, and the way back.
#[derive(Default)]
pub(crate) struct Dictionary {
    plain: Vec<u8>,
    len: u32,
    integers: HashMap<i64, u32, ahash::RandomState>,
    small: Vec<u32>,
    texts: HashMap<Box<str>, u32, ahash::RandomState>,
    last: Option<(i64, u32)>,
}

impl Dictionary {
    fn text(&mut self, text: &str) -> u32 {
        if let Some(&code) = self.texts.get(text) {
            return code;
        }
        self.plain.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.plain.extend_from_slice(text.as_bytes());
        self.texts.insert(text.into(), self.len);
        self.len += 1;
        self.len - 1
    }

    /// `bytes` is the width of the physical type.
    #[inline]
    fn integer(&mut self, value: i64, bytes: usize) -> u32 {
        if let Some((last, code)) = self.last
            && last == value
        {
            return code;
        }
        let code = match usize::try_from(value) {
            Ok(small) if small < SMALL => {
                if self.small.is_empty() {
                    self.small.resize(SMALL, UNUSED);
                }
                if self.small[small] == UNUSED {
                    self.small[small] = self.add(value, bytes);
                }
                self.small[small]
            }
            _ => match self.integers.get(&value) {
                Some(&code) => code,
                None => {
                    let code = self.add(value, bytes);
                    self.integers.insert(value, code);
                    code
                }
            },
        };
        self.last = Some((value, code));
        code
    }

    fn add(&mut self, value: i64, bytes: usize) -> u32 {
        self.plain.extend_from_slice(&value.to_le_bytes()[..bytes]);
        self.len += 1;
        self.len - 1
    }
}

/// A data page, compressed.
pub(crate) struct DataPage {
    pub(crate) rows: usize,
    pub(crate) plain_len: usize,
    pub(crate) bytes: Bytes,
}

/// One column of a row group in the making.
pub(crate) struct CodedColumn {
    nullable: bool,
    page_rows: usize,
    /// Of the rows that are in no page yet.
    codes: Vec<u32>,
    pages: Vec<DataPage>,
    dictionary: Dictionary,
}

thread_local! {
    /// One for all columns of a thread: a context takes a megabyte, and parquet's writers have one each.
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    /// Its level.
    static LEVEL: Cell<i32> = const { Cell::new(0) };
    /// Whether this thread is in a hurry.
    static HURRY: Cell<bool> = const { Cell::new(false) };
}

/// One of zstd's fast levels: less work, and more bytes.
const HURRIED_LEVEL: i32 = -5;

/// Whether what this thread compresses from now on shall take less time, and more room.
pub(crate) fn hurry(hurry: bool) {
    HURRY.set(hurry);
}

/// As parquet compresses its own pages.
pub(crate) fn compress(plain: &[u8]) -> Result<Bytes> {
    let level = if HURRY.get() { HURRIED_LEVEL } else { ZstdLevel::default().compression_level() };
    ZSTD.with_borrow_mut(|slot| {
        let zstd = match slot {
            Some(zstd) => zstd,
            None => slot.insert(zstd::bulk::Compressor::new(level)?),
        };
        if LEVEL.replace(level) != level {
            zstd.set_compression_level(level)?;
        }
        Ok(zstd.compress(plain)?.into())
    })
}

/// Whether columns of this type are written here if a dictionary is wanted.
pub(crate) fn can_code(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int32 | DataType::Int64 | DataType::Utf8)
}

impl CodedColumn {
    /// An empty one, whose pages have `page_rows` rows.
    pub(crate) fn new(nullable: bool, page_rows: usize) -> CodedColumn {
        CodedColumn { nullable, page_rows, codes: Vec::new(), pages: Vec::new(), dictionary: Dictionary::default() }
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        /// Of an entry of a table, beside its text.
        const ENTRY: usize = 32;
        let Dictionary { plain, integers, texts, .. } = &self.dictionary;
        let texts_again = if texts.is_empty() { 0 } else { plain.len() };
        let pages: usize = self.pages.iter().map(|page| page.bytes.len()).sum();
        plain.len() + texts_again + (texts.len() + integers.len()) * ENTRY + self.codes.len() * size_of::<u32>() + pages
    }

    /// Adds rows: plain values, or a dictionary of them with 32-bit keys.
    pub(crate) fn append(&mut self, array: &ArrayRef) -> Result<()> {
        if let Some(coded) = array.as_any_dictionary_opt() {
            let values = coded.values();
            let mut known = vec![UNUSED; values.len()];
            let keys = coded.keys().as_primitive_opt::<Int32Type>().ok_or_else(|| unexpected(array.data_type()))?;
            self.codes.reserve(keys.len());
            if keys.null_count() == 0 && values.len() <= keys.len() {
                // Nearly always: all codes first, and then a loop without a question in it.
                for (key, code) in known.iter_mut().enumerate() {
                    *code = self.value(values, key)?;
                }
                let last = known.len().checked_sub(1).ok_or_else(|| ParquetError::General("a key without a value".to_owned()))?;
                if keys.values().iter().any(|&key| key as usize > last) {
                    return Err(ParquetError::General("a key without a value".to_owned()));
                }
                self.codes.extend(keys.values().iter().map(|&key| known[(key as usize).min(last)]));
            } else if keys.null_count() == 0 {
                for &key in keys.values() {
                    let code = self.code_of(key, values, &mut known)?;
                    self.codes.push(code);
                }
            } else {
                for key in keys {
                    let code = key.map_or(Ok(NULL), |key| self.code_of(key, values, &mut known))?;
                    self.codes.push(code);
                }
            }
        } else {
            let CodedColumn { codes, dictionary, .. } = self;
            match array.data_type() {
                DataType::Int32 => codes_of(codes, array.as_primitive::<Int32Type>(), |value| dictionary.integer(value.into(), 4)),
                DataType::Int64 => codes_of(codes, array.as_primitive::<Int64Type>(), |value| dictionary.integer(value, 8)),
                DataType::Utf8 => {
                    let texts = array.as_string::<i32>();
                    codes.extend(texts.iter().map(|text| text.map_or(NULL, |text| dictionary.text(text))));
                }
                other => return Err(unexpected(other)),
            }
        }
        while self.codes.len() >= self.page_rows {
            self.end_page(self.page_rows)?;
        }
        Ok(())
    }

    /// Makes a page of the first `rows` codes. Each page tells its own width, so the dictionary may grow afterwards.
    fn end_page(&mut self, rows: usize) -> Result<()> {
        let width = (u32::BITS - self.dictionary.len.saturating_sub(1).leading_zeros()) as u8;
        let mut plain = Vec::new();
        put_page(&mut plain, &self.codes[..rows], width, self.nullable)?;
        self.pages.push(DataPage { rows, plain_len: plain.len(), bytes: compress(&plain)? });
        self.codes.drain(..rows);
        Ok(())
    }

    #[inline]
    fn code_of(&mut self, key: i32, values: &ArrayRef, known: &mut [u32]) -> Result<u32> {
        let key = key as usize;
        match known.get(key) {
            Some(&UNUSED) => {
                let code = self.value(values, key)?;
                known[key] = code;
                Ok(code)
            }
            Some(&code) => Ok(code),
            None => Err(ParquetError::General("a key without a value".to_owned())),
        }
    }

    #[inline]
    fn value(&mut self, array: &ArrayRef, row: usize) -> Result<u32> {
        if array.is_null(row) {
            return Ok(NULL);
        }
        Ok(match array.data_type() {
            DataType::Int32 => self.dictionary.integer(array.as_primitive::<Int32Type>().value(row).into(), 4),
            DataType::Int64 => self.dictionary.integer(array.as_primitive::<Int64Type>().value(row), 8),
            DataType::Utf8 => self.dictionary.text(array.as_string::<i32>().value(row)),
            other => return Err(unexpected(other)),
        })
    }

    /// The column chunk.
    pub(crate) fn finish(mut self, column: &ColumnDescPtr, compression: Compression) -> Result<(Bytes, ColumnCloseResult)> {
        if !self.codes.is_empty() {
            self.end_page(self.codes.len())?;
        }
        chunk(column, compression, Some(&self.dictionary), self.pages)
    }
}

/// The column chunk that these pages make.
pub(crate) fn chunk(
    column: &ColumnDescPtr,
    compression: Compression,
    dictionary: Option<&Dictionary>,
    data: Vec<DataPage>,
) -> Result<(Bytes, ColumnCloseResult)> {
    let mut sink = TrackedWrite::new(Vec::new());
    let mut pages = SerializedPageWriter::new(&mut sink);
    let mut offsets = OffsetIndexBuilder::new();
    let (mut data_offset, mut uncompressed, mut rows) = (0, 0, 0);
    if let Some(dictionary) = dictionary {
        let buf = compress(&dictionary.plain)?;
        let page = Page::DictionaryPage { buf, num_values: dictionary.len, encoding: Encoding::PLAIN, is_sorted: false };
        let written = pages.write_page(CompressedPage::new(page, dictionary.plain.len()))?;
        (data_offset, uncompressed) = (written.bytes_written, written.uncompressed_size);
    }
    let encoding = if dictionary.is_some() { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN };
    for data in data {
        let page = Page::DataPage {
            buf: data.bytes,
            num_values: data.rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let written = pages.write_page(CompressedPage::new(page, data.plain_len))?;
        rows += data.rows;
        uncompressed += written.uncompressed_size;
        offsets.append_row_count(data.rows as i64);
        let size = i32::try_from(written.bytes_written).map_err(|_| ParquetError::General("a page is too large".to_owned()))?;
        offsets.append_offset_and_size(written.offset as i64, size);
        offsets.append_unencoded_byte_array_data_bytes(None);
    }
    pages.close()?;
    let bytes = sink.into_inner()?;
    let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
    encodings.extend(dictionary.map(|_| Encoding::RLE_DICTIONARY));
    let metadata = ColumnChunkMetaData::builder(column.clone())
        .set_encodings(encodings)
        .set_compression(compression)
        .set_num_values(rows as i64)
        .set_total_compressed_size(bytes.len() as i64)
        .set_total_uncompressed_size(uncompressed as i64)
        .set_dictionary_page_offset(dictionary.map(|_| 0))
        .set_data_page_offset(data_offset as i64)
        .build()?;
    let closed = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: rows as u64,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: Some(offsets.build()),
    };
    Ok((bytes.into(), closed))
}

/// Without looking at each row's validity where all are valid, which is nearly always.
fn codes_of<T: ArrowPrimitiveType>(codes: &mut Vec<u32>, array: &PrimitiveArray<T>, mut code: impl FnMut(T::Native) -> u32) {
    if array.null_count() == 0 {
        codes.extend(array.values().iter().map(|&value| code(value)));
    } else {
        codes.extend(array.iter().map(|value| value.map_or(NULL, &mut code)));
    }
}

fn unexpected(data_type: &DataType) -> ParquetError {
    ParquetError::General(format!("no codes for {data_type}"))
}

/// A data page's content: which rows have a value, if some may lack one, and the codes of those that do.
fn put_page(out: &mut Vec<u8>, rows: &[u32], width: u8, nullable: bool) -> Result<()> {
    let mut present: Vec<u32> = Vec::new();
    let mut codes = rows;
    if nullable {
        if rows.contains(&NULL) {
            let levels: Vec<u32> = rows.iter().map(|&code| u32::from(code != NULL)).collect();
            put_levels(out, rows.len(), &levels);
            present.extend(rows.iter().filter(|&&code| code != NULL));
            codes = &present;
        } else {
            put_levels(out, rows.len(), &[]);
        }
    } else if rows.contains(&NULL) {
        return Err(ParquetError::General("a null in a column that has none".to_owned()));
    }
    out.push(width);
    put_hybrid(out, codes, width);
    Ok(())
}

/// Which of so many rows have a value: 1 or 0 for each, nothing if all have.
pub(crate) fn put_levels(out: &mut Vec<u8>, rows: usize, levels: &[u32]) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    if levels.is_empty() {
        put_run(out, 1, rows, 1);
    } else {
        put_hybrid(out, levels, 1);
    }
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// Values of `width` bits in the RLE/bit-packing hybrid: runs of equal values, and groups of eight packed ones between them.
fn put_hybrid(out: &mut Vec<u8>, values: &[u32], width: u8) {
    let mut packed_from = 0;
    let mut at = 0;
    while at < values.len() {
        // Packed groups are of eight, so a run can only begin where they end.
        let run = values[at..].iter().take_while(|&&value| value == values[at]).count();
        if run >= 8 {
            put_packed(out, &values[packed_from..at], width);
            put_run(out, values[at], run, width);
            at += run;
            packed_from = at;
        } else {
            at = (at + 8).min(values.len());
        }
    }
    put_packed(out, &values[packed_from..], width);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_run(out: &mut Vec<u8>, value: u32, times: usize, width: u8) {
    put_varint(out, (times as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..usize::from(width).div_ceil(8)]);
}

/// Groups of eight, the last one filled up with zeros, least significant bits first.
fn put_packed(out: &mut Vec<u8>, values: &[u32], width: u8) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    put_varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * usize::from(width);
    let (mut bits, mut have) = (0u64, 0);
    for &value in values {
        bits |= u64::from(value) << have;
        have += u32::from(width);
        if have >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            have -= 32;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes()[..have.div_ceil(8) as usize]);
    out.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As <https://parquet.apache.org/docs/file-format/data-pages/encodings/> prints it: 0 to 7 in three bits.
    #[test]
    fn packing_is_as_the_specification_shows_it() {
        let mut out = Vec::new();
        put_packed(&mut out, &[0, 1, 2, 3, 4, 5, 6, 7], 3);
        assert_eq!(out, [1 << 1 | 1, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
        out.clear();
        put_run(&mut out, 5, 100, 3);
        assert_eq!(out, [0b1100_1000, 0b1, 5]);
    }
}
