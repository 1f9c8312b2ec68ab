//! What a recording may take of the host's memory, as one figure, and how it is shared out.
//!
//! `--memory` is the whole: the rings, the kernel's maps, and what the recorder itself allocates. Everything that grows has its part,
//! in bytes; what doesn't fit is lost, and counted where it is lost.

use std::num::NonZeroU64;

/// What the recorder allocates at most, if it may. The promise is 100 MiB beside the rings, of which the program itself takes 15.
const MOST_HEAP: u64 = 80 << 20;
/// The kernel's maps likewise.
const MOST_MAPS: u64 = 16 << 20;
/// One page: no ring is smaller.
const LEAST_RING: u64 = 4096;
/// The kernel refuses larger ones than this, and so does everybody's patience.
const MOST_RING: u64 = 1 << 30;
/// Shards of the rings, however many CPUs there are.
const MOST_RINGS: u32 = 64;

/// The parts of a recording's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// All of it.
    pub memory: u64,
    /// How many rings, a power of two.
    pub rings: u32,
    /// Each of them, bytes, a power of two.
    pub ring_bytes: u32,
    /// The kernel's maps beside the rings.
    pub maps: u64,
    /// What the recorder allocates.
    pub heap: u64,
    /// What of it each stage may hold.
    pub stages: Stages,
}

/// What the stages of the pipeline may hold, bytes. They are hardly ever full together: what
/// waits for the disk doesn't wait for the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// Drained records that wait for the builder.
    pub drained: usize,
    /// Columns in the making.
    pub columns: usize,
    /// Batches that wait for the encoder.
    pub batches: usize,
    /// Segments in the making.
    pub segments: usize,
    /// What waits for the disk.
    pub disk: usize,
}

impl Stages {
    /// Shares out a heap.
    pub fn of(heap: u64) -> Stages {
        let share = |part: u64| usize::try_from(heap / part).unwrap_or(usize::MAX).max(1 << 20);
        Stages { drained: share(8), columns: share(10), batches: share(6), segments: share(3), disk: share(4) }
    }
}

impl Budget {
    /// The default of `--memory`, as it is written there: it gives 64 MiB of rings.
    pub const DEFAULT: &str = "192M";

    /// Shares out `memory` on a host of so many CPUs.
    ///
    /// Half of it is for what the recorder allocates and a twelfth for maps, up to what these ever need; the rest is for rings, which
    /// bridge the time in which the recorder has no CPU.
    pub fn of(memory: u64, cpus: u32) -> Budget {
        let heap = (memory / 2).min(MOST_HEAP);
        let maps = (memory / 12).min(MOST_MAPS);
        let rings = cpus.clamp(1, MOST_RINGS).next_power_of_two();
        let each = ((memory - heap - maps) / u64::from(rings)).clamp(LEAST_RING, MOST_RING);
        // A ring must be a power of two.
        let each = NonZeroU64::new(each).map_or(LEAST_RING, |each| 1 << each.ilog2());
        Budget { memory, rings, ring_bytes: u32::try_from(each).unwrap_or(u32::MAX), maps, heap, stages: Stages::of(heap) }
    }

    /// All rings.
    #[cfg(test)]
    fn all_rings(&self) -> u64 {
        u64::from(self.rings) * u64::from(self.ring_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_within_the_whole() {
        for memory in [1 << 10, 64 << 10, 1 << 20, 48 << 20, 192 << 20, 1 << 30, 64 << 30, u64::MAX] {
            for cpus in [0, 1, 2, 3, 64, 65, 4096] {
                let budget = Budget::of(memory, cpus);
                assert!(budget.rings.is_power_of_two() && budget.ring_bytes.is_power_of_two() && budget.rings <= MOST_RINGS, "{budget:?}");
                assert!(u64::from(budget.ring_bytes) >= LEAST_RING);
                // But for the smallest rings that there are.
                let rings = if u64::from(budget.ring_bytes) == LEAST_RING { 0 } else { budget.all_rings() };
                assert!(rings + budget.maps + budget.heap <= memory, "{budget:?}");
            }
        }
    }

    #[test]
    fn the_stages_are_within_the_heap() {
        let budget = Budget::of(192 << 20, 2);
        let Stages { drained, columns, batches, segments, disk } = budget.stages;
        assert!((drained + columns + batches + segments + disk) as u64 <= budget.heap, "{budget:?}");
    }

    #[test]
    fn the_default_gives_64_mib_of_rings() {
        for cpus in [1, 2, 8, 64, 256] {
            let budget = Budget::of(192 << 20, cpus);
            assert_eq!(budget.all_rings(), 64 << 20, "{cpus} CPUs");
            assert_eq!((budget.maps, budget.heap), (16 << 20, 80 << 20));
        }
        assert_eq!(Budget::of(192 << 20, 3).all_rings(), 64 << 20);
        assert_eq!(Budget::of(4096, 2).ring_bytes, 4096);
    }
}
