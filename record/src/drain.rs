//! The draining thread: copies records out of the rings, pass by pass, and nothing else.
//!
//! The rings are looked at by the clock, not on wake-up: waking a reader costs the traced program more than a
//! microsecond per event, a look costs it nothing. Encoding never happens here, so that the rings stay empty.

use anyhow::{Context, Result};
use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

/// A pass holds at most about this much of all rings, so that memory stays bounded when the pipeline is slower than the host:
/// up to five passes are on their way at a time.
const PASS_BYTES: usize = 2 << 20;
/// But of one ring at least this much, which is more than its largest record.
const LEAST_BYTES: usize = 128 << 10;
/// How long a record may be on its way from its time stamp to the ring: an interrupt or a preempted hypervisor in between.
const SLACK_NS: u64 = 2_000_000;
/// How fast a ring may fill without getting full between two looks, bytes per second and CPU.
const FILL_RATE: u64 = 400_000_000;

/// What one look at all rings gave.
#[derive(Debug, Default)]
pub struct Pass {
    /// Records per ring, one after the other, each padded to eight bytes.
    pub rings: Vec<Vec<u8>>,
    /// No record that is older than this will come any more.
    pub watermark: u64,
}

/// Counters that the progress line reads while recording.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records that were drained.
    pub events: AtomicU64,
    /// Records that were not of the form.
    pub malformed: AtomicU64,
    /// Stacks that were more than could be kept.
    pub stacks_lost: AtomicU64,
}

/// One ring and what its last look gave.
struct Shard {
    ring: RingBuffer<'static>,
    taken: Rc<RefCell<Taken>>,
}

#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    records: u64,
    malformed: u64,
    last_ts: u64,
    /// When a look ends.
    most: usize,
}

impl Taken {
    /// Copies a record. Negative, which ends the look, when the pass is full.
    fn copy(&mut self, record: &[u8]) -> i32 {
        let Some(size) = record.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes) else {
            self.malformed += 1;
            return 0;
        };
        // What was reserved may be longer than what was used.
        let Some(used) = record.get(..size as usize).filter(|used| used.len() >= 48) else {
            self.malformed += 1;
            return 0;
        };
        self.last_ts = u64::from_ne_bytes([used[0], used[1], used[2], used[3], used[4], used[5], used[6], used[7]]);
        self.bytes.extend_from_slice(used);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.records += 1;
        if self.bytes.len() >= self.most { -1 } else { 0 }
    }
}

/// Looks at the rings until `stop`, and then once more.
pub fn drain(
    rings: &[MapHandle],
    ring_bytes: u32,
    stop: &AtomicBool,
    counters: &Arc<Counters>,
    passes: &SyncSender<Pass>,
    returned: &Receiver<Vec<u8>>,
) -> Result<()> {
    let mut shards = Vec::new();
    let most = (PASS_BYTES / rings.len().max(1)).max(LEAST_BYTES);
    for map in rings {
        let taken = Rc::new(RefCell::new(Taken { most, ..Taken::default() }));
        let into = taken.clone();
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |record| into.borrow_mut().copy(record)).context("cannot read a ring buffer")?;
        shards.push(Shard { ring: builder.build().context("cannot read a ring buffer")?, taken });
    }
    let longest = Duration::from_nanos((u64::from(ring_bytes) * 1_000_000_000 / FILL_RATE).clamp(2_000_000, 50_000_000));
    loop {
        let last = stop.load(Ordering::Acquire);
        let (pass, fullest, complete) = look(&shards, counters, returned);
        let empty = pass.rings.iter().all(Vec::is_empty);
        let pass = if last && complete { Pass { watermark: u64::MAX, ..pass } } else { pass };
        // A full pipeline blocks here; the rings then fill, and what doesn't fit is counted as lost.
        if (!empty || last) && passes.send(pass).is_err() {
            return Ok(());
        }
        if last && complete {
            return Ok(());
        }
        if complete && !last {
            // The fuller, the sooner.
            let eighths = (fullest as u64 * 8 / u64::from(ring_bytes)) as u32;
            std::thread::sleep(longest / (1 + eighths));
        }
    }
}

fn look(shards: &[Shard], counters: &Counters, returned: &Receiver<Vec<u8>>) -> (Pass, usize, bool) {
    let mut pass = Pass { rings: Vec::with_capacity(shards.len()), watermark: boot_ns().saturating_sub(SLACK_NS) };
    let mut fullest = 0;
    let mut complete = true;
    let mut events = 0;
    for shard in shards {
        let mut fresh = returned.try_recv().unwrap_or_default();
        fresh.clear();
        // A buffer that grows step by step leaves holes of all sizes behind; one more record may come than the most.
        fresh.reserve_exact(shard.taken.borrow().most + LEAST_BYTES);
        shard.taken.borrow_mut().bytes = fresh;
        let _ = shard.ring.consume_raw();
        let mut taken = shard.taken.borrow_mut();
        fullest = fullest.max(taken.bytes.len());
        if taken.bytes.len() >= taken.most {
            complete = false;
            pass.watermark = pass.watermark.min(taken.last_ts.saturating_sub(SLACK_NS));
        }
        events += std::mem::take(&mut taken.records);
        counters.malformed.fetch_add(std::mem::take(&mut taken.malformed), Ordering::Relaxed);
        pass.rings.push(std::mem::take(&mut taken.bytes));
    }
    counters.events.fetch_add(events, Ordering::Relaxed);
    (pass, fullest, complete)
}

/// CLOCK_BOOTTIME, ns.
pub fn boot_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// A clock, ns.
pub fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to write to. The clocks asked for exist on every kernel with BPF rings.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
