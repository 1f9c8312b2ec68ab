//! Formats for programs: CSV, JSON, JSON lines, Parquet. Values are raw, whatever the table shows.

use super::escape::spreadsheet;
use super::{Destination, Format, Settings};
use crate::error::Result;
use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::cast;
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
    /// CSV, and whether for a spreadsheet.
    Csv(Box<arrow::csv::Writer<Destination>>, bool),
    /// JSON lines.
    Jsonl(JsonWriter<Destination, LineDelimited>),
    /// A JSON array.
    Json(JsonWriter<Destination, JsonArray>),
    /// Parquet.
    Parquet(Box<ArrowWriter<Destination>>, SchemaRef),
}

impl Machine {
    /// A writer of the format that is set; `None` if it isn't one of these.
    pub fn new(settings: &Settings, schema: &SchemaRef, destination: Destination) -> Result<Option<Machine>> {
        let json = WriterBuilder::new().with_explicit_nulls(true);
        Ok(Some(match settings.format {
            Format::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(destination);
                // The heading is there even if no row is.
                writer.write(&flat(&RecordBatch::new_empty(schema.clone()), settings.spreadsheet)?)?;
                Machine::Csv(Box::new(writer), settings.spreadsheet)
            }
            Format::Jsonl => Machine::Jsonl(json.build(destination)),
            Format::Json => Machine::Json(json.build(destination)),
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                let schema = typed(schema);
                Machine::Parquet(Box::new(ArrowWriter::try_new(destination, schema.clone(), Some(properties))?), schema)
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
            Machine::Csv(writer, spreadsheet) => writer.write(&flat(batch, *spreadsheet)?)?,
            Machine::Jsonl(writer) => writer.write(batch)?,
            Machine::Json(writer) => writer.write(batch)?,
            Machine::Parquet(writer, schema) => writer.write(&conform(batch, schema)?)?,
        }
        Ok(())
    }

    /// Writes what ends the format, and gives the destination back.
    pub fn finish(self) -> Result<Destination> {
        Ok(match self {
            Machine::Csv(writer, _) => writer.into_inner(),
            Machine::Jsonl(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Machine::Json(mut writer) => {
                writer.finish()?;
                let mut destination = writer.into_inner();
                destination.write_all(b"\n")?;
                destination
            }
            Machine::Parquet(writer, _) => writer.into_inner()?,
        })
    }
}

/// The schema of a Parquet file: a column of which only nulls are known becomes one of text, because most readers know no other.
fn typed(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let data_type = if field.data_type().is_null() { DataType::Utf8 } else { field.data_type().clone() };
        // A result promises nothing about nulls.
        Field::new(field.name(), data_type, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// `batch` with the types of `schema`: where a parameter made a column all null, the engine forgets of which type.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns =
        batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
        });
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?)
}

/// CSV has no lists: a list of text becomes a JSON array, so that its elements can be told apart. For a spreadsheet, text that begins as a formula
/// does is marked as text.
fn flat(batch: &RecordBatch, for_spreadsheet: bool) -> Result<RecordBatch> {
    let schema = batch.schema();
    if !for_spreadsheet && !schema.fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let name = if for_spreadsheet { spreadsheet(field.name()).into_owned() } else { field.name().clone() };
        let data_type = field.data_type();
        let column = if data_type.is_nested() { as_json(column)? } else { column.clone() };
        let is_number = data_type.is_numeric() || data_type.is_temporal() || data_type.is_null() || *data_type == DataType::Boolean;
        let column = if for_spreadsheet && !is_number { as_text(&column)? } else { column };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef> {
    let text = cast(column, &DataType::Utf8)?;
    let cells = text.as_string::<i32>().iter().map(|cell| cell.map(spreadsheet));
    Ok(Arc::new(cells.collect::<StringArray>()))
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
