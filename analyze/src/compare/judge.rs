//! From two sides of measurements to rows: what changed, by how much, how surely.

use super::bootstrap::{self, Class, Estimate, Run, Side, Statistic};
use super::measure::{Blocks, Group, Measured, Measurement, State};
use super::metric::{Function, Metric, Polarity, Source, fnv};
use super::stats::{self, Test};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How a comparison decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// False alarms, as a share of comparisons in which nothing changed.
    pub alpha: f64,
    /// The smallest change that matters, as a share: 0.1.
    pub least: f64,
    /// Start of the random numbers.
    pub seed: u64,
    /// Threads to use; they make no difference but in time.
    pub threads: usize,
}

/// What is to be thought of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It changed for the worse.
    Worse,
    /// It changed, and which direction is better depends.
    Changed,
    /// It changed for the better.
    Better,
    /// Too few events to say anything.
    TooFew,
    /// It may have changed by more than what matters, or not.
    Unclear,
    /// If it changed, then by less than what matters.
    Same,
}

impl Verdict {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Worse => "worse",
            Verdict::Changed => "changed",
            Verdict::Better => "better",
            Verdict::TooFew => "too few",
            Verdict::Unclear => "unclear",
            Verdict::Same => "same",
        }
    }

    /// Whether it says that something changed.
    pub fn is_change(self) -> bool {
        matches!(self, Verdict::Worse | Verdict::Changed | Verdict::Better)
    }
}

/// A statistic of a group, compared.
#[derive(Debug, Clone)]
pub struct Row {
    /// Position of the metric in [`Comparison::metrics`].
    pub metric: usize,
    /// The group; empty: all rows together.
    pub group: Group,
    /// `rate`, `share`, `ratio`, `p50`, …, `shape`.
    pub statistic: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// Values of both sides.
    pub values: [Option<f64>; 2],
    /// The change as a ratio of new to base: the estimate, and the interval that holds it with the confidence asked for. Of a share, of its odds; of
    /// `shape`, none.
    pub change: Option<[f64; 3]>,
    /// How likely so large a change is if nothing changed.
    pub p: Option<f64>,
    /// The same, adjusted for the number of tests.
    pub adjusted: Option<f64>,
    /// The smallest ratio that would have been called a change.
    pub detectable: Option<f64>,
    /// Events of both sides.
    pub events: [u64; 2],
}

impl Row {
    /// How sure and how large: the logarithm of the ratio at the interval's end that is nearer to no change; for a shape, the distance.
    pub fn weight(&self) -> f64 {
        match self.change {
            Some([estimate, low, _]) if estimate >= 1.0 => low.max(f64::MIN_POSITIVE).ln().min(estimate.ln()),
            Some([estimate, _, high]) => -high.ln().max(estimate.ln()),
            None => 0.0,
        }
    }
}

/// A metric that could not be compared.
#[derive(Debug, Clone, Serialize)]
pub struct Missing {
    /// The metrics.
    pub metrics: Vec<String>,
    /// Why.
    pub why: String,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// The metrics that were compared, with their source's position.
    pub metrics: Vec<(usize, Metric)>,
    /// What became of them: first what matters most.
    pub rows: Vec<Row>,
    /// What could not be compared.
    pub missing: Vec<Missing>,
    /// Tests that were made.
    pub tests: usize,
    /// How much noisier the runs are than assumed, where that is known.
    pub noise: Vec<(Class, f64)>,
    /// What was left out of the comparison, or shapes it.
    pub notes: Vec<String>,
}

/// Values that quantiles are looked at, and how they are named.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
/// The name of the test of a whole distribution.
pub const SHAPE: &str = "shape";
/// So many values must lie beyond a quantile, and so many events must a group have.
const BEYOND: f64 = 10.0;
/// In so many blocks must there be values of a distribution.
const BUSY: usize = 5;
/// A change of the shape of less than this share of the events doesn't matter.
const LEAST_SHAPE: f64 = 0.1;
/// A change of a group's rate of less than this part of the rate of all groups doesn't matter.
const LEAST_PART: f64 = 0.01;

/// A statistic on its way to being a row.
struct Draft {
    row: Row,
    statistic: Option<Statistic>,
    estimates: Option<[Estimate; 2]>,
    /// The standard deviation between runs that is assumed.
    assumed: f64,
    /// A difference of a group's rate that matters: a part of what all groups have together.
    least_amount: f64,
    lost: [f64; 2],
}

/// A group of a metric, with its blocks in each run of both sides.
struct Task<'a> {
    metric: usize,
    group: &'a Group,
    sides: [Vec<Run<'a>>; 2],
    /// The group's share of the metric's events, of the sides the larger one.
    share: f64,
    /// See [`Draft`].
    least_amount: f64,
    lost: [f64; 2],
}

/// Compares the measurements of two sides.
pub fn compare(sources: &[Source], sides: [&[Measurement]; 2], rules: Rules) -> Comparison {
    let mut comparison = Comparison::default();
    let mut tasks = Vec::new();
    for (nth, source) in sources.iter().enumerate() {
        match states(source, sides) {
            Err(why) => {
                let metrics = source.metrics.iter().map(|metric| metric.name.clone()).collect();
                comparison.missing.push(Missing { metrics, why });
            }
            Ok(states) => {
                let lost = states.each_ref().map(|side| side.iter().map(|(lost, ..)| *lost).fold(0.0, f64::max));
                if lost.iter().any(|lost| *lost >= 0.001) {
                    comparison.notes.push(format!(
                        "{}: {:.1} % of the events were lost in the base, {:.1} % in the new captures; the intervals are wider by that",
                        source.name,
                        lost[0] * 100.0,
                        lost[1] * 100.0
                    ));
                }
                for metric in &source.metrics {
                    let at = comparison.metrics.len();
                    comparison.metrics.push((nth, metric.clone()));
                    group_tasks(&mut tasks, &mut comparison.notes, at, metric, &states, lost);
                }
            }
        }
    }
    let metrics = &comparison.metrics;
    let mut drafts = in_threads(&tasks, rules.threads, |task| drafts(task, &metrics[task.metric].1, rules));
    let of_class = |class: Class| {
        let known = drafts.iter().filter(|draft| draft.statistic.is_some_and(|statistic| statistic.class() == class));
        stats::observed_noise(known.filter_map(|draft| Some((draft.row.metric, draft.estimates.as_ref()?, draft.assumed))))
    };
    comparison.noise = Class::ALL.into_iter().filter_map(|class| Some((class, of_class(class)?))).collect();
    let noise: BTreeMap<Class, f64> = comparison.noise.iter().copied().collect();
    let assumed = |draft: &Draft| draft.assumed * draft.statistic.and_then(|statistic| noise.get(&statistic.class())).unwrap_or(&1.0);
    let tests: Vec<Option<Test>> =
        drafts.iter().map(|draft| Some(stats::test(draft.estimates.as_ref()?, assumed(draft), draft.lost))).collect();
    // Shapes need the noise between runs, which only now is known: that of the median.
    let median = |draft: &Draft| {
        let (statistic, estimates) = (draft.statistic?, draft.estimates.as_ref()?);
        let runs: f64 = estimates.iter().map(|side| 1.0 / side.of_runs.len().max(1) as f64).sum();
        let noise = stats::noise(estimates, assumed(draft)) * runs.sqrt();
        (statistic == Statistic::Quantile(0.5)).then(|| ((draft.row.metric, draft.row.group.clone()), noise))
    };
    let between: BTreeMap<(usize, Group), f64> = drafts.iter().filter_map(median).collect();
    let of_task = |task: &Task<'_>| between.get(&(task.metric, task.group.clone())).copied();
    let shapes = in_threads(&tasks, rules.threads, |task| vec![shape(task, &metrics[task.metric].1, rules, of_task(task))]);
    let of_drafts = drafts.iter().zip(&tests).filter_map(|(draft, test)| Some((test.as_ref()?.p, draft.row.group.is_empty())));
    let p: Vec<(f64, bool)> = of_drafts.chain(shapes.iter().flatten().filter_map(|row| Some((row.p?, row.group.is_empty())))).collect();
    comparison.tests = p.len();
    // All events of a metric together are looked at more closely than its groups, which are many: half of the false alarms that are allowed
    // is theirs.
    let wholes = p.iter().filter(|(_, is_whole)| *is_whole).count();
    let weight = |is_whole: bool| match p.len() - wholes {
        0 => 1.0,
        _ if wholes == 0 => 1.0,
        groups => 0.5 * p.len() as f64 / if is_whole { wholes } else { groups } as f64,
    };
    let mut adjusted = stats::adjusted(&p.iter().map(|(p, is_whole)| (*p, weight(*is_whole))).collect::<Vec<_>>()).into_iter();
    for (draft, test) in drafts.iter_mut().zip(tests) {
        if let Some(test) = test {
            let metric = &metrics[draft.row.metric].1;
            let matters = matters(draft);
            // What the first of so many tests needs is what any other needs at most.
            let strictest = rules.alpha * weight(draft.row.group.is_empty()) / p.len().max(1) as f64;
            decide(&mut draft.row, test, (adjusted.next(), strictest), metric, rules, matters);
        }
    }
    comparison.rows = drafts.into_iter().map(|draft| draft.row).collect();
    for mut row in shapes.into_iter().flatten() {
        row.adjusted = adjusted.next();
        let differs = row.values[1].is_some_and(|distance| distance >= LEAST_SHAPE);
        let surely = row.adjusted.is_some_and(|p| p < rules.alpha);
        row.verdict = if differs && surely { Verdict::Changed } else { Verdict::Same };
        comparison.rows.push(row);
    }
    let order = |row: &Row| (row.verdict, std::cmp::Reverse(Total(row.weight())), row.metric, row.group.clone(), row.statistic);
    comparison.rows.sort_by_cached_key(order);
    comparison
}

/// Numbers in their total order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Total(f64);
impl Eq for Total {}
impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Total {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A run's share of lost events, its seconds, and its metrics.
type Captured<'a> = (f64, f64, &'a BTreeMap<String, Measured>);

/// What a source measured in each run of both sides, or why it can't be compared.
fn states<'a>(source: &Source, sides: [&'a [Measurement]; 2]) -> Result<[Vec<Captured<'a>>; 2], String> {
    let mut found = [Vec::new(), Vec::new()];
    for (found, side) in found.iter_mut().zip(sides) {
        for run in side {
            match run.sources.get(&source.name) {
                Some(State::Measured { fingerprint, lost, metrics }) if *fingerprint == source.fingerprint => {
                    found.push((*lost, run.window_ns as f64 / 1e9, metrics));
                }
                Some(State::Measured { .. }) => {
                    return Err(format!("{}: the baseline was made with another definition of it; make the baseline anew", run.name));
                }
                Some(State::Missing(why)) => return Err(format!("{}: {why}", run.name)),
                None => return Err(format!("{}: the baseline was made without it; make the baseline anew", run.name)),
            }
        }
    }
    Ok(found)
}

fn group_tasks<'a>(
    tasks: &mut Vec<Task<'a>>,
    notes: &mut Vec<String>,
    metric: usize,
    declared: &Metric,
    states: &[Vec<Captured<'a>>; 2],
    lost: [f64; 2],
) {
    let runs = || states.iter().flatten().filter_map(|(_, _, metrics)| metrics.get(&declared.name));
    let groups: BTreeSet<&Group> = runs().flat_map(|measured| measured.groups.iter().map(|(group, _)| group)).collect();
    let cut: BTreeSet<&Vec<String>> = runs().flat_map(|measured| &measured.cut).collect();
    for columns in &cut {
        notes.push(format!("{}: only the largest groups by {} are compared", declared.name, columns.join(", ")));
    }
    let maps: Vec<Vec<BTreeMap<&Group, &Blocks>>> = states
        .iter()
        .map(|side| {
            let of = |metrics: &'a BTreeMap<String, Measured>| {
                metrics.get(&declared.name).into_iter().flat_map(|measured| measured.groups.iter().map(|(group, blocks)| (group, blocks)))
            };
            side.iter().map(|(_, _, metrics)| of(metrics).collect()).collect()
        })
        .collect();
    static NOTHING: [super::measure::Cell; super::measure::BLOCKS] = [const { super::measure::Cell::NOTHING }; super::measure::BLOCKS];
    // Events of all groups together on each side, and their rate: the amount per second, or their number.
    let whole = [0, 1].map(|nth: usize| {
        let all = Group::new();
        let cells = maps[nth].iter().filter_map(|groups| groups.get(&all)).flat_map(|blocks| blocks.iter());
        let (n, sum) = cells.fold((0.0, 0.0), |(n, sum), cell| (n + cell.n as f64, sum + cell.sum as f64));
        let seconds: f64 = states[nth].iter().map(|(_, seconds, _)| seconds).sum();
        (n, if matches!(declared.function, Function::Rate(None)) { n } else { sum } / seconds.max(1e-9))
    });
    for group in groups {
        let by: Vec<String> = group.iter().map(|(column, _)| column.clone()).collect();
        let everywhere = maps.iter().flatten().all(|groups| groups.contains_key(group));
        // Where groups were left out, a missing one is not known to be empty.
        if cut.contains(&by) && !everywhere {
            continue;
        }
        let side = |nth: usize| -> Vec<Run<'a>> {
            let runs = states[nth].iter().zip(&maps[nth]);
            runs.map(|((_, seconds, _), groups)| Run { blocks: groups.get(group).map_or(&NOTHING[..], |blocks| blocks), seconds: *seconds })
                .collect()
        };
        let sides = [side(0), side(1)];
        let events = |runs: &[Run<'_>]| runs.iter().flat_map(|run| run.blocks).map(|cell| cell.n).sum::<u64>();
        // A group of a few events is noise in the list; the metric as a whole is always told.
        if group.is_empty() || sides.iter().any(|runs| events(runs) as f64 >= BEYOND) {
            let share = |nth: usize| events(&sides[nth]) as f64 / whole[nth].0.max(1.0);
            let least_amount = if group.is_empty() { 0.0 } else { LEAST_PART * whole[0].1.max(whole[1].1) };
            tasks.push(Task { metric, group, share: share(0).max(share(1)), sides, least_amount, lost });
        }
    }
}

/// `work` on each of the tasks, in order.
fn in_threads<'a, T: Send>(tasks: &[Task<'a>], threads: usize, work: impl Fn(&Task<'a>) -> Vec<T> + Sync) -> Vec<T> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(task) = tasks.get(nth) else { break };
                    let result = work(task);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((nth, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(nth, _)| *nth);
    done.into_iter().flat_map(|(_, result)| result).collect()
}

/// A start of the random numbers of a group that depends on nothing but what it is.
fn seed(task: &Task<'_>, metric: &Metric, rules: Rules, side: usize) -> u64 {
    fnv(&format!("{} {:?} {side}", metric.name, task.group)) ^ rules.seed
}

fn statistics(function: &Function) -> Vec<(&'static str, Statistic)> {
    match function {
        Function::Quantiles(_) => QUANTILES.iter().map(|(name, p)| (*name, Statistic::Quantile(*p))).collect(),
        Function::Rate(column) => vec![("rate", Statistic::Rate { rows: column.is_none() })],
        Function::Share(_, whole) => vec![("share", Statistic::Share { rows: whole.is_none() })],
        Function::Ratio(..) => vec![("ratio", Statistic::Ratio)],
    }
}

/// What is added to values before their logarithm is taken: changes of less than this are none. Waits of less than a microsecond, by the unit.
fn floor(metric: &Metric) -> f64 {
    if metric.unit == "ns" { 1000.0 } else { 1.0 }
}

fn of_task<'a>(task: &Task<'a>, metric: &Metric, rules: Rules) -> [Side<'a>; 2] {
    let buckets = bootstrap::buckets([&task.sides[0], &task.sides[1]]);
    let total = |of: &dyn Fn(&super::measure::Cell) -> f64| task.sides.iter().flatten().flat_map(|run| run.blocks).map(of).sum::<f64>();
    let half = |sum: f64, events: f64| if sum > 0.0 && events > 0.0 { 0.5 * sum / events } else { 0.5 };
    let half = [
        half(total(&|cell| cell.sum as f64), total(&|cell| cell.parts as f64)),
        half(total(&|cell| cell.of as f64), total(&|cell| cell.n as f64)),
    ];
    [0, 1].map(|side| Side::new(task.sides[side].clone(), &buckets, half, seed(task, metric, rules, side)))
}

fn busy(runs: &[Run<'_>]) -> usize {
    runs.iter().flat_map(|run| run.blocks).filter(|cell| cell.n > 0).count()
}

/// Whether the group's threads are those that work off what the rest of the kernel queues.
fn is_pool(group: &Group) -> bool {
    group.iter().any(|(column, value)| column == "comm" && value == "kworker")
}

fn drafts(task: &Task<'_>, metric: &Metric, rules: Rules) -> Vec<Draft> {
    let sides = of_task(task, metric, rules);
    let events = sides.each_ref().map(Side::events);
    let enough = |statistic: Statistic| match statistic {
        // Of what never happens on one side, the other's number says enough.
        Statistic::Rate { .. } => events.iter().any(|n| *n as f64 >= BEYOND),
        Statistic::Share { .. } | Statistic::Ratio => events.iter().all(|n| *n as f64 >= BEYOND),
        Statistic::Quantile(p) => {
            events.iter().all(|n| *n as f64 * (1.0 - p) >= BEYOND) && task.sides.iter().all(|runs| busy(runs) >= BUSY)
        }
    };
    let statistics = statistics(&metric.function);
    let quantiles: Vec<f64> = statistics
        .iter()
        .filter_map(|(_, statistic)| match statistic {
            Statistic::Quantile(p) if enough(*statistic) => Some(*p),
            _ => None,
        })
        .collect();
    let mut of_quantiles = sides.each_ref().map(|side| side.quantiles(&quantiles, floor(metric)).into_iter());
    let draft = |(name, statistic): (&'static str, Statistic)| {
        let estimates = match statistic {
            _ if !enough(statistic) => None,
            Statistic::Quantile(_) => {
                let [base, new] = &mut of_quantiles;
                base.next().zip(new.next()).map(|(base, new)| [base, new])
            }
            _ => Some(sides.each_ref().map(|side| side.estimate(statistic))),
        };
        let values = match &estimates {
            Some(estimates) => estimates.each_ref().map(|estimate| estimate.value),
            None => sides.each_ref().map(|side| side.value(statistic)),
        };
        let row = Row {
            metric: task.metric,
            group: task.group.clone(),
            statistic: name,
            verdict: Verdict::TooFew,
            values,
            change: None,
            p: None,
            adjusted: None,
            detectable: None,
            events,
        };
        Draft {
            row,
            statistic: estimates.is_some().then_some(statistic),
            estimates,
            assumed: statistic.assumed_noise(task.share, is_pool(task.group)),
            least_amount: task.least_amount,
            lost: task.lost,
        }
    };
    statistics.into_iter().map(draft).collect()
}

/// The test of a whole distribution; `between` is the standard deviation of the sides' difference that runs make, `None` if there are too
/// few events.
fn shape(task: &Task<'_>, metric: &Metric, rules: Rules, between: Option<f64>) -> Option<Row> {
    let between = between?;
    let sides = of_task(task, metric, rules);
    let (distance, p) = bootstrap::distance(&sides[0], &sides[1], between, seed(task, metric, rules, 2))?;
    Some(Row {
        metric: task.metric,
        group: task.group.clone(),
        statistic: SHAPE,
        verdict: Verdict::Same,
        values: [Some(0.0), Some(distance)],
        change: None,
        p: Some(p),
        adjusted: None,
        detectable: None,
        events: sides.each_ref().map(Side::events),
    })
}

/// Whether a change is more than a small part of what all groups have together.
fn matters(draft: &Draft) -> bool {
    let is_rate = matches!(draft.statistic, Some(Statistic::Rate { .. }));
    let difference = || draft.row.values[0].zip(draft.row.values[1]).map_or(f64::INFINITY, |(base, new)| (new - base).abs());
    !is_rate || difference() >= draft.least_amount
}

/// Decides what is to be thought of a row. `strictest` is the level at which the first of all tests is a change.
fn decide(row: &mut Row, test: Test, (adjusted, strictest): (Option<f64>, f64), metric: &Metric, rules: Rules, matters: bool) {
    let reach = stats::critical(rules.alpha, test.df) * test.error;
    let least = rules.least.ln_1p();
    row.change = Some([test.change, test.change - reach, test.change + reach].map(f64::exp));
    row.p = Some(test.p);
    row.adjusted = adjusted;
    row.detectable = Some((stats::critical(strictest, test.df) * test.error).max(least).exp()).filter(|ratio| ratio.is_finite());
    let surely = adjusted.is_some_and(|p| p < rules.alpha);
    row.verdict = if surely && !matters {
        Verdict::Same
    } else if surely && test.change.abs() >= least {
        match (metric.polarity, test.change > 0.0) {
            (Polarity::Neutral, _) => Verdict::Changed,
            (Polarity::Lower, true) | (Polarity::Higher, false) => Verdict::Worse,
            (Polarity::Lower, false) | (Polarity::Higher, true) => Verdict::Better,
        }
    } else if (test.change.abs() + reach) <= least {
        Verdict::Same
    } else {
        Verdict::Unclear
    };
}
