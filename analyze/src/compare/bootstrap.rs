//! Estimates and how sure they are: the bootstrap of blocks.

use super::measure::{BLOCKS, Cell};
use super::random::Random;
use super::sketch::{self, BUCKETS_PER_OCTAVE};
use super::stats::{mean, variance};

/// Resamples. 200 are enough for a standard error (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, section 6.4).
pub const RESAMPLES: usize = 300;
/// A group with about this share of a metric's events has twice the variance between runs that all events together have.
const SMALL: f64 = 0.2;
/// Threads that do what others queue vary so many times as much as others: what they do in one window says little of the next.
const POOL: f64 = 3.0;

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
    /// Standard deviation of the logarithm between runs of the same workload on the same host that is assumed until runs show it, of a
    /// group that has this share of the metric's events: what contributes little varies more, and a pool of workers most. `make calibrate`
    /// measures it.
    pub fn assumed_noise(self, share: f64, is_pool: bool) -> f64 {
        let of_all = match self {
            Statistic::Rate { .. } | Statistic::Share { .. } => 0.10,
            Statistic::Ratio => 0.15,
            Statistic::Quantile(p) if p <= 0.5 => 0.15,
            Statistic::Quantile(p) if p <= 0.9 => 0.20,
            Statistic::Quantile(p) if p <= 0.99 => 0.30,
            Statistic::Quantile(_) => 0.40,
        };
        let of_kind = if is_pool { POOL } else { 1.0 };
        of_kind * of_all * (1.0 + SMALL * (1.0 / share.clamp(1e-3, 1.0) - 1.0)).sqrt()
    }

    /// Statistics that are noisy alike.
    pub fn class(self) -> Class {
        match self {
            Statistic::Rate { .. } | Statistic::Share { .. } | Statistic::Ratio => Class::Rates,
            Statistic::Quantile(p) if p <= 0.5 => Class::Medians,
            Statistic::Quantile(p) if p <= 0.9 => Class::Ninetieths,
            Statistic::Quantile(_) => Class::Tails,
        }
    }
}

/// Statistics that are noisy alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Rates, shares, ratios.
    Rates,
    /// Medians.
    Medians,
    /// p90.
    Ninetieths,
    /// p99 and beyond.
    Tails,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Class::Rates, Class::Medians, Class::Ninetieths, Class::Tails];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Rates => "rates",
            Class::Medians => "medians",
            Class::Ninetieths => "p90",
            Class::Tails => "p99",
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
    parts: f64,
    seconds: f64,
}

fn sums<'a>(cells: impl Iterator<Item = (&'a Cell, f64)>) -> Sums {
    cells.fold(Sums::default(), |all, (cell, seconds)| Sums {
        n: all.n + cell.n as f64,
        sum: all.sum + cell.sum as f64,
        of: all.of + cell.of as f64,
        parts: all.parts + cell.parts as f64,
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
    /// Half of what an average event adds to the part, and to the whole: what there is where there is nothing.
    half: [f64; 2],
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
    /// What it was counted of; `None` of a quantile.
    pub counted: Option<Counted>,
}

/// The events of an estimate that is made of sums.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// How many.
    pub n: f64,
    /// In how much: seconds, or the whole that they are a part of.
    pub of: f64,
    /// Whether they have amounts, so that their number doesn't tell all.
    pub amounts: bool,
}

impl<'a> Side<'a> {
    /// The runs of a side.
    pub fn new(runs: Vec<Run<'a>>, buckets: &[u16], half: [f64; 2], seed: u64) -> Side<'a> {
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
        Side { runs, distribution, resamples, half }
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
        let [half_part, half] = self.half;
        let known = |value: f64, when: bool| (when && value.is_finite()).then_some(value);
        match statistic {
            _ if sums.sum < 0.0 || sums.of < 0.0 => {
                // Differences of counters may be off by a little on either side of 0.
                self.of_sums(statistic, Sums { sum: sums.sum.max(0.0), of: sums.of.max(0.0), ..sums })
            }
            Statistic::Rate { rows } => {
                let (amount, half) = if rows { (sums.n, 0.5) } else { (sums.sum, half_part) };
                (known(amount / sums.seconds, true), ((amount + half) / sums.seconds).ln())
            }
            Statistic::Share { rows } => {
                // Half an event on either side: of rows an event is 1, else the average.
                let half = if rows { 0.5 } else { half };
                let rest = (sums.of - sums.sum).max(0.0);
                (known(sums.sum / sums.of, sums.of > 0.0), ((sums.sum + half) / (rest + half)).ln())
            }
            Statistic::Ratio => (known(sums.sum / sums.of, sums.of > 0.0), ((sums.sum + half_part) / (sums.of + half)).ln()),
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
        self.estimated(statistic, (value, log), &replicates, self.runs.iter().map(of_run).collect(), self.busy())
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
        // Blocks with values that are beyond the quantile: where they are few, it is less sure than the number of blocks says.
        let beyond = |value: f64| {
            let first = self.distribution.buckets.partition_point(|bucket| sketch::low(bucket + 1) <= value);
            let blocks = self.distribution.blocks.iter();
            blocks.filter(|block| block.last().is_some_and(|(at, _)| *at as usize >= first)).count()
        };
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
            let busy = value.map_or(0, beyond);
            self.estimated(Statistic::Quantile(*p), (value, log(value.unwrap_or(0.0))), &replicates, of_runs, busy)
        };
        p.iter().enumerate().map(estimate).collect()
    }

    fn estimated(
        &self,
        statistic: Statistic,
        (value, log): (Option<f64>, f64),
        replicates: &[f64],
        of_runs: Vec<f64>,
        busy: usize,
    ) -> Estimate {
        let widen = BLOCKS as f64 / (BLOCKS as f64 - 1.0);
        let (drawn, least) = (variance(replicates) * widen, self.least_variance(statistic));
        // What is known from theory has no degrees of freedom to lose: of what never happened there is no busy block.
        let df = if drawn > least { busy.saturating_sub(self.runs.len()).max(1) as f64 } else { f64::INFINITY };
        Estimate { value, log, within: drawn.max(least), df, of_runs, counted: self.counted(statistic) }
    }

    /// See [`Estimate`].
    fn counted(&self, statistic: Statistic) -> Option<Counted> {
        let all = sums(self.cells());
        let (n, of, amounts) = match statistic {
            Statistic::Rate { rows: true } => (all.n, all.seconds, false),
            Statistic::Rate { rows: false } => (all.parts, all.seconds, true),
            Statistic::Share { rows: true } => (all.sum, all.of, false),
            Statistic::Share { rows: false } | Statistic::Ratio => (all.parts, all.of, true),
            Statistic::Quantile(_) => return None,
        };
        Some(Counted { n, of, amounts })
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
            Statistic::Share { rows: false } => 1.0 / (all.n + 0.5),
            // Few events may make the part, however many the whole.
            Statistic::Ratio => 1.0 / (all.parts + 0.5) + 1.0 / (all.n + 0.5),
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
