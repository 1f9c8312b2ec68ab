//! Parser of a query file's header.

use super::histogram;
use crate::engine::catalog::Reading;
use crate::engine::filter::Acting;
use crate::error::{Error, Result};
use std::borrow::Cow;

/// The grammar, as queries/README.md prints it.
pub const GRAMMAR: &str = r#"A report is a file `NAME.sql`: comment lines that declare it, then one `SELECT`. `NAME` is the command.

```
-- What it shows, in at most 70 characters            (the first line: the help)
--
-- Prose: what it answers, what the numbers mean.     (free text, shown by --help)
--
-- group: network                                     (section of the catalogue)
-- needs: tcp_close, tcp_connection                   (tables without which it can't answer)
-- uses: process                                      (tables that make it better; empty if not recorded)
-- whole: process                                     (tables read without --from, --to, -p, --comm)
-- acting: prev | next [if FLAG]                      (which task of a switch -p, --tid, --comm, --cgroup mean; else either)
-- param: NAME TYPE [= DEFAULT] [-x] [--long] [pos] : Sentence.
-- conflicts: NAME, NAME                              (parameters that exclude each other)
-- column: NAME [AS "HEADING"] KIND[(ARGUMENT, …)][<N|>N] [CONDITION] : Sentence.
-- title: text with {column} [CONDITION]              (a line above a block of rows)
-- line: text with {column} [CONDITION]               (what a row is printed as, instead of columns under headings)
-- interval: Sentence.                                (declares `interval` and `count`, by position)
-- blocks: COLUMN, …                                  (columns that separate blocks of rows)
-- histogram: COLUMN ns|bytes|kbytes [weight COLUMN]  (the rows are values to be counted; see below)
-- buckets: COLUMN, … if FLAG                         (with FLAG, rows are buckets of a histogram for each of these; see below)
-- stacks: KERNEL, USER value COLUMN task COMM, ID    (rows are stacks; see below)
-- by: COLUMN, … [(LABEL, …)] [[-x] --long] "TITLE" : Sentence.   (a way to group a histogram; without option, how it always is)
-- finding: text with {column}                        (of a check: what a row says; needs columns score and since)
-- evidence: COMMAND with {column}                    (of a check: what shows it)
-- example: tcptop -r 5 5 : The five busiest connections of each five seconds.
SELECT …
```

A file with `-- alias: REPORT PARAM=VALUE` instead of declarations and SELECT is that report with a parameter that can't be changed.

* **Parameters** are bound to `$NAME`, never pasted. Types: `flag` (boolean), `int`, `number` (decimal), `seconds` (a positive decimal number), `text`,
  `ints` (a list, given as `80,443`), `errno` (an error by number or name), `choice(a|b)`. Without default an absent one is NULL. `pos` takes it from its position.
  Always bound: `$pid` and `$comm` (NULL if not given), `$window_start` and `$window_end` (timestamps).
* **Columns** are those of the SELECT, all of them, each with a sentence. Machine formats (`--output csv`, …) get exactly these, raw. The
  table shows them by kind, with `<N` left-aligned or `>N` right-aligned in at least N characters. A column may be declared several
  times with different conditions, and is shown each time whose condition holds; `hidden` instead of a condition keeps it out of the rows.
* **Kinds** (what the table makes of a raw value): `text` (its argument follows each value), `int`, `comm` and `comm10`, `comm12`, `comm14` (cut to
  so many characters), `args` and `quoted_args` (a list of arguments), `file_name` (the last part of a path), `time` (HH:MM:SS, UTC), `elapsed`
  (seconds since the window's start), `since_first` and `since_first6` (seconds since the first row, with 3 or 6 decimals), `us`, `us1`,
  `us3`, `ms2`, `ms3`, `seconds2` (of ns, with so many decimals), `kb`, `kb2` and `mb` (of bytes), `float1`, `float2`, `percent2` (of a share), `hex`, `errno` (its name),
  `open_flags` (the octal number of open(2)'s flags), `addr_port(PORT)` (address and the column PORT), `exit(SIGNAL, CORE)` (exit code, or the signal
  in these columns).
* **Conditions**: `if NAME`, `unless NAME` for a parameter that is given, `if COLUMN=VALUE` and `unless COLUMN=VALUE` for a value of the row;
  of several all must hold. When the columns shown change from one row to the next, a new heading is printed.
* **Blocks**: each block begins with its titles and headings. In SQL, `@nth(ts)` is the number of the interval that an instant is in (0 without
  `$interval`), `@interval_end(nth)` the instant at which that interval ends, and `@load_averages()` a query of `nth, load1, load5, load15, running, tasks`,
  the last `system_sample` of each interval.
* **Histograms**: the SELECT gives a row per value, with `ts`, the value's column and columns to group by, which are the ones that are
  declared; from it a statement is made that counts values by power of two, per interval and group, with the exact percentiles of each. The options
  INTERVAL, COUNT, `-T`, `-m` (of ns), `--by COLUMN,…` and those of the `by` lines come with it. A `by` line names its keys, and labels in brackets:
  columns of which the first value stands for the group. A weight says how many values a row stands for; there are no percentiles then.
  `--sql` prints the statement.
* **Buckets**: for tables that have counted already. With the flag the SELECT gives `unit`, `low`, `high` and `count` of each bucket, which the table
  shows as histograms; without it, other rows of the same columns.
* **Stacks**: lists of frames, innermost first, of kernel and user mode, a value, and a name and number of the task that it is about. The table has each
  stack, as the BCC tools print it. `--output folded` has a line for each, outermost frame first; `--output flamegraph` draws them as SVG. Flags named
  `folded`, `delimited` and `annotations` do what they do in BCC's `profile`.
* **SQL** stays within what DuckDB also runs, ends with a total `ORDER BY`, and needs no custom function to give the right answer."#;

/// The longest help line.
pub const MAX_HELP: usize = 70;
/// Parameters that every query may use without declaring them.
pub const RESERVED: [&str; 4] = ["pid", "comm", "window_start", "window_end"];

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

/// The kinds that the renderer knows, and how many arguments they take.
pub const KINDS: &[(&str, usize)] = &[
    ("text", 1),
    ("int", 0),
    ("comm", 0),
    ("comm10", 0),
    ("comm12", 0),
    ("comm14", 0),
    ("args", 0),
    ("quoted_args", 0),
    ("file_name", 0),
    ("time", 0),
    ("elapsed", 0),
    ("since_first", 0),
    ("us", 0),
    ("since_first6", 0),
    ("us1", 0),
    ("us3", 0),
    ("ms2", 0),
    ("ms3", 0),
    ("seconds2", 0),
    ("kb", 0),
    ("kb2", 0),
    ("mb", 0),
    ("float1", 0),
    ("float2", 0),
    ("percent2", 0),
    ("hex", 0),
    ("addr_port", 1),
    ("errno", 0),
    ("open_flags", 0),
    ("exit", 2),
];

/// Parses a query file.
pub fn parse(name: &'static str, text: &'static str) -> Result<Query> {
    let comment = |line: &'static str| line.strip_prefix("--").map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
    let header: Vec<&'static str> = text.lines().map_while(comment).collect();
    let length: usize = text.split_inclusive('\n').take(header.len()).map(str::len).sum();
    let mut query = Query {
        name,
        help: header.first().copied().unwrap_or_default().trim(),
        prose: String::new(),
        group: "",
        needs: Vec::new(),
        uses: Vec::new(),
        whole: Vec::new(),
        acting: Acting::Both,
        acting_if: None,
        params: Vec::new(),
        conflicts: Vec::new(),
        columns: Vec::new(),
        titles: Vec::new(),
        render: Render::Rows,
        blocks: Vec::new(),
        histogram: None,
        buckets: None,
        finding: None,
        evidence: Vec::new(),
        alias: None,
        fixed: Vec::new(),
        examples: Vec::new(),
        sql: histogram::expand(text[length..].trim().trim_end_matches(';')),
    };
    for (number, line) in header.iter().enumerate().skip(1) {
        declaration(&mut query, line)
            .map_err(|why| Error::new(format!("{name}.sql, line {}", number + 1), why).hint("queries/README.md describes the header"))?;
    }
    query.prose = query.prose.trim().to_owned();
    complete(&query).map_err(|why| Error::new(format!("{name}.sql"), why).hint("queries/README.md describes the header"))?;
    Ok(query)
}

fn declaration(query: &mut Query, line: &'static str) -> Result<(), String> {
    let (key, rest) = line.split_once(": ").unwrap_or((line, ""));
    match key {
        "group" => query.group = rest.trim(),
        "needs" => query.needs = names(rest),
        "uses" => query.uses = names(rest),
        "whole" => query.whole = names(rest),
        "acting" => {
            let (task, flag) = rest.split_once(" if ").map_or((rest, None), |(task, flag)| (task, Some(flag.trim())));
            let task = match task.trim() {
                "prev" => Acting::Prev,
                "next" => Acting::Next,
                other => return Err(format!("{other:?}: prev or next")),
            };
            match flag {
                Some(flag) => query.acting_if = Some((flag, task)),
                None => query.acting = task,
            }
        }
        "conflicts" => query.conflicts.push(names(rest)),
        "param" => query.params.push(param(rest)?),
        "column" => query.columns.push(column(rest)?),
        "title" => query.titles.push(title(rest)?),
        "blocks" => query.blocks = names(rest),
        "interval" => query.params.extend(histogram::interval(rest.trim())),
        "histogram" => histogram::declare(query, rest)?,
        "by" => histogram::group(query, rest)?,
        "buckets" => {
            let (columns, flag) = rest.split_once(" if ").ok_or("expected buckets: COLUMN, … if FLAG")?;
            query.buckets = Some((flag.trim(), names(columns)));
        }
        "line" => match &mut query.render {
            Render::Lines(lines) => lines.push(title(rest)?),
            render => *render = Render::Lines(vec![title(rest)?]),
        },
        "stacks" => query.render = Render::Stacks(stacks(rest)?),
        "finding" => query.finding = Some(rest.trim()),
        "evidence" => query.evidence.push(rest.trim()),
        "alias" => query.alias = Some(alias(rest)?),
        "example" => {
            let (command, doc) = rest.rsplit_once(" : ").ok_or("an example is COMMAND : SENTENCE")?;
            query.examples.push((command.trim(), doc.trim()));
        }
        // Lines of a paragraph are joined: whoever prints it knows the width.
        _ if line.trim().is_empty() => query.prose.push_str("\n\n"),
        _ => {
            let gap = if query.prose.is_empty() || query.prose.ends_with('\n') { "" } else { " " };
            query.prose.push_str(gap);
            query.prose.push_str(line.trim());
        }
    }
    Ok(())
}

pub(super) fn names(text: &'static str) -> Vec<&'static str> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

/// `alias: REPORT PARAM=VALUE`.
fn alias(text: &'static str) -> Result<Alias, String> {
    let words = text.trim().split_once(' ').and_then(|(report, rest)| Some((report, rest.split_once('=')?)));
    let (report, (param, value)) = words.ok_or("an alias is REPORT PARAM=VALUE")?;
    Ok(Alias { report, param, value })
}

fn param(text: &'static str) -> Result<Param, String> {
    let (left, doc) = text.split_once(" : ").ok_or("a parameter ends with \" : Sentence.\"")?;
    let mut words = left.split_whitespace();
    let (Some(name), Some(kind)) = (words.next(), words.next()) else {
        return Err("a parameter needs a name and a type".to_owned());
    };
    let kind = match kind {
        "flag" => ParamType::Flag,
        "int" => ParamType::Int,
        "number" => ParamType::Number,
        "errno" => ParamType::Errno,
        "seconds" => ParamType::Seconds,
        "text" => ParamType::Text,
        "ints" => ParamType::Ints,
        other => match other.strip_prefix("choice(").and_then(|rest| rest.strip_suffix(')')) {
            Some(words) => ParamType::Choice(words.split('|').collect()),
            None => return Err(format!("there is no parameter type {other}")),
        },
    };
    let mut param = Param { name, kind, default: None, short: None, long: None, positional: false, doc: doc.trim() };
    while let Some(word) = words.next() {
        if word == "=" {
            param.default = Some(words.next().ok_or("= without a default")?);
        } else if word == "pos" {
            param.positional = true;
        } else if let Some(long) = word.strip_prefix("--") {
            param.long = Some(long);
        } else if let Some(short) = word.strip_prefix('-').filter(|rest| rest.chars().count() == 1) {
            param.short = short.chars().next();
        } else {
            return Err(format!("what is {word:?}?"));
        }
    }
    Ok(param)
}

fn column(text: &'static str) -> Result<Column, String> {
    let (left, doc) = text.split_once(" : ").ok_or("a column ends with \" : Sentence.\"")?;
    let (name, rest) = left.trim().split_once(' ').ok_or("a column needs a name and a kind")?;
    let (heading, rest) = match rest.strip_prefix("AS \"") {
        Some(rest) => rest.split_once("\" ").ok_or("the heading has no end")?,
        None => (name, rest),
    };
    let (kind, rest) = rest.trim().split_at(rest.trim().find([' ', '(', '<', '>']).unwrap_or(rest.trim().len()));
    let (arguments, rest) = match rest.strip_prefix('(') {
        // What follows a text may begin with a space, so that is kept.
        Some(rest) => rest.split_once(')').map(|(inside, rest)| (inside.split(", ").collect(), rest)).ok_or("a bracket is not closed")?,
        None => (Vec::new(), rest),
    };
    let (width, condition) = rest.split_once(' ').unwrap_or((rest, ""));
    let right = width.starts_with('>');
    let width = if width.is_empty() { 0 } else { width[1..].parse().map_err(|_| format!("{width}: not a width"))? };
    match KINDS.iter().find(|(name, _)| *name == kind) {
        Some((_, count)) if arguments.len() == *count || kind == "text" => {}
        Some((_, count)) => return Err(format!("column kind {kind} takes {count} arguments")),
        None => return Err(format!("there is no column kind {kind:?}")),
    }
    let show = match condition.trim() {
        "" => Show::Always,
        "hidden" => Show::Hidden,
        other => Show::If(conditions(other)?),
    };
    Ok(Column { name, heading, kind, arguments, width, right, show, doc: doc.trim() })
}

/// `if NAME`, `unless NAME=VALUE`, several of them one after the other.
fn conditions(text: &'static str) -> Result<Vec<Condition>, String> {
    let mut words = text.split_whitespace();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        let negated = match word {
            "if" => false,
            "unless" => true,
            other => return Err(format!("{other:?}: a condition begins with if or unless")),
        };
        let name = words.next().ok_or("a condition needs a name")?;
        let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        out.push(Condition { negated, name, value });
    }
    Ok(out)
}

fn title(text: &'static str) -> Result<Title, String> {
    let at = [" if ", " unless "].iter().filter_map(|word| text.find(word)).min().unwrap_or(text.len());
    let (text, rest) = text.split_at(at);
    Ok(Title { text, conditions: conditions(rest)? })
}

fn stacks(text: &'static str) -> Result<StackColumns, String> {
    let parts = text.split_once(" value ").and_then(|(frames, rest)| Some((names(frames), rest.split_once(" task ")?)));
    let parts = parts.map(|(frames, (value, task))| (frames, value.trim(), names(task)));
    match parts.as_ref().map(|(frames, value, task)| (frames.as_slice(), *value, task.as_slice())) {
        Some(([kernel, user], value, [comm, id])) => Ok(StackColumns { kernel, user, value, comm, id }),
        _ => Err("expected stacks: KERNEL, USER value COLUMN task COMM, ID".to_owned()),
    }
}

/// What every header must have, and that its parts fit together.
fn complete(query: &Query) -> Result<(), String> {
    let sentence = |text: &str| text.ends_with('.');
    if query.help.is_empty() || query.help.chars().count() > MAX_HELP {
        return Err(format!("the first line is the help, of 1 to {MAX_HELP} characters"));
    }
    if query.alias.is_some() {
        return Ok(());
    }
    if query.group.is_empty() || query.needs.is_empty() || query.columns.is_empty() || query.sql.is_empty() {
        return Err("group, needs, columns and a SELECT are required".to_owned());
    }
    if let Some(param) = query.params.iter().find(|param| !sentence(param.doc) || RESERVED.contains(&param.name)) {
        return Err(format!("parameter {}: needs a sentence, and a name that isn't reserved", param.name));
    }
    if let Some(param) = query.params.iter().find(|param| !param.positional && param.short.is_none() && param.long.is_none()) {
        return Err(format!("parameter {}: can't be given", param.name));
    }
    if let Some(column) = query.columns.iter().find(|column| !sentence(column.doc)) {
        return Err(format!("column {}: needs a sentence", column.name));
    }
    let is_column = |name: &str| query.columns.iter().any(|column| column.name == name);
    let is_param = |name: &str| query.params.iter().any(|param| param.name == name);
    let of_columns = query.columns.iter().filter_map(|column| match &column.show {
        Show::If(conditions) => Some(conditions),
        _ => None,
    });
    let lines: &[Title] = if let Render::Lines(lines) = &query.render { lines } else { &[] };
    let texts = || query.titles.iter().chain(lines);
    for condition in of_columns.chain(texts().map(|title| &title.conditions)).flatten() {
        if !(if condition.value.is_some() { is_column(condition.name) } else { is_param(condition.name) }) {
            return Err(format!("condition on {}: there is no such thing", condition.name));
        }
    }
    let hist = query.histogram.iter().flat_map(|histogram| {
        let groups = histogram.groups.iter().flat_map(|group| group.keys.iter().chain(&group.labels));
        [histogram.value].into_iter().chain(histogram.weight).chain(groups.copied())
    });
    let arguments = query.columns.iter().filter(|column| column.kind != "text").flat_map(|column| column.arguments.iter().copied());
    let of_check = query.finding.iter().chain(&query.evidence).flat_map(|text| placeholders(text));
    let in_titles = texts().flat_map(|title| placeholders(title.text)).chain(of_check);
    let stacks = match &query.render {
        Render::Stacks(columns) => vec![columns.kernel, columns.user, columns.value, columns.comm, columns.id],
        _ => Vec::new(),
    };
    let hist = hist.chain(query.buckets.iter().flat_map(|(_, keys)| [&["unit", "low", "high", "count"], &keys[..]].concat())).chain(stacks);
    let flags = query.buckets.iter().map(|(flag, _)| *flag).chain(query.acting_if.map(|(flag, _)| flag));
    if let Some(flag) = flags.into_iter().find(|flag| !is_param(flag)) {
        return Err(format!("there is no parameter {flag}"));
    }
    if let Some(name) = query.blocks.iter().copied().chain(hist).chain(in_titles).chain(arguments).find(|name| !is_column(name)) {
        return Err(format!("there is no column {name}"));
    }
    if query.finding.is_some() && !(is_column("score") && is_column("since")) {
        return Err("a check has the columns score and since".to_owned());
    }
    match query.conflicts.iter().flatten().find(|name| !is_param(name)) {
        Some(name) => Err(format!("there is no parameter {name}")),
        None => Ok(()),
    }
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

/// The names in `{}`.
pub fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}
