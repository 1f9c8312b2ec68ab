//! What stands out in a capture: the checks of queries/triage/, each with its numbers, its evidence, and what it can't know.
//!
//! A check is a query whose rows are findings. Its parameters are thresholds, which `--threshold CHECK.NAME=VALUE` overrides. A row's `score` says
//! how many times the threshold was reached; no row, no finding.

use crate::describe;
use crate::engine::owner::Owners;
use crate::engine::{self, Engine, Planned, filter};
use crate::error::{Error, Result};
use crate::notes;
use crate::output::cells::{Cells, Origins, fill, show};
use crate::output::machine::Machine;
use crate::output::text::{escape, thousands};
use crate::query::header::placeholders;
use crate::query::params::{self, Values};
use crate::query::{Queries, Query};
use crate::suggest::closest;
use datafusion::common::ScalarValue;
use ebrec_format::capture::State;
use serde_json::{Value, json};
use std::fmt::Write;

/// From this score on a finding is of this severity.
pub const SEVERITIES: [(f64, &str); 3] = [(10.0, "high"), (3.0, "medium"), (0.0, "low")];

/// Something that stands out.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// What the check is about.
    pub title: &'static str,
    /// How many times the threshold.
    pub score: f64,
    /// When it began, ns since 1970.
    pub since: Option<i64>,
    /// What, how bad, who.
    pub text: String,
    /// Arguments of `ebrec analyze FILE` that show it.
    pub evidence: Vec<String>,
    /// The row that it was made of.
    pub values: Value,
    /// What makes its numbers incomplete.
    pub incomplete: Vec<String>,
}

/// A check that could not be made.
#[derive(Debug, Clone)]
pub struct Unknown {
    /// The check.
    pub check: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Why it could not be made, and what helps.
    pub why: String,
}

/// All that was found.
#[derive(Debug, Clone, Default)]
pub struct Triage {
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What isn't known.
    pub unknown: Vec<Unknown>,
    /// How many checks were made.
    pub checks: usize,
    /// Tables that they looked into.
    pub tables: Vec<String>,
    /// What makes it worth less that nothing stands out: records that were lost, tables without a row.
    pub doubts: Vec<String>,
}

impl Finding {
    /// `high`, `medium` or `low`.
    pub fn severity(&self) -> &'static str {
        SEVERITIES.iter().find(|(least, _)| self.score >= *least).map_or("low", |(_, name)| name)
    }
}

/// A check's name: its file's without the number that orders it.
pub fn check_name(query: &Query) -> &'static str {
    query.name.split_once('-').map_or(query.name, |(_, name)| name)
}

/// A threshold that the user sets: check, parameter, value.
pub type Threshold = (String, String, f64);

/// `cpu.p99_ms=5`.
pub fn threshold(text: &str) -> Result<Threshold, String> {
    let parsed = text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value.parse::<f64>().ok()?)));
    match parsed {
        Some(((check, name), value)) if value.is_finite() && value > 0.0 => Ok((check.to_owned(), name.to_owned(), value)),
        _ => Err("expected CHECK.NAME=NUMBER, such as cpu.p99_ms=5; docs/TRIAGE.md lists them".to_owned()),
    }
}

/// The values of each check's parameters.
fn values(checks: &Queries, thresholds: &[Threshold]) -> Result<Vec<Values>> {
    let mut all = checks.iter().map(params::defaults).collect::<Result<Vec<_>>>()?;
    for (check, name, value) in thresholds {
        let names = || checks.iter().flat_map(|query| query.params.iter().map(|param| format!("{}.{}", check_name(query), param.name)));
        let found = checks.iter().position(|query| check_name(query) == check && query.params.iter().any(|param| param.name == name));
        let slot = found.and_then(|nth| all[nth].iter_mut().find(|(known, _)| *known == name));
        let Some((_, slot)) = slot else {
            let wanted = format!("{check}.{name}");
            let error = Error::new("--threshold", format!("there is no {wanted}"));
            let names: Vec<String> = names().collect();
            return Err(match closest(&wanted, names.iter().map(String::as_str)) {
                Some(other) => error.hint(format!("did you mean {other}?")),
                None => error.hint(format!("there are {}", names.join(", "))),
            });
        };
        *slot = ScalarValue::Float64(Some(*value));
    }
    Ok(all)
}

/// Makes all checks over one capture.
pub async fn run(engine: &Engine, thresholds: &[Threshold]) -> Result<Triage> {
    let checks = Queries::triage()?;
    let mut triage = Triage::default();
    let owners = Owners::read(engine).await?;
    for (query, values) in checks.iter().zip(values(&checks, thresholds)?) {
        if let Some(table) = query.needs.iter().find(|table| !engine.tables().is_captured(table)) {
            let why = engine.tables().missing(table);
            let why = format!("{why}; {}", why.what_to_do().unwrap_or_default());
            triage.unknown.push(Unknown { check: check_name(query), title: query.help, why });
            continue;
        }
        let Planned { frame, tables } = engine.report(query, &values).await?;
        let batches = engine::collect(frame).await?;
        let mut found = Vec::new();
        for batch in &batches {
            let rows: Vec<Value> =
                serde_json::from_slice(&Machine::json(std::slice::from_ref(batch))?).map_err(|error| Error::new(query.name, error))?;
            let cells = Cells::new(batch)?;
            found.extend(rows.into_iter().enumerate().map(|(row, values)| finding(query, &cells, row, values, &owners)));
        }
        if !found.is_empty() {
            let incomplete: Vec<String> =
                notes::about(engine, &tables).await?.into_iter().filter(|note| note.incomplete).map(|note| note.text).collect();
            found.iter_mut().for_each(|finding| finding.incomplete.clone_from(&incomplete));
        }
        triage.tables.extend(tables);
        triage.findings.extend(found);
        triage.checks += 1;
    }
    triage.tables.sort();
    triage.tables.dedup();
    triage.doubts = doubts(engine, &triage.tables).await?;
    // Of the same score the order of the checks is that in which one looks: CPU, disks, network, …
    triage.findings.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(triage)
}

/// Why it may mean little that nothing was found in `tables`.
async fn doubts(engine: &Engine, tables: &[String]) -> Result<Vec<String>> {
    let mut doubts = Vec::new();
    let mut rows = 0;
    // What was there at the start tells nothing of what happened.
    for table in tables.iter().filter(|table| !filter::is_state(table)) {
        rows += describe::rows(engine, table).await?.unwrap_or_default();
        if rows > 0 {
            break;
        }
    }
    if rows == 0 {
        doubts.push("their tables hold no rows: nothing was recorded that could stand out".to_owned());
    }
    let lost =
        notes::lost(engine).await?.into_iter().filter(|(table, ..)| tables.contains(table)).map(|(_, _, lost, ..)| lost).sum::<i64>();
    if lost > 0 {
        let lost = thousands(lost.unsigned_abs());
        doubts.push(format!("{lost} records were lost, and what they held may be what stood out"));
    }
    let unfinished = engine.captures().iter().any(|capture| !capture.manifest.complete || capture.state == State::Partial);
    if unfinished {
        doubts.push("the recording still runs or was killed: what it had not saved is missing".to_owned());
    }
    Ok(doubts)
}

fn finding(query: &Query, cells: &Cells, row: usize, values: Value, owners: &Owners) -> Finding {
    let mut origins = Origins::default();
    let score = match cells.get("score", row) {
        Some(crate::output::cells::Value::Float(score)) if score.is_finite() => score,
        Some(crate::output::cells::Value::Int(score)) => score as f64,
        _ => 1.0,
    };
    let evidence = query.evidence.iter().filter(|command| {
        // A name from a capture could be read as part of the command by a shell or by SQL.
        placeholders(command).all(|name| cells.raw(name, row).chars().all(|c| c.is_ascii_alphanumeric() || "._:/@+-".contains(c)))
    });
    let evidence = evidence.map(|command| {
        let mut out = (*command).to_owned();
        for name in placeholders(command) {
            out = out.replace(&format!("{{{name}}}"), &cells.raw(name, row));
        }
        out
    });
    Finding {
        check: check_name(query),
        title: query.help,
        score,
        since: cells.int("since", row),
        text: fill(query.finding.unwrap_or_default(), |name| {
            let column = query.columns.iter().find(|column| column.name == name)?;
            let shown = show(cells, column, row, &mut origins);
            let owner = name.ends_with("pid").then(|| cells.int(name, row)).flatten().and_then(|pid| owners.of(pid));
            Some(owner.map_or_else(|| shown.clone(), |owner| format!("{shown}, {owner}")))
        }),
        evidence: evidence.collect(),
        values,
        incomplete: Vec::new(),
    }
}

impl Triage {
    /// As JSON: `findings`, `not_checked`, `checks`.
    pub fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "check": finding.check,
                "title": finding.title,
                "severity": finding.severity(),
                "score": finding.score,
                "since_ns": finding.since,
                "text": finding.text,
                "evidence": finding.evidence,
                "values": finding.values,
                "incomplete": finding.incomplete,
            })
        });
        let unknown = self.unknown.iter().map(|unknown| json!({ "check": unknown.check, "title": unknown.title, "why": unknown.why }));
        json!({ "findings": findings.collect::<Vec<_>>(), "not_checked": unknown.collect::<Vec<_>>(), "checks": self.checks, "doubts": self.doubts })
    }

    /// What to say if there is no finding.
    pub fn verdict(&self) -> String {
        let nothing = format!("Nothing stands out in {} checks", self.checks);
        if self.doubts.is_empty() { format!("{nothing}.") } else { format!("{nothing}, but {}.", self.doubts.join("; ")) }
    }

    /// What could not be checked, by its reason.
    pub fn not_checked(&self) -> Vec<(String, String)> {
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for unknown in &self.unknown {
            match reasons.iter_mut().find(|(why, _)| *why == unknown.why) {
                Some((_, titles)) => titles.push(unknown.title),
                None => reasons.push((unknown.why.clone(), vec![unknown.title])),
            }
        }
        reasons.into_iter().map(|(why, titles)| (titles.join("; "), why)).collect()
    }
}

/// docs/TRIAGE.md: the checks and their thresholds.
pub fn reference(checks: &Queries) -> String {
    let mut md = String::from(
        "# Triage\n\nGenerated from the headers of the files in queries/triage/ by `EBREC_BLESS=1 cargo test -p ebrec-analyze`; do not edit.\n\n\
         `ebrec analyze FILE` makes these checks, in this order, and tells what it found worst first. A finding has the numbers that made it one: its\n\
         score is how many times the threshold was reached; from 3 on it is medium, from 10 on high. `--threshold CHECK.NAME=VALUE` sets a threshold;\n\
         `--output json` and `--output markdown` give the same to programs and tickets. A check whose tables were not captured is listed as not\n\
         checked, with what would record them. The thresholds are for a server of a few CPUs with an SSD: what they call slow is slow everywhere, what they\n\
         let pass may still be slow for you.\n",
    );
    for query in checks.iter() {
        let _ = write!(md, "\n## `{}`: {}\n\n", check_name(query), query.help);
        if !query.prose.is_empty() {
            let _ = write!(md, "{}\n\n", query.prose);
        }
        let tables: Vec<String> = query.needs.iter().map(|table| format!("`{table}`")).collect();
        let _ = write!(
            md,
            "Needs {}. Says: *{}*\n\n| threshold | default | what |\n| --- | --- | --- |\n",
            tables.join(", "),
            escape(query.finding.unwrap_or_default())
        );
        for param in &query.params {
            let _ = writeln!(md, "| `{}.{}` | {} | {} |", check_name(query), param.name, param.default.unwrap_or_default(), param.doc);
        }
    }
    md
}
