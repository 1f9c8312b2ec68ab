//! Stacks: as the BCC tools print them, folded, and as a flame graph.

use super::cells::{Cells, Origins, show};
use super::text::pad;
use super::{Destination, Format, Settings};
use crate::error::{Error, Result};
use crate::query::params::Values;
use crate::query::{Query, Render, StackColumns};
use datafusion::common::ScalarValue;
use std::io::Write;

/// How a report of stacks is to be written.
pub struct Style<'a> {
    query: &'a Query,
    columns: &'a StackColumns,
    /// Kernel frames are marked.
    annotated: bool,
    /// Kernel and user frames are told apart by a line between them.
    delimited: bool,
    /// One line for each stack.
    folded: bool,
}

impl<'a> Style<'a> {
    /// That of a report with these parameters, `None` if its rows aren't stacks.
    pub fn of(query: &'a Query, values: &Values) -> Option<Style<'a>> {
        let Render::Stacks(columns) = &query.render else { return None };
        let given = |name: &str| values.get(name) == Some(&ScalarValue::Boolean(Some(true)));
        Some(Style { query, columns, annotated: given("annotations"), delimited: given("delimited"), folded: given("folded") })
    }

    /// A row as lines of text: the innermost frame first, then the task, then the value.
    pub fn text(&self, cells: &Cells, row: usize) -> String {
        let (kernel, user) = self.frames(cells, row);
        let mut out = String::new();
        let delimiter = self.delimiter(&kernel, &user).map(|_| "--".to_owned());
        for frame in kernel.into_iter().chain(delimiter).chain(user) {
            out.push_str(&format!("    {frame}\n"));
        }
        let StackColumns { comm, id, .. } = self.columns;
        out + &format!(
            "    {} {} ({})\n        {}\n\n",
            pad("-", 16, false),
            cells.raw(comm, row),
            cells.raw(id, row),
            self.value(cells, row)
        )
    }

    /// A row as one line: the task, its frames with the outermost first, the value.
    pub fn line(&self, cells: &Cells, row: usize) -> String {
        let (kernel, user) = self.frames(cells, row);
        let delimiter = self.delimiter(&kernel, &user).map(str::to_owned);
        // Of several captures each is a flame of its own.
        let capture = cells.get("capture", row).map(|_| cells.raw("capture", row));
        let task = capture.into_iter().chain([cells.raw(self.columns.comm, row)]);
        let frames: Vec<String> = task
            .chain(user.into_iter().rev())
            .chain(delimiter)
            .chain(kernel.into_iter().rev())
            .map(|frame| frame.replace(';', ":"))
            .collect();
        format!("{} {}", frames.join(";"), self.value(cells, row))
    }

    fn frames(&self, cells: &Cells, row: usize) -> (Vec<String>, Vec<String>) {
        let mut kernel = cells.list(self.columns.kernel, row).unwrap_or_default();
        if self.annotated {
            kernel.iter_mut().for_each(|frame| frame.push_str("_[k]"));
        }
        (kernel, cells.list(self.columns.user, row).unwrap_or_default())
    }

    fn delimiter(&self, kernel: &[String], user: &[String]) -> Option<&'static str> {
        (self.delimited && !kernel.is_empty() && !user.is_empty()).then_some("-")
    }

    fn value(&self, cells: &Cells, row: usize) -> String {
        let column = self.query.columns.iter().find(|column| column.name == self.columns.value);
        column.map_or_else(String::new, |column| show(cells, column, row, &mut Origins::default()))
    }

    /// What the value counts.
    fn unit(&self) -> &'static str {
        let column = self.query.columns.iter().find(|column| column.name == self.columns.value);
        column.map_or(self.columns.value, |column| if column.kind == "us" { "us" } else { column.name })
    }
}

/// Stacks as one line each, or as a picture.
pub struct Stacks<'a> {
    style: Style<'a>,
    destination: Destination,
    /// What the picture is made of.
    lines: Option<Vec<String>>,
}

impl<'a> Stacks<'a> {
    /// Whether they are wanted like this, rather than as text.
    pub fn are_wanted(style: &Style<'_>, settings: &Settings) -> bool {
        matches!(settings.format, Format::Folded | Format::Flamegraph) || (style.folded && settings.format == Format::Table)
    }

    /// Stacks on their way to a destination.
    pub fn new(style: Style<'a>, settings: &Settings) -> Result<Stacks<'a>> {
        let lines = (settings.format == Format::Flamegraph).then(Vec::new);
        Ok(Stacks { style, destination: settings.open()?, lines })
    }

    /// Adds the rows of a batch.
    pub fn write(&mut self, cells: &Cells) -> Result<()> {
        for row in 0..cells.rows() {
            let line = self.style.line(cells, row);
            match &mut self.lines {
                Some(lines) => lines.push(line),
                None => writeln!(self.destination, "{line}")?,
            }
        }
        Ok(())
    }

    /// Writes what is left, and gives the destination back.
    pub fn finish(mut self) -> Result<Destination> {
        if let Some(lines) = self.lines.filter(|lines| !lines.is_empty()) {
            let mut options = inferno::flamegraph::Options::default();
            options.title = self.style.query.help.to_owned();
            options.count_name = self.style.unit().to_owned();
            // The same function has the same colour in every picture.
            options.deterministic = true;
            draw(&mut options, lines.iter().map(String::as_str), &mut self.destination)?;
        }
        Ok(self.destination)
    }
}

/// Draws a flame graph. It is drawn in memory first: an error of writing is then one of writing, whatever the library makes of it.
pub fn draw<'a>(
    options: &mut inferno::flamegraph::Options<'_>,
    lines: impl IntoIterator<Item = &'a str>,
    to: &mut impl Write,
) -> Result<()> {
    let mut picture = Vec::new();
    inferno::flamegraph::from_lines(options, lines, &mut picture).map_err(|error| Error::new("the flame graph", error))?;
    Ok(to.write_all(&picture)?)
}
