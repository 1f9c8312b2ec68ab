//! The statistics of a comparison, on plain numbers. docs/COMPARE.md has the formulas in full.
//!
//! * A side is one or more runs, a run is [`BLOCKS`] blocks. What is estimated is a logarithm (of a rate, a quantile; of the odds of a share), so
//!   that a difference of two is a ratio.
//! * Noise within runs: block bootstrap (H. Künsch, Ann. Statist. 17, 1989; E. Carlstein, Ann. Statist. 14, 1986, for blocks that don't
//!   overlap), widened by √(n/(n−1)), which resampling n blocks leaves out (T. Hesterberg, Am. Stat. 69, 2015).
//! * Noise between runs: what is assumed of a statistic in general, moderated by what the runs of this comparison show (G. Smyth, Stat. Appl. Genet.
//!   Mol. Biol. 3, 2004).
//! * Many tests: Y. Benjamini and Y. Hochberg, J. R. Statist. Soc. B 57, 1995.

use super::measure::{BLOCKS, Cell};
use super::sketch::{self, BUCKETS_PER_OCTAVE};
use statrs::distribution::{ContinuousCDF, StudentsT};
use std::collections::BTreeMap;

/// Resamples. 200 are enough for a standard error (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, section 6.4).
pub const RESAMPLES: usize = 300;
/// As many metrics must show the noise between runs before the assumption is changed by them.
const METRICS: usize = 10;
/// The degrees of freedom that the assumed noise between runs counts for.
pub const PRIOR_DF: f64 = 10.0;

/// SplitMix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014): the same numbers everywhere and for ever, which libraries don't promise.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.draw()) * n as u128) >> 64) as usize
    }

    /// From the standard normal distribution (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let unit = |x: u64| (x >> 11) as f64 / (1u64 << 53) as f64;
        let (u, v) = (1.0 - unit(self.draw()), unit(self.draw()));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// What is estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistic {
    /// Events or amounts per second.
    Rate {
        /// Whether rows are counted, or a column is summed.
        rows: bool,
    },
    /// A part of a whole.
    Share {
        /// Whether rows are counted.
        rows: bool,
    },
    /// A quotient of two sums.
    Ratio,
    /// A quantile.
    Quantile(f64),
}

impl Statistic {
    /// Standard deviation of the logarithm between runs of the same workload on the same host that is assumed until runs show it;
    /// docs/CALIBRATION.md has what was measured.
    pub fn assumed_noise(self) -> f64 {
        match self {
            Statistic::Rate { .. } | Statistic::Share { .. } => 0.10,
            Statistic::Ratio => 0.15,
            Statistic::Quantile(p) if p <= 0.5 => 0.10,
            Statistic::Quantile(p) if p <= 0.9 => 0.15,
            Statistic::Quantile(p) if p <= 0.99 => 0.20,
            Statistic::Quantile(_) => 0.30,
        }
    }
}

/// A run of a group: its blocks, and how long it was.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// As many as [`BLOCKS`], or none: nothing happened.
    pub blocks: &'a [Cell],
    /// Seconds.
    pub seconds: f64,
}

/// Sums of some blocks of some runs.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: f64,
    sum: f64,
    of: f64,
    seconds: f64,
}

fn sums<'a>(cells: impl Iterator<Item = (&'a Cell, f64)>) -> Sums {
    cells.fold(Sums::default(), |all, (cell, seconds)| Sums {
        n: all.n + cell.n as f64,
        sum: all.sum + cell.sum as f64,
        of: all.of + cell.of as f64,
        seconds: all.seconds + seconds,
    })
}

/// A distribution: counts of the buckets in use, which both sides share.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    /// The buckets, in order.
    buckets: Vec<u16>,
    /// For each block of each run, positions in `buckets` and counts.
    blocks: Vec<Vec<(u32, f64)>>,
}

impl Distribution {
    fn of(runs: &[Run<'_>], buckets: &[u16]) -> Distribution {
        let block = |cell: &Cell| {
            let found = cell.sketch.0.iter().filter_map(|(bucket, count)| {
                let at = buckets.binary_search(bucket).ok()?;
                Some((at as u32, f64::from(*count)))
            });
            found.collect()
        };
        Distribution { buckets: buckets.to_vec(), blocks: runs.iter().flat_map(|run| run.blocks).map(block).collect() }
    }

    /// The counts of all blocks, each so many times.
    fn counts(&self, times: impl Fn(usize) -> f64, into: &mut Vec<f64>) {
        into.clear();
        into.resize(self.buckets.len(), 0.0);
        for (nth, block) in self.blocks.iter().enumerate() {
            let times = times(nth);
            if times > 0.0 {
                for (at, count) in block {
                    into[*at as usize] += count * times;
                }
            }
        }
    }

    /// The values below which the shares `p` (in order) of the counts are, interpolated within their buckets; nothing of nothing.
    fn quantiles(&self, counts: &[f64], p: &[f64], into: &mut Vec<f64>) {
        into.clear();
        let total: f64 = counts.iter().sum();
        let mut below = 0.0;
        for (bucket, count) in self.buckets.iter().zip(counts).filter(|(_, count)| **count > 0.0) {
            while let Some(wanted) = p.get(into.len()).map(|p| total * p).filter(|wanted| below + count >= *wanted) {
                let (low, high) = (sketch::low(*bucket), sketch::low(bucket + 1));
                // Below 64 a bucket is one value.
                let width = if high - low <= 1.0 { 0.0 } else { high - low };
                into.push(low + width * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
        }
        if let Some(last) = into.last().copied() {
            // Rounding may leave the last ones a hair beyond all counts.
            into.resize(p.len(), last);
        }
    }
}

/// The buckets that any of the runs uses.
pub fn buckets(sides: [&[Run<'_>]; 2]) -> Vec<u16> {
    let cells = sides.into_iter().flatten().flat_map(|run| run.blocks);
    let mut all: Vec<u16> = cells.flat_map(|cell| cell.sketch.0.iter().map(|(bucket, _)| *bucket)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// One side's estimates of one group.
#[derive(Debug, Clone)]
pub struct Side<'a> {
    runs: Vec<Run<'a>>,
    distribution: Distribution,
    /// For each resample, how many times each block is in it.
    resamples: Vec<Vec<u8>>,
    /// Amount of an average event, of both sides: what half an event counts.
    mean: f64,
}

/// An estimate.
#[derive(Debug, Clone, Default)]
pub struct Estimate {
    /// The value as people read it; `None` if nothing happened that it could be made of.
    pub value: Option<f64>,
    /// Its logarithm (of a share: log odds), made of slightly more, so that it exists.
    pub log: f64,
    /// Variance of the logarithm within the runs.
    pub within: f64,
    /// Degrees of freedom of that.
    pub df: f64,
    /// The logarithm for each run by itself.
    pub of_runs: Vec<f64>,
}

impl<'a> Side<'a> {
    /// The runs of a side.
    pub fn new(runs: Vec<Run<'a>>, buckets: &[u16], mean: f64, seed: u64) -> Side<'a> {
        let distribution = Distribution::of(&runs, buckets);
        let mut random = Random::new(seed);
        let resamples = (0..RESAMPLES).map(|_| {
            let mut times = vec![0u8; runs.iter().map(|run| run.blocks.len()).sum()];
            let mut start = 0;
            for run in &runs {
                for _ in 0..run.blocks.len() {
                    let at = start + random.below(run.blocks.len());
                    times[at] = times[at].saturating_add(1);
                }
                start += run.blocks.len();
            }
            times
        });
        let resamples = resamples.collect();
        Side { runs, distribution, resamples, mean }
    }

    /// Events in all.
    pub fn events(&self) -> u64 {
        self.runs.iter().flat_map(|run| run.blocks).map(|cell| cell.n).sum()
    }

    fn cells(&self) -> impl Iterator<Item = (&Cell, f64)> {
        self.runs.iter().flat_map(|run| {
            let seconds = run.seconds / BLOCKS as f64;
            run.blocks.iter().map(move |cell| (cell, seconds))
        })
    }

    fn seconds(&self) -> f64 {
        self.runs.iter().map(|run| run.seconds).sum()
    }

    /// Blocks in which anything happened.
    fn busy(&self) -> usize {
        self.cells().filter(|(cell, _)| cell.n > 0).count()
    }

    /// An estimate of a statistic that is made of sums.
    fn of_sums(&self, statistic: Statistic, sums: Sums) -> (Option<f64>, f64) {
        let half = 0.5 * self.mean.max(f64::MIN_POSITIVE);
        let known = |value: f64, when: bool| (when && value.is_finite()).then_some(value);
        match statistic {
            _ if sums.sum < 0.0 || sums.of < 0.0 => {
                // Differences of counters may be off by a little on either side of 0.
                self.of_sums(statistic, Sums { sum: sums.sum.max(0.0), of: sums.of.max(0.0), ..sums })
            }
            Statistic::Rate { rows } => {
                let (amount, half) = if rows { (sums.n, 0.5) } else { (sums.sum, half) };
                (known(amount / sums.seconds, true), ((amount + half) / sums.seconds).ln())
            }
            Statistic::Share { rows } => {
                // Half an event on either side: of rows an event is 1, else the average.
                let half = if rows { 0.5 } else { half };
                let rest = (sums.of - sums.sum).max(0.0);
                (known(sums.sum / sums.of, sums.of > 0.0), ((sums.sum + half) / (rest + half)).ln())
            }
            Statistic::Ratio => (known(sums.sum / sums.of, sums.of > 0.0), ((sums.sum + half) / (sums.of + half)).ln()),
            Statistic::Quantile(_) => (None, 0.0),
        }
    }

    /// The estimate of a statistic that is made of sums.
    pub fn estimate(&self, statistic: Statistic) -> Estimate {
        let replicates: Vec<f64> = self
            .resamples
            .iter()
            .map(|times| {
                let cells = self.cells().zip(times).filter(|(_, times)| **times > 0);
                let all = cells.fold(Sums { seconds: self.seconds(), ..Sums::default() }, |all, ((cell, _), times)| {
                    let times = f64::from(*times);
                    Sums {
                        n: all.n + cell.n as f64 * times,
                        sum: all.sum + cell.sum as f64 * times,
                        of: all.of + cell.of as f64 * times,
                        ..all
                    }
                });
                self.of_sums(statistic, all).1
            })
            .collect();
        let (value, log) = self.of_sums(statistic, sums(self.cells()));
        let of_run = |run: &Run<'_>| {
            let seconds = run.seconds / BLOCKS as f64;
            self.of_sums(statistic, sums(run.blocks.iter().map(|cell| (cell, seconds)))).1
        };
        self.estimated(statistic, value, log, &replicates, self.runs.iter().map(of_run).collect())
    }

    /// The estimates of the quantiles `p`, which are in order. `floor` is added to values before their logarithm is taken.
    pub fn quantiles(&self, p: &[f64], floor: f64) -> Vec<Estimate> {
        let (mut counts, mut found) = (Vec::new(), Vec::new());
        let mut quantiles = |times: &dyn Fn(usize) -> f64| {
            self.distribution.counts(times, &mut counts);
            self.distribution.quantiles(&counts, p, &mut found);
            found.clone()
        };
        let values = quantiles(&|_| 1.0);
        // A resample without an event tells nothing.
        let replicates: Vec<Vec<f64>> =
            self.resamples.iter().map(|times| quantiles(&|nth| f64::from(times[nth]))).filter(|found| !found.is_empty()).collect();
        let runs: Vec<Vec<f64>> = (0..self.runs.len())
            .map(|run| quantiles(&|block| if (run * BLOCKS..(run + 1) * BLOCKS).contains(&block) { 1.0 } else { 0.0 }))
            .collect();
        let log = |value: f64| (value + floor).ln();
        let estimate = |(nth, p): (usize, &f64)| {
            let replicates: Vec<f64> = replicates.iter().map(|found| log(found[nth])).collect();
            let of_runs = runs.iter().map(|found| log(found.get(nth).copied().unwrap_or(0.0))).collect();
            let value = values.get(nth).copied();
            self.estimated(Statistic::Quantile(*p), value, log(value.unwrap_or(0.0)), &replicates, of_runs)
        };
        p.iter().enumerate().map(estimate).collect()
    }

    fn estimated(&self, statistic: Statistic, value: Option<f64>, log: f64, replicates: &[f64], of_runs: Vec<f64>) -> Estimate {
        let widen = BLOCKS as f64 / (BLOCKS as f64 - 1.0);
        let within = (variance(replicates) * widen).max(self.least_variance(statistic));
        Estimate { value, log, within, df: (self.busy().saturating_sub(self.runs.len())).max(1) as f64, of_runs }
    }

    /// The value of a quantile or a quotient, without how sure it is.
    pub fn value(&self, statistic: Statistic) -> Option<f64> {
        let Statistic::Quantile(p) = statistic else { return self.of_sums(statistic, sums(self.cells())).0 };
        let (mut counts, mut found) = (Vec::new(), Vec::new());
        self.distribution.counts(|_| 1.0, &mut counts);
        self.distribution.quantiles(&counts, &[p], &mut found);
        found.first().copied()
    }

    /// What the variance can't be below, however alike the blocks are: events that come independently of each other are Poisson
    /// distributed; a quantile is as exact as its bucket.
    fn least_variance(&self, statistic: Statistic) -> f64 {
        let all = sums(self.cells());
        match statistic {
            Statistic::Rate { .. } => 1.0 / (all.n + 0.5),
            Statistic::Share { rows: true } => 1.0 / (all.sum + 0.5) + 1.0 / ((all.of - all.sum).max(0.0) + 0.5),
            Statistic::Share { rows: false } | Statistic::Ratio => 1.0 / (all.n + 0.5),
            Statistic::Quantile(_) => (1.0 / f64::from(BUCKETS_PER_OCTAVE)).powi(2) / 12.0,
        }
    }
}

/// The largest distance of two distribution functions (Kolmogorov and Smirnov), and how likely it is to be as large if nothing changed.
///
/// The events of a capture are not independent, so the distance's own tables don't hold: its distribution is that of resampled
/// blocks around what was seen, moved by `noise` (the logarithm's standard deviation between runs), with the tail of a Gumbel
/// distribution fitted by its moments.
pub fn distance(base: &Side<'_>, new: &Side<'_>, noise: f64, seed: u64) -> Option<(f64, f64)> {
    let cumulated = |side: &Side<'_>, times: &dyn Fn(usize) -> f64, into: &mut Vec<f64>| {
        side.distribution.counts(times, into);
        let total: f64 = into.iter().sum();
        let mut below = 0.0;
        for count in into.iter_mut() {
            below += *count;
            *count = below / total;
        }
        total > 0.0
    };
    let (mut f, mut g, mut f2, mut g2) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    if !cumulated(base, &|_| 1.0, &mut f) || !cumulated(new, &|_| 1.0, &mut g) {
        return None;
    }
    let largest = |differences: &mut dyn Iterator<Item = f64>| differences.map(f64::abs).fold(0.0, f64::max);
    let found = largest(&mut f.iter().zip(&g).map(|(f, g)| g - f));
    let buckets = &base.distribution.buckets;
    let mut random = Random::new(seed);
    let mut distances = Vec::with_capacity(RESAMPLES);
    for (a, b) in base.resamples.iter().zip(&new.resamples) {
        let shift = random.normal() * noise * f64::from(BUCKETS_PER_OCTAVE) / std::f64::consts::LN_2;
        let shift = shift.round();
        if !cumulated(base, &|nth| f64::from(a[nth]), &mut f2) || !cumulated(new, &|nth| f64::from(b[nth]), &mut g2) {
            continue;
        }
        // The new side's distribution as it would be with all values multiplied: its function, read so many buckets further down.
        let moved = buckets.iter().map(|bucket| {
            let before = buckets.partition_point(|other| f64::from(*other) <= f64::from(*bucket) - shift);
            if before == 0 { 0.0 } else { g[before - 1] }
        });
        let moved: Vec<f64> = moved.collect();
        distances.push(largest(&mut (0..buckets.len()).map(|i| (g2[i] - g[i]) - (f2[i] - f[i]) + (moved[i] - g[i]))));
    }
    let spread = variance(&distances).sqrt();
    if distances.len() < RESAMPLES / 2 || spread <= 0.0 {
        return None;
    }
    let scale = spread * 6f64.sqrt() / std::f64::consts::PI;
    let location = mean(&distances) - 0.577_215_664_901_532_9 * scale;
    let p = -(-(-(found - location) / scale).exp()).exp_m1();
    Some((found, p.clamp(f64::MIN_POSITIVE, 1.0)))
}

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
    let df = if df.is_finite() { df.max(1.0) } else { 1.0 };
    let (change, error) = (new.log - base.log, variance.sqrt());
    let p = if error > 0.0 { two_sided(change / error, df) } else { 1.0 };
    Test { change, error, df, p }
}

/// Probability of a value of Student's t at least so far from 0.
pub fn two_sided(t: f64, df: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, df) {
        Ok(distribution) if t.is_finite() => (2.0 * distribution.cdf(-t.abs())).clamp(f64::MIN_POSITIVE, 1.0),
        _ => 1.0,
    }
}

/// The value of Student's t that is exceeded, on either side, with probability `alpha`.
pub fn critical(alpha: f64, df: f64) -> f64 {
    StudentsT::new(0.0, 1.0, df).map_or(f64::INFINITY, |distribution| distribution.inverse_cdf(1.0 - alpha / 2.0))
}

/// Benjamini and Hochberg's adjusted p-values, in the order of `p`.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (above, at) in order.into_iter().enumerate() {
        let rank = p.len() - above;
        least = least.min(p[at] * p.len() as f64 / rank as f64);
        adjusted[at] = least;
    }
    adjusted
}
