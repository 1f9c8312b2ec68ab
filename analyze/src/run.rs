//! Runs a statement or a report and writes the result.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use crate::output::machine::Machine;
use crate::output::report::Report;
use crate::output::table::Table;
use crate::output::{Format, Settings};
use crate::query::params::{Values, bindings};
use crate::query::{Query, Render};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use std::sync::Arc;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Rows that the result has, as far as it was read.
    pub rows: usize,
    /// Tables that it was made of.
    pub tables: Vec<String>,
}

/// Where rows go, whatever the format.
enum Sink<'a> {
    Machine(Machine),
    Table(Table),
    Report(Box<Report<'a>>),
}

impl Sink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Sink::Machine(machine) => machine.write(batch),
            Sink::Table(table) => table.write(batch),
            Sink::Report(report) => report.write(&Cells::new(batch)?, 0..batch.num_rows()),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Sink::Machine(machine) => machine.finish(),
            Sink::Table(table) => table.finish(),
            Sink::Report(report) => report.finish().map(drop),
        }
    }
}

/// A sink for rows of `schema`: a machine format, or the general table.
fn general<'a>(settings: &Settings, schema: &SchemaRef) -> Result<Sink<'a>> {
    let destination = settings.open()?;
    Ok(match settings.format {
        Format::Table | Format::Markdown => Sink::Table(Table::new(settings, schema, destination)),
        format => match Machine::new(format, schema, destination)? {
            Some(machine) => Sink::Machine(machine),
            None => return Err(Error::text("this format can't be written")),
        },
    })
}

/// Runs `statement`.
pub async fn sql(engine: &Engine, statement: &str, settings: &Settings) -> Result<Outcome> {
    engine.tables().begin(&[], &[]);
    let frame = engine.query(statement, Vec::new()).await?;
    let tables = engine.tables().touched();
    let sink = general(settings, &Arc::new(frame.schema().as_arrow().clone()))?;
    let rows = copy(frame, sink, settings, limit(settings)).await?;
    Ok(Outcome { rows, tables })
}

/// Runs a report.
pub async fn report(engine: &Engine, query: &Query, values: &Values, settings: &Settings) -> Result<Outcome> {
    if let Some(table) = query.needs.iter().find(|table| !engine.tables().is_captured(table)) {
        return Err(engine.tables().missing(table));
    }
    let query = &query.prepare(values)?;
    engine.tables().begin(&query.whole, &query.uses);
    let frame = engine.query(&query.sql, bindings(engine, values)).await?;
    let tables = engine.tables().touched();
    let (sink, limit) = if settings.format == Format::Table {
        let limit = limit(settings).filter(|_| query.render == Render::Rows);
        (Sink::Report(Box::new(Report::new(query, values, engine.window().0, settings, settings.open()?))), limit)
    } else {
        (general(settings, &Arc::new(frame.schema().as_arrow().clone()))?, limit(settings))
    };
    let rows = copy(frame, sink, settings, limit).await?;
    Ok(Outcome { rows, tables })
}

/// Only tables are for people; a program gets all rows unless it asks otherwise.
fn limit(settings: &Settings) -> Option<usize> {
    if matches!(settings.format, Format::Table | Format::Markdown) { settings.limit() } else { settings.rows.filter(|rows| *rows > 0) }
}

/// Writes `batch`, which exists already.
pub fn batch(batch: &RecordBatch, settings: &Settings) -> Result<()> {
    let mut sink = general(settings, &batch.schema())?;
    sink.write(batch)?;
    sink.finish()
}

async fn copy(frame: DataFrame, mut sink: Sink<'_>, settings: &Settings, limit: Option<usize>) -> Result<usize> {
    // One row more than wanted tells that there are more.
    let frame = match limit {
        Some(limit) => frame.limit(0, Some(limit.saturating_add(1)))?,
        None => frame,
    };
    let mut stream = frame.execute_stream().await?;
    let mut rows = 0;
    let mut cut = false;
    while let Some(batch) = stream.next().await {
        let mut batch = batch?;
        if let Some(limit) = limit.filter(|limit| rows + batch.num_rows() > *limit) {
            batch = batch.slice(0, limit - rows);
            cut = true;
        }
        rows += batch.num_rows();
        if batch.num_rows() > 0 {
            sink.write(&batch)?;
        }
    }
    sink.finish()?;
    if cut {
        settings.note(&format!("note: these are the first {rows} rows; --rows N shows more, --rows 0 all"));
    }
    Ok(rows)
}
