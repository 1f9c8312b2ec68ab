//! The answer without a question: what is in a capture, what is missing, what stands out.
//!
//! The parts that look into the events are queries like the reports, in queries/summary/.

use crate::describe;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use crate::output::escape::{code, fenced};
use crate::output::machine::Machine;
use crate::output::report::Report;
use crate::output::text::{escape, pad, thousands};
use crate::output::{Destination, Format, Settings};
use crate::query::params;
use crate::query::{Queries, Query};
use crate::triage::{self, Threshold, Triage};
use crate::window::{instant, time_of_day};
use arrow::array::RecordBatch;
use ebrec_format::capture::{Capture, State};
use ebrec_format::events;
use serde_json::{Value, json};
use std::io::Write;

/// What is told of one capture.
struct Told<'a> {
    engine: Engine,
    triage: Triage,
    parts: Parts<'a>,
}

/// Writes the summary; returns the tables that it is made of.
pub async fn write(engine: &Engine, thresholds: &[Threshold], settings: &Settings) -> Result<Vec<String>> {
    let queries = Queries::summary()?;
    let mut all = Vec::new();
    for engine in engine.each() {
        let triage = triage::run(&engine, thresholds).await?;
        let mut parts = Vec::new();
        for query in queries.iter() {
            parts.push((query, part(&engine, query).await?));
        }
        all.push(Told { engine, triage, parts });
    }
    let tables = describe::tables(engine).await?;
    let destination = settings.open()?;
    match settings.format {
        Format::Table => text(settings, &tables, all, destination)?.finish()?,
        Format::Json => as_json(&tables, &all, destination)?.finish()?,
        Format::Markdown => markdown(&tables, &all, destination)?.finish()?,
        _ => {
            return Err(
                Error::text("the summary is not one table").hint("--output table, json or markdown; for one table: tables, or a report")
            );
        }
    }
    Ok(events::tables().map(|table| table.name.to_owned()).filter(|name| engine.tables().is_captured(name)).collect())
}

/// The rows of a part, or why it can't be told.
async fn part(engine: &Engine, query: &Query) -> Result<Result<Vec<RecordBatch>>> {
    if let Some(table) = query.needs.iter().find(|table| !engine.tables().is_captured(table)) {
        return Ok(Err(engine.tables().missing(table)));
    }
    Ok(Ok(engine::collect(engine.report(query, &params::defaults(query)?).await?.frame).await?))
}

/// The column that says what a process is in.
const OWNER: &str = "owner";

/// Without that column if none of the processes is in anything that has a name.
fn without_empty(query: &Query, rows: &[RecordBatch]) -> Query {
    let mut query = query.clone();
    let is_empty = |batch: &RecordBatch| batch.column_by_name(OWNER).is_none_or(|column| column.null_count() == column.len());
    if rows.iter().all(is_empty) {
        query.columns.retain(|column| column.name != OWNER);
    }
    query
}

type Parts<'a> = Vec<(&'a Query, Result<Vec<RecordBatch>>)>;

fn text(settings: &Settings, tables: &RecordBatch, all: Vec<Told<'_>>, mut out: Destination) -> Result<Destination> {
    let values = params::Values::new();
    let alone = all.len() == 1;
    let mut missing: Vec<Error> = Vec::new();
    for Told { engine, triage, parts } in all {
        let capture = &engine.captures()[0];
        facts(capture, &mut out)?;
        if let Some(shown) = shown(&engine) {
            writeln!(out, "shown    {}", escape(&shown))?;
        }
        findings(capture, &triage, settings.width(), &mut out)?;
        for (query, rows) in parts {
            let rows = match rows {
                Ok(rows) => rows,
                Err(why) => {
                    // Tables of one probe are missing for one reason.
                    if !missing.iter().any(|other| other.what_to_do() == why.what_to_do()) {
                        missing.push(why);
                    }
                    continue;
                }
            };
            // What did not happen needs no heading.
            if rows.iter().all(|batch| batch.num_rows() == 0) {
                continue;
            }
            writeln!(out, "\n{}", query.help)?;
            let query = &without_empty(query, &rows);
            let mut report = Report::new(query, &values, engine.window().0, settings.width(), out);
            for batch in rows {
                let cells = Cells::new(&batch)?;
                report.write(&cells, 0..cells.rows())?;
            }
            out = report.finish()?;
        }
        if !alone {
            writeln!(out)?;
        }
    }
    recorded(&Cells::new(tables)?, &mut out)?;
    if !missing.is_empty() {
        writeln!(out, "\nNot known")?;
    }
    for why in missing {
        writeln!(out, "{why}; {}", why.what_to_do().unwrap_or_default())?;
    }
    Ok(out)
}

/// `ebrec analyze FILE` for a shell: the file's name may hold anything.
fn command_of(capture: &Capture) -> String {
    let path = capture.path.display().to_string();
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._:/@+-".contains(c));
    let path = if plain { path } else { format!("'{}'", escape(&path).replace('\'', "'\\''")) };
    format!("ebrec analyze {path}")
}

/// What stands out, for people.
fn findings(capture: &Capture, triage: &Triage, width: Option<usize>, out: &mut impl Write) -> Result<()> {
    let command = command_of(capture);
    writeln!(out, "\nFindings")?;
    if triage.findings.is_empty() {
        for line in wrap(&triage.verdict(), width.unwrap_or(120).max(40)) {
            writeln!(out, "{line}")?;
        }
    }
    for finding in &triage.findings {
        let since = finding.since.map_or_else(String::new, |ns| format!(" (since {})", time_of_day(ns)));
        let text = format!("{}{since}", finding.text);
        let mut first = pad(&finding.severity().to_uppercase(), 7, false);
        for line in wrap(&text, width.unwrap_or(120).saturating_sub(8).max(40)) {
            writeln!(out, "{first} {line}")?;
            first = " ".repeat(7);
        }
        for evidence in &finding.evidence {
            writeln!(out, "{first} {command} {evidence}")?;
        }
        for why in &finding.incomplete {
            writeln!(out, "{first} incomplete: {}", escape(why))?;
        }
    }
    for (titles, why) in triage.not_checked() {
        writeln!(out, "not checked: {titles}: {}", escape(&why))?;
    }
    Ok(())
}

/// Lines of at most `width` characters, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The same for a ticket.
fn markdown(tables: &RecordBatch, all: &[Told<'_>], mut out: Destination) -> Result<Destination> {
    for told in all {
        let capture = &told.engine.captures()[0];
        let mut told_of_itself = Vec::new();
        facts(capture, &mut told_of_itself)?;
        writeln!(out, "## {}\n", code(&capture.path.display().to_string()))?;
        writeln!(out, "{}\n### Findings\n", fenced(&String::from_utf8_lossy(&told_of_itself)))?;
        if told.triage.findings.is_empty() {
            writeln!(out, "{}", told.triage.verdict())?;
        }
        let command = command_of(capture);
        for finding in &told.triage.findings {
            let since = finding.since.map_or_else(String::new, |ns| format!(" (since {} UTC)", time_of_day(ns)));
            writeln!(out, "* **{}** {}{since}", finding.severity(), code(&finding.text))?;
            for evidence in &finding.evidence {
                writeln!(out, "  * {}", code(&format!("{command} {evidence}")))?;
            }
            for why in &finding.incomplete {
                writeln!(out, "  * incomplete: {}", code(why))?;
            }
        }
        for (titles, why) in told.triage.not_checked() {
            writeln!(out, "* not checked: {titles}: {}", code(&why))?;
        }
        writeln!(out)?;
    }
    let mut list = Vec::new();
    recorded(&Cells::new(tables)?, &mut list)?;
    write!(out, "### Tables\n\n{}", fenced(&String::from_utf8_lossy(&list)))?;
    Ok(out)
}

/// What `--from`, `--to`, `-p` and `--comm` leave.
fn shown(engine: &Engine) -> Option<String> {
    let filter = engine.filter();
    let parts = [
        filter.from.map(|at| format!("from {}", instant(at))),
        filter.to.map(|at| format!("to {}", instant(at))),
        filter.pid.map(|pid| format!("process {pid}")),
        filter.tid.map(|tid| format!("thread {tid}")),
        filter.comm.as_ref().map(|comm| format!("tasks named {comm}")),
        filter.cgroup.as_ref().map(|(cgroup, processes)| format!("the {} processes of {cgroup}", processes.len())),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a capture says about itself.
fn facts(capture: &Capture, out: &mut impl Write) -> Result<()> {
    let manifest = &capture.manifest;
    let host = &manifest.host;
    let length = (i128::from(manifest.ended_ns) - i128::from(manifest.started_ns)) as f64 / 1e9;
    let ended = match capture.state {
        State::Partial => "not ended".to_owned(),
        State::Complete => format!("end: {}", manifest.ended_by),
    };
    let mut line = |name: &str, text: String| writeln!(out, "{} {}", pad(name, 8, false), escape(&text));
    line("capture", capture.path.display().to_string())?;
    line("window", format!("{length:.3} s from {}, {ended}", instant(manifest.started_ns)))?;
    let os = if host.os.is_empty() { String::new() } else { format!(", {}", host.os) };
    line("host", format!("{}{os}, Linux {} {}, {} CPUs", host.name, host.kernel, host.arch, host.cpus))?;
    let cost = &manifest.recorder;
    let share = cost.cpu_ns as f64 / 1e7 / length.max(1e-9);
    let mib = cost.max_rss_bytes as f64 / f64::from(1 << 20);
    line("recorder", format!("{}, {share:.1} % of a CPU, {mib:.0} MiB; {}", manifest.recorder_version, manifest.command.join(" ")))?;
    // Marked as what they are: a note named Findings is none.
    for (key, value) in &manifest.notes {
        line("note", format!("{key} = {value}"))?;
    }
    Ok(())
}

/// The tables that have rows, and those that have none.
fn recorded(tables: &Cells, out: &mut impl Write) -> Result<()> {
    let number = |column: &str, row: usize| tables.int(column, row).and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    writeln!(out, "\n{:<16} {:>12} {:>12} {:>8} {:>10}", "TABLE", "ROWS", "BYTES", "B/ROW", "LOST")?;
    let mut empty = Vec::new();
    let mut absent = Vec::new();
    for row in 0..tables.rows() {
        let name = tables.raw("table", row);
        let (rows, bytes) = (number("rows", row), number("bytes", row));
        if tables.get("rows", row).is_none() {
            absent.push(name);
        } else if rows == 0 && number("lost", row) == 0 {
            empty.push(name);
        } else {
            // Of tables with few rows the size is that of the file's frame.
            let each = if rows < 1000 { "-".to_owned() } else { format!("{:.1}", bytes as f64 / rows as f64) };
            let (rows, bytes, lost) = (thousands(rows), thousands(bytes), thousands(number("lost", row)));
            writeln!(out, "{name:<16} {rows:>12} {bytes:>12} {each:>8} {lost:>10}")?;
        }
    }
    for (what, names) in [("without a row", empty), ("not captured", absent)] {
        if !names.is_empty() {
            writeln!(out, "{what}: {}", names.join(", "))?;
        }
    }
    Ok(())
}

fn as_json(tables: &RecordBatch, all: &[Told<'_>], mut out: Destination) -> Result<Destination> {
    let mut captures = Vec::new();
    for Told { engine, triage, parts } in all {
        let capture = &engine.captures()[0];
        let mut sections = serde_json::Map::new();
        for (query, rows) in parts {
            let name = query.name.split_once('-').map_or(query.name, |(_, name)| name);
            let value = match rows {
                Ok(rows) => json!({ "title": query.help, "rows": values(rows)? }),
                Err(why) => json!({ "title": query.help, "missing": why.to_string() }),
            };
            sections.insert(name.to_owned(), value);
        }
        captures.push(json!({
            "path": capture.path.display().to_string(),
            "partial": capture.state == State::Partial,
            "remarks": capture.remarks,
            "manifest": capture.manifest,
            "triage": triage.json(),
            "sections": sections,
        }));
    }
    let whole = json!({ "captures": captures, "tables": values(std::slice::from_ref(tables))? });
    serde_json::to_writer_pretty(&mut out, &whole).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(out)
}

/// Rows as JSON values.
fn values(batches: &[RecordBatch]) -> Result<Value> {
    serde_json::from_slice(&Machine::json(batches)?).map_err(|error| Error::new("the summary", error))
}
