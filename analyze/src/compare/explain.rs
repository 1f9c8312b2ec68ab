//! One metric in full: both distributions, all statistics, and which groups the change is made of.

use super::judge::{Comparison, QUANTILES, Row};
use super::measure::{Group, Measured, Measurement, State};
use super::metric::{self, Function, Metric, Source};
use super::output::{group_text, number, ratio, value};
use super::sketch;
use crate::error::{Error, Result};
use crate::output::text::{escape, pad, width};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Groups that are listed of each kind.
const MOST: usize = 12;
/// Characters of the longest bar.
const BAR: f64 = 24.0;

/// A side's sums of a group: events, sum, whole, and the counts of buckets.
#[derive(Debug, Clone, Default)]
struct Total {
    n: f64,
    sum: f64,
    of: f64,
    seconds: f64,
    buckets: BTreeMap<u16, f64>,
}

/// Explains `METRIC` or `METRIC{column=value}`.
pub fn explain(wanted: &str, sources: &[Source], comparison: &Comparison, sides: [&[Measurement]; 2]) -> Result<String> {
    let (name, group) = match wanted.split_once('{') {
        Some((name, group)) => (name.trim(), group.trim_end_matches('}')),
        None => (wanted.trim(), ""),
    };
    let group: Group = group
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(column, value)| (column.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let all = || sources.iter().flat_map(|source| source.metrics.iter().map(move |metric| (source, metric)));
    let Some((source, metric)) = all().find(|(_, metric)| metric.name == name) else {
        return Err(metric::unknown(name, "--explain", all().map(|(_, metric)| metric)));
    };
    if let Some(missing) = comparison.missing.iter().find(|missing| missing.metrics.iter().any(|other| other == name)) {
        return Ok(format!("{name} was not compared: {}\n", escape(&missing.why)));
    }
    let total = |side: &[Measurement], group: &Group| total(side, source, metric, group);
    let totals = sides.map(|side| total(side, &group));
    if totals.iter().all(|total| total.n == 0.0) && !group.is_empty() {
        let error = Error::new("--explain", format!("{name} has no group {}", group_text(&group)));
        return Err(error.hint(format!("--explain {name} lists its groups")));
    }
    let title = if group.is_empty() { name.to_owned() } else { format!("{name}, {}", group_text(&group)) };
    let mut out = format!("{title}: {}\n\n", metric.doc);
    statistics(&mut out, metric, comparison.rows.iter().filter(|row| row.group == group && comparison.metrics[row.metric].1.name == name));
    if matches!(metric.function, Function::Quantiles(_)) {
        histogram(&mut out, metric, &totals);
    }
    if group.is_empty() {
        for columns in &source.by {
            contributions(
                &mut out,
                metric,
                columns,
                groups(sides, source, metric, columns).into_iter().map(|group| {
                    let sides = sides.map(|side| total(side, &group));
                    (group, sides)
                }),
            );
        }
    }
    Ok(out)
}

fn measured<'a>(run: &'a Measurement, source: &Source, metric: &Metric) -> Option<&'a Measured> {
    match run.sources.get(&source.name) {
        Some(State::Measured { metrics, .. }) => metrics.get(&metric.name),
        _ => None,
    }
}

fn total(side: &[Measurement], source: &Source, metric: &Metric, group: &Group) -> Total {
    let mut total = Total::default();
    for run in side {
        total.seconds += run.window_ns as f64 / 1e9;
        let groups = measured(run, source, metric).into_iter().flat_map(|measured| &measured.groups);
        for cell in groups.filter(|(of, _)| of == group).flat_map(|(_, blocks)| blocks) {
            total.n += cell.n as f64;
            total.sum += cell.sum as f64;
            total.of += cell.of as f64;
            for (bucket, count) in &cell.sketch.0 {
                *total.buckets.entry(*bucket).or_default() += f64::from(*count);
            }
        }
    }
    total
}

/// The groups of one kind that either side has.
fn groups(sides: [&[Measurement]; 2], source: &Source, metric: &Metric, columns: &[String]) -> Vec<Group> {
    let runs = sides.into_iter().flatten().filter_map(|run| measured(run, source, metric));
    let is_of = |group: &&Group| group.iter().map(|(column, _)| column).eq(columns);
    let mut groups: Vec<Group> = runs.flat_map(|measured| measured.groups.iter().map(|(group, _)| group)).filter(is_of).cloned().collect();
    groups.sort();
    groups.dedup();
    groups
}

fn lines(out: &mut String, rows: &[Vec<String>], right: &[usize]) {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns).map(|column| rows.iter().map(|cells| width(&cells[column])).max().unwrap_or(0)).collect();
    for cells in rows {
        let cells: Vec<String> = cells.iter().enumerate().map(|(nth, cell)| pad(cell, widths[nth], right.contains(&nth))).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out.push('\n');
}

fn statistics<'a>(out: &mut String, metric: &Metric, rows: impl Iterator<Item = &'a Row>) {
    let mut table =
        vec![["STATISTIC", "BASE", "NEW", "CHANGE", "INTERVAL", "P", "VERDICT", "SMALLEST CHANGE SEEN"].map(str::to_owned).to_vec()];
    let mut rows: Vec<&Row> = rows.collect();
    rows.sort_by_key(|row| QUANTILES.iter().position(|(name, _)| *name == row.statistic));
    for row in rows {
        let side = |nth: usize| row.values[nth].map_or("-".to_owned(), |v| value(metric, row.statistic, v));
        let shape = row.statistic == super::judge::SHAPE;
        table.push(vec![
            row.statistic.to_owned(),
            if shape { "-".to_owned() } else { side(0) },
            if shape { "-".to_owned() } else { side(1) },
            match (row.change, row.values[1]) {
                (Some([estimate, ..]), _) => ratio(estimate),
                (None, Some(distance)) if shape => format!("{} % of events moved", number(distance * 100.0)),
                _ => "-".to_owned(),
            },
            row.change.map_or(String::new(), |[_, low, high]| format!("{} to {}", ratio(low), ratio(high))),
            row.adjusted.map_or("-".to_owned(), |p| format!("{p:.4}")),
            row.verdict.name().to_owned(),
            row.detectable
                .filter(|least| *least < 100.0)
                .map_or("-".to_owned(), |least| format!("{} or {}", ratio(least), ratio(1.0 / least))),
        ]);
    }
    lines(out, &table, &[1, 2, 3, 5]);
}

/// Both distributions, by powers of two: events per second, so that windows of other lengths look alike.
fn histogram(out: &mut String, metric: &Metric, totals: &[Total; 2]) {
    let octave = |bucket: u16| bucket / sketch::BUCKETS_PER_OCTAVE as u16 * sketch::BUCKETS_PER_OCTAVE as u16;
    // The values below 64 each have a bucket: by powers of two as well.
    let class = |bucket: u16| match bucket {
        0..64 => (u32::from(bucket) + 1).next_power_of_two() / 2,
        _ => u32::MAX,
    };
    let mut by_class: BTreeMap<(u16, u32), [f64; 2]> = BTreeMap::new();
    for (side, total) in totals.iter().enumerate() {
        for (bucket, count) in &total.buckets {
            let key = if *bucket < 64 { (0, class(*bucket)) } else { (octave(*bucket), 0) };
            by_class.entry(key).or_default()[side] += count / total.seconds.max(1e-9);
        }
    }
    let most = by_class.values().flatten().fold(0.0f64, |most, rate| most.max(*rate));
    if most <= 0.0 {
        return;
    }
    let mut table = vec![["FROM", "BASE /s", "", "NEW /s", ""].map(str::to_owned).to_vec()];
    for ((bucket, class), rates) in by_class {
        let low = if bucket == 0 { f64::from(class) } else { sketch::low(bucket) };
        let bar = |rate: f64| "#".repeat((rate / most * BAR).round() as usize);
        table.push(vec![
            value(metric, "p50", low),
            number(rates[0]),
            pad(&bar(rates[0]), BAR as usize, false),
            number(rates[1]),
            bar(rates[1]),
        ]);
    }
    lines(out, &table, &[0, 1, 3]);
}

/// What the groups of one kind have to do with the change: those whose amount per second changed most.
fn contributions(out: &mut String, metric: &Metric, columns: &[String], groups: impl Iterator<Item = (Group, [Total; 2])>) {
    let amount = |total: &Total| match &metric.function {
        Function::Rate(None) | Function::Quantiles(_) => total.n / total.seconds.max(1e-9),
        Function::Rate(Some(_)) | Function::Share(..) | Function::Ratio(..) => total.sum / total.seconds.max(1e-9),
    };
    let median = |total: &Total| {
        let (mut below, all) = (0.0, total.buckets.values().sum::<f64>());
        let found = total.buckets.iter().find(|(_, count)| {
            below += **count;
            below * 2.0 >= all
        });
        found.map(|(bucket, _)| f64::midpoint(sketch::low(*bucket), sketch::low(bucket + 1)))
    };
    let mut all: Vec<(Group, [f64; 2], [Option<f64>; 2])> =
        groups.map(|(group, sides)| (group, [amount(&sides[0]), amount(&sides[1])], [median(&sides[0]), median(&sides[1])])).collect();
    let change: f64 = all.iter().map(|(_, [base, new], _)| new - base).sum();
    all.sort_by(|a, b| (b.1[1] - b.1[0]).abs().total_cmp(&(a.1[1] - a.1[0]).abs()).then_with(|| a.0.cmp(&b.0)));
    let is_distribution = matches!(metric.function, Function::Quantiles(_));
    let mut heading =
        vec![format!("BY {}", columns.join(", ").to_uppercase()), "BASE".into(), "NEW".into(), "DIFFERENCE".into(), "OF THE CHANGE".into()];
    if is_distribution {
        heading.extend(["BASE p50".to_owned(), "NEW p50".to_owned()]);
    }
    let mut table = vec![heading];
    let shown = |amount: f64| match &metric.function {
        Function::Rate(_) => value(metric, "rate", amount),
        _ => format!("{}/s", number(amount)),
    };
    for (group, [base, new], medians) in all.iter().take(MOST) {
        let values: Vec<String> = group.iter().map(|(_, value)| if value.is_empty() { "-".to_owned() } else { escape(value) }).collect();
        let share = if change.abs() > 1e-9 { format!("{:.0} %", (new - base) / change * 100.0) } else { "-".to_owned() };
        let mut cells = vec![values.join(", "), shown(*base), shown(*new), shown(new - base), share];
        if is_distribution {
            cells.extend(medians.map(|median| median.map_or("-".to_owned(), |median| value(metric, "p50", median))));
        }
        table.push(cells);
    }
    if table.len() > 1 {
        lines(out, &table, &[1, 2, 3, 4, 5, 6]);
        if all.len() > MOST {
            let _ = writeln!(out, "… and {} more\n", all.len() - MOST);
        }
    }
}
