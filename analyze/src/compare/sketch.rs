//! Counts of values in buckets that are narrow everywhere: what is kept of a distribution.
//!
//! Below 64 each value has a bucket of its own; above, each power of two is divided into 64 of the same width, as in HdrHistogram. A bucket is
//! at most 1/64 of its values wide, so that a quantile read from it is off by less than 1.6 %. Sketches are added by adding counts, so the
//! order of events and the number of threads make no difference.

use serde::{Deserialize, Serialize};

/// log2 of the number of buckets in each power of two.
const BITS: u32 = 6;
/// Buckets in each power of two.
pub const BUCKETS_PER_OCTAVE: u32 = 1 << BITS;
const OCTAVES: usize = (63 - BITS) as usize;

/// The bucket of a value; negative ones count as 0.
pub fn bucket(value: i64) -> u16 {
    let value = u64::try_from(value).unwrap_or(0);
    if value < u64::from(BUCKETS_PER_OCTAVE) {
        return value as u16;
    }
    let octave = 63 - value.leading_zeros() - BITS;
    let within = (value >> octave) as u32 & (BUCKETS_PER_OCTAVE - 1);
    ((octave + 1) * BUCKETS_PER_OCTAVE + within) as u16
}

/// The least value of a bucket; that of the next one ends it.
pub fn low(bucket: u16) -> f64 {
    let (octave, within) = (u32::from(bucket) / BUCKETS_PER_OCTAVE, u32::from(bucket) % BUCKETS_PER_OCTAVE);
    match octave {
        0 => f64::from(within),
        octave => f64::from(BUCKETS_PER_OCTAVE + within) * f64::from(octave - 1).exp2(),
    }
}

/// A sketch in the making.
#[derive(Debug, Clone, Default)]
pub struct Building(Vec<Option<Box<[u32; BUCKETS_PER_OCTAVE as usize]>>>);

impl Building {
    /// Counts a value.
    pub fn add(&mut self, value: i64) {
        self.add_bucket(bucket(value), 1);
    }

    fn add_bucket(&mut self, bucket: u16, count: u32) {
        let (octave, within) = (usize::from(bucket) / BUCKETS_PER_OCTAVE as usize, usize::from(bucket) % BUCKETS_PER_OCTAVE as usize);
        if self.0.len() <= octave {
            self.0.resize(octave.min(OCTAVES) + 1, None);
        }
        let counts = self.0[octave].get_or_insert_with(|| Box::new([0; BUCKETS_PER_OCTAVE as usize]));
        counts[within] = counts[within].saturating_add(count);
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Building) {
        for (octave, counts) in other.0.iter().enumerate() {
            for (within, count) in counts.iter().flat_map(|counts| counts.iter().enumerate()).filter(|(_, count)| **count > 0) {
                self.add_bucket((octave * BUCKETS_PER_OCTAVE as usize + within) as u16, *count);
            }
        }
    }

    /// What was counted.
    pub fn finish(&self) -> Sketch {
        let octaves = self.0.iter().enumerate().filter_map(|(octave, counts)| Some((octave, counts.as_ref()?)));
        let buckets = octaves.flat_map(|(octave, counts)| {
            let base = octave * BUCKETS_PER_OCTAVE as usize;
            counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(within, count)| ((base + within) as u16, *count))
        });
        Sketch(buckets.collect())
    }
}

/// Buckets that hold values, in order, with their counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch(pub Vec<(u16, u32)>);

impl Sketch {
    /// The largest bucket that there can be.
    pub const LAST: u16 = (OCTAVES as u32 * BUCKETS_PER_OCTAVE + BUCKETS_PER_OCTAVE - 1) as u16;

    /// Whether it can have been made by [`Building`]: a file may claim anything.
    pub fn is_valid(&self) -> bool {
        self.0.windows(2).all(|pair| pair[0].0 < pair[1].0) && self.0.iter().all(|(bucket, count)| *bucket <= Self::LAST && *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = 0;
        for value in (0..4096).chain((12..62).flat_map(|shift| [1i64 << shift, (1 << shift) + (1 << (shift - 3)), (1i64 << shift) * 2 - 1]))
        {
            let at = bucket(value);
            let (low, high) = (low(at), low(at + 1));
            assert!(low <= value as f64 && (value as f64) < high || value > 1 << 53, "{value}: {low} {high}");
            assert!(high - low <= (low / 64.0).max(1.0), "{value}");
            assert!(at >= last && at <= Sketch::LAST, "{value}");
            last = at;
        }
        assert_eq!((bucket(-5), bucket(i64::MAX)), (0, Sketch::LAST));
    }

    #[test]
    fn sketches_are_added_in_any_order() {
        let of = |values: &[i64]| {
            let mut building = Building::default();
            values.iter().for_each(|value| building.add(*value));
            building
        };
        let (mut a, mut b) = (of(&[1, 70, 5_000_000]), of(&[70, i64::MAX]));
        let whole = of(&[70, 1, i64::MAX, 70, 5_000_000]).finish();
        let first = a.clone();
        a.merge(&b);
        b.merge(&first);
        assert_eq!((a.finish(), b.finish()), (whole.clone(), whole.clone()));
        assert!(whole.is_valid());
    }
}
