//! Runs a statement or a report and writes the result.

use crate::engine::table::PARTITION_COLUMNS;
use crate::engine::{self, Engine, Planned};
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use crate::output::machine::Machine;
use crate::output::report::Report;
use crate::output::stacks::{Stacks, Style};
use crate::output::table::Table;
use crate::output::text::escape;
use crate::output::{Destination, Format, Settings};
use crate::query::params::Values;
use crate::query::{Query, Render};
use crate::statements;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, lit};
use datafusion::prelude::DataFrame;
use futures::StreamExt;
use std::io::Write;
use std::sync::Arc;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Rows that the result has, as far as it was read.
    pub rows: usize,
    /// Tables that it was made of.
    pub tables: Vec<String>,
    /// Captures that were looked into.
    captures: usize,
}

impl Outcome {
    /// Of a result with so many rows, made of these tables.
    pub fn new(rows: usize, tables: Vec<String>) -> Outcome {
        Outcome { rows, tables, captures: 1 }
    }
}

/// Where rows go, whatever the format.
enum Sink<'a> {
    Machine(Machine),
    Table(Table),
    Report(Box<Report<'a>>),
    Stacks(Stacks<'a>),
}

impl Sink<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Sink::Machine(machine) => machine.write(batch),
            Sink::Table(table) => table.write(batch),
            Sink::Report(report) => report.write(&Cells::new(batch)?, 0..batch.num_rows()),
            Sink::Stacks(stacks) => stacks.write(&Cells::new(batch)?),
        }
    }

    /// Writes what is left, and gives the destination back.
    fn finish(self) -> Result<Destination> {
        match self {
            Sink::Machine(machine) => machine.finish(),
            Sink::Table(table) => table.finish(),
            Sink::Report(report) => report.finish(),
            Sink::Stacks(stacks) => stacks.finish(),
        }
    }
}

/// A sink for rows of `schema`: a machine format, or the general table.
fn general<'a>(settings: &Settings, schema: &SchemaRef, destination: Destination) -> Result<Sink<'a>> {
    Ok(match settings.format {
        Format::Table | Format::Markdown => Sink::Table(Table::new(settings, schema, destination)),
        format => match Machine::new(settings, schema, destination)? {
            Some(machine) => Sink::Machine(machine),
            None if format == Format::Junit => {
                return Err(Error::text("only a comparison can be written like this").hint("ebrec compare --help"));
            }
            None => {
                return Err(Error::text("only reports of stacks can be written like this").hint("profile and offcputime are such reports"));
            }
        },
    })
}

/// Runs the statements of `text` one after the other.
pub async fn script(engine: &Engine, text: &str, settings: &Settings) -> Result<Outcome> {
    let statements = statements::split(text);
    if statements.len() > 1 && matches!(settings.format, Format::Parquet | Format::Json) {
        return Err(Error::text("several statements don't make one file of this format").hint("one statement, or --output csv or jsonl"));
    }
    let mut all = Outcome::default();
    let mut destination = None;
    // Without any, the engine says so.
    let texts = statements.iter().map(|statement| statement.text).chain(statements.is_empty().then_some(text));
    for text in texts {
        let (outcome, written) = part(engine, text, settings, destination.take()).await?;
        destination = Some(written);
        all.rows += outcome.rows;
        all.tables.extend(outcome.tables);
    }
    if let Some(destination) = destination {
        destination.finish()?;
    }
    Ok(all)
}

/// Runs `statement`.
pub async fn sql(engine: &Engine, statement: &str, settings: &Settings) -> Result<Outcome> {
    let (outcome, destination) = part(engine, statement, settings, None).await?;
    destination.finish()?;
    Ok(outcome)
}

/// Runs a statement whose output comes after what `before` has, if there is something before.
async fn part(engine: &Engine, statement: &str, settings: &Settings, before: Option<Destination>) -> Result<(Outcome, Destination)> {
    let Planned { frame, tables } = engine.query(statement, Vec::new()).await?;
    let destination = match before {
        Some(mut destination) => {
            writeln!(destination)?;
            destination
        }
        None => settings.open()?,
    };
    let mut sink = general(settings, &Arc::new(frame.schema().as_arrow().clone()), destination)?;
    let rows = copy(frame, &mut sink, settings, limit(settings)).await?;
    Ok((Outcome::new(rows, tables), sink.finish()?))
}

/// Runs a report over each of the captures.
pub async fn report(engine: &Engine, query: &Query, values: &Values, settings: &Settings) -> Result<Outcome> {
    let prepared = query.prepare(values)?;
    let many = engine.captures().len() > 1;
    let drawn = || Style::of(&prepared, values).filter(|style| Stacks::are_wanted(style, settings));
    let people = settings.format == Format::Table && drawn().is_none();
    let limit = limit(settings).filter(|_| !people || prepared.render == Render::Rows);
    let mut outcome = Outcome::default();
    let mut sink = None;
    let mut written = None;
    for one in engine.each() {
        let Planned { frame, tables } = one.report(query, values).await?;
        outcome.tables.extend(tables);
        let partition = one.partition();
        if people {
            let mut destination = match written.take() {
                Some(destination) => destination,
                None => settings.open()?,
            };
            if many {
                let gap = if outcome.captures > 0 { "\n" } else { "" };
                writeln!(destination, "{gap}==> {} ({}) <==", escape(&partition[1]), escape(&partition[0]))?;
            }
            let mut report = Sink::Report(Box::new(Report::new(&prepared, values, one.window().0, settings.width(), destination)));
            outcome.rows += copy(frame, &mut report, settings, limit).await?;
            written = Some(report.finish()?);
        } else {
            // The columns that tell captures apart come first.
            let frame = if many { with_partition(frame, partition)? } else { frame };
            let sink = match &mut sink {
                Some(sink) => sink,
                none => none.insert(match drawn() {
                    Some(style) => Sink::Stacks(Stacks::new(style, settings)?),
                    None => general(settings, &Arc::new(frame.schema().as_arrow().clone()), settings.open()?)?,
                }),
            };
            let left = limit.map(|limit| limit.saturating_sub(outcome.rows));
            outcome.rows += copy(frame, sink, settings, left).await?;
        }
        outcome.captures += 1;
    }
    if let Some(sink) = sink {
        written = Some(sink.finish()?);
    }
    // A picture of nothing is no file.
    if let Some(destination) = written.filter(|_| settings.format != Format::Flamegraph || outcome.rows > 0) {
        destination.finish()?;
    }
    outcome.tables.sort();
    outcome.tables.dedup();
    Ok(outcome)
}

fn with_partition(frame: DataFrame, values: &[String; 2]) -> Result<DataFrame> {
    let known: Vec<Expr> = frame.schema().columns().into_iter().map(Expr::Column).collect();
    let added = PARTITION_COLUMNS.iter().zip(values).map(|(name, value)| lit(value.as_str()).alias(*name));
    Ok(frame.select(added.chain(known).collect::<Vec<_>>())?)
}

/// Only tables are for people; a program gets all rows unless it asks otherwise.
fn limit(settings: &Settings) -> Option<usize> {
    if matches!(settings.format, Format::Table | Format::Markdown) { settings.limit() } else { settings.rows.filter(|rows| *rows > 0) }
}

/// Writes `batch`, which exists already.
pub fn batch(batch: &RecordBatch, settings: &Settings) -> Result<()> {
    let mut sink = general(settings, &batch.schema(), settings.open()?)?;
    sink.write(batch)?;
    sink.finish()?.finish()
}

async fn copy(frame: DataFrame, sink: &mut Sink<'_>, settings: &Settings, limit: Option<usize>) -> Result<usize> {
    // One row more than wanted tells that there are more.
    let frame = match limit {
        Some(limit) => frame.limit(0, Some(limit.saturating_add(1)))?,
        None => frame,
    };
    let mut stream = engine::stream(frame).await?;
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
    if cut {
        settings.note(&format!("note: these are the first {rows} rows; --rows N shows more, --rows 0 all"));
    }
    Ok(rows)
}
