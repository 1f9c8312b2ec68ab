//! The lists: tables, columns, reports.

use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::notes;
use crate::output::cells::Cells;
use crate::query::Queries;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use ebrec_format::events;
use ebrec_format::reference::arrow_name;
use std::sync::Arc;

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

fn text<T: Into<String>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values.into_iter().map(Into::into)))
}

fn optional(values: Vec<Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn numbers(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

/// Rows of a table within the window; `None` if it was not captured.
pub async fn rows(engine: &Engine, table: &str) -> Result<Option<i64>> {
    if !engine.tables().is_captured(table) {
        return Ok(None);
    }
    let sql = format!("SELECT count(*) AS n FROM \"{}\"", table.replace('"', "\"\""));
    let batches = engine::collect(engine.query(&sql, Vec::new()).await?.frame).await?;
    let Some(first) = batches.first() else { return Ok(None) };
    Ok(Cells::new(first)?.int("n", 0))
}

/// All tables: rows, bytes, losses, probe.
pub async fn tables(engine: &Engine) -> Result<RecordBatch> {
    let lost = notes::lost(engine).await?;
    // In the order of declaration; what a newer recorder added comes last.
    let mut tables: Vec<(&str, &str)> = events::tables().map(|table| (table.name, table.doc.trim())).collect();
    tables.extend(engine.tables().names().into_iter().filter(|name| events::table(name).is_none()).map(|name| (name, "")));
    let mut counts = Vec::new();
    for (table, _) in &tables {
        counts.push(rows(engine, table).await?);
    }
    let bytes = |name: &str| engine.captures().iter().map(|capture| capture.bytes(name)).sum::<u64>();
    let missing = |name: &str| lost.iter().filter(|(table, ..)| table == name).map(|(_, _, count, ..)| count).sum::<i64>();
    let captured = |name: &str| engine.tables().is_captured(name);
    batch(vec![
        ("table", text(tables.iter().map(|(name, _)| *name))),
        ("probe", optional(tables.iter().map(|(name, _)| events::probe_of(name).map(|probe| probe.name.to_owned())).collect())),
        ("rows", numbers(counts)),
        ("bytes", numbers(tables.iter().map(|(name, _)| i64::try_from(bytes(name)).ok().filter(|_| captured(name))).collect())),
        ("lost", numbers(tables.iter().map(|(name, _)| captured(name).then(|| missing(name))).collect())),
        // The rest is what `describe TABLE` says.
        ("description", text(tables.iter().map(|(_, doc)| doc.split_inclusive(". ").next().unwrap_or_default().trim()))),
    ])
}

/// The columns of a table.
pub async fn columns(engine: &Engine, name: &str) -> Result<RecordBatch> {
    let schema = engine.tables().schema(name).await?;
    let declared = events::table(name).map(|table| (table.columns)()).unwrap_or_default();
    let fields = schema.fields();
    let said = |key: &str| fields.iter().map(|field| field.metadata().get(key).cloned()).collect();
    let kind = |name: &str| declared.iter().find(|column| column.name == name).map(|column| column.kind.name.to_owned());
    batch(vec![
        ("column", text(fields.iter().map(|field| field.name().as_str()))),
        ("type", text(fields.iter().map(|field| arrow_name(field.data_type())))),
        ("kind", optional(fields.iter().map(|field| kind(field.name())).collect())),
        ("unit", optional(said("unit"))),
        ("description", optional(said("description"))),
    ])
}

/// The reports, by group.
pub fn reports(queries: &Queries) -> Result<RecordBatch> {
    let mut queries: Vec<_> = queries.iter().collect();
    queries.sort_by_key(|query| (query.group, query.name));
    if queries.is_empty() {
        return Err(Error::text("there are no reports"));
    }
    batch(vec![
        ("group", text(queries.iter().map(|query| query.group))),
        ("report", text(queries.iter().map(|query| query.name))),
        ("description", text(queries.iter().map(|query| query.help))),
        ("reads", text(queries.iter().map(|query| query.needs.join(", ")))),
    ])
}
