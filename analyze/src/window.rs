//! Instants and sizes as the command line takes them.

use crate::engine::filter::Filter;
use crate::error::{Error, Result};
use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta};
use ebrec_format::capture::Capture;

/// An instant of `--from` and `--to`, before the capture's start is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instant {
    /// So long after the start: `+10s`.
    After(i64),
    /// A time of day, UTC: `12:03:04.5`.
    TimeOfDay(NaiveTime),
    /// A point in time.
    At(i64),
}

const EXPECTED: &str = "expected +10s, +500ms, 12:03:04[.5] or 2026-01-31T12:03:04[.5][Z]; all UTC";

impl std::str::FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Instant, String> {
        if let Some(offset) = text.strip_prefix('+') {
            return duration(offset).map(Instant::After).ok_or_else(|| EXPECTED.to_owned());
        }
        if let Ok(time) = NaiveTime::parse_from_str(text, "%H:%M:%S%.f") {
            return Ok(Instant::TimeOfDay(time));
        }
        let absolute = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).or_else(|_| {
            NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
                .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
                .map(|at| at.and_utc())
        });
        absolute.ok().and_then(|at| at.timestamp_nanos_opt()).map(Instant::At).ok_or_else(|| EXPECTED.to_owned())
    }
}

/// `1m30s`, `500ms`, `2.5s` in ns.
fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 6] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        total += number.parse::<f64>().ok()? * UNITS.iter().find(|(name, _)| *name == unit)?.1;
        rest = tail;
    }
    // Three centuries are what a timestamp holds.
    (!text.is_empty() && total < 9.2e18).then_some(total as i64)
}

impl Instant {
    /// ns since 1970, in a capture that started at `start`.
    pub fn resolve(self, start: i64) -> i64 {
        match self {
            Instant::At(ns) => ns,
            Instant::After(ns) => start.saturating_add(ns),
            Instant::TimeOfDay(time) => {
                let started = DateTime::from_timestamp_nanos(start);
                // A recording that passes midnight: the time of day is that of the next day.
                // A time shortly before the start stays on the same day.
                let same_day = started.date_naive().and_time(time).and_utc();
                let next_day = same_day + TimeDelta::days(1);
                let at = if same_day + TimeDelta::hours(12) < started { next_day } else { same_day };
                at.timestamp_nanos_opt().unwrap_or(start)
            }
        }
    }
}

/// The filter that `--from` and `--to` make of a capture.
pub fn resolve(capture: &Capture, from: Option<Instant>, to: Option<Instant>, filter: Filter) -> Result<Filter> {
    let start = capture.manifest.started_ns;
    let (from, to) = (from.map(|at| at.resolve(start)), to.map(|at| at.resolve(start)));
    if let (Some(from), Some(to)) = (from, to)
        && to <= from
    {
        let why = format!("the window ends ({}) before it begins ({})", instant(to), instant(from));
        return Err(Error::new("--to", why).hint(EXPECTED));
    }
    Ok(Filter { from, to, ..filter })
}

/// An instant as people read it.
pub fn instant(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}

/// Only its time of day.
pub fn time_of_day(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).format("%H:%M:%S%.3f").to_string()
}

/// A size: `512M`, `2GiB`, `1048576`.
pub fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("expected a size such as 512M or 2G".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "expected a size such as 512M or 2G".to_owned())?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes >= 1 << 20).ok_or_else(|| "expected at least 1M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000_000_000_000; // 2023-11-14 22:13:20 UTC

    fn at(text: &str) -> Option<i64> {
        text.parse::<Instant>().ok().map(|instant| instant.resolve(START) - START)
    }

    #[test]
    fn instants_are_relative_to_the_start() {
        assert_eq!(at("+10s"), Some(10_000_000_000));
        assert_eq!(at("+500ms"), Some(500_000_000));
        assert_eq!(at("+1m30.5s"), Some(90_500_000_000));
        assert_eq!(at("22:13:21.5"), Some(1_500_000_000));
        assert_eq!(at("00:00:00"), Some(6400 * 1_000_000_000), "the recording passed midnight");
        assert_eq!(at("2023-11-14T22:13:21Z"), Some(1_000_000_000));
        assert_eq!(at("2023-11-14T23:13:21+01:00"), Some(1_000_000_000));
        assert_eq!(at("2023-11-14 22:13:21"), Some(1_000_000_000));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "+", "+10", "+s", "+10x", "10s", "25:00:00", "yesterday", "+1e30s", "+99999999999h"] {
            assert!(text.parse::<Instant>().is_err(), "{text}");
        }
        for text in ["", "M", "1", "12Q", "-5M", "99999999999999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2GiB"), Ok(2 << 30));
    }
}
