//! What makes an answer incomplete: losses, missing hooks, recordings that were killed or filtered.
//!
//! Said after every answer that it touches, with what it does to the numbers and what helps.

use crate::engine::catalog::Reading;
use crate::engine::{self, Engine};
use crate::error::Result;
use crate::output::cells::Cells;
use crate::output::text::{escape, thousands};
use crate::window::time_of_day;
use datafusion::common::ScalarValue;
use ebrec_format::capture::State;
use ebrec_format::events;
use ebrec_format::manifest::HookState;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Something to know about an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The sentence.
    pub text: String,
    /// Whether records are missing: `--strict` fails then.
    pub incomplete: bool,
}

/// What is to be known about an answer from these tables.
pub async fn about(engine: &Engine, tables: &[String]) -> Result<Vec<Note>> {
    let mut notes = captures(engine);
    notes.extend(hooks(engine, tables));
    notes.extend(losses(engine, tables).await?);
    Ok(notes)
}

fn captures(engine: &Engine) -> Vec<Note> {
    let mut notes = Vec::new();
    for capture in engine.captures() {
        let path = escape(&capture.path.display().to_string());
        if capture.state == State::Partial || !capture.manifest.complete {
            let text = format!("{path}: the recording still runs or was killed; what it had sealed until then is here");
            notes.push(Note { text, incomplete: false });
        }
        notes.extend(capture.remarks.iter().map(|remark| Note { text: format!("{path}: {}", escape(remark)), incomplete: true }));
        for (filter, values) in &capture.manifest.filters {
            let option = if filter == "command" { "--".to_owned() } else { format!("--{}", escape(filter)) };
            let text = format!("recorded with {option} {}: nothing else is in the capture", escape(&values.join(" ")));
            notes.push(Note { text, incomplete: false });
        }
    }
    notes
}

fn hooks(engine: &Engine, tables: &[String]) -> Vec<Note> {
    let probes: BTreeSet<&str> = tables.iter().filter_map(|table| events::probe_of(table)).map(|probe| probe.name).collect();
    let mut notes = Vec::new();
    for capture in engine.captures() {
        for (name, state) in capture.manifest.probes.iter().filter(|(name, state)| state.requested && probes.contains(name.as_str())) {
            let concerns = |hook: &&HookState| hook.tables.is_empty() || hook.tables.iter().any(|table| tables.contains(table));
            for hook in state.hooks.iter().filter(|hook| hook.mechanism.is_none() && !hook.is_off()).filter(concerns) {
                let reason = hook.reason.as_deref().unwrap_or("no reason is known");
                let text = format!(
                    "the hook {} of probe {name} was not attached ({}): what it sees is missing; ebrec check on that host says more",
                    escape(&hook.hook),
                    escape(reason)
                );
                notes.push(Note { text, incomplete: true });
            }
        }
    }
    notes
}

const LOSSES: &str = "SELECT coalesce(table_name, '') AS table_name, reason, CAST(sum(lost) AS BIGINT) AS lost, min(ts) AS first, max(coalesce(end_ts, ts)) AS last
FROM loss
WHERE lost > 0 AND ($from IS NULL OR coalesce(end_ts, ts) >= $from) AND ($to IS NULL OR ts < $to)
GROUP BY coalesce(table_name, ''), reason ORDER BY table_name, reason";

/// What was lost in the window: table, reason, how many, first and last instant (ns).
pub async fn lost(engine: &Engine) -> Result<Vec<(String, String, i64, i64, i64)>> {
    let mut lost = Vec::new();
    for one in engine.each() {
        lost.extend(lost_in(&one).await?);
    }
    Ok(lost)
}

async fn lost_in(engine: &Engine) -> Result<Vec<(String, String, i64, i64, i64)>> {
    let reading = Reading { optional: &["loss"], ..Reading::default() };
    let instant = |ns| ScalarValue::TimestampNanosecond(ns, Some(Arc::from("UTC")));
    let (from, to) = (engine.filter().from, engine.filter().to);
    let window = vec![("from".to_owned(), instant(from)), ("to".to_owned(), instant(to))];
    let frame = engine.read(LOSSES, reading, window).await?.frame;
    let mut lost = Vec::new();
    for batch in engine::collect(frame).await? {
        let cells = Cells::new(&batch)?;
        for row in 0..cells.rows() {
            let number = |column| cells.int(column, row).unwrap_or_default();
            lost.push((cells.raw("table_name", row), cells.raw("reason", row), number("lost"), number("first"), number("last")));
        }
    }
    Ok(lost)
}

async fn losses(engine: &Engine, tables: &[String]) -> Result<Vec<Note>> {
    // What is of no table is of all.
    let lost = lost(engine).await?.into_iter().filter(|(table, ..)| table.is_empty() || tables.contains(table));
    Ok(lost
        .map(|(table, reason, count, first, last)| {
            let remedy = if reason == "ring full" { "; record with a larger --memory or fewer --probes" } else { "" };
            let count = thousands(u64::try_from(count).unwrap_or_default());
            let (first, last) = (time_of_day(first), time_of_day(last));
            let table = if table.is_empty() { "other" } else { &table };
            let text = format!("{count} {table} records were lost ({reason}) between {first} and {last}: counts are too low{remedy}");
            Note { text, incomplete: true }
        })
        .collect())
}

/// Where the samples end, and how many do: named functions are one group.
const ENDS: &str = "WITH ends AS (
    SELECT coalesce(kernel_stack_id, user_stack_id) AS stack_id, comm, count(*) AS n FROM cpu_sample GROUP BY 1, 2
), placed AS (
    SELECT comm, n, unresolved, CASE WHEN frames IS NULL THEN '' WHEN starts_with(frames[1], '[') THEN frames[1] END AS place
    FROM ends AS e LEFT JOIN stack AS s ON e.stack_id = s.stack_id
)
SELECT place, CASE WHEN place IS NOT NULL THEN comm END AS comm, CASE WHEN place <> '' THEN unresolved END AS why, CAST(sum(n) AS BIGINT) AS n
FROM placed GROUP BY 1, 2, 3 ORDER BY n DESC, place, comm";

/// How many places without a name a note lists.
const MOST_PLACES: usize = 4;

/// How many of the samples that an answer is made of end in code without a function's name, where, and why.
pub async fn nameless(engine: &Engine, tables: &[String]) -> Result<Option<Note>> {
    if !["cpu_sample", "stack"].iter().all(|wanted| tables.iter().any(|table| table == wanted)) {
        return Ok(None);
    }
    let (mut all, mut without, mut places) = (0, 0, Vec::new());
    for one in engine.each() {
        let reading = Reading { whole: &["stack"], ..Reading::default() };
        for batch in engine::collect(one.read(ENDS, reading, Vec::new()).await?.frame).await? {
            let cells = Cells::new(&batch)?;
            for row in 0..cells.rows() {
                let n = cells.int("n", row).unwrap_or_default();
                all += n;
                if cells.get("place", row).is_some() {
                    without += n;
                    places.push((n, where_it_is(&cells.raw("place", row), &cells.raw("comm", row), &cells.raw("why", row))));
                }
            }
        }
    }
    if without == 0 {
        return Ok(None);
    }
    places.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let count = |n: i64| thousands(n.unsigned_abs());
    let mut list: Vec<String> = places.iter().take(MOST_PLACES).map(|(n, place)| format!("{} {place}", count(*n))).collect();
    let rest: i64 = places.iter().skip(MOST_PLACES).map(|(n, _)| n).sum();
    list.extend((rest > 0).then(|| format!("{} elsewhere", count(rest))));
    let percent = without as f64 * 100.0 / all as f64;
    let text =
        format!("{} of {} samples ({percent:.1} %) end in code without a function's name: {}", count(without), count(all), list.join("; "));
    Ok(Some(Note { text, incomplete: false }))
}

/// A place without a name, whose it is, and why it has none.
fn where_it_is(place: &str, comm: &str, why: &str) -> String {
    let comm = escape(comm);
    match (place, why) {
        ("", _) => format!("of {comm}, whose stack is missing"),
        ("[unknown]", "no symbols") => format!(
            "of {comm} in code that it made while it ran, without a map of it (node --perf-basic-prof, java: jcmd PID Compiler.perfmap, \
             DOTNET_PerfMapEnabled=1, python -X perf)"
        ),
        ("[unknown]", "") => format!("of {comm} at an unknown place"),
        ("[unknown]", why) => format!("of {comm} ({})", escape(why)),
        (file, "") => format!("of {comm} in {}", escape(file.trim_matches(['[', ']']))),
        (file, why) => format!("of {comm} in {} ({})", escape(file.trim_matches(['[', ']'])), escape(why)),
    }
}
