//! What shall fail: `--fail-on 'runqlat.p99 > +20%'`, and files of such lines.

use super::judge::{Comparison, Row, Verdict};
use super::metric::{self, Function, Metric};
use crate::error::{Error, Result};

/// The grammar, for `--help` and docs/COMPARE.md.
pub const GRAMMAR: &str = "METRIC[{COLUMN=VALUE, …}][.STATISTIC] > LIMIT, or < LIMIT, or worse\n\
  METRIC     a metric's name, or * for all\n\
  COLUMN     chooses a group, * any of that kind; without, all rows together\n\
  STATISTIC  rate, share, ratio, p50, p90, p99, p99.9; without, any\n\
  LIMIT      +20% or -20%: a change that is certain, and by more than that\n\
             +2pp or -2pp: the same of a share, in percentage points\n\
             5ms, 100us, 10MiB, 3: the new value itself; of a share, or of a CPU, 5%\n\
  worse      what the verdict calls worse";

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// As it was given.
    pub text: String,
    metric: String,
    group: Vec<(String, String)>,
    statistic: Option<String>,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    Worse,
    Relative {
        above: bool,
        by: f64,
    },
    Points {
        above: bool,
        by: f64,
    },
    /// `percent`: of a whole; of time per second, of a CPU.
    Absolute {
        above: bool,
        value: f64,
        percent: bool,
    },
}

/// What a condition says of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is met by none.
    Passed,
    /// It is met by these rows.
    Failed(Vec<usize>),
    /// There were too few events.
    TooFew,
    /// It can't be known.
    Unknown(String),
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let text = text.trim();
        let wrong = || format!("{text:?}: expected {GRAMMAR}");
        let (left, limit) = if let Some(left) = text.strip_suffix("worse") {
            (left, Limit::Worse)
        } else {
            let at = text.find(" >").or_else(|| text.find(" <")).map(|at| at + 1).or_else(|| text.rfind(['>', '<'])).ok_or_else(wrong)?;
            let limit = limit(text[at + 1..].trim(), text[at..].starts_with('>')).ok_or_else(wrong)?;
            (&text[..at], limit)
        };
        let left = left.trim();
        let left = if left.is_empty() { "*" } else { left };
        let name_end = left.find(['{', '.']).unwrap_or(left.len());
        let (metric, rest) = left.split_at(name_end);
        let (group, rest) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}').ok_or_else(wrong)?,
            None => ("", rest),
        };
        let pair = |pair: &str| pair.split_once('=').map(|(column, value)| (column.trim().to_owned(), value.trim().to_owned()));
        let group = group.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let statistic = match rest.strip_prefix('.') {
            Some(name) => Some(name.trim().to_owned()),
            None if rest.trim().is_empty() => None,
            None => return Err(wrong()),
        };
        Ok(Condition { text: text.to_owned(), metric: metric.trim().to_owned(), group, statistic, limit })
    }
}

fn limit(text: &str, above: bool) -> Option<Limit> {
    let finite = |text: &str| text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
    if text.starts_with(['+', '-']) {
        if let Some(points) = text.strip_suffix("pp") {
            return Some(Limit::Points { above, by: finite(points)? / 100.0 });
        }
        return Some(Limit::Relative { above, by: finite(text.strip_suffix('%')?)? / 100.0 });
    }
    const UNITS: [(&str, f64); 12] = [
        ("GiB/s", 1073741824.0),
        ("MiB/s", 1048576.0),
        ("KiB/s", 1024.0),
        ("GiB", 1073741824.0),
        ("MiB", 1048576.0),
        ("KiB", 1024.0),
        ("/s", 1.0),
        ("ns", 1.0),
        ("us", 1e3),
        ("ms", 1e6),
        ("%", 0.01),
        ("s", 1e9),
    ];
    let (number, unit) = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((text, 1.0));
    Some(Limit::Absolute { above, value: finite(number)? * unit, percent: text.ends_with('%') })
}

/// The conditions of a policy file: one a line; what follows a # is a comment.
pub fn read(path: &std::path::Path) -> Result<Vec<Condition>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(path.display(), error).hint("--policy takes a file with a condition in each line, as --fail-on takes them")
    })?;
    let lines = text.lines().enumerate().map(|(nth, line)| (nth + 1, line.split('#').next().unwrap_or_default().trim()));
    let conditions = lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(nth, line)| line.parse().map_err(|why: String| Error::new(format!("{}, line {nth}", path.display()), why)));
    conditions.collect()
}

impl Condition {
    /// Refuses names that don't exist.
    pub fn check(&self, metrics: &[&Metric]) -> Result<()> {
        let failed = |why: String| Error::new(format!("--fail-on {:?}", self.text), why);
        if self.metric != "*" && metrics.iter().all(|metric| metric.name != self.metric) {
            return Err(metric::unknown(&self.metric, &format!("--fail-on {:?}", self.text), metrics.iter().copied()));
        }
        let Some(statistic) = &self.statistic else { return Ok(()) };
        let known = |metric: &&&Metric| match &metric.function {
            Function::Quantiles(_) => super::judge::QUANTILES.iter().any(|(name, _)| name == statistic) || statistic == super::judge::SHAPE,
            Function::Rate(_) => statistic == "rate",
            Function::Share(..) => statistic == "share",
            Function::Ratio(..) => statistic == "ratio",
        };
        if metrics.iter().filter(|metric| self.is_of(&metric.name)).any(|metric| known(&metric)) {
            return Ok(());
        }
        Err(failed(format!("{} has no statistic {statistic}", self.metric))
            .hint("a distribution has p50, p90, p99, p99.9; others have rate, share or ratio"))
    }

    fn is_of(&self, metric: &str) -> bool {
        self.metric == "*" || self.metric == metric
    }

    fn chooses(&self, row: &Row, name: &str) -> bool {
        let matches =
            |(column, value): &(String, String)| self.group.iter().any(|(wanted, text)| wanted == column && (text == "*" || text == value));
        let of_group = match (self.group.is_empty(), self.metric == "*") {
            // Everything, if nothing is named.
            (true, true) => true,
            (true, false) => row.group.is_empty() || self.limit == Limit::Worse,
            _ => row.group.len() == self.group.len() && row.group.iter().all(matches),
        };
        self.is_of(name) && of_group && self.statistic.as_ref().is_none_or(|statistic| statistic == row.statistic)
    }

    /// Whether a row meets it.
    fn is_met(&self, row: &Row, alpha: f64) -> bool {
        let certain = row.adjusted.is_some_and(|p| p < alpha);
        let beyond = |above: bool, value: f64, limit: f64| if above { value > limit } else { value < limit };
        let [base, new] = row.values;
        match self.limit {
            Limit::Worse => row.verdict == Verdict::Worse,
            Limit::Relative { above, by } => match (base, new, row.change) {
                (Some(base), Some(new), Some(_)) if row.statistic == "share" => certain && beyond(above, new - base, by * base),
                (_, _, Some([ratio, ..])) => certain && beyond(above, ratio - 1.0, by),
                _ => false,
            },
            Limit::Points { above, by } => {
                certain && row.statistic == "share" && base.zip(new).is_some_and(|(base, new)| beyond(above, new - base, by))
            }
            Limit::Absolute { above, value, percent } => {
                // A rate in percent is time on a CPU, ns per second.
                let value = if percent && row.statistic == "rate" { value * 1e9 } else { value };
                row.statistic != super::judge::SHAPE && row.verdict != Verdict::TooFew && new.is_some_and(|new| beyond(above, new, value))
            }
        }
    }

    /// What it says of a comparison.
    pub fn judge(&self, comparison: &Comparison, alpha: f64) -> Outcome {
        if let Some(missing) = comparison.missing.iter().find(|missing| missing.metrics.contains(&self.metric)) {
            return Outcome::Unknown(missing.why.clone());
        }
        let name = |row: &Row| comparison.metrics[row.metric].1.name.as_str();
        let chosen: Vec<usize> =
            (0..comparison.rows.len()).filter(|at| self.chooses(&comparison.rows[*at], name(&comparison.rows[*at]))).collect();
        let met: Vec<usize> = chosen.iter().copied().filter(|at| self.is_met(&comparison.rows[*at], alpha)).collect();
        if !met.is_empty() {
            return Outcome::Failed(met);
        }
        let decided = |at: &usize| comparison.rows[*at].verdict != Verdict::TooFew;
        if self.limit == Limit::Worse || chosen.iter().any(decided) { Outcome::Passed } else { Outcome::TooFew }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() -> Result<(), String> {
        let read = |text: &str| text.parse::<Condition>();
        let condition = read("runqlat{comm=nginx}.p99.9 > +20%")?;
        assert_eq!(condition.metric, "runqlat");
        assert_eq!(condition.group, [("comm".to_owned(), "nginx".to_owned())]);
        assert_eq!(condition.statistic.as_deref(), Some("p99.9"));
        assert_eq!(condition.limit, Limit::Relative { above: true, by: 0.2 });
        assert_eq!(read("tcp_tx < -10%")?.limit, Limit::Relative { above: false, by: -0.1 });
        assert_eq!(read("disk_latency.p99>5ms")?.limit, Limit::Absolute { above: true, value: 5e6, percent: false });
        assert_eq!(read("failed_opens > +2pp")?.limit, Limit::Points { above: true, by: 0.02 });
        assert_eq!(read("failed_opens > 5%")?.limit, Limit::Absolute { above: true, value: 0.05, percent: true });
        assert_eq!(read("worse")?.metric, "*");
        assert_eq!(read("runqlat worse")?.metric, "runqlat");
        for text in
            ["", "runqlat", "runqlat >", "runqlat > fast", "runqlat{comm > 1", "runqlat{comm} > 1", "runqlat > +5", "x > nan", "x > inf"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        Ok(())
    }
}
