//! Metrics: what is computed from the events of a capture, as the files of queries/metrics/ declare it.
//!
//! A file is one [`Source`]: a statement whose rows are events, and the metrics that are made of them. Events are read once, whatever the
//! number of metrics.

use crate::engine::filter::Acting;
use crate::error::{Error, Result};
use crate::query::header::{MAX_HELP, is_directive, no_directive};
use crate::query::read_own;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The grammar, as docs/METRICS.md prints it.
pub const GRAMMAR: &str = include_str!("grammar.md");

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// Less is better: latencies, errors.
    Lower,
    /// More is better: hit ratios, throughput.
    Higher,
    /// Neither: how much of something happens.
    Neutral,
}

/// What is computed from rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Function {
    /// The distribution of a column.
    Quantiles(String),
    /// Rows, or the sum of a column, per second.
    Rate(Option<String>),
    /// A part of a whole: the sum of a column over that of another, or over the rows.
    Share(String, Option<String>),
    /// The sum of a column over that of another.
    Ratio(String, String),
}

impl Function {
    /// The columns that it reads.
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Function::Quantiles(column) => vec![column],
            Function::Rate(column) => column.iter().map(String::as_str).collect(),
            Function::Share(part, whole) => std::iter::once(part.as_str()).chain(whole.as_deref()).collect(),
            Function::Ratio(a, b) => vec![a, b],
        }
    }
}

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Its name, unique among all.
    pub name: String,
    /// How it is computed.
    pub function: Function,
    /// Unit of the column, or what is counted; empty of a share.
    pub unit: String,
    /// Which direction is better.
    pub polarity: Polarity,
    /// A sentence.
    pub doc: String,
}

/// A file of queries/metrics/.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file's name.
    pub name: String,
    /// One line.
    pub help: String,
    /// Free text.
    pub prose: String,
    /// Section.
    pub group: String,
    /// Tables that it can't do without.
    pub needs: Vec<String>,
    /// Tables that it can do without.
    pub uses: Vec<String>,
    /// Tables that it reads without the filter.
    pub whole: Vec<String>,
    /// Whose switches a filter means.
    pub acting: Acting,
    /// Ways to group.
    pub by: Vec<Vec<String>>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// The statement.
    pub sql: String,
    /// Tells whether two measurements were made alike: FNV-1a of all that shapes the numbers.
    pub fingerprint: u64,
}

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/metrics.rs"));
}

/// All sources, sorted by name: the built-in ones, and those of `directory`, which may replace them.
pub fn sources(directory: Option<&Path>) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = embedded::METRICS.iter().map(|(name, text)| parse(name, text)).collect::<Result<_>>()?;
    if let Some(directory) = directory {
        let failed = |error: std::io::Error| {
            Error::new(directory.display(), error).hint("--metrics takes a directory of .sql files; docs/METRICS.md describes them")
        };
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                let (name, text) = read_own(&path)?;
                let source = parse(&name, &text)?;
                sources.retain(|other| other.name != source.name);
                sources.push(source);
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let mut names: Vec<&str> = sources.iter().flat_map(|source| &source.metrics).map(|metric| metric.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(
            Error::text(format!("there are two metrics {}", twice[0])).hint("give yours another name, or its file the built-in one's")
        );
    }
    Ok(sources)
}

/// Parses a metric file.
pub fn parse(name: &str, text: &str) -> Result<Source> {
    let comment = |line: &'_ str| line.strip_prefix("--").map(|rest| rest.strip_prefix(' ').unwrap_or(rest).to_owned());
    let header: Vec<String> = text.lines().map_while(comment).collect();
    let sql: Vec<&str> = text.lines().skip(header.len()).collect();
    let mut source = Source {
        name: name.to_owned(),
        help: header.first().map(|line| line.trim().to_owned()).unwrap_or_default(),
        prose: String::new(),
        group: String::new(),
        needs: Vec::new(),
        uses: Vec::new(),
        whole: Vec::new(),
        acting: Acting::Both,
        by: Vec::new(),
        metrics: Vec::new(),
        sql: sql.join("\n").trim().trim_end_matches(';').to_owned(),
        fingerprint: 0,
    };
    let wrong = |line: usize, why: String| Error::new(format!("{name}.sql, line {line}"), why).hint("docs/METRICS.md describes the header");
    for (number, line) in header.iter().enumerate().skip(1) {
        declaration(&mut source, line).map_err(|why| wrong(number + 1, why))?;
    }
    source.prose = source.prose.trim().to_owned();
    if let Err(why) = complete(&source) {
        return Err(wrong(1, why));
    }
    source.fingerprint = fnv(&format!("{}\n{:?}\n{:?}\n{:?}", source.sql, source.by, source.metrics, source.acting));
    Ok(source)
}

/// The error of a name that no metric has, where `place` is what it was given to.
pub fn unknown<'a>(name: &str, place: &str, metrics: impl IntoIterator<Item = &'a Metric>) -> Error {
    let error = Error::new(place, format!("there is no metric {name}"));
    match crate::suggest::closest(name, metrics.into_iter().map(|metric| metric.name.as_str())) {
        Some(other) => error.hint(format!("did you mean {other}?")),
        None => error.hint("ebrec compare --list lists the metrics"),
    }
}

/// FNV-1a, 64 bits.
pub fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn declaration(source: &mut Source, line: &str) -> Result<(), String> {
    let (key, rest) = line.split_once(": ").unwrap_or((line, ""));
    match key {
        "group" => source.group = rest.trim().to_owned(),
        "needs" => source.needs = names(rest),
        "uses" => source.uses = names(rest),
        "whole" => source.whole = names(rest),
        "acting" => {
            source.acting = match rest.trim() {
                "prev" => Acting::Prev,
                "next" => Acting::Next,
                other => return Err(format!("{other:?}: prev or next")),
            };
        }
        "by" => source.by.push(names(rest)),
        "metric" => source.metrics.push(metric(rest)?),
        _ if is_directive(line) => return Err(no_directive(key, ["group", "needs", "uses", "whole", "acting", "by", "metric"])),
        _ => {
            source.prose.push_str(line);
            source.prose.push('\n');
        }
    }
    Ok(())
}

/// `NAME = FUNCTION(COLUMNS) UNIT POLARITY : sentence`.
fn metric(text: &str) -> Result<Metric, String> {
    const EXPECTED: &str = "expected NAME = quantiles|rate|share|ratio(COLUMNS) UNIT lower|higher|neutral : sentence";
    let parsed = || {
        let (declared, doc) = text.split_once(" : ")?;
        let (name, rest) = declared.split_once(" = ")?;
        let (function, rest) = rest.split_once('(')?;
        let (columns, rest) = rest.split_once(')')?;
        Some((name.trim(), function.trim(), names(columns), rest.split_whitespace().collect::<Vec<_>>(), doc.trim()))
    };
    let (name, function, columns, words, doc) = parsed().ok_or(EXPECTED)?;
    if !is_name(name) {
        return Err(format!("{name:?}: a metric's name is of a-z, 0-9 and _"));
    }
    let function = match (function, columns.as_slice()) {
        ("quantiles", [column]) => Function::Quantiles(column.clone()),
        ("rate", []) => Function::Rate(None),
        ("rate", [column]) => Function::Rate(Some(column.clone())),
        ("share", [part]) => Function::Share(part.clone(), None),
        ("share", [part, whole]) => Function::Share(part.clone(), Some(whole.clone())),
        ("ratio", [a, b]) => Function::Ratio(a.clone(), b.clone()),
        _ => return Err(EXPECTED.to_owned()),
    };
    let (unit, polarity) = match (&function, words.as_slice()) {
        (Function::Share(..), [polarity]) => ("", *polarity),
        (Function::Quantiles(_) | Function::Rate(_) | Function::Ratio(..), [unit, polarity]) => (*unit, *polarity),
        _ => return Err(EXPECTED.to_owned()),
    };
    let polarity = match polarity {
        "lower" => Polarity::Lower,
        "higher" => Polarity::Higher,
        "neutral" => Polarity::Neutral,
        other => return Err(format!("{other:?}: lower, higher or neutral")),
    };
    Ok(Metric { name: name.to_owned(), function, unit: unit.to_owned(), polarity, doc: doc.to_owned() })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn complete(source: &Source) -> Result<(), String> {
    if source.help.is_empty() || source.help.chars().count() > MAX_HELP {
        return Err(format!("the first line says what it is about, in at most {MAX_HELP} characters"));
    }
    if source.metrics.is_empty() {
        return Err("it declares no metric".to_owned());
    }
    if source.needs.is_empty() {
        return Err("it needs no table".to_owned());
    }
    if source.group.is_empty() {
        return Err("it has no group".to_owned());
    }
    if source.by.iter().any(Vec::is_empty) {
        return Err("by: without a column".to_owned());
    }
    if source.sql.is_empty() {
        return Err("there is no statement".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "-- Waits\n--\n-- How long.\n--\n-- group: g\n-- needs: sched_switch\n-- by: comm\n-- by: a, b\n\
        -- metric: waits = quantiles(ns) ns lower : How long.\n-- metric: misses = share(miss) lower : How many.\nSELECT 1;\n";

    #[test]
    fn a_file_is_read() -> Result<()> {
        let source = parse("waits", FILE)?;
        assert_eq!((source.help.as_str(), source.prose.as_str(), source.sql.as_str()), ("Waits", "How long.", "SELECT 1"));
        assert_eq!(source.by, [vec!["comm".to_owned()], vec!["a".to_owned(), "b".to_owned()]]);
        assert_eq!(source.metrics[0].function, Function::Quantiles("ns".to_owned()));
        assert_eq!((source.metrics[1].unit.as_str(), source.metrics[1].polarity), ("", Polarity::Lower));
        let other = parse("waits", &FILE.replace("SELECT 1", "SELECT 2"))?;
        assert_ne!(source.fingerprint, other.fingerprint);
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (from, to) in [
            ("= quantiles(ns) ns lower", "= median(ns) ns lower"),
            ("ns lower", "lower"),
            ("lower : How many", "better : How many"),
            ("waits = ", "Waits! = "),
            ("-- needs: sched_switch\n", ""),
            ("-- group: g\n", ""),
            ("SELECT 1;", ""),
        ] {
            let error = parse("waits", &FILE.replace(from, to)).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.starts_with("waits.sql, line")), "{error:?}");
        }
    }
}
