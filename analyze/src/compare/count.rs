//! Counts the rows of a source: by group, block and metric.
//!
//! Ten millions of them pass, so texts are numbered first, and each column is gone through on its own.

use super::measure::{BLOCKS, Blocks, Cell, Group, Measured};
use super::metric::{Function, Metric, Source};
use super::sketch::Building;
use crate::error::{Error, Result};
use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// So many groups of one kind are kept, those with most events.
const MOST_GROUPS: usize = 300;
/// With more values than this a column is no way to group.
const MOST_VALUES: usize = 20_000;

/// The cgroup of each process.
pub type Cgroups = Arc<HashMap<i64, String>>;
/// The column to group by that the statement needn't have: it is found by the next one.
const CGROUP: &str = "cgroup";
const PROCESS: &str = "process_id";

/// Where in a row everything is.
pub struct Plan {
    window: (i64, i64),
    ts: usize,
    /// The columns to group by: of all ways, each once.
    keys: Vec<usize>,
    /// Which of them has processes, whose cgroups are meant.
    processes: Option<usize>,
    cgroups: Cgroups,
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
    /// That of a source whose statement gives these columns.
    pub fn of(source: &Source, schema: &arrow::datatypes::Schema, cgroups: &Cgroups, window: (i64, i64)) -> Result<Plan> {
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
        let processes = schema.index_of(CGROUP).is_err().then(|| schema.index_of(PROCESS).ok()).flatten();
        let key = |name: &str| match processes {
            Some(process) if name == CGROUP => Ok(process),
            _ => position(name),
        };
        for columns in &source.by {
            let way = columns.iter().map(|name| Ok(slot(&mut keys, key(name)?))).collect::<Result<Vec<_>>>()?;
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
        Ok(Plan { window, ts: position("ts")?, keys, processes, cgroups: cgroups.clone(), by, values, metrics })
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
    parts: u64,
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
                    count.parts += u64::from(part && values[row] != 0);
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
                count.parts += u64::from(values[row] != 0);
                count.of += 1;
            }
        }
        _ => {
            for (row, cell) in rows().filter(|(row, _)| valid(a, *row)) {
                let count = &mut counts[*cell];
                count.n += 1;
                count.parts += u64::from(values[row] != 0);
                count.sum = count.sum.saturating_add(values[row]);
            }
        }
    }
}

impl Count {
    fn merge(&mut self, other: &Count) {
        self.n += other.n;
        self.parts += other.parts;
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

    /// The numbers of the cgroups of a column's processes.
    fn of_processes(&mut self, column: &PrimitiveArray<Int64Type>, cgroups: &HashMap<i64, String>) -> Vec<u32> {
        let mut known: HashMap<i64, u32> = HashMap::new();
        let mut last = None;
        let of = |process: Option<i64>| match last {
            Some((seen, number)) if seen == process => number,
            _ => {
                let number = *known
                    .entry(process.unwrap_or(-1))
                    .or_insert_with(|| self.number(process.and_then(|process| cgroups.get(&process)).map_or("", String::as_str)));
                last = Some((process, number));
                number
            }
        };
        column.iter().map(of).collect()
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

/// What was counted in some of a source's rows.
pub struct Counts {
    /// Rows.
    pub rows: u64,
    texts: Vec<Texts>,
    /// All rows together, if no way to group adds up to them: metric by metric.
    all: Vec<Vec<Count>>,
    by: Vec<Groups>,
    /// The ways that have more than [`MOST_VALUES`] groups.
    pub too_many: BTreeSet<usize>,
}

impl Counts {
    /// Nothing yet.
    pub fn new(plan: &Plan) -> Counts {
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

    /// Counts the rows of a batch.
    pub fn add(&mut self, plan: &Plan, batch: &RecordBatch) -> Result<()> {
        let ts = cast(batch.column(plan.ts), &DataType::Int64).or_else(|_| {
            let to = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("UTC".into()));
            cast(batch.column(plan.ts), &to).and_then(|ts| cast(&ts, &DataType::Int64))
        })?;
        let ts = ts.as_primitive::<Int64Type>();
        let mut keys = Vec::new();
        for (texts, column) in self.texts.iter_mut().zip(&plan.keys) {
            let values = batch.column(*column);
            keys.push(if plan.processes == Some(*column) {
                texts.of_processes(cast(values, &DataType::Int64)?.as_primitive(), &plan.cgroups)
            } else {
                texts.numbers(cast(values, &DataType::Utf8View)?.as_string_view())
            });
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

    /// Adds what another thread counted.
    pub fn merge(&mut self, plan: &Plan, other: Counts) {
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

    /// The metrics by name.
    pub fn finish(&self, plan: &Plan, source: &Source) -> BTreeMap<String, Measured> {
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
            let cell = |count: &Count| Cell { n: count.n, sum: count.sum, of: count.of, parts: count.parts, sketch: count.sketch.finish() };
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
