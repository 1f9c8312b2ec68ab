//! The statistics of a comparison, on plain numbers. docs/COMPARE.md has the formulas in full.
//!
//! * A side is one or more runs, a run is [`super::measure::BLOCKS`] blocks. What is estimated is a logarithm (of a rate, a quantile; of the odds of a share), so
//!   that a difference of two is a ratio.
//! * Noise within runs: block bootstrap (H. Künsch, Ann. Statist. 17, 1989; E. Carlstein, Ann. Statist. 14, 1986, for blocks that don't
//!   overlap), widened by √(n/(n−1)), which resampling n blocks leaves out (T. Hesterberg, Am. Stat. 69, 2015).
//! * Noise between runs: what is assumed of a statistic in general, moderated by what the runs of this comparison show (G. Smyth, Stat. Appl. Genet.
//!   Mol. Biol. 3, 2004).
//! * Many tests: Y. Benjamini and Y. Hochberg, J. R. Statist. Soc. B 57, 1995.

use super::bootstrap::Estimate;
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::BTreeMap;

/// As many metrics must show the noise between runs before the assumption is changed by them.
const METRICS: usize = 10;
/// The degrees of freedom that the assumed noise between runs counts for.
pub const PRIOR_DF: f64 = 10.0;

/// Arithmetic mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Unbiased variance; 0 of fewer than two.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// Median; `None` of nothing.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// How much the runs of a side differ: their variance, its degrees of freedom, and the variance that the blocks of a run explain.
#[derive(Debug, Clone, Copy)]
struct Spread {
    runs: f64,
    variance: f64,
    df: f64,
    within: f64,
}

impl Spread {
    fn of(side: &Estimate) -> Spread {
        let runs = side.of_runs.len().max(1) as f64;
        // The variance of a run's estimate is that of the side's times the number of runs.
        Spread { runs, variance: variance(&side.of_runs), df: runs - 1.0, within: side.within * runs }
    }
}

/// By how much the runs vary more than `assumed` (a standard deviation between runs) and their blocks explain, with the degrees of freedom.
fn excess(sides: &[Spread; 2], assumed: f64) -> (f64, f64) {
    let df: f64 = sides.iter().map(|side| side.df).sum();
    let sum: f64 = sides.iter().filter(|side| side.df > 0.0).map(|side| side.df * side.variance / (assumed.powi(2) + side.within)).sum();
    (if df > 0.0 { sum / df } else { 1.0 }, df)
}

/// How much noisier the runs are than assumed, from the metrics' numbers, their pairs of estimates, and the standard deviation that is
/// assumed of each: the factor with which the median of their excess is what chance makes it. The statistics and groups of a metric are
/// noisy together and count once; few metrics move the factor from 1 by little, fewer than [`METRICS`] not at all.
pub fn observed_noise<'a>(estimates: impl Iterator<Item = (usize, &'a [Estimate; 2], f64)>) -> Option<f64> {
    let mut metrics: BTreeMap<usize, Vec<([Spread; 2], f64)>> = BTreeMap::new();
    for (metric, sides, assumed) in estimates {
        let sides = sides.each_ref().map(Spread::of);
        let mut counted = sides.iter().filter(|side| side.df > 0.0).peekable();
        if counted.peek().is_some() && counted.all(|side| side.within < assumed.powi(2)) {
            metrics.entry(metric).or_default().push((sides, assumed));
        }
    }
    if metrics.len() < METRICS {
        return None;
    }
    let of_metric = |spreads: &Vec<([Spread; 2], f64)>, factor: f64| {
        let excess = spreads.iter().map(|(sides, assumed)| {
            let (excess, df) = excess(sides, assumed * factor);
            // The median of chi-square over its degrees of freedom (E. Wilson and M. Hilferty, PNAS 17, 1931).
            excess / (1.0 - 2.0 / (9.0 * df)).powi(3)
        });
        median(&mut excess.collect::<Vec<_>>()).unwrap_or(1.0)
    };
    let beyond = |factor: f64| {
        let mut all: Vec<f64> = metrics.values().map(|spreads| of_metric(spreads, factor)).collect();
        median(&mut all).is_some_and(|median| median > 1.0)
    };
    let (mut low, mut high) = (0.1f64, 10.0f64);
    for _ in 0..40 {
        let middle = (low * high).sqrt();
        if beyond(middle) { low = middle } else { high = middle }
    }
    let (known, assumed) = (metrics.len() as f64, METRICS as f64);
    Some(((assumed + known * high.powi(2)) / (assumed + known)).sqrt())
}

/// The standard deviation between the runs of a statistic of which `assumed` is assumed: moderated by what its own runs show.
pub fn noise(sides: &[Estimate; 2], assumed: f64) -> f64 {
    let (excess, df) = excess(&sides.each_ref().map(Spread::of), assumed);
    assumed * ((PRIOR_DF + df * excess) / (PRIOR_DF + df)).sqrt()
}

/// A comparison of two estimates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Difference of the logarithms.
    pub change: f64,
    /// Its standard error.
    pub error: f64,
    /// Degrees of freedom of that.
    pub df: f64,
    /// How likely so large a difference is if nothing changed.
    pub p: f64,
}

/// Compares: `assumed` is the standard deviation between runs, `lost` the shares of events that were lost.
pub fn test(sides: &[Estimate; 2], assumed: f64, lost: [f64; 2]) -> Test {
    let [base, new] = sides;
    let spreads = sides.each_ref().map(Spread::of);
    let (excess, df) = excess(&spreads, assumed);
    let moderated = (PRIOR_DF + df * excess) / (PRIOR_DF + df);
    let between: f64 = spreads.iter().map(|side| assumed.powi(2) / side.runs).sum();
    let parts = [
        (moderated * base.within, base.df + df),
        (moderated * new.within, new.df + df),
        (moderated * between, PRIOR_DF + df),
        (lost[0].powi(2) + lost[1].powi(2), f64::INFINITY),
    ];
    let variance: f64 = parts.iter().map(|(variance, _)| variance).sum();
    // F. Satterthwaite, Biometrics Bulletin 2, 1946.
    let df = variance.powi(2) / parts.iter().map(|(variance, df)| variance.powi(2) / df).sum::<f64>();
    // Of no variance it is not a number, for which `max` takes the other.
    let df = df.max(1.0);
    let change = new.log - base.log;
    let error = few(sides, change, variance).unwrap_or_else(|| variance.sqrt());
    let p = if error > 0.0 { two_sided(change / error, df) } else { 1.0 };
    Test { change, error, df, p }
}

/// Fewer events than this on a side, and a logarithm is no longer about normally distributed.
const FEW: f64 = 10.0;

/// The standard error where a side has few events or none: there `change` over its `variance` understates what is seen (from none to ten is
/// no accident), so it is replaced by the signed root of the likelihood ratio of two Poisson counts with the same rate (D. Cox and D. Hinkley,
/// Theoretical Statistics, 1974, section 9.3), widened by as much as the variance exceeds that of such counts.
fn few(sides: &[Estimate; 2], change: f64, variance: f64) -> Option<f64> {
    let [base, new] = [sides[0].counted?, sides[1].counted?];
    let ((x, t), (y, u)) = ((base.n, base.of), (new.n, new.of));
    // Amounts are as uncertain as they are different, unless there are none.
    let few = if base.amounts || new.amounts { f64::MIN_POSITIVE } else { FEW };
    if x.min(y) >= few || x + y <= 0.0 || !(t > 0.0 && u > 0.0) {
        return None;
    }
    let expected = [(x + y) * t / (t + u), (x + y) * u / (t + u)];
    let part = |count: f64, expected: f64| if count > 0.0 { count * (count / expected).ln() } else { 0.0 };
    let ratio = 2.0 * (part(x, expected[0]) + part(y, expected[1]));
    // The variance of the logarithms was that of the counts that were seen: of none it is 2, of the expected number less.
    let seen = 1.0 / (x + 0.5) + 1.0 / (y + 0.5);
    let same = 1.0 / expected[0] + 1.0 / expected[1];
    let wider = (same + (variance - seen).max(0.0)) / same;
    let error = change.abs() / (ratio.max(0.0) / wider).sqrt();
    // Of the same rate on both sides neither says anything.
    (error.is_finite() && error > 0.0).then_some(error.min(variance.sqrt()))
}

/// Probability of a value of Student's t at least so far from 0.
pub fn two_sided(t: f64, df: f64) -> f64 {
    // With more, statrs computes nonsense, and it is the normal distribution in any case.
    match StudentsT::new(0.0, 1.0, if df > 1e9 { 1e9 } else { df }) {
        Ok(distribution) if t.is_finite() => (2.0 * distribution.cdf(-t.abs())).clamp(f64::MIN_POSITIVE, 1.0),
        _ => 1.0,
    }
}

/// The value of Student's t that is exceeded, on either side, with probability `alpha`; infinite if there is none below 1e300.
///
/// Bisection ends, which the iteration of statrs' `inverse_cdf` (AS 109) need not: with many degrees of freedom it doesn't.
pub fn critical(alpha: f64, df: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, df) > alpha {
        (low, high) = (high, high * 2.0);
        if high > 1e300 {
            return f64::INFINITY;
        }
    }
    while high - low > 1e-9 * high {
        let middle = low + (high - low) / 2.0;
        if two_sided(middle, df) > alpha { low = middle } else { high = middle }
    }
    high
}

/// Benjamini and Hochberg's adjusted p-values, in the order of `p`, of tests with weights whose mean is 1 (C. Genovese, K. Roeder and L. Wasserman,
/// Biometrika 93, 2006): fixed beforehand, they say which are looked at more closely.
pub fn adjusted(p: &[(f64, f64)]) -> Vec<f64> {
    let weighted: Vec<f64> = p.iter().map(|(p, weight)| p / weight).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| weighted[*b].total_cmp(&weighted[*a]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (above, at) in order.into_iter().enumerate() {
        let rank = p.len() - above;
        least = least.min(weighted[at] * p.len() as f64 / rank as f64);
        adjusted[at] = least;
    }
    adjusted
}
