//! The difference of two sides' profiles as a flame graph: red is where the new side spent more, blue where it spent less.

use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::output::cells::Cells;
use crate::output::stacks::{self, Style};
use crate::query::{Queries, params};
use std::collections::BTreeMap;
use std::io::Write;

/// Stacks, folded, with their samples.
pub type Folded = BTreeMap<String, u64>;

/// Adds the profile of the one capture of `engine`.
pub async fn add(engine: &Engine, queries: &Queries, to: &mut Folded) -> Result<()> {
    let query = queries.get("profile").ok_or_else(|| Error::text("there is no report profile"))?;
    let values = params::defaults(query)?;
    let prepared = query.prepare(&values)?;
    let style = Style::of(&prepared, &values).ok_or_else(|| Error::text("the report profile gives no stacks"))?;
    for batch in engine::collect(engine.report(query, &values).await?.frame).await? {
        let cells = Cells::new(&batch)?;
        for row in 0..cells.rows() {
            let line = style.line(&cells, row);
            if let Some((stack, samples)) = line.rsplit_once(' ')
                && let Ok(samples) = samples.parse::<u64>()
            {
                *to.entry(stack.to_owned()).or_default() += samples;
            }
        }
    }
    Ok(())
}

/// Draws it. The widths are the new side's; the base is scaled to as many samples, so that windows of other lengths don't look like change.
pub fn draw(base: &Folded, new: &Folded, to: &mut impl Write) -> Result<()> {
    let failed = |why: &dyn std::fmt::Display| Error::new("the flame graph", why);
    if base.is_empty() || new.is_empty() {
        return Err(failed(&"a side has no CPU samples").hint("record with the probe profile; programs that use no CPU leave no samples"));
    }
    let text = |of: &Folded| of.iter().map(|(stack, samples)| format!("{stack} {samples}\n")).collect::<String>();
    let options = inferno::differential::Options { normalize: true, ..Default::default() };
    let mut lines = Vec::new();
    inferno::differential::from_readers(options, text(base).as_bytes(), text(new).as_bytes(), &mut lines)
        .map_err(|error| failed(&error))?;
    // The order of stacks with equal counts is not that library's promise.
    let lines = String::from_utf8_lossy(&lines).into_owned();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    let mut options = inferno::flamegraph::Options::default();
    options.title = "CPU time: red is more than in the base, blue is less".to_owned();
    options.count_name = "samples".to_owned();
    options.deterministic = true;
    stacks::draw(&mut options, lines, to)
}
