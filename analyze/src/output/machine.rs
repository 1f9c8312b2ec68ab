//! Formats for programs: CSV, JSON, JSON lines, Parquet. Values are raw, whatever the table shows.

use super::{Destination, Format};
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::writer::{JsonArray, LineDelimited, Writer as JsonWriter, WriterBuilder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;

/// A writer of one of the formats.
pub enum Machine {
    /// CSV.
    Csv(Box<arrow::csv::Writer<Destination>>),
    /// JSON lines.
    Jsonl(JsonWriter<Destination, LineDelimited>),
    /// A JSON array.
    Json(JsonWriter<Destination, JsonArray>),
    /// Parquet.
    Parquet(Box<ArrowWriter<Destination>>),
}

impl Machine {
    /// A writer of `format`; `None` if it isn't one of these.
    pub fn new(format: Format, schema: &SchemaRef, destination: Destination) -> Result<Option<Machine>> {
        let json = WriterBuilder::new().with_explicit_nulls(true);
        Ok(Some(match format {
            Format::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(destination);
                // The heading is there even if no row is.
                writer.write(&flat(&RecordBatch::new_empty(schema.clone()))?)?;
                Machine::Csv(Box::new(writer))
            }
            Format::Jsonl => Machine::Jsonl(json.build(destination)),
            Format::Json => Machine::Json(json.build(destination)),
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                Machine::Parquet(Box::new(ArrowWriter::try_new(destination, schema.clone(), Some(properties))?))
            }
            Format::Table | Format::Markdown | Format::Folded | Format::Flamegraph | Format::Junit => return Ok(None),
        }))
    }

    /// Batches as the text of one JSON array.
    pub fn json(batches: &[RecordBatch]) -> Result<Vec<u8>> {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        let text = writer.into_inner();
        // The writer writes nothing at all where there was no batch.
        Ok(if text.is_empty() { b"[]".to_vec() } else { text })
    }

    /// Writes rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Machine::Csv(writer) => writer.write(&flat(batch)?)?,
            Machine::Jsonl(writer) => writer.write(batch)?,
            Machine::Json(writer) => writer.write(batch)?,
            Machine::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Writes what ends the format.
    pub fn finish(self) -> Result<()> {
        match self {
            Machine::Csv(writer) => writer.into_inner().flush()?,
            Machine::Jsonl(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Machine::Json(mut writer) => {
                writer.finish()?;
                let mut destination = writer.into_inner();
                destination.write_all(b"\n")?;
                destination.flush()?;
            }
            Machine::Parquet(mut writer) => {
                writer.finish()?;
                writer.inner_mut().flush()?;
            }
        }
        Ok(())
    }
}

/// CSV has no lists: a list of text becomes a JSON array, so that its elements can be told apart.
fn flat(batch: &RecordBatch) -> Result<RecordBatch> {
    if !batch.schema().fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Field::new(field.name(), DataType::Utf8, true));
            columns.push(as_json(column)?);
        } else {
            fields.push(field.as_ref().clone());
            columns.push(column.clone());
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn as_json(column: &ArrayRef) -> Result<ArrayRef> {
    let options = FormatOptions::default();
    let mut out = StringBuilder::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            out.append_null();
        } else if let Some(list) = column.as_list_opt::<i32>() {
            let items = list.value(row);
            let formatter = ArrayFormatter::try_new(&items, &options)?;
            let items: Vec<serde_json::Value> = (0..items.len())
                .map(|i| if items.is_null(i) { serde_json::Value::Null } else { formatter.value(i).to_string().into() })
                .collect();
            out.append_value(serde_json::Value::from(items).to_string());
        } else {
            out.append_value(ArrayFormatter::try_new(column, &options)?.value(row).to_string());
        }
    }
    Ok(Arc::new(out.finish()))
}
