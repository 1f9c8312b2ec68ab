//! Histogram reports: from a query that gives values to the statement that counts them.
//!
//! A file declares where the values come from and how they may be grouped; the rest is the same for all of them and stands here:
//! intervals, powers of two, percentiles, the options. The statement is plain SQL, which `--sql` prints.

use super::declaration::{Column, Group, Histogram, Param, ParamType, Query, Render, Show, Title, Unit};
use super::header::names;
use super::macros::{self, interval_end, nth};
use super::params::Values;
use crate::error::{Error, Result};
use crate::suggest::closest;
use datafusion::common::ScalarValue;

/// The shares whose values are told, and the names of their columns.
pub const PERCENTILES: [(&str, &str); 4] = [("p50", "0.5"), ("p90", "0.9"), ("p99", "0.99"), ("p999", "0.999")];

/// The parameters of a report that has intervals.
pub fn interval(doc: &'static str) -> [Param; 2] {
    let param = |name, kind, doc| Param { name, kind, default: None, short: None, long: None, positional: true, doc };
    [param("interval", ParamType::Seconds, doc), param("count", ParamType::Int, "How many intervals to print.")]
}

/// `histogram: COLUMN UNIT [weight COLUMN]`.
pub fn declare(query: &mut Query, text: &'static str) -> Result<(), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (value, unit, weight) = match words.as_slice() {
        [value, unit] => (*value, *unit, None),
        [value, unit, "weight", weight] => (*value, *unit, Some(*weight)),
        _ => return Err("expected histogram: COLUMN ns|bytes|kbytes [weight COLUMN]".to_owned()),
    };
    let unit = match unit {
        "ns" => Unit::Ns,
        "bytes" => Unit::Bytes,
        "kbytes" => Unit::Kbytes,
        other => return Err(format!("there is no unit {other:?}: ns, bytes or kbytes")),
    };
    // A report whose live tool takes them by option has declared them before.
    let undeclared = |param: &Param| !query.params.iter().any(|known| known.name == param.name);
    let fresh: Vec<Param> =
        interval("Seconds of each histogram; without, one for the whole window.").into_iter().filter(undeclared).collect();
    query.params.extend(fresh);
    let flag = |name, short, doc| Param {
        name,
        kind: ParamType::Flag,
        default: None,
        short: Some(short),
        long: Some(name),
        positional: false,
        doc,
    };
    query.params.push(flag("timestamp", 'T', "Print the time at the end of each interval (HH:MM:SS, UTC)."));
    if unit == Unit::Ns {
        query.params.push(flag("milliseconds", 'm', "Milliseconds instead of microseconds."));
    }
    let doc = "Columns to group by, separated by commas: a histogram for each of their values.";
    query.params.push(Param { name: "by", kind: ParamType::Text, default: None, short: None, long: Some("by"), positional: false, doc });
    query.histogram = Some(Histogram { value, unit, weight, groups: Vec::new() });
    Ok(())
}

/// `by: KEY, … [(LABEL, …)] [[-x] --long] "TITLE" : Sentence.`
pub fn group(query: &mut Query, text: &'static str) -> Result<(), String> {
    let Some(histogram) = &mut query.histogram else { return Err("by comes after histogram".to_owned()) };
    let (left, doc) = text.split_once(" : ").ok_or("a way to group ends with \" : Sentence.\"")?;
    let (left, title) = match left.trim_end().strip_suffix('"').and_then(|left| left.split_once('"')) {
        Some((left, title)) => (left, title),
        None => return Err("a way to group has a title in quotes".to_owned()),
    };
    let (keys, rest) = left.split_at(left.find(['(', '-']).unwrap_or(left.len()));
    let (labels, options) = match rest.strip_prefix('(') {
        Some(rest) => rest.split_once(')').ok_or("a bracket is not closed")?,
        None => ("", rest),
    };
    let mut param = Param { name: "", kind: ParamType::Flag, default: None, short: None, long: None, positional: false, doc: doc.trim() };
    for option in options.split_whitespace() {
        match option.strip_prefix("--") {
            Some(long) => (param.long, param.name) = (Some(long), long),
            None => param.short = option.chars().nth(1),
        }
    }
    if param.name.is_empty() && param.short.is_some() {
        return Err("the option of a way to group has a long form, by which its parameter is named".to_owned());
    }
    histogram.groups.push(Group { param: param.name, keys: names(keys), labels: names(labels), title });
    // Without an option it is how the histogram always is.
    query.params.extend(Some(param).filter(|param| !param.name.is_empty()));
    Ok(())
}

/// What a histogram of events of processes can be grouped by besides its own columns: what the process was in.
const OWNERS: [(&str, &str); 3] = [
    ("container", "Container of the process: the name, or the beginning of the id."),
    ("pod", "Kubernetes pod of the process: namespace/name, or the UID."),
    ("cgroup", "Path of the process's cgroup."),
];

/// The columns that a histogram is grouped by.
#[derive(Default)]
struct Grouping {
    keys: Vec<&'static str>,
    labels: Vec<&'static str>,
    titles: Vec<&'static str>,
}

impl Grouping {
    fn chosen(query: &Query, histogram: &Histogram, values: &Values) -> Result<Grouping> {
        let mut grouping = Grouping::default();
        let given = |name: &str| values.get(name) == Some(&ScalarValue::Boolean(Some(true)));
        for group in histogram.groups.iter().filter(|group| group.param.is_empty() || given(group.param)) {
            grouping.add(&group.keys, &group.labels, group.title);
        }
        if let Some(ScalarValue::Utf8(Some(by))) = values.get("by") {
            let may = |name: &&str| *name != "ts" && *name != histogram.value && Some(*name) != histogram.weight;
            let mut columns: Vec<&'static str> = query.columns.iter().map(|column| column.name).filter(may).collect();
            if columns.contains(&"process_id") {
                columns.extend(OWNERS.iter().map(|(name, _)| *name));
            }
            for word in by.split(',').map(str::trim) {
                let Some(column) = columns.iter().copied().find(|column| *column == word) else {
                    let error = Error::new("--by", format!("{} can't be grouped by {word}", query.name));
                    return Err(match closest(word, columns.iter().copied()) {
                        Some(other) => error.hint(format!("did you mean {other}?")),
                        None => error.hint(format!("its columns are {}", columns.join(", "))),
                    });
                };
                grouping.add(&[column], &[], format!("{column} = {{{column}}}").leak());
            }
        }
        Ok(grouping)
    }

    fn add(&mut self, keys: &[&'static str], labels: &[&'static str], title: &'static str) {
        let new = |known: &[&str], name: &&&'static str| !known.contains(*name);
        let fresh: Vec<&'static str> = keys.iter().filter(|key| new(&self.keys, key)).copied().collect();
        self.keys.extend(fresh);
        let fresh: Vec<&'static str> = labels.iter().filter(|label| new(&self.labels, label) && new(&self.keys, label)).copied().collect();
        self.labels.extend(fresh);
        self.labels.retain(|label| !self.keys.contains(label));
        self.titles.push(title);
    }
}

impl Query {
    /// The query as it runs with these values: a histogram with its statement, columns and titles, another as its flags have it.
    pub fn prepare(&self, values: &Values) -> Result<Query> {
        let mut query = self.clone();
        let given = |name: &str| values.get(name) == Some(&ScalarValue::Boolean(Some(true)));
        if let Some((_, task)) = self.acting_if.filter(|(flag, _)| given(flag)) {
            query.acting = task;
        }
        query.needs.extend(self.needs_if.iter().filter(|(_, flag)| given(flag)).map(|(table, _)| *table));
        if let Some((_, keys)) = self.buckets.as_ref().filter(|(flag, _)| given(flag)) {
            query.render = Render::Hist;
            query.blocks.extend(keys);
        }
        let Some(histogram) = &self.histogram else { return Ok(query) };
        let grouping = Grouping::chosen(self, histogram, values)?;
        let owners: Vec<&str> = OWNERS.iter().map(|(name, _)| *name).filter(|name| grouping.keys.contains(name)).collect();
        if !owners.is_empty() {
            query.needs.extend(macros::OWNERS_NEED);
            query.uses.extend(macros::OWNERS_USE);
            query.whole.extend(macros::OWNERS_NEED.into_iter().chain(macros::OWNERS_USE));
        }
        query.sql = statement(&with_owners(&self.sql, &owners), histogram, &grouping).into();
        query.columns = columns(self, histogram, &grouping);
        query.render = Render::Hist;
        query.blocks = std::iter::once("interval_end").chain(grouping.keys.iter().copied()).collect();
        if given("timestamp") {
            query.titles.insert(0, Title { text: "{interval_end}", conditions: Vec::new() });
        }
        query.titles.extend(grouping.titles.iter().map(|text| Title { text, conditions: Vec::new() }));
        Ok(query)
    }
}

/// The columns of the result.
fn columns(query: &Query, histogram: &Histogram, grouping: &Grouping) -> Vec<Column> {
    let column = |name: &'static str, kind, doc: &'static str| Column {
        name,
        heading: name,
        kind,
        arguments: Vec::new(),
        width: 0,
        right: false,
        show: Show::Hidden,
        doc,
    };
    let mut columns = vec![column("interval_end", "time", "End of the interval.")];
    for name in grouping.keys.iter().chain(&grouping.labels) {
        columns.extend(OWNERS.iter().find(|(owner, _)| owner == name).map(|(name, doc)| column(name, "text", doc)));
        columns.extend(query.columns.iter().find(|column| column.name == *name).cloned().map(|c| Column { show: Show::Hidden, ..c }));
    }
    columns.extend([
        column("unit", "text", "Unit of the bounds."),
        column("low", "int", "Smallest value of the bucket."),
        column("high", "int", "Largest value of the bucket."),
        column("count", "int", "How many values were in it."),
    ]);
    if histogram.weight.is_none() {
        let doc = |name| -> &'static str {
            match name {
                "p50" => "Half of the values of the histogram are not larger.",
                "p90" => "90 % of them are not larger.",
                "p99" => "99 % of them are not larger.",
                _ => "99.9 % of them are not larger.",
            }
        };
        let kind = if histogram.unit == Unit::Ns { "us1" } else { "int" };
        columns.extend(PERCENTILES.iter().map(|(name, _)| column(with_unit(name, histogram.unit), kind, doc(name))));
        columns.push(column(with_unit("max", histogram.unit), kind, "The largest of them."));
        columns.push(column("total", "int", "How many values the histogram has."));
    }
    columns
}

/// `p50_ns`: a name says its unit.
pub fn with_unit(name: &str, unit: Unit) -> &'static str {
    let names: &[&'static str] = match unit {
        Unit::Ns => &["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"],
        Unit::Bytes | Unit::Kbytes => &["p50_bytes", "p90_bytes", "p99_bytes", "p999_bytes", "max_bytes"],
    };
    let at = PERCENTILES.iter().position(|(known, _)| *known == name).unwrap_or(PERCENTILES.len());
    names[at]
}

/// The rows, each with what its process was in.
fn with_owners(select: &str, owners: &[&str]) -> String {
    if owners.is_empty() {
        return select.to_owned();
    }
    let columns: String = owners.iter().map(|owner| format!(", o.{owner}")).collect();
    format!("SELECT s.*{columns} FROM ({select}) AS s LEFT JOIN ({}) AS o ON o.process_id = s.process_id", macros::OWNERS)
}

fn statement(select: &str, histogram: &Histogram, grouping: &Grouping) -> String {
    let Histogram { value, unit, weight, .. } = histogram;
    let list = |names: &[&str], before: &str| names.iter().map(|name| format!("{before}{name}, ")).collect::<String>();
    let (keys, labels) = (list(&grouping.keys, ""), list(&grouping.labels, ""));
    let (whole, name) = match unit {
        Unit::Ns => (
            format!("floor({value} / CASE WHEN $milliseconds THEN 1000000 ELSE 1000 END)"),
            "CASE WHEN $milliseconds THEN 'msecs' ELSE 'usecs' END",
        ),
        Unit::Bytes => (value.to_string(), "'bytes'"),
        Unit::Kbytes => (format!("floor({value} / 1024)"), "'Kbytes'"),
    };
    let weighed = weight.map_or_else(String::new, |weight| format!("{weight}, "));
    let count = weight.map_or_else(|| "count(*)".to_owned(), |weight| format!("sum({weight})"));
    let partition = |names: &[&str]| {
        let names: Vec<&str> = std::iter::once("nth").chain(names.iter().copied()).collect();
        names.join(", ")
    };
    let of_group = partition(&grouping.keys);
    let first: String = grouping
        .labels
        .iter()
        .map(|label| format!("first_value({label}) OVER (PARTITION BY {of_group} ORDER BY first, {label}) AS {label}, "))
        .collect();
    let grouped = partition(&[&grouping.keys[..], &grouping.labels[..]].concat());
    let no_labels: String = grouping.labels.iter().map(|label| format!("NULL AS {label}, ")).collect();
    let (mut stats, mut spread, mut shown) = (String::new(), String::new(), String::new());
    let mut slots = "slots".to_owned();
    if weight.is_none() {
        let shares: Vec<&str> = PERCENTILES.iter().map(|(_, share)| *share).collect();
        stats = format!(
            "), stats AS (
    SELECT nth, {keys}quantile_disc({value}, [{}]) AS shares, max({value}) AS longest, count(*) AS total
    FROM placed
    GROUP BY {of_group}
), all_rows AS (
    -- What is known of a histogram as a whole stands beside its buckets; joined by windows, for which one null equals another.
    SELECT nth, {keys}{labels}slot, count, first, NULL AS shares, NULL AS longest, NULL AS total FROM slots
    UNION ALL
    SELECT nth, {keys}{no_labels}NULL AS slot, NULL AS count, NULL AS first, shares, longest, total FROM stats
",
            shares.join(", ")
        );
        slots = "all_rows".to_owned();
        for (at, (name, _)) in PERCENTILES.iter().enumerate() {
            let column = with_unit(name, *unit);
            spread.push_str(&format!("max(shares[{}]) OVER (PARTITION BY {of_group}) AS {column}, ", at + 1));
            shown.push_str(&format!(", {column}"));
        }
        let column = with_unit("max", *unit);
        spread.push_str(&format!(
            "max(longest) OVER (PARTITION BY {of_group}) AS {column}, max(total) OVER (PARTITION BY {of_group}) AS total, "
        ));
        shown.push_str(&format!(", {column}, total"));
    }
    let order: String = grouping.keys.iter().map(|key| format!("{key}, ")).collect();
    format!(
        "WITH samples AS (
{select}
), placed AS (
    SELECT {} AS nth, {keys}{labels}{weighed}ts, {value}, {whole} AS whole
    FROM samples
    WHERE {value} IS NOT NULL AND ($count IS NULL OR {} < $count)
), slots AS (
    SELECT nth, {keys}{labels}CASE WHEN whole < 2 THEN 0 ELSE CAST(floor(log2(whole)) AS BIGINT) END AS slot,
        {count} AS count, min(ts) AS first
    FROM placed
    GROUP BY {grouped}, slot
{stats}), buckets AS (
    SELECT nth, {keys}{first}{spread}slot, count FROM {slots}
)
SELECT {} AS interval_end, {keys}{labels}{name} AS unit,
    CASE WHEN slot = 0 THEN 0 ELSE CAST(power(2, slot) AS BIGINT) END AS low,
    CAST(power(2, slot + 1) AS BIGINT) - 1 AS high,
    CAST(sum(count) AS BIGINT) AS count{shown}
FROM buckets
WHERE slot IS NOT NULL
GROUP BY nth, {keys}{labels}slot{shown}
ORDER BY interval_end, {order}low",
        nth("ts"),
        nth("ts"),
        interval_end("nth"),
    )
}
