//! `--max-cpu`: which probe to give up when recording takes more of the host's CPU time than it may.
//!
//! Every second the recorder looks at the CPU time that it took, and at what it made of it: rows and bytes by table. If it took more than it
//! may, for a while, the probe whose tables cost most is detached, for good: a table that comes and goes answers
//! nothing. From then on each second is a loss of as many rows as the probe had made in the second before.

use ebrec_format::events;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The reason of these losses in the table `loss`.
pub const REASON: &str = "shed: --max-cpu";

/// Seconds of which the mean counts: a burst is no reason.
const MEAN_OF: usize = 3;
/// Bytes that cost as much as a row: both were measured, 40 ns for the row and 1 ns for two bytes of it.
const BYTES_PER_ROW: u64 = 80;
/// A probe that makes less than this part of the cost isn't worth giving up, percent.
const WORTH: u64 = 5;

/// What a probe made in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Rows of all its tables.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Made {
    fn cost(self) -> u64 {
        self.rows + self.bytes / BYTES_PER_ROW
    }
}

/// Decides.
#[derive(Debug)]
pub struct Shedder {
    /// Of one CPU; 1.0 is all of it.
    most: f64,
    seconds: VecDeque<f64>,
}

impl Shedder {
    /// `percent` of one CPU.
    pub fn new(percent: u32) -> Shedder {
        Shedder { most: f64::from(percent) / 100.0, seconds: VecDeque::new() }
    }

    /// The mean of the last seconds, percent of one CPU.
    pub fn mean(&self) -> f64 {
        self.seconds.iter().sum::<f64>() / self.seconds.len().max(1) as f64 * 100.0
    }

    /// After a second in which the recorder took `cpu_ns`: the probe to give up, if one must be. `made` are the probes that still are recorded.
    pub fn second<'a>(&mut self, cpu_ns: u64, wall: Duration, made: &BTreeMap<&'a str, Made>) -> Option<&'a str> {
        self.seconds.push_back(cpu_ns as f64 / (wall.as_nanos() as f64).max(1.0));
        if self.seconds.len() > MEAN_OF {
            self.seconds.pop_front();
        }
        if self.seconds.len() < MEAN_OF || self.mean() <= self.most * 100.0 {
            return None;
        }
        let all: u64 = made.values().map(|made| made.cost()).sum();
        let (probe, costliest) = made.iter().max_by_key(|(_, made)| made.cost())?;
        if costliest.cost() == 0 || costliest.cost() * 100 < all * WORTH {
            return None;
        }
        // What was measured until now is of a recording with it.
        self.seconds.clear();
        Some(probe)
    }
}

/// Rows and bytes that were made, by table: one counts, another reads.
#[derive(Debug)]
pub struct Tally(Box<[(AtomicU64, AtomicU64)]>);

impl Default for Tally {
    fn default() -> Tally {
        Tally(events::tables().map(|_| Default::default()).collect())
    }
}

impl Tally {
    /// A batch was made.
    pub fn add(&self, table: usize, rows: usize, bytes: usize) {
        if let Some((all_rows, all_bytes)) = self.0.get(table) {
            all_rows.fetch_add(rows as u64, Ordering::Relaxed);
            all_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Vec<Made> {
        self.0.iter().map(|(rows, bytes)| Made { rows: rows.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }).collect()
    }
}

/// A probe that is given up.
#[derive(Debug)]
pub struct GivenUp {
    /// The probe.
    pub probe: &'static str,
    /// Its tables.
    pub tables: Vec<&'static str>,
    /// How long it was recorded.
    pub after: Duration,
    /// In words.
    pub why: String,
}

/// The policy with what it needs to know.
#[derive(Debug)]
pub struct Shedding {
    shedder: Shedder,
    percent: u32,
    began: Instant,
    /// CPU time and what was made, when it was looked at last.
    before: (Instant, u64, Vec<Made>),
    /// Tables of what was given up: rows a second, until when they are counted as lost.
    lost: Vec<(&'static str, f64, Instant)>,
    given_up: BTreeSet<&'static str>,
}

impl Shedding {
    /// `percent` of one CPU; `cpu_ns` was taken until now, for the start.
    pub fn new(percent: u32, cpu_ns: u64) -> Shedding {
        let now = Instant::now();
        let nothing = events::tables().map(|_| Made::default()).collect();
        let (lost, given_up) = (Vec::new(), BTreeSet::new());
        Shedding { shedder: Shedder::new(percent), percent, began: now, before: (now, cpu_ns, nothing), lost, given_up }
    }

    /// Every second: the probe that is to be given up now, if any.
    pub fn second(&mut self, cpu_ns: u64, tally: &Tally, can_shed: impl Fn(&str) -> bool) -> Option<GivenUp> {
        let now = Instant::now();
        let made_now = tally.read();
        let (since, cpu_before, made_before) = std::mem::replace(&mut self.before, (now, cpu_ns, made_now.clone()));
        let wall = now.saturating_duration_since(since);
        let of_table = |nth: usize| Made {
            rows: made_now[nth].rows.saturating_sub(made_before[nth].rows),
            bytes: made_now[nth].bytes.saturating_sub(made_before[nth].bytes),
        };
        let mut made: BTreeMap<&'static str, Made> = BTreeMap::new();
        for (nth, table) in events::tables().enumerate() {
            if let Some(probe) = events::probe_of(table.name).filter(|p| !self.given_up.contains(p.name) && can_shed(p.name)) {
                let sum = made.entry(probe.name).or_default();
                let of = of_table(nth);
                (sum.rows, sum.bytes) = (sum.rows + of.rows, sum.bytes + of.bytes);
            }
        }
        let taken = cpu_ns.saturating_sub(cpu_before);
        let mean = (self.shedder.seconds.iter().sum::<f64>() + taken as f64 / wall.as_nanos().max(1) as f64) * 100.0
            / (self.shedder.seconds.len() + 1) as f64;
        let probe = self.shedder.second(taken, wall, &made)?;
        self.given_up.insert(probe);
        let mut tables = Vec::new();
        for (nth, table) in events::tables().enumerate() {
            if events::probe_of(table.name).is_some_and(|of| of.name == probe) {
                tables.push(table.name);
                self.lost.push((table.name, of_table(nth).rows as f64 / wall.as_secs_f64().max(0.001), now));
            }
        }
        let why = format!("recording took {mean:.0} % of a CPU, --max-cpu allows {}", self.percent);
        Some(GivenUp { probe, tables, after: now.saturating_duration_since(self.began), why })
    }

    /// Rows that are missing since the last call, because nobody makes them any more: as many as were made in the last second before.
    pub fn lost(&mut self) -> Vec<(&'static str, u64)> {
        let now = Instant::now();
        let of = |(table, rate, until): &mut (&'static str, f64, Instant)| {
            let rows = (*rate * now.saturating_duration_since(*until).as_secs_f64()).round() as u64;
            // What is less than a row is counted with the next.
            if rows > 0 {
                *until = now;
            }
            (*table, rows)
        };
        self.lost.iter_mut().map(of).filter(|(_, rows)| *rows > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn percent(percent: u64) -> u64 {
        percent * 10_000_000
    }

    fn made() -> BTreeMap<&'static str, Made> {
        let made = |rows, bytes| Made { rows, bytes };
        BTreeMap::from([("process", made(10, 1000)), ("sched", made(50_000, 4_000_000)), ("open", made(1_000, 40_000_000))])
    }

    #[test]
    fn the_costliest_is_given_up_first_and_then_the_next() {
        let mut shedder = Shedder::new(10);
        let mut made = made();
        let mut shed = Vec::new();
        for _ in 0..20 {
            if let Some(probe) = shedder.second(percent(50), SECOND, &made) {
                made.remove(probe);
                shed.push(probe);
            }
        }
        // Few rows, but long ones.
        assert_eq!(shed, ["open", "sched", "process"]);
        assert_eq!(shedder.second(percent(50), SECOND, &made), None);
    }

    #[test]
    fn a_burst_is_no_reason() {
        let mut shedder = Shedder::new(10);
        for second in 0..30 {
            let cpu = if second % 5 == 0 { percent(25) } else { percent(2) };
            assert_eq!(shedder.second(cpu, SECOND, &made()), None, "second {second}");
        }
        assert!((0..MEAN_OF).any(|_| shedder.second(percent(40), SECOND, &made()).is_some()));
    }

    #[test]
    fn what_is_given_up_is_lost_from_then_on() {
        let tally = Tally::default();
        let nth = |name: &str| events::tables().position(|table| table.name == name).unwrap_or(usize::MAX);
        let mut shedding = Shedding::new(1, 0);
        let mut given_up = None;
        for second in 1..=MEAN_OF as u64 {
            std::thread::sleep(Duration::from_millis(20));
            tally.add(nth("sched_switch"), 10_000, 400_000);
            tally.add(nth("process_exec"), 100, 10_000);
            given_up = shedding.second(second * 10_000_000, &tally, |probe| probe != "process");
        }
        let given_up = given_up.map(|given_up| (given_up.probe, given_up.tables));
        assert_eq!(given_up, Some(("sched", vec!["sched_switch", "sched_wakeup"])));
        std::thread::sleep(Duration::from_millis(20));
        let lost = shedding.lost();
        assert!(matches!(lost[..], [("sched_switch", 1_000..)]), "{lost:?}");
        // Not twice.
        assert!(shedding.lost().iter().all(|(_, rows)| *rows < lost[0].1));
    }

    #[test]
    fn what_makes_nothing_is_kept() {
        let mut shedder = Shedder::new(1);
        let idle = BTreeMap::from([("tcp", Made::default()), ("dns", Made::default())]);
        for _ in 0..10 {
            assert_eq!(shedder.second(percent(90), SECOND, &idle), None);
        }
        assert_eq!(shedder.second(percent(90), SECOND, &BTreeMap::new()), None);
    }
}
