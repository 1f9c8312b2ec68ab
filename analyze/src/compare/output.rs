//! A comparison as people and programs read it.

use super::bootstrap::Statistic;
use super::judge::{Comparison, Row, SHAPE, Verdict};
use super::measure::{Group, Measurement};
use super::metric::{Metric, Polarity};
use super::policy::{Condition, Outcome};
use crate::output::escape::{cell, code, xml};
use crate::output::text::{escape, pad, width};
use serde_json::{Value, json};
use std::fmt::Write;

/// All that is told.
pub struct Report<'a> {
    /// What was found.
    pub comparison: &'a Comparison,
    /// Base and new.
    pub sides: [&'a [Measurement]; 2],
    /// The confidence of the intervals, 0 to 1.
    pub confidence: f64,
    /// The smallest change that matters.
    pub least: f64,
    /// The conditions and what came of them.
    pub conditions: &'a [(Condition, Outcome)],
    /// Whether all rows are told, and not only those that changed.
    pub all: bool,
}

/// A number with four digits at most that matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    let (unit, factor) = units.iter().rev().find(|(_, factor)| value.abs() >= *factor).or(units.first()).copied().unwrap_or(("", 1.0));
    format!("{} {unit}", number(value / factor))
}

/// A value with its unit.
pub fn value(metric: &Metric, statistic: &str, value: f64) -> String {
    const TIMES: [(&str, f64); 4] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    const SIZES: [(&str, f64); 5] = [("B", 1.0), ("KiB", 1024.0), ("MiB", 1048576.0), ("GiB", 1073741824.0), ("TiB", 1099511627776.0)];
    match (statistic, metric.unit.as_str()) {
        ("share", _) => format!("{} %", number(value * 100.0)),
        ("rate", "ns") => format!("{} % of a CPU", number(value / 1e7)),
        ("rate", "bytes") => format!("{}/s", scaled(value, &SIZES)),
        ("rate", unit) => format!("{} {unit}/s", number(value)),
        (_, "ns") => scaled(value, &TIMES),
        (_, "bytes") => scaled(value, &SIZES),
        (_, unit) => format!("{} {unit}", number(value)),
    }
}

/// A change and its interval: of shares in percentage points, of everything else in percent, or as a multiple if it is large.
fn change(row: &Row) -> (String, String) {
    let Some([estimate, low, high]) = row.change else {
        return match row.values[1].filter(|_| row.statistic == SHAPE) {
            Some(distance) => (format!("{} %", number(distance * 100.0)), String::new()),
            None => (String::from("-"), String::new()),
        };
    };
    if let ("share", Some(base)) = (row.statistic, row.values[0]) {
        let points = |ratio: f64| (moved(base, ratio) - base) * 100.0;
        let new = row.values[1].map_or(0.0, |new| (new - base) * 100.0);
        return (format!("{new:+.1} pp"), format!("{:+.1} to {:+.1}", points(low), points(high)));
    }
    if row.values[0] == Some(0.0) {
        return ("from 0".to_owned(), String::new());
    }
    (ratio(estimate), format!("{} to {}", ratio(low), ratio(high)))
}

/// A change that is a ratio: in percent, or as a multiple if it is large.
pub fn ratio(ratio: f64) -> String {
    match ratio {
        r if r >= 1e4 => "> x10000".to_owned(),
        r if r >= 3.0 => format!("x{}", number(r)),
        r => format!("{:+.1} %", (r - 1.0) * 100.0),
    }
}

/// The share `base` with its odds multiplied.
fn moved(base: f64, ratio: f64) -> f64 {
    let odds = base.clamp(1e-12, 1.0 - 1e-12) / (1.0 - base.clamp(1e-12, 1.0 - 1e-12)) * ratio;
    if odds.is_finite() { odds / (1.0 + odds) } else { 1.0 }
}

/// `comm=app, op=read`; of all rows, nothing.
pub fn group_text(group: &Group) -> String {
    let pairs: Vec<String> = group.iter().map(|(column, value)| format!("{}={}", escape(column), escape(value))).collect();
    pairs.join(", ")
}

fn p_text(p: Option<f64>) -> String {
    match p {
        Some(p) if p < 1e-4 => "<0.0001".to_owned(),
        Some(p) => format!("{p:.4}"),
        None => "-".to_owned(),
    }
}

/// Settings of a recording that shape what is compared.
const SETTINGS: [&str; 1] = ["sample_hz"];
const COLOURS: [(Verdict, &str); 3] = [(Verdict::Worse, "\x1b[31m"), (Verdict::Better, "\x1b[32m"), (Verdict::Changed, "\x1b[33m")];

impl Report<'_> {
    fn metric(&self, row: &Row) -> &Metric {
        &self.comparison.metrics[row.metric].1
    }

    /// The rows to tell: all, or for each group that changed the one that says most, with the names of the others.
    fn told(&self) -> Vec<(&Row, Vec<&'static str>)> {
        let rows = &self.comparison.rows;
        if self.all {
            return rows.iter().map(|row| (row, Vec::new())).collect();
        }
        let mut told: Vec<(&Row, Vec<&'static str>)> = Vec::new();
        for row in rows.iter().filter(|row| row.verdict.is_change()) {
            let same = |other: &&mut (&Row, Vec<&str>)| other.0.metric == row.metric && other.0.group == row.group;
            match told.iter_mut().find(same) {
                Some((first, also)) if first.verdict == row.verdict || row.statistic == SHAPE => also.push(row.statistic),
                _ => told.push((row, Vec::new())),
            }
        }
        told
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.comparison.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// What a side is.
    fn side(&self, nth: usize) -> String {
        let side = self.sides[nth];
        let names: Vec<String> = side.iter().take(4).map(|run| escape(&run.name)).collect();
        let more = if side.len() > 4 { format!(", … ({} captures)", side.len()) } else { String::new() };
        let seconds: Vec<f64> = side.iter().map(|run| run.window_ns as f64 / 1e9).collect();
        let total: f64 = seconds.iter().sum();
        format!("{}{more}: {} s", names.join(", "), number(total))
    }

    /// What is to be known before believing it.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let runs = || self.sides.into_iter().flatten();
        let mut differs = |what: &str, of: &dyn Fn(&Measurement) -> String| {
            let [base, new] = self.sides.map(|side| {
                let mut all: Vec<String> = side.iter().map(of).collect();
                all.sort();
                all.dedup();
                all.join(", ")
            });
            if base != new {
                notes.push(format!("{what} differs: base {}, new {}", escape(&base), escape(&new)));
            }
        };
        differs("the host", &|run| run.host.clone());
        differs("the kernel", &|run| run.kernel.clone());
        differs("the architecture", &|run| run.arch.clone());
        differs("the number of CPUs", &|run| run.cpus.to_string());
        differs("the recorder's version", &|run| run.recorder.clone());
        differs("the format's version", &|run| run.format_version.to_string());
        differs("the filter", &|run| {
            let filters: Vec<String> = run.filters.iter().map(|(name, value)| format!("{name} {value}")).collect();
            if filters.is_empty() { "none".to_owned() } else { filters.join("; ") }
        });
        for name in SETTINGS {
            differs(&format!("the setting {name}"), &|run| run.settings.get(name).cloned().unwrap_or_else(|| "-".to_owned()));
        }
        let seconds: Vec<f64> = runs().map(|run| run.window_ns as f64 / 1e9).collect();
        let (short, long) = seconds.iter().fold((f64::MAX, 0.0f64), |(low, high), s| (low.min(*s), high.max(*s)));
        if long > short * 1.5 {
            notes.push(format!(
                "the windows are {} s to {} s long: rates are per second, and longer ones weigh more",
                number(short),
                number(long)
            ));
        }
        for run in runs() {
            notes.extend(run.notes.iter().map(|note| format!("{}: {}", escape(&run.name), escape(note))));
        }
        notes.extend(self.comparison.notes.iter().map(|note| escape(note)));
        notes
    }

    /// What can be concluded from so many captures.
    pub fn conclusion(&self) -> String {
        match (self.sides[0].len(), self.sides[1].len(), &self.comparison.noise) {
            (1, 1, _) => {
                let [median, tail] = [0.5, 0.99].map(|p| number(Statistic::Quantile(p).assumed_noise(1.0, false) * 100.0));
                format!(
                    "One capture a side: how much runs of the same workload differ is assumed ({median} % of a median, {tail} % of a p99, more of small \
                     groups), not measured. That the windows differ can be concluded, not what made them differ; several captures a side tell the noise."
                )
            }
            _ if self.comparison.noise.is_empty() => {
                "How much runs differ is judged for each row by itself: too few metrics have enough events to tell it for all.".to_owned()
            }
            (base, new, noise) => {
                let factors: Vec<String> = noise.iter().map(|(class, factor)| format!("{} {}", class.name(), number(*factor))).collect();
                format!(
                    "{base} captures against {new}: how much runs of a side differ, as a multiple of what is assumed of runs in general, is accounted for \
                     ({}).",
                    factors.join(", ")
                )
            }
        }
    }

    /// As a table.
    pub fn table(&self, coloured: bool, most: Option<usize>) -> String {
        let mut out = format!("base  {}\nnew   {}\n", self.side(0), self.side(1));
        for note in self.notes() {
            let _ = writeln!(out, "note: {note}");
        }
        out.push('\n');
        let told = self.told();
        let shown = most.unwrap_or(told.len()).min(told.len());
        let interval = format!("{:.0} % INTERVAL", self.confidence * 100.0);
        let mut lines: Vec<(Option<Verdict>, Vec<String>)> = vec![(
            None,
            ["VERDICT", "METRIC", "GROUP", "STATISTIC", "BASE", "NEW", "CHANGE", &interval, "P", "ALSO"].map(str::to_owned).to_vec(),
        )];
        for (row, also) in told.iter().take(shown) {
            let metric = self.metric(row);
            let (change, interval) = change(row);
            let side = |nth: usize| match row.values[nth] {
                _ if row.statistic == SHAPE => String::from("-"),
                Some(v) => value(metric, row.statistic, v),
                None => "-".to_owned(),
            };
            lines.push((
                Some(row.verdict),
                vec![
                    row.verdict.name().to_owned(),
                    metric.name.clone(),
                    group_text(&row.group),
                    row.statistic.to_owned(),
                    side(0),
                    side(1),
                    change,
                    interval,
                    p_text(row.adjusted),
                    also.join(" "),
                ],
            ));
        }
        if lines.len() > 1 {
            const RIGHT: [usize; 4] = [4, 5, 6, 8];
            let widths: Vec<usize> =
                (0..lines[0].1.len()).map(|column| lines.iter().map(|(_, cells)| width(&cells[column])).max().unwrap_or(0)).collect();
            for (verdict, cells) in &lines {
                let cells: Vec<String> =
                    cells.iter().enumerate().map(|(column, cell)| pad(cell, widths[column], RIGHT.contains(&column))).collect();
                let line = cells.join("  ");
                let colour = COLOURS.iter().find(|(of, _)| coloured && Some(*of) == *verdict).map(|(_, colour)| *colour);
                match colour {
                    Some(colour) => drop(writeln!(out, "{colour}{}\x1b[0m", line.trim_end())),
                    None => drop(writeln!(out, "{}", line.trim_end())),
                }
            }
            if shown < told.len() {
                let _ = writeln!(out, "… and {} more (--rows 0 shows all)", told.len() - shown);
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{}", self.summary());
        for missing in &self.comparison.missing {
            let _ = writeln!(out, "not compared: {} ({})", missing.metrics.join(", "), escape(&missing.why));
        }
        let _ = writeln!(out, "{}", self.conclusion());
        for (condition, outcome) in self.conditions {
            let _ = writeln!(out, "{}", self.outcome(condition, outcome));
        }
        out
    }

    /// A line of numbers.
    fn summary(&self) -> String {
        let count = |verdict| self.count(verdict);
        format!(
            "{} metrics, {} tests: {} worse, {} changed, {} better; {} the same, {} unclear, {} with too few events. A change is at least {:.0} %; if runs differ \
             as much as assumed, at most {} % of those called changes are expected to be chance.",
            self.comparison.metrics.len(),
            self.comparison.tests,
            count(Verdict::Worse),
            count(Verdict::Changed),
            count(Verdict::Better),
            count(Verdict::Same),
            count(Verdict::Unclear),
            count(Verdict::TooFew),
            self.least * 100.0,
            // Without what subtraction leaves behind.
            ((1.0 - self.confidence) * 1e6).round() / 1e4,
        )
    }

    fn outcome(&self, condition: &Condition, outcome: &Outcome) -> String {
        let text = escape(&condition.text);
        match outcome {
            Outcome::Passed => format!("passed: {text}"),
            Outcome::TooFew => format!("passed, but nothing can be said, of too few events: {text}"),
            Outcome::Unknown(why) => format!("unknown: {text} ({})", escape(why)),
            Outcome::Failed(rows) => {
                let name = |at: &usize| {
                    let row = &self.comparison.rows[*at];
                    let group = if row.group.is_empty() { String::new() } else { format!("{{{}}}", group_text(&row.group)) };
                    format!("{}{group}.{} {}", self.metric(row).name, row.statistic, change(row).0)
                };
                let first: Vec<String> = rows.iter().take(3).map(name).collect();
                let more = if rows.len() > 3 { format!(" and {} more", rows.len() - 3) } else { String::new() };
                format!("failed: {text}: {}{more}", first.join(", "))
            }
        }
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("**base** {}; **new** {}\n\n", code(&self.side(0)), code(&self.side(1)));
        for note in self.notes() {
            let _ = writeln!(out, "* note: {}", code(&note));
        }
        let told = self.told();
        if !told.is_empty() {
            let _ = writeln!(
                out,
                "\n| verdict | metric | group | statistic | base | new | change | {:.0} % interval | p |",
                self.confidence * 100.0
            );
            out.push_str("| --- | --- | --- | --- | ---: | ---: | ---: | --- | ---: |\n");
        }
        for (row, also) in told {
            let metric = self.metric(row);
            let (change, interval) = change(row);
            let side =
                |nth: usize| row.values[nth].filter(|_| row.statistic != SHAPE).map_or("-".to_owned(), |v| value(metric, row.statistic, v));
            let statistics: Vec<&str> = std::iter::once(row.statistic).chain(also).collect();
            let _ = writeln!(
                out,
                "| {} | `{}` | {} | {} | {} | {} | {change} | {interval} | {} |",
                row.verdict.name(),
                metric.name,
                cell(&group_text(&row.group)),
                statistics.join(", "),
                side(0),
                side(1),
                p_text(row.adjusted)
            );
        }
        let _ = writeln!(out, "\n{}", self.summary());
        for missing in &self.comparison.missing {
            let _ = writeln!(out, "\nNot compared: {} ({})", missing.metrics.join(", "), code(&missing.why));
        }
        let _ = writeln!(out, "\n{}", self.conclusion());
        for (condition, outcome) in self.conditions {
            let _ = writeln!(out, "\n{}", code(&self.outcome(condition, outcome)));
        }
        out
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let side = |nth: usize| -> Vec<Value> {
            let of = |run: &Measurement| {
                json!({ "name": run.name, "host": run.host, "kernel": run.kernel, "cpus": run.cpus, "started_ns": run.started_ns,
                    "window_ns": run.window_ns, "recorder": run.recorder, "filters": run.filters })
            };
            self.sides[nth].iter().map(of).collect()
        };
        let row = |row: &Row| {
            let metric = self.metric(row);
            let group: serde_json::Map<String, Value> = row.group.iter().map(|(column, value)| (column.clone(), json!(value))).collect();
            let part = |nth: usize| row.change.map(|change| change[nth] - 1.0).filter(|change| change.is_finite());
            json!({ "metric": metric.name, "unit": metric.unit, "better": match metric.polarity {
                    Polarity::Lower => "lower", Polarity::Higher => "higher", Polarity::Neutral => "neutral" },
                "group": group, "statistic": row.statistic, "verdict": row.verdict, "base": row.values[0], "new": row.values[1],
                "change": part(0), "low": part(1), "high": part(2), "p": row.p, "p_adjusted": row.adjusted,
                "detectable": row.detectable.map(|ratio| ratio - 1.0), "base_events": row.events[0], "new_events": row.events[1] })
        };
        let conditions = self.conditions.iter().map(|(condition, outcome)| {
            let outcome = match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed(_) => "failed",
                Outcome::TooFew => "too few events",
                Outcome::Unknown(_) => "unknown",
            };
            json!({ "condition": condition.text, "outcome": outcome })
        });
        let noise: serde_json::Map<String, Value> =
            self.comparison.noise.iter().map(|(class, factor)| (class.name().to_owned(), json!(factor))).collect();
        json!({
            "base": side(0), "new": side(1), "confidence": self.confidence, "min_effect": self.least, "tests": self.comparison.tests,
            "noise": noise, "notes": self.notes(), "conclusion": self.conclusion(), "missing": self.comparison.missing,
            "conditions": conditions.collect::<Vec<_>>(), "rows": self.comparison.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }

    /// As JUnit's XML, the common denominator of CI systems: a test case for each metric and group, and for each condition.
    pub fn junit(&self) -> String {
        let mut cases = String::new();
        let (mut tests, mut failures, mut skipped) = (0, 0, 0);
        for row in &self.comparison.rows {
            let metric = self.metric(row);
            tests += 1;
            let name = format!("{} {}", group_text(&row.group), row.statistic);
            let _ = write!(cases, "    <testcase classname=\"{}\" name=\"{}\"", xml(&metric.name), xml(name.trim()));
            match row.verdict {
                // Conditions decide, if there are any.
                Verdict::Worse if self.conditions.is_empty() => {
                    failures += 1;
                    let (change, interval) = change(row);
                    let value = |nth: usize| row.values[nth].map_or("-".to_owned(), |v| value(metric, row.statistic, v));
                    let message = format!("{} to {}: {change} ({interval})", value(0), value(1));
                    let _ = writeln!(cases, ">\n      <failure message=\"{}\"/>\n    </testcase>", xml(&message));
                }
                Verdict::TooFew => {
                    skipped += 1;
                    cases.push_str(">\n      <skipped message=\"too few events\"/>\n    </testcase>\n");
                }
                _ => cases.push_str("/>\n"),
            }
        }
        for missing in &self.comparison.missing {
            for metric in &missing.metrics {
                tests += 1;
                skipped += 1;
                let _ = writeln!(
                    cases,
                    "    <testcase classname=\"{}\" name=\"all\">\n      <skipped message=\"{}\"/>\n    </testcase>",
                    xml(metric),
                    xml(&missing.why)
                );
            }
        }
        for (condition, outcome) in self.conditions {
            tests += 1;
            let _ = write!(cases, "    <testcase classname=\"fail-on\" name=\"{}\"", xml(&condition.text));
            if matches!(outcome, Outcome::Failed(_) | Outcome::Unknown(_)) {
                failures += 1;
                let _ = writeln!(cases, ">\n      <failure message=\"{}\"/>\n    </testcase>", xml(&self.outcome(condition, outcome)));
            } else {
                cases.push_str("/>\n");
            }
        }
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"ebrec compare\" tests=\"{tests}\" failures=\"{failures}\" \
             skipped=\"{skipped}\">\n{cases}  </testsuite>\n</testsuites>\n"
        )
    }
}
