//! `--max-cpu`: which probe to give up when recording takes more of the host's CPU time than it may.
//!
//! Every second the recorder looks at the CPU time that it took, and at what it made of it: rows and bytes by table. If it took more than it
//! may, for a while, the probe whose tables cost most is detached, for good: a table that comes and goes answers
//! nothing. From then on each second is a loss of as many rows as the probe had made in the second before.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

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
    fn what_makes_nothing_is_kept() {
        let mut shedder = Shedder::new(1);
        let idle = BTreeMap::from([("tcp", Made::default()), ("dns", Made::default())]);
        for _ in 0..10 {
            assert_eq!(shedder.second(percent(90), SECOND, &idle), None);
        }
        assert_eq!(shedder.second(percent(90), SECOND, &BTreeMap::new()), None);
    }
}
