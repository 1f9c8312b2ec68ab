//! A report's rows in the layout of the live tool: headings, blocks with titles, histograms.

use super::Destination;
use super::cells::{Cells, Origins, fill, show};
use super::hist::{self, Bucket};
use super::stacks::Style;
use super::text::{pad, thousands};
use crate::error::Result;
use crate::query::histogram::with_unit;
use crate::query::params::Values;
use crate::query::{Column, Condition, Query, Render, Show};
use datafusion::common::ScalarValue;
use std::io::Write;

/// The rows of a report on their way out.
pub struct Report<'a> {
    query: &'a Query,
    values: &'a Values,
    destination: Destination,
    terminal: Option<usize>,
    origins: Origins,
    /// Which columns the last heading named.
    shown: Vec<usize>,
    /// What identifies the block.
    block: Option<Vec<String>>,
    /// The last text of each title.
    titles: Vec<String>,
    buckets: Vec<Bucket>,
    unit: String,
    /// The line below a histogram.
    percentiles: Option<String>,
}

impl<'a> Report<'a> {
    /// A report with these parameters, over a window that begins at `window` (ns), in lines of at most `terminal` characters.
    pub fn new(query: &'a Query, values: &'a Values, window: i64, terminal: Option<usize>, destination: Destination) -> Report<'a> {
        Report {
            query,
            values,
            destination,
            terminal,
            origins: Origins { window, first: None },
            shown: Vec::new(),
            block: None,
            titles: vec![String::new(); query.titles.len()],
            buckets: Vec::new(),
            unit: String::new(),
            percentiles: None,
        }
    }

    /// Writes what it holds back, to go on afterwards.
    pub fn flush(&mut self) -> Result<()> {
        self.leave_block()?;
        Ok(self.destination.flush()?)
    }

    /// Adds the rows `from..to` of a batch.
    pub fn write(&mut self, cells: &Cells, rows: std::ops::Range<usize>) -> Result<()> {
        for row in rows {
            self.enter_block(cells, row)?;
            match &self.query.render {
                Render::Rows => self.row(cells, row)?,
                Render::Lines(lines) => {
                    if let Some(line) = lines.iter().find(|line| line.conditions.iter().all(|condition| self.holds(condition, cells, row)))
                    {
                        let text = self.fill(line.text, cells, row);
                        writeln!(self.destination, "{text}")?;
                    }
                }
                Render::Stacks(_) => {
                    if let Some(style) = Style::of(self.query, self.values) {
                        self.destination.write_all(style.text(cells, row).as_bytes())?;
                    }
                }
                Render::Hist => {
                    let number = |column: &str| cells.int(column, row).unwrap_or_default();
                    self.buckets.push((number("low"), number("high"), number("count")));
                    self.unit = cells.raw("unit", row);
                    self.percentiles = self.percentiles_of(cells, row);
                }
            }
        }
        Ok(())
    }

    /// Writes what is left, and gives the destination back.
    pub fn finish(mut self) -> Result<Destination> {
        self.flush()?;
        Ok(self.destination)
    }

    fn enter_block(&mut self, cells: &Cells, row: usize) -> Result<()> {
        let key: Vec<String> = self.query.blocks.iter().map(|column| cells.raw(column, row)).collect();
        if self.block.as_ref() == Some(&key) {
            return Ok(());
        }
        self.leave_block()?;
        if self.block.is_some() && !self.query.blocks.is_empty() {
            writeln!(self.destination)?;
        }
        self.block = Some(key);
        self.shown.clear();
        let mut changed = false;
        for i in 0..self.query.titles.len() {
            let title = &self.query.titles[i];
            if !title.conditions.iter().all(|condition| self.holds(condition, cells, row)) {
                continue;
            }
            let text = self.fill(title.text, cells, row);
            // What holds for several blocks is said once, before the first of them.
            if changed || i + 1 == self.titles.len() || text != self.titles[i] {
                writeln!(self.destination, "{text}")?;
                changed = true;
            }
            self.titles[i] = text;
        }
        Ok(())
    }

    fn leave_block(&mut self) -> Result<()> {
        let buckets = std::mem::take(&mut self.buckets);
        self.destination.write_all(hist::log2(&buckets, &self.unit).as_bytes())?;
        if let Some(line) = self.percentiles.take() {
            writeln!(self.destination, "{line}")?;
        }
        Ok(())
    }

    /// Percentiles of a histogram in its unit, and how many values it has.
    fn percentiles_of(&self, cells: &Cells, row: usize) -> Option<String> {
        let unit = self.query.histogram.as_ref()?.unit;
        let show = |name: &str| {
            let value = cells.int(with_unit(name, unit), row)?;
            Some(match self.unit.as_str() {
                "usecs" => format!("{:.1}", value as f64 / 1e3),
                "msecs" => format!("{:.3}", value as f64 / 1e6),
                "Kbytes" => format!("{:.1}", value as f64 / 1024.0),
                _ => value.to_string(),
            })
        };
        let (p50, p90, p99, p999, max) = (show("p50")?, show("p90")?, show("p99")?, show("p999")?, show("max")?);
        let total = thousands(u64::try_from(cells.int("total", row)?).ok()?);
        Some(format!("     p50={p50} p90={p90} p99={p99} p99.9={p999} max={max} {}, n={total}", self.unit))
    }

    fn row(&mut self, cells: &Cells, row: usize) -> Result<()> {
        let query = self.query;
        let visible: Vec<usize> = (0..query.columns.len()).filter(|&i| self.is_shown(&query.columns[i], cells, row)).collect();
        if visible != self.shown {
            if !self.shown.is_empty() {
                writeln!(self.destination)?;
            }
            let headings: Vec<String> = visible.iter().map(|&i| lay_out(query.columns[i].heading.to_owned(), &query.columns[i])).collect();
            self.line(&headings)?;
            self.shown = visible;
        }
        let mut texts = Vec::with_capacity(self.shown.len());
        for &i in &self.shown {
            texts.push(lay_out(show(cells, &query.columns[i], row, &mut self.origins), &query.columns[i]));
        }
        self.line(&texts)
    }

    fn line(&mut self, texts: &[String]) -> Result<()> {
        let line = texts.join(" ");
        let line = line.trim_end();
        match self.terminal {
            Some(terminal) => writeln!(self.destination, "{}", super::text::shorten(line, terminal))?,
            None => writeln!(self.destination, "{line}")?,
        }
        Ok(())
    }

    fn is_shown(&self, column: &Column, cells: &Cells, row: usize) -> bool {
        match &column.show {
            Show::Always => true,
            Show::Hidden => false,
            Show::If(conditions) => conditions.iter().all(|condition| self.holds(condition, cells, row)),
        }
    }

    fn holds(&self, condition: &Condition, cells: &Cells, row: usize) -> bool {
        let holds = match condition.value {
            Some(value) => cells.raw(condition.name, row) == value,
            None => match self.values.get(condition.name) {
                Some(ScalarValue::Boolean(flag)) => *flag == Some(true),
                Some(value) => !value.is_null(),
                None => false,
            },
        };
        holds != condition.negated
    }

    /// A title with its columns filled in.
    fn fill(&mut self, text: &str, cells: &Cells, row: usize) -> String {
        let (query, origins) = (self.query, &mut self.origins);
        fill(text, |name| query.columns.iter().find(|column| column.name == name).map(|column| show(cells, column, row, origins)))
    }
}

/// A cell in its width, followed by what its kind puts after each value.
fn lay_out(text: String, column: &Column) -> String {
    let mut out = pad(&text, column.width, column.right);
    if column.kind == "text" {
        out.push_str(column.arguments.first().copied().unwrap_or_default());
    }
    out
}
