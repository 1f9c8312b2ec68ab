//! What a query file declares.

use crate::engine::catalog::Reading;
use crate::engine::filter::Acting;
use std::borrow::Cow;

/// A report.
#[derive(Debug, Clone)]
pub struct Query {
    /// The command.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Free text.
    pub prose: String,
    /// Section of the catalogue.
    pub group: &'static str,
    /// Tables that it can't do without.
    pub needs: Vec<&'static str>,
    /// Tables that it can do without.
    pub uses: Vec<&'static str>,
    /// With a flag, a table without which it can't answer: table and flag.
    pub needs_if: Vec<(&'static str, &'static str)>,
    /// Tables that it reads without the filter.
    pub whole: Vec<&'static str>,
    /// Which task of a switch it is about.
    pub acting: Acting,
    /// With a flag, it is about this one.
    pub acting_if: Option<(&'static str, Acting)>,
    /// Parameters.
    pub params: Vec<Param>,
    /// Sets of parameters that exclude each other.
    pub conflicts: Vec<Vec<&'static str>>,
    /// Columns; several entries of one name are ways to show it.
    pub columns: Vec<Column>,
    /// Lines above each block.
    pub titles: Vec<Title>,
    /// How rows become text.
    pub render: Render,
    /// Columns that separate blocks.
    pub blocks: Vec<&'static str>,
    /// What makes it a histogram.
    pub histogram: Option<Histogram>,
    /// The flag with which rows are buckets of histograms, and the columns that tell these apart.
    pub buckets: Option<(&'static str, Vec<&'static str>)>,
    /// What a row of a check says.
    pub finding: Option<&'static str>,
    /// Commands that show it.
    pub evidence: Vec<&'static str>,
    /// What a file that declares nothing else stands for; [`Query::stand_for`] makes the report of it.
    pub alias: Option<Alias>,
    /// Parameters that can't be given, and their values.
    pub fixed: Vec<(&'static str, &'static str)>,
    /// Command lines and what they show.
    pub examples: Vec<(&'static str, &'static str)>,
    /// The statement; of a histogram, the one that gives its values ([`Query::prepare`] makes the whole).
    pub sql: Cow<'static, str>,
}

impl Query {
    /// How it reads the tables.
    pub fn reading(&self) -> Reading<'_> {
        Reading { whole: &self.whole, optional: &self.uses, acting: self.acting }
    }

    /// Whether it reads all tables without the filter.
    pub fn reads_whole_tables(&self) -> bool {
        !self.needs.is_empty() && self.needs.iter().chain(&self.uses).all(|table| self.whole.contains(table))
    }
}

/// Another report with a parameter that is fixed.
#[derive(Debug, Clone, PartialEq)]
pub struct Alias {
    /// The report.
    pub report: &'static str,
    /// Its parameter.
    pub param: &'static str,
    /// The value.
    pub value: &'static str,
}

/// A histogram's declaration.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// The column with the values.
    pub value: &'static str,
    /// Their unit.
    pub unit: Unit,
    /// The column that says how many values a row stands for.
    pub weight: Option<&'static str>,
    /// Ways to group them that have an option of their own.
    pub groups: Vec<Group>,
}

/// Unit of a histogram's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, counted in microseconds or (`-m`) milliseconds.
    Ns,
    /// Bytes.
    Bytes,
    /// Bytes, counted in units of 1024.
    Kbytes,
}

/// A way to group a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The parameter that chooses it; none has a name, and is always chosen.
    pub param: &'static str,
    /// Columns whose values tell groups apart.
    pub keys: Vec<&'static str>,
    /// Columns of which a group's first value is shown.
    pub labels: Vec<&'static str>,
    /// The line above each histogram.
    pub title: &'static str,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its type.
    pub kind: ParamType,
    /// Its default, as on the command line.
    pub default: Option<&'static str>,
    /// `-x`.
    pub short: Option<char>,
    /// `--long`.
    pub long: Option<&'static str>,
    /// Whether it is taken from its position.
    pub positional: bool,
    /// What it does.
    pub doc: &'static str,
}

/// Type of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamType {
    /// Given or not.
    Flag,
    /// A whole number.
    Int,
    /// A decimal number from 0 on.
    Number,
    /// A positive decimal number.
    Seconds,
    /// Any text.
    Text,
    /// Whole numbers, separated by commas.
    Ints,
    /// An error, by number or name.
    Errno,
    /// One of these words.
    Choice(Vec<&'static str>),
}

/// A column, or one way to show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name in SQL.
    pub name: &'static str,
    /// Its heading in the table.
    pub heading: &'static str,
    /// What the table makes of its values.
    pub kind: &'static str,
    /// The kind's arguments.
    pub arguments: Vec<&'static str>,
    /// The least width.
    pub width: usize,
    /// Whether it is aligned to the right.
    pub right: bool,
    /// When it is shown.
    pub show: Show,
    /// What it says.
    pub doc: &'static str,
}

/// When a column is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Show {
    /// In every row.
    Always,
    /// Not in rows: in titles, or as an argument of another column.
    Hidden,
    /// If all conditions hold.
    If(Vec<Condition>),
}

/// A condition on a flag or on a value of the row.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// `unless` instead of `if`.
    pub negated: bool,
    /// Flag or column.
    pub name: &'static str,
    /// The value that the column must have.
    pub value: Option<&'static str>,
}

/// A line above a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Title {
    /// Text with `{column}` in it.
    pub text: &'static str,
    /// It is printed if all of them hold.
    pub conditions: Vec<Condition>,
}

/// How rows become text.
#[derive(Debug, Clone, PartialEq)]
pub enum Render {
    /// One line per row.
    Rows,
    /// A histogram per block, from the columns that [`Query::prepare`] makes.
    Hist,
    /// Each row as the first of these texts whose conditions hold.
    Lines(Vec<Title>),
    /// Each row as a stack.
    Stacks(StackColumns),
}

/// The columns of a stack.
#[derive(Debug, Clone, PartialEq)]
pub struct StackColumns {
    /// Frames in the kernel.
    pub kernel: &'static str,
    /// Frames in user mode.
    pub user: &'static str,
    /// What it counts for.
    pub value: &'static str,
    /// Name of the task.
    pub comm: &'static str,
    /// Number of the task or process.
    pub id: &'static str,
}

impl Query {
    /// The report that this alias stands for: `report` with a parameter fixed, under the alias's name.
    pub fn stand_for(&self, alias: &Alias, report: &Query) -> Result<Query, String> {
        let is_text = |param: &&Param| param.name == alias.param && matches!(param.kind, ParamType::Text);
        let Some(param) = report.params.iter().find(is_text) else {
            return Err(format!("{} has no parameter {} of type text", report.name, alias.param));
        };
        let mut query = report.clone();
        query.params.retain(|other| other.name != param.name);
        query.conflicts.iter_mut().for_each(|names| names.retain(|name| *name != param.name));
        query.fixed.push((param.name, alias.value));
        let Query { name, help, examples, .. } = self.clone();
        let prose = if self.prose.is_empty() { query.prose } else { self.prose.clone() };
        Ok(Query { name, help, prose, examples, ..query })
    }
}
