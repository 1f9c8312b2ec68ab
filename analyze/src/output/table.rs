//! Tables for people and for documents, of any result: aligned columns, and Markdown.

use super::escape::cell;
use super::hist::log2;
use super::text::{escape, pad, shorten, width};
use super::{Destination, Format, Settings};
use crate::engine::functions::hist;
use crate::error::Result;
use arrow::array::{Array, AsArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::Write;

/// Rows that decide how wide the columns are; later ones may stick out.
const SAMPLE: usize = 1000;
/// Between columns.
const GAP: usize = 2;
/// A column is not shortened below this.
const LEAST: usize = 8;

/// A table in the making.
pub struct Table {
    destination: Destination,
    markdown: bool,
    terminal: Option<usize>,
    headings: Vec<String>,
    right: Vec<bool>,
    /// Whether it is the output of EXPLAIN: plans are trees of many lines, and DataFusion's own text.
    plan: bool,
    /// The column with histograms, if there is one: each row is a block then.
    hist: Option<usize>,
    /// Rows that wait until the widths are known.
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
}

impl Table {
    /// A table with the columns of `schema`.
    pub fn new(settings: &Settings, schema: &SchemaRef, destination: Destination) -> Table {
        let markdown = settings.format == Format::Markdown;
        Table {
            destination,
            markdown,
            terminal: settings.width(),
            // Columns have names such as tx_bytes, which mean nothing to Markdown unless somebody chose others.
            headings: schema.fields().iter().map(|field| if markdown { heading(field.name()) } else { escape(field.name()) }).collect(),
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            plan: schema.fields().iter().map(|field| field.name().as_str()).eq(["plan_type", "plan"]) && settings.format == Format::Table,
            hist: schema
                .fields()
                .iter()
                .position(|field| *field.data_type() == hist::data_type())
                .filter(|_| settings.format == Format::Table),
            waiting: Vec::new(),
            widths: None,
        }
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<ArrayFormatter> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
        if self.plan {
            return self.plans(&columns, batch.num_rows());
        }
        if let Some(column) = self.hist {
            return self.histograms(batch, &columns, column);
        }
        for row in 0..batch.num_rows() {
            let shown = |column: &ArrayFormatter<'_>| column.value(row).to_string();
            let cells: Vec<String> =
                columns.iter().map(|column| if self.markdown { cell(&shown(column)) } else { escape(&shown(column)) }).collect();
            match &self.widths {
                Some(_) => self.line(&cells)?,
                None => self.waiting.push(cells),
            }
        }
        if self.waiting.len() >= SAMPLE {
            self.begin()?;
        }
        Ok(())
    }

    fn plans(&mut self, columns: &[ArrayFormatter<'_>], rows: usize) -> Result<()> {
        for row in 0..rows {
            for line in columns.iter().flat_map(|column| column.value(row).to_string().lines().map(escape).collect::<Vec<_>>()) {
                writeln!(self.destination, "{line}")?;
            }
        }
        Ok(())
    }

    /// Each row as a histogram below the values of the other columns.
    fn histograms(&mut self, batch: &RecordBatch, columns: &[ArrayFormatter<'_>], hist: usize) -> Result<()> {
        let Some(list) = batch.column(hist).as_list_opt::<i32>() else { return Ok(()) };
        for row in 0..batch.num_rows() {
            if self.widths.replace(Vec::new()).is_some() {
                writeln!(self.destination)?;
            }
            for (nth, heading) in self.headings.iter().enumerate().filter(|(nth, _)| *nth != hist) {
                writeln!(self.destination, "{heading} = {}", escape(&columns[nth].value(row).to_string()))?;
            }
            let buckets = if list.is_valid(row) { hist::rows(list, row) } else { Vec::new() };
            self.destination.write_all(log2(&buckets, "value").as_bytes())?;
        }
        Ok(())
    }

    /// Writes what is left, and gives the destination back.
    pub fn finish(mut self) -> Result<Destination> {
        if self.widths.is_none() && !self.plan && self.hist.is_none() {
            self.begin()?;
        }
        Ok(self.destination)
    }

    fn begin(&mut self) -> Result<()> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| width(heading)).collect();
        for row in &self.waiting {
            for (most, cell) in widths.iter_mut().zip(row) {
                *most = width(cell).max(*most);
            }
        }
        if let Some(terminal) = self.terminal.filter(|_| !self.markdown) {
            fit(&mut widths, &self.right, terminal);
        }
        let headings = self.headings.clone();
        let rule = widths.iter().zip(&self.right).map(|(width, right)| {
            if self.markdown {
                format!("{}{}", "-".repeat(width.saturating_sub(1).max(2)), if *right { ":" } else { "-" })
            } else {
                "─".repeat(*width)
            }
        });
        let rule: Vec<String> = rule.collect();
        self.widths = Some(widths);
        self.line(&headings)?;
        self.line(&rule)?;
        for row in std::mem::take(&mut self.waiting) {
            self.line(&row)?;
        }
        Ok(())
    }

    fn line(&mut self, cells: &[String]) -> Result<()> {
        let widths = self.widths.as_deref().unwrap_or_default();
        let cells = cells.iter().zip(widths).zip(&self.right).map(|((cell, width), right)| {
            let cell = if self.terminal.is_some() && !self.markdown { shorten(cell, *width) } else { cell.clone() };
            pad(&cell, *width, *right)
        });
        let cells: Vec<String> = cells.collect();
        if self.markdown {
            writeln!(self.destination, "| {} |", cells.join(" | "))?;
        } else {
            writeln!(self.destination, "{}", cells.join(&" ".repeat(GAP)).trim_end())?;
        }
        Ok(())
    }
}

/// The name of a column in Markdown.
fn heading(name: &str) -> String {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    if is_word && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { name.to_owned() } else { cell(name) }
}

/// Takes from the widest columns of text until the line fits the terminal. Numbers are never cut: half of one is a lie.
fn fit(widths: &mut [usize], right: &[bool], terminal: usize) {
    loop {
        let total: usize = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let widest = (0..widths.len()).filter(|&i| !right[i] && widths[i] > LEAST).max_by_key(|&i| widths[i]);
        let Some(widest) = widest.filter(|_| total > terminal) else { return };
        widths[widest] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gives_way_and_numbers_stay() {
        let mut widths = [10, 60, 30];
        fit(&mut widths, &[true, false, false], 80);
        assert_eq!(widths.iter().sum::<usize>() + 2 * GAP, 80);
        assert_eq!(widths[0], 10);
    }
}
