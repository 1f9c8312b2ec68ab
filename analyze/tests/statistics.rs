//! The statistics of `ebrec compare`: known values, and what it promises on simulated runs.

use ebrec_analyze::compare::judge::{Comparison, Rules, Verdict, compare};
use ebrec_analyze::compare::measure::{BLOCKS, Cell, Measured, Measurement, State};
use ebrec_analyze::compare::metric::{self, Source};
use ebrec_analyze::compare::random::Random;
use ebrec_analyze::compare::sketch::Building;
use ebrec_analyze::compare::stats;
use std::collections::BTreeMap;

const RULES: Rules = Rules { alpha: 0.05, least: 0.1, seed: 1, threads: 2 };

#[test]
fn the_t_distribution_is_that_of_the_tables() {
    for (t, df, p) in [(2.228, 10.0, 0.05), (12.706, 1.0, 0.05), (1.96, 1e6, 0.05), (4.587, 10.0, 0.001), (0.0, 5.0, 1.0)] {
        let found = stats::two_sided(t, df);
        assert!((found - p).abs() < p * 0.01, "{t} {df}: {found}");
        assert!(p >= 1.0 || (stats::critical(p, df) - t).abs() < 0.01, "{p} {df}: {}", stats::critical(p, df));
    }
    assert!(stats::two_sided(f64::NAN, 5.0) >= 1.0 && stats::two_sided(1e9, 30.0) > 0.0);
    // However many degrees of freedom there are, it ends.
    for df in [1e-3, 19.0, 1e6, 1e9, 1e12, 1e17, 1e300, f64::INFINITY, f64::NAN] {
        for alpha in [0.5, 0.05, 1e-6, 1e-300, 0.0] {
            let reached = stats::critical(alpha, df);
            assert!(reached > 0.0, "{alpha} {df}: {reached}");
        }
    }
    for df in [1e9, 1e17, 1e300, f64::INFINITY] {
        assert!((stats::critical(0.05, df) - 1.959_964).abs() < 1e-4, "{df}: {}", stats::critical(0.05, df));
    }
}

#[test]
fn p_values_are_adjusted_as_r_does() {
    // p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05, 0.9), "BH")
    let found = stats::adjusted(&[0.9, 0.01, 0.05, 0.02, 0.04, 0.03].map(|p| (p, 1.0)));
    for (found, expected) in found.iter().zip([0.9, 0.06, 0.06, 0.06, 0.06, 0.06]) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
    // p.adjust(c(0.0001, 0.5), "BH")
    assert_eq!(stats::adjusted(&[(0.0001, 1.0), (0.5, 1.0)]), [0.0002, 0.5]);
    // p.adjust(c(0.01 / 1.5, 0.03 / 0.5), "BH")
    let weighted = stats::adjusted(&[(0.01, 1.5), (0.03, 0.5)]);
    assert!((weighted[0] - 0.04 / 3.0).abs() < 1e-12 && (weighted[1] - 0.06).abs() < 1e-12, "{weighted:?}");
    assert!(stats::adjusted(&[]).is_empty());
}

#[test]
fn random_numbers_are_the_same_everywhere() {
    // The reference implementation's first numbers from the seed 1234567.
    let mut random = Random::new(1_234_567);
    assert_eq!([random.draw(), random.draw()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    let normal: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
    assert!(stats::mean(&normal).abs() < 0.03 && (stats::variance(&normal) - 1.0).abs() < 0.05);
}

fn sources() -> Vec<Source> {
    let text = "-- Simulated\n-- group: g\n-- needs: loss\n-- by: comm\n-- metric: waits = quantiles(ns) ns lower : Waits.\n\
        -- metric: calls = rate() calls neutral : Calls.\n-- metric: failed = share(f) lower : Failed.\nSELECT 1\n";
    metric::parse("simulated", text).into_iter().collect()
}

/// How a simulated workload behaves.
#[derive(Clone, Copy)]
struct Workload {
    /// Events in a block.
    rate: f64,
    /// Median of the values.
    median: f64,
    /// Share of failures.
    failed: f64,
    /// Standard deviation of the logarithms between runs.
    noise: f64,
}

const USUAL: Workload = Workload { rate: 300.0, median: 50_000.0, failed: 0.1, noise: 0.08 };

/// A run whose events come in bursts that are longer than a block, and are slow together.
fn run(random: &mut Random, workload: Workload, source: &Source) -> Measurement {
    let shift: [f64; 3] = std::array::from_fn(|_| (workload.noise * random.normal()).exp());
    let (mut waits, mut calls, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let mut level = 0.0;
    for _ in 0..BLOCKS {
        level = 0.3 * level + 0.15 * random.normal();
        let n = (workload.rate * shift[0] * f64::exp(level) + workload.rate.sqrt() * random.normal()).max(0.0) as u64;
        let mut sketch = Building::default();
        let mut failures = 0;
        for _ in 0..n {
            sketch.add((workload.median * shift[1] * (0.8 * random.normal() + level).exp()) as i64);
            failures += i64::from((random.below(1_000_000) as f64) < workload.failed * shift[2] * 1e6);
        }
        waits.push(Cell { n, sketch: sketch.finish(), ..Cell::default() });
        calls.push(Cell { n, ..Cell::default() });
        failed.push(Cell { n, sum: failures, of: n as i64, ..Cell::default() });
    }
    let measured = |blocks: Vec<Cell>| Measured {
        groups: vec![(Vec::new(), blocks.clone()), (vec![("comm".to_owned(), "app".to_owned())], blocks)],
        cut: Vec::new(),
    };
    let metrics = [("waits", waits), ("calls", calls), ("failed", failed)];
    let metrics: BTreeMap<String, Measured> = metrics.into_iter().map(|(name, blocks)| (name.to_owned(), measured(blocks))).collect();
    Measurement {
        name: "run".to_owned(),
        host: "h".to_owned(),
        kernel: "k".to_owned(),
        arch: "a".to_owned(),
        cpus: 1,
        recorder: "r".to_owned(),
        format_version: 1,
        started_ns: 0,
        window_ns: 10_000_000_000,
        filters: BTreeMap::new(),
        settings: BTreeMap::new(),
        notes: Vec::new(),
        sources: [(source.name.clone(), State::Measured { fingerprint: source.fingerprint, lost: 0.0, metrics })].into(),
    }
}

/// A run with `mean` calls, each at its own time, and nothing else.
fn sparse(random: &mut Random, mean: f64, source: &Source) -> Measurement {
    let mut run = run(random, Workload { rate: 0.0, ..USUAL }, source);
    let mut poisson = |mean: f64| {
        // D. Knuth, The Art of Computer Programming 2, 3.4.1.
        let (least, mut product, mut n) = ((-mean).exp(), 1.0, 0u64);
        loop {
            product *= (random.below(1 << 30) as f64 + 0.5) / f64::from(1 << 30);
            if product < least {
                return n;
            }
            n += 1;
        }
    };
    if let Some(State::Measured { metrics, .. }) = run.sources.get_mut(&source.name) {
        let calls: Vec<Cell> = (0..BLOCKS).map(|_| Cell { n: poisson(mean / BLOCKS as f64), ..Cell::default() }).collect();
        metrics.insert("calls".to_owned(), Measured { groups: vec![(Vec::new(), calls)], cut: Vec::new() });
    }
    run
}

#[test]
fn few_events_are_called_a_change_when_they_are_and_seldom_else() {
    let sources = sources();
    let mut random = Random::new(7);
    let mut p_of = |base: f64, new: f64| {
        let sides = [base, new].map(|mean| sparse(&mut random, mean, &sources[0]));
        let comparison = compare(&sources, [&sides[..1], &sides[1..]], RULES);
        comparison.rows.iter().find(|row| row.statistic == "rate" && row.group.is_empty()).and_then(|row| row.p)
    };
    // A side has ten, or there is no test: of fewer on both sides nothing is said.
    for mean in [4.0, 7.0, 10.0, 20.0] {
        let tried = 2000;
        let significant = (0..tried).filter(|_| p_of(mean, mean).is_some_and(|p| p < 0.05)).count();
        // 5 % of 2000 are 100; more than 130 are as probable as one in 900.
        assert!(significant <= 130, "{mean}: {significant} of {tried}");
    }
    // The usual approximation of the logarithm gives about 0.03 for none and ten.
    let found = (0..100).filter(|_| p_of(0.0, 20.0).is_some_and(|p| p < 0.001)).count();
    assert!(found >= 80, "{found}");
}

/// `pairs` comparisons of so many runs a side.
fn simulated(pairs: u64, runs: usize, base: Workload, new: Workload) -> Vec<Comparison> {
    let sources = sources();
    let source = &sources[0];
    let one = |seed: u64, workload| {
        let mut random = Random::new(seed);
        (0..runs).map(|_| run(&mut random, workload, source)).collect::<Vec<_>>()
    };
    (0..pairs).map(|pair| compare(&sources, [&one(2 * pair, base), &one(2 * pair + 1, new)], RULES)).collect()
}

fn changed(comparison: &Comparison) -> bool {
    comparison.rows.iter().any(|row| row.verdict.is_change())
}

#[test]
fn chance_is_seldom_called_a_change() {
    for runs in [1, 3] {
        let pairs = 30;
        let comparisons = simulated(pairs, runs, USUAL, USUAL);
        let false_alarms = comparisons.iter().filter(|comparison| changed(comparison)).count();
        for comparison in &comparisons {
            for row in comparison.rows.iter().filter(|row| row.verdict.is_change() && row.group.is_empty()) {
                eprintln!("{runs} {} {:?} p {:?} noise {:?}", row.statistic, row.change, row.p, comparison.noise);
            }
        }
        // 5 % are 1.5; six or more are as probable as one in 300.
        assert!(false_alarms < 6, "{runs} runs a side: {false_alarms} of {pairs}");
    }
}

#[test]
fn changes_above_what_is_detectable_are_found() {
    let slower = Workload { median: USUAL.median * 3.0, ..USUAL };
    let found = |comparison: &Comparison| {
        comparison.rows.iter().any(|row| row.statistic == "p50" && row.verdict == Verdict::Worse && row.group.is_empty())
    };
    let pairs = 20;
    let count = simulated(pairs, 1, USUAL, slower).iter().filter(|comparison| found(comparison)).count();
    assert!(count >= 19, "{count} of {pairs}");
    // Several runs that differ little show smaller changes.
    let quiet = Workload { noise: 0.02, ..USUAL };
    let slower = Workload { median: USUAL.median * 1.4, ..quiet };
    let count = simulated(pairs, 5, quiet, slower).iter().filter(|comparison| found(comparison)).count();
    assert!(count >= 19, "{count} of {pairs}");
}

#[test]
fn intervals_hold_the_truth() {
    let new = Workload { rate: 450.0, median: 75_000.0, ..USUAL };
    let mut held = BTreeMap::<&str, (usize, usize)>::new();
    for comparison in simulated(40, 3, USUAL, new) {
        for row in comparison.rows.iter().filter(|row| row.group.is_empty()) {
            let truth = if row.statistic == "share" { 1.0 } else { 1.5 };
            if let Some([_, low, high]) = row.change {
                let (inside, all) = held.entry(row.statistic).or_default();
                *inside += usize::from(low <= truth && truth <= high);
                *all += 1;
            }
        }
    }
    for (statistic, (inside, all)) in held {
        // 95 % of 40 are 38; 33 or fewer are as probable as one in 300.
        assert!(all == 40 && inside >= 34, "{statistic}: {inside} of {all}");
    }
}
