//! From a capture to its measurement: for every metric, what happened in each twentieth of the window.
//!
//! A measurement is small, adds up, and is all that a comparison needs: a baseline is a file of them ([`super::baseline`]). The sums are whole
//! numbers, so that neither the order of rows nor the number of threads changes them.

use super::metric::{Function, Metric, Source};
use super::sketch::{Building, Sketch};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::notes;
use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::physical_plan::execute_stream_partitioned;
use ebrec_format::events;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Into so many parts of equal length is a window divided. They are the units of the bootstrap: long beside most correlations, and enough to
/// tell how much they differ (batch means; 10 to 30, says B. Schmeiser, Operations Research 30, 1982).
pub const BLOCKS: usize = 20;
/// So many groups of one kind are kept, those with most events.
const MOST_GROUPS: usize = 300;
/// With more values than this a column is no way to group.
const MOST_VALUES: usize = 20_000;

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
    /// The distribution.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub sketch: Sketch,
}

impl Cell {
    /// Of a block in which nothing happened.
    pub const NOTHING: Cell = Cell { n: 0, sum: 0, of: 0, sketch: Sketch(Vec::new()) };
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
    /// What makes its numbers incomplete.
    pub notes: Vec<String>,
    /// Sources by name.
    pub sources: BTreeMap<String, State>,
}

/// Measures the one capture of `engine`. `filters` are those of the command line, as they shall be named.
pub async fn measure(engine: &Engine, sources: &[Source], filters: &BTreeMap<String, String>) -> Result<Measurement> {
    let Some(capture) = engine.captures().first() else { return Err(Error::text("no capture")) };
    let manifest = &capture.manifest;
    let (from, to) = engine.window();
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
        notes: Vec::new(),
        sources: BTreeMap::new(),
    };
    if window_ns == 0 {
        let why = format!("{}: the window is empty", capture.path.display());
        return Err(Error::text(why).hint("give a capture that recorded for a while, or other --from and --to"));
    }
    let lost = notes::lost(engine).await?;
    let mut touched = Vec::new();
    for source in sources {
        let missing = source.needs.iter().find(|table| !engine.tables().is_captured(table));
        let state = if let Some(table) = missing {
            State::Missing(engine.tables().missing(table).to_string())
        } else if engine.filter().is_of_tasks() && !source.needs.iter().any(|table| has_tasks(table)) {
            State::Missing("it is about the whole host, which a filter by process doesn't narrow".to_owned())
        } else {
            let (metrics, rows) = scan(engine, source, (from, to)).await?;
            touched.extend(engine.tables().touched());
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

/// The metrics of a source by name, and how many rows they were made of.
async fn scan(engine: &Engine, source: &Source, window: (i64, i64)) -> Result<(BTreeMap<String, Measured>, u64)> {
    let wrong = |error: Error| {
        let told = Error::new(format!("queries/metrics/{}.sql", source.name), &error);
        match error.what_to_do() {
            Some(hint) => told.hint(hint),
            None => told,
        }
    };
    source.reading(|reading| engine.tables().begin(reading));
    let mut source = source.clone();
    let mut cut = Vec::new();
    loop {
        let (plan, counts) = read(engine, &source, window).await.map_err(wrong)?;
        if counts.too_many.is_empty() {
            let mut metrics = counts.finish(&plan, &source);
            metrics.values_mut().for_each(|measured| measured.cut.extend(cut.clone()));
            return Ok((metrics, counts.rows));
        }
        for nth in counts.too_many.iter().rev() {
            cut.push(source.by.remove(*nth));
        }
    }
}

async fn read(engine: &Engine, source: &Source, window: (i64, i64)) -> Result<(Arc<Plan>, Counts)> {
    let frame = engine.query(&source.sql, parameters(engine, source, window)).await?;
    let plan = Arc::new(Plan::of(source, frame.schema().as_arrow(), window)?);
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
    Ok((plan, all))
}

/// What the statement may use. Only what it mentions is bound.
fn parameters(engine: &Engine, source: &Source, (from, to): (i64, i64)) -> Vec<(String, ScalarValue)> {
    let instant = |ns: i64| ScalarValue::TimestampNanosecond(Some(ns), Some(Arc::from("UTC")));
    let hz = engine.captures().first().and_then(|capture| capture.manifest.settings.get("sample_hz")?.parse::<i64>().ok());
    let sample_ns = 1_000_000_000 / hz.filter(|hz| *hz > 0).unwrap_or(99);
    let all = [("window_start", instant(from)), ("window_end", instant(to)), ("sample_ns", ScalarValue::Int64(Some(sample_ns)))];
    all.into_iter().filter(|(name, _)| source.sql.contains(&format!("${name}"))).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Where in a row everything is.
struct Plan {
    window: (i64, i64),
    ts: usize,
    /// The columns to group by: of all ways, each once.
    keys: Vec<usize>,
    /// The ways to group, as positions in `keys`.
    by: Vec<Vec<usize>>,
    /// The columns of values, each once.
    values: Vec<usize>,
    /// The metrics, with positions in `values`.
    metrics: Vec<(Kind, usize, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Quantiles,
    Rows,
    Sum,
    ShareOfRows,
    Quotient,
}

impl Plan {
    fn of(source: &Source, schema: &arrow::datatypes::Schema, window: (i64, i64)) -> Result<Plan> {
        let position = |name: &str| {
            schema.index_of(name).map_err(|_| Error::text(format!("the statement gives no column {name}")).hint("docs/METRICS.md"))
        };
        let mut keys: Vec<usize> = Vec::new();
        let mut by = Vec::new();
        fn slot(of: &mut Vec<usize>, column: usize) -> usize {
            of.iter().position(|known| *known == column).unwrap_or_else(|| {
                of.push(column);
                of.len() - 1
            })
        }
        for columns in &source.by {
            let way = columns.iter().map(|name| Ok(slot(&mut keys, position(name)?))).collect::<Result<Vec<_>>>()?;
            by.push(way);
        }
        let mut values = Vec::new();
        let mut metrics = Vec::new();
        for Metric { function, .. } in &source.metrics {
            let mut at = Vec::new();
            for name in function.columns() {
                let column = position(name)?;
                let kind = schema.field(column).data_type();
                if !kind.is_integer() && !matches!(kind, DataType::Boolean | DataType::Null) {
                    return Err(Error::text(format!("the column {name} is {kind}; values are whole numbers")).hint("CAST it to BIGINT"));
                }
                at.push(slot(&mut values, column));
            }
            let kind = match function {
                Function::Quantiles(_) => Kind::Quantiles,
                Function::Rate(None) => Kind::Rows,
                Function::Rate(Some(_)) => Kind::Sum,
                Function::Share(_, None) => Kind::ShareOfRows,
                Function::Share(..) | Function::Ratio(..) => Kind::Quotient,
            };
            metrics.push((kind, at.first().copied().unwrap_or(0), at.get(1).copied().unwrap_or(0)));
        }
        Ok(Plan { window, ts: position("ts")?, keys, by, values, metrics })
    }

    /// The block of each instant; [`usize::MAX`] stands for none: a recorder's hooks run for a moment before and after the window.
    fn blocks(&self, ts: &PrimitiveArray<Int64Type>) -> Vec<usize> {
        let (from, to) = self.window;
        let length = (to.saturating_sub(from).max(1).unsigned_abs()).div_ceil(BLOCKS as u64);
        let block = |ts: i64| (ts.saturating_sub(from).unsigned_abs() / length).min(BLOCKS as u64 - 1) as usize;
        ts.iter().map(|ts| ts.filter(|ts| (from..to).contains(ts)).map_or(usize::MAX, block)).collect()
    }
}

/// What is counted in a block for one metric.
#[derive(Debug, Clone, Default)]
struct Count {
    n: u64,
    sum: i64,
    of: i64,
    sketch: Building,
}

/// Counts rows for one metric: `counts` has one for each cell, `cells` says which is each row's, `a` and `b` are its columns.
fn count(kind: Kind, counts: &mut [Count], cells: &[usize], a: Option<&PrimitiveArray<Int64Type>>, b: Option<&PrimitiveArray<Int64Type>>) {
    let rows = || cells.iter().enumerate().filter(|(_, cell)| **cell != usize::MAX);
    if kind == Kind::Rows {
        rows().for_each(|(_, cell)| counts[*cell].n += 1);
        return;
    }
    let Some(a) = a else { return };
    let valid = |of: &PrimitiveArray<Int64Type>, row: usize| of.nulls().is_none_or(|nulls| nulls.is_valid(row));
    let values = a.values();
    match (kind, b) {
        (Kind::Quotient, Some(b)) => {
            for (row, cell) in rows() {
                let (part, whole) = (valid(a, row), valid(b, row));
                if part || whole {
                    let count = &mut counts[*cell];
                    count.n += 1;
                    count.sum = count.sum.saturating_add(if part { values[row] } else { 0 });
                    count.of = count.of.saturating_add(if whole { b.values()[row] } else { 0 });
                }
            }
        }
        (Kind::Quantiles, _) => {
            for (row, cell) in rows().filter(|(row, _)| valid(a, *row)) {
                let count = &mut counts[*cell];
                count.n += 1;
                count.sketch.add(values[row]);
            }
        }
        (Kind::ShareOfRows, _) => {
            for (row, cell) in rows().filter(|(row, _)| valid(a, *row)) {
                let count = &mut counts[*cell];
                count.n += 1;
                count.sum += i64::from(values[row] != 0);
                count.of += 1;
            }
        }
        _ => {
            for (row, cell) in rows().filter(|(row, _)| valid(a, *row)) {
                let count = &mut counts[*cell];
                count.n += 1;
                count.sum = count.sum.saturating_add(values[row]);
            }
        }
    }
}

impl Count {
    fn merge(&mut self, other: &Count) {
        self.n += other.n;
        self.sum = self.sum.saturating_add(other.sum);
        self.of = self.of.saturating_add(other.of);
        self.sketch.merge(&other.sketch);
    }
}

/// The counts of the groups of one way: by the values' numbers, then block by block, then metric by metric.
type Groups = HashMap<Vec<u32>, Vec<Count>>;

/// Texts of a column, numbered.
#[derive(Default)]
struct Texts {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        number
    }

    /// The numbers of a column's texts.
    fn numbers(&mut self, column: &StringViewArray) -> Vec<u32> {
        const SLOTS: usize = 512;
        // A short text is in its view; a long one's view says where it is, which is as good within a batch, where equal texts share a place.
        let mut seen: Vec<Option<(u128, u32)>> = vec![None; SLOTS];
        let mut numbers = Vec::with_capacity(column.len());
        for (row, view) in column.views().iter().enumerate() {
            if column.is_null(row) {
                numbers.push(self.number(""));
                continue;
            }
            let mixed = ((*view as u64) ^ (*view >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let slot = &mut seen[mixed as usize % SLOTS];
            let number = match slot {
                Some((known, number)) if known == view => *number,
                _ => {
                    let number = self.number(&group_name(column.value(row)));
                    *slot = Some((*view, number));
                    number
                }
            };
            numbers.push(number);
        }
        numbers
    }
}

/// The name under which a task is compared: kernel threads are told apart by numbers that differ from boot to boot.
fn group_name(text: &str) -> std::borrow::Cow<'_, str> {
    match text.split_once('/') {
        Some((name, rest)) if rest.starts_with(|c: char| c.is_ascii_digit() || c == 'u') && !name.is_empty() && name.len() < 16 => {
            std::borrow::Cow::Owned(name.to_owned())
        }
        _ => std::borrow::Cow::Borrowed(text),
    }
}

/// The groups that occur in a batch, and which of them each row is of.
fn slots(way: &[usize], keys: &[Vec<u32>], rows: usize) -> (Vec<Vec<u32>>, Vec<u32>) {
    let mut order: Vec<Vec<u32>> = Vec::new();
    let mut of_row = Vec::with_capacity(rows);
    if let [column] = way {
        let largest = keys[*column].iter().max().map_or(0, |largest| *largest as usize + 1);
        let mut known = vec![u32::MAX; largest];
        for number in &keys[*column] {
            let slot = &mut known[*number as usize];
            if *slot == u32::MAX {
                *slot = order.len() as u32;
                order.push(vec![*number]);
            }
            of_row.push(*slot);
        }
        return (order, of_row);
    }
    let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
    let mut key = Vec::with_capacity(way.len());
    let mut columns: Vec<_> = way.iter().map(|column| keys[*column].iter()).collect();
    for _ in 0..rows {
        key.clear();
        key.extend(columns.iter_mut().filter_map(|numbers| numbers.next().copied()));
        let slot = known.get(&key).copied().unwrap_or_else(|| {
            order.push(key.clone());
            known.insert(key.clone(), order.len() as u32 - 1);
            order.len() as u32 - 1
        });
        of_row.push(slot);
    }
    (order, of_row)
}

struct Counts {
    rows: u64,
    texts: Vec<Texts>,
    /// All rows together, if no way to group adds up to them: metric by metric.
    all: Vec<Vec<Count>>,
    by: Vec<Groups>,
    /// The ways that have more than [`MOST_VALUES`] groups.
    too_many: BTreeSet<usize>,
}

impl Counts {
    fn new(plan: &Plan) -> Counts {
        Counts {
            rows: 0,
            texts: plan.keys.iter().map(|_| Texts::default()).collect(),
            all: if plan.by.is_empty() { vec![vec![Count::default(); BLOCKS]; plan.metrics.len()] } else { Vec::new() },
            by: plan.by.iter().map(|_| Groups::new()).collect(),
            too_many: BTreeSet::new(),
        }
    }

    /// Lets go of ways with too many groups. Whether there are too many depends neither on the order of rows nor on the threads, which of
    /// them were seen does: so the source is read again without that way.
    fn give_up(&mut self) {
        for (nth, groups) in self.by.iter_mut().enumerate().filter(|(_, groups)| groups.len() > MOST_VALUES) {
            groups.clear();
            self.too_many.insert(nth);
        }
    }

    fn add(&mut self, plan: &Plan, batch: &RecordBatch) -> Result<()> {
        let ts = cast(batch.column(plan.ts), &DataType::Int64).or_else(|_| {
            let to = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("UTC".into()));
            cast(batch.column(plan.ts), &to).and_then(|ts| cast(&ts, &DataType::Int64))
        })?;
        let ts = ts.as_primitive::<Int64Type>();
        let mut keys = Vec::new();
        for (texts, column) in self.texts.iter_mut().zip(&plan.keys) {
            keys.push(texts.numbers(cast(batch.column(*column), &DataType::Utf8View)?.as_string_view()));
        }
        let values = plan.values.iter().map(|column| cast(batch.column(*column), &DataType::Int64)).collect::<Result<Vec<_>, _>>()?;
        let values: Vec<_> = values.iter().map(AsArray::as_primitive::<Int64Type>).collect();
        let blocks = plan.blocks(ts);
        self.rows += blocks.len() as u64;
        let add = |groups: &mut [Vec<Count>], cells: &[usize]| {
            for (counts, (kind, a, b)) in groups.iter_mut().zip(&plan.metrics) {
                count(*kind, counts, cells, values.get(*a).copied(), values.get(*b).copied());
            }
        };
        for (nth, (groups, way)) in self.by.iter_mut().zip(&plan.by).enumerate() {
            if self.too_many.contains(&nth) {
                continue;
            }
            let (order, of_row) = slots(way, &keys, blocks.len());
            let width = plan.metrics.len();
            let cells: Vec<usize> = blocks
                .iter()
                .zip(of_row)
                .map(|(block, slot)| if *block == usize::MAX { usize::MAX } else { slot as usize * BLOCKS + block })
                .collect();
            // The batch's counts, metric by metric; then they are added to those of the groups.
            let mut counted = vec![vec![Count::default(); order.len() * BLOCKS]; width];
            add(&mut counted, &cells);
            for (slot, key) in order.into_iter().enumerate() {
                let known = groups.entry(key).or_insert_with(|| vec![Count::default(); BLOCKS * width]);
                for (nth, counted) in counted.iter().enumerate() {
                    for (block, count) in counted[slot * BLOCKS..(slot + 1) * BLOCKS].iter().enumerate().filter(|(_, count)| count.n > 0) {
                        known[block * width + nth].merge(count);
                    }
                }
            }
        }
        self.give_up();
        if plan.by.is_empty() {
            add(&mut self.all, &blocks);
        }
        Ok(())
    }

    fn merge(&mut self, plan: &Plan, other: Counts) {
        self.rows += other.rows;
        for (mine, theirs) in self.all.iter_mut().flatten().zip(other.all.iter().flatten()) {
            mine.merge(theirs);
        }
        let numbers: Vec<Vec<u32>> = self
            .texts
            .iter_mut()
            .zip(&other.texts)
            .map(|(mine, theirs)| theirs.texts.iter().map(|text| mine.number(text)).collect())
            .collect();
        for ((mine, theirs), way) in self.by.iter_mut().zip(other.by).zip(&plan.by) {
            for (key, counts) in theirs {
                let key: Vec<u32> = key.iter().zip(way).map(|(number, column)| numbers[*column][*number as usize]).collect();
                match mine.get_mut(&key) {
                    Some(known) => known.iter_mut().zip(&counts).for_each(|(known, count)| known.merge(count)),
                    None => {
                        mine.insert(key, counts);
                    }
                }
            }
        }
        self.too_many.extend(other.too_many);
        self.give_up();
    }

    fn finish(&self, plan: &Plan, source: &Source) -> BTreeMap<String, Measured> {
        let width = plan.metrics.len();
        let all = match self.by.first() {
            None => (0..BLOCKS).flat_map(|block| self.all.iter().map(move |counts| counts[block].clone())).collect(),
            Some(groups) => {
                let mut all = vec![Count::default(); BLOCKS * width];
                for counts in groups.values() {
                    all.iter_mut().zip(counts).for_each(|(sum, count)| sum.merge(count));
                }
                all
            }
        };
        let blocks = |counts: &[Count], nth: usize| -> Blocks {
            let cell = |count: &Count| Cell { n: count.n, sum: count.sum, of: count.of, sketch: count.sketch.finish() };
            counts.iter().skip(nth).step_by(width).map(cell).collect()
        };
        let mut metrics = BTreeMap::new();
        for (nth, metric) in source.metrics.iter().enumerate() {
            let mut measured = Measured { groups: vec![(Group::new(), blocks(&all, nth))], cut: Vec::new() };
            for ((groups, way), columns) in self.by.iter().zip(&plan.by).zip(&source.by) {
                let size = |counts: &Vec<Count>| counts.iter().skip(nth).step_by(width).map(|count| count.n).sum::<u64>();
                let name = |key: &Vec<u32>| -> Group {
                    let texts = key.iter().zip(way).map(|(number, column)| self.texts[*column].texts[*number as usize].clone());
                    columns.iter().cloned().zip(texts).collect()
                };
                let mut found: Vec<(u64, Group, &Vec<Count>)> =
                    groups.iter().map(|(key, counts)| (size(counts), name(key), counts)).filter(|(n, ..)| *n > 0).collect();
                found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                if found.len() > MOST_GROUPS {
                    measured.cut.push(columns.clone());
                    found.truncate(MOST_GROUPS);
                }
                measured.groups.extend(found.into_iter().map(|(_, group, counts)| (group, blocks(counts, nth))));
            }
            metrics.insert(metric.name.clone(), measured);
        }
        metrics
    }
}
