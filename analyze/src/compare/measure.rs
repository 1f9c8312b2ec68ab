//! From a capture to its measurement: for every metric, what happened in each twentieth of the window.
//!
//! A measurement is small, adds up, and is all that a comparison needs: a baseline is a file of them ([`super::baseline`]). The sums are whole
//! numbers, so that neither the order of rows nor the number of threads changes them.

use super::count::{Cgroups, Counts, Plan};
use super::metric::Source;
use super::sketch::Sketch;
use crate::engine::catalog::Reading;
use crate::engine::{Engine, Planned, cgroup};
use crate::error::{Error, Result};
use crate::notes;
use datafusion::common::ScalarValue;
use datafusion::physical_plan::execute_stream_partitioned;
use ebrec_format::events;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Into so many parts of equal length is a window divided. They are the units of the bootstrap: long beside most correlations, and enough to
/// tell how much they differ (batch means; 10 to 30, says B. Schmeiser, Operations Research 30, 1982).
pub const BLOCKS: usize = 20;

/// Values of the columns of a way to group, in their order; none: all rows together.
pub type Group = Vec<(String, String)>;

/// What happened in one block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Rows.
    #[serde(default, skip_serializing_if = "is_none")]
    pub n: u64,
    /// Sum of the column, or of the part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sum: i64,
    /// Sum of the whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub of: i64,
    /// Rows that add to the part.
    #[serde(default, skip_serializing_if = "is_none")]
    pub parts: u64,
    /// The distribution.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub sketch: Sketch,
}

impl Cell {
    /// Of a block in which nothing happened.
    pub const NOTHING: Cell = Cell { n: 0, sum: 0, of: 0, parts: 0, sketch: Sketch(Vec::new()) };
}

fn is_none(n: &u64) -> bool {
    *n == 0
}

fn is_zero(sum: &i64) -> bool {
    *sum == 0
}

fn is_empty(sketch: &Sketch) -> bool {
    sketch.0.is_empty()
}

/// The blocks of a group.
pub type Blocks = Vec<Cell>;

/// A metric in a capture.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Measured {
    /// All rows together, then each way to group.
    pub groups: Vec<(Group, Blocks)>,
    /// Ways to group of which groups were left out, or all.
    pub cut: Vec<Vec<String>>,
}

/// A source in a capture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Why it can't be known.
    Missing(String),
    /// Its metrics by name.
    Measured {
        /// [`Source::fingerprint`].
        fingerprint: u64,
        /// Rows of its tables that were lost, as a share of all.
        lost: f64,
        /// By name.
        metrics: BTreeMap<String, Measured>,
    },
}

/// A capture, measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// The file's name, without directories.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// CPUs online.
    pub cpus: u32,
    /// Version of the recorder.
    pub recorder: String,
    /// Version of the capture's format.
    pub format_version: u32,
    /// Beginning of the window, ns since 1970.
    pub started_ns: i64,
    /// Its length, ns.
    pub window_ns: u64,
    /// Filters of the recording, and of the analysis.
    pub filters: BTreeMap<String, String>,
    /// Sampling rates and other settings of the recording.
    pub settings: BTreeMap<String, String>,
    /// What makes its numbers incomplete.
    pub notes: Vec<String>,
    /// Sources by name.
    pub sources: BTreeMap<String, State>,
}

/// Measures the one capture of `engine`. `filters` are those of the command line, as they shall be named.
pub async fn measure(engine: &Engine, sources: &[Source], filters: &BTreeMap<String, String>) -> Result<Measurement> {
    let Some(capture) = engine.captures().first() else { return Err(Error::text("no capture")) };
    let manifest = &capture.manifest;
    // What lies beyond the recording would count as time in which nothing happened.
    let (from, to) = engine.window();
    let (from, to) = (from.max(manifest.started_ns), to.min(manifest.ended_ns));
    let window_ns = to.saturating_sub(from).max(0).unsigned_abs();
    let recorded = manifest.filters.iter().map(|(name, values)| (name.clone(), values.join(" ")));
    let mut measurement = Measurement {
        name: engine.partition()[1].clone(),
        host: manifest.host.name.clone(),
        kernel: manifest.host.kernel.clone(),
        arch: manifest.host.arch.clone(),
        cpus: manifest.host.cpus,
        recorder: manifest.recorder_version.clone(),
        format_version: manifest.format_version,
        started_ns: from,
        window_ns,
        filters: recorded.chain(filters.clone()).collect(),
        settings: manifest.settings.clone(),
        notes: Vec::new(),
        sources: BTreeMap::new(),
    };
    if window_ns == 0 {
        let why = format!("{}: the window is empty", capture.path.display());
        return Err(Error::text(why).hint("give a capture that recorded for a while, or other --from and --to"));
    }
    let lost = notes::lost(engine).await?;
    let cgroups = Arc::new(cgroup::paths(engine).await?);
    let mut touched = Vec::new();
    for source in sources {
        let missing = source.needs.iter().find(|table| !engine.tables().is_captured(table));
        let state = if let Some(table) = missing {
            State::Missing(engine.tables().missing(table).to_string())
        } else if engine.filter().is_of_tasks() && !source.needs.iter().any(|table| has_tasks(table)) {
            State::Missing("it is about the whole host, which a filter by process doesn't narrow".to_owned())
        } else {
            let (metrics, rows, tables) = scan(engine, source, &cgroups, (from, to)).await?;
            touched.extend(tables);
            let missed =
                |table: &&String| lost.iter().filter(|(of, ..)| of == *table).map(|(_, _, lost, ..)| lost.unsigned_abs()).sum::<u64>();
            let missed: u64 = source.needs.iter().map(|table| missed(&table)).sum();
            let recorded = |table: &String| manifest.tables.get(table).map_or(0, |table| table.rows);
            let recorded = source.needs.iter().map(recorded).sum::<u64>().max(rows);
            let lost = missed as f64 / (missed.saturating_add(recorded)).max(1) as f64;
            State::Measured { fingerprint: source.fingerprint, lost, metrics }
        };
        measurement.sources.insert(source.name.clone(), state);
    }
    touched.sort();
    touched.dedup();
    let notes = notes::about(engine, &touched).await?;
    measurement.notes = notes.into_iter().filter(|note| note.incomplete).map(|note| note.text).collect();
    Ok(measurement)
}

/// Whether a table's rows are of tasks.
fn has_tasks(table: &str) -> bool {
    let schema = events::table(table).map(ebrec_format::Table::schema);
    schema.is_some_and(|schema| ["pid", "prev_pid"].iter().any(|column| schema.column_with_name(column).is_some()))
}

/// What a source gives: its metrics by name, of how many rows they were made, and of which tables.
type Scanned = (BTreeMap<String, Measured>, u64, Vec<String>);

async fn scan(engine: &Engine, source: &Source, cgroups: &Cgroups, window: (i64, i64)) -> Result<Scanned> {
    let wrong = |error: Error| {
        let told = Error::new(format!("queries/metrics/{}.sql", source.name), &error);
        match error.what_to_do() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    };
    let mut source = source.clone();
    let mut cut = Vec::new();
    loop {
        let (plan, counts, tables) = read(engine, &source, cgroups, window).await.map_err(wrong)?;
        if counts.too_many.is_empty() {
            let mut metrics = counts.finish(&plan, &source);
            metrics.values_mut().for_each(|measured| measured.cut.extend(cut.clone()));
            return Ok((metrics, counts.rows, tables));
        }
        for nth in counts.too_many.iter().rev() {
            cut.push(source.by.remove(*nth));
        }
    }
}

async fn read(engine: &Engine, source: &Source, cgroups: &Cgroups, window: (i64, i64)) -> Result<(Arc<Plan>, Counts, Vec<String>)> {
    let whole: Vec<&str> = source.whole.iter().map(String::as_str).collect();
    let optional: Vec<&str> = source.uses.iter().map(String::as_str).collect();
    let reading = Reading { whole: &whole, optional: &optional, acting: source.acting };
    let Planned { frame, tables } = engine.read(&source.sql, reading, parameters(engine, source, window)).await?;
    let plan = Arc::new(Plan::of(source, frame.schema().as_arrow(), cgroups, window)?);
    let context = Arc::new(frame.task_ctx());
    let physical = frame.create_physical_plan().await?;
    let mut parts = JoinSet::new();
    for mut stream in execute_stream_partitioned(physical, context)? {
        let plan = plan.clone();
        parts.spawn(async move {
            let mut counts = Counts::new(&plan);
            while let Some(batch) = stream.next().await {
                counts.add(&plan, &batch?)?;
            }
            Ok::<_, Error>(counts)
        });
    }
    let mut all = Counts::new(&plan);
    while let Some(part) = parts.join_next().await {
        all.merge(&plan, part.map_err(|error| Error::new(&source.name, error))??);
    }
    Ok((plan, all, tables))
}

/// What the statement may use. Only what it mentions is bound.
fn parameters(engine: &Engine, source: &Source, (from, to): (i64, i64)) -> Vec<(String, ScalarValue)> {
    let instant = |ns: i64| ScalarValue::TimestampNanosecond(Some(ns), Some(Arc::from("UTC")));
    let hz = engine.captures().first().and_then(|capture| capture.manifest.settings.get("sample_hz")?.parse::<i64>().ok());
    let sample_ns = 1_000_000_000 / hz.filter(|hz| *hz > 0).unwrap_or(99);
    let all = [("window_start", instant(from)), ("window_end", instant(to)), ("sample_ns", ScalarValue::Int64(Some(sample_ns)))];
    all.into_iter().filter(|(name, _)| source.sql.contains(&format!("${name}"))).map(|(name, value)| (name.to_owned(), value)).collect()
}
