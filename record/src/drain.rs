//! The draining thread: copies records out of the rings and nothing else.
//!
//! The rings are polled by the clock, not on wake-up: waking a reader costs the traced program more than a
//! microsecond per event, a poll costs it nothing.
//!
//! The thread is in a real-time class ([`crate::scheduling`]), so that a busy host can't keep it from its work, and it never waits for
//! anybody: it fills buffers from a pool that was made at the start, hands them to the building thread, and gets them back. It
//! allocates nothing, because the allocator's lock may be held by a thread that has no CPU. While the builder is behind, the buffers fill,
//! and then the rings; what finds a ring full is counted there as lost.

use crate::scheduling::Governor;
use crate::uncommitted::{Data, Record};
use anyhow::{Context, Result};
use libbpf_rs::{AsRawLibbpf, MapHandle, RingBuffer, RingBufferBuilder};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A buffer takes about this much of all rings before it is handed on.
const PASS_BYTES: usize = 2 << 20;
/// But of one ring at least this much.
const LEAST_BYTES: usize = 64 << 10;
/// Room behind that for one more record, which is more than the largest.
const LARGEST_RECORD: usize = 80 << 10;
/// How long a record may be on its way from its time stamp to the ring: an interrupt or a preempted hypervisor in between.
const SLACK_NS: u64 = 2_000_000;
/// How fast a ring may fill without getting full between two polls, bytes per second and CPU.
const FILL_RATE: u64 = 400_000_000;
/// How long to wait for a buffer when the builder has them all.
const NO_BUFFER: Duration = Duration::from_millis(1);

/// What the draining thread hands on.
#[derive(Debug)]
pub enum Drained {
    /// Records of one ring, one after the other, each padded to eight bytes.
    Records {
        /// Which ring.
        ring: usize,
        /// Its records.
        bytes: Vec<u8>,
    },
    /// No record that is older than this will come any more.
    Watermark(u64),
}

/// The builder's end: what was drained, and the way back for used buffers.
#[derive(Debug)]
pub struct Passes {
    /// What was drained.
    pub queue: Receiver<Drained>,
    /// The way back for buffers.
    pub way_back: WayBack,
    on_the_way: Arc<AtomicUsize>,
}

impl Passes {
    /// To be called when something that was received has been dealt with.
    pub fn done(&self) {
        self.on_the_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where buffers that are used up go. Each ring has its own: else those of a busy one could all wait for a record of a quiet one,
/// which is then without a buffer to be read into.
#[derive(Debug, Clone)]
pub struct WayBack {
    senders: Vec<SyncSender<Vec<u8>>>,
    capacity: usize,
    /// Buffers of each ring.
    pub share: usize,
}

impl WayBack {
    /// Whether the buffer is of the pool.
    pub fn owns(&self, buffer: &Vec<u8>) -> bool {
        buffer.capacity() == self.capacity
    }

    /// Gives a ring's buffer back to the pool; one that isn't of it, or that nobody takes, is freed.
    pub fn give(&self, ring: usize, buffer: Vec<u8>) {
        if let Some(sender) = self.senders.get(ring).filter(|_| self.owns(&buffer)) {
            let _ = sender.try_send(buffer);
        }
    }
}

/// The draining thread's end.
#[derive(Debug)]
pub struct Pool {
    hand_on: SyncSender<Drained>,
    /// By ring.
    returned: Vec<Receiver<Vec<u8>>>,
    on_the_way: Arc<AtomicUsize>,
    most: usize,
}

/// The buffers for so many rings, `bytes` in all: beside the rings, they hold the events that wait for the builder. Their memory is taken
/// from the kernel when it is first written to.
pub fn pool(rings: usize, bytes: usize) -> (Pool, Passes) {
    let rings = rings.max(1);
    let most = (PASS_BYTES / rings).max(LEAST_BYTES);
    let capacity = Vec::<u8>::with_capacity(most + LARGEST_RECORD).capacity();
    let share = (bytes / capacity / rings).max(2);
    let buffers = share * rings;
    let (senders, returned) = (0..rings).map(|_| sync_channel(share)).unzip();
    let way_back = WayBack { senders, capacity, share };
    for ring in 0..rings {
        (0..share).for_each(|_| way_back.give(ring, Vec::with_capacity(most + LARGEST_RECORD)));
    }
    // Each is followed by at most one watermark.
    let (hand_on, queue) = sync_channel(2 * buffers + 16);
    let on_the_way = Arc::new(AtomicUsize::new(0));
    (Pool { hand_on, returned, on_the_way: on_the_way.clone(), most }, Passes { queue, way_back, on_the_way })
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
    /// Rows that were lost, all together.
    pub lost: AtomicU64,
    /// Records that were begun and never finished, by table; behind the tables those of which that isn't known.
    pub unfinished: Mutex<BTreeMap<usize, u64>>,
    /// What was made of them, by table.
    pub made: crate::shed::Tally,
}

/// One ring, and the buffer that it is read into.
struct Shard {
    ring: RingBuffer<'static>,
    taken: Rc<RefCell<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// Without capacity if there was none in the pool.
    bytes: Vec<u8>,
    records: u64,
    malformed: u64,
    last_ts: u64,
    /// When the buffer is handed on at the latest.
    most: usize,
}

impl Taken {
    /// Copies a record. Negative, which ends the poll, when the buffer is full.
    fn copy(&mut self, record: &[u8]) -> i32 {
        let Some(size) = record.get(8..12).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes) else {
            self.malformed += 1;
            return 0;
        };
        // What was reserved may be longer than what was used.
        let used = record.get(..size as usize).filter(|used| used.len() >= 48 && used.len() <= LARGEST_RECORD);
        let Some(used) = used else {
            self.malformed += 1;
            return 0;
        };
        self.last_ts = u64::from_ne_bytes([used[0], used[1], used[2], used[3], used[4], used[5], used[6], used[7]]);
        self.bytes.extend_from_slice(used);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.records += 1;
        if self.is_full() { -1 } else { 0 }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= self.most
    }
}

/// What a poll of all rings gave.
struct Polled {
    /// No record that is older than this will come any more.
    watermark: u64,
    /// Most bytes that one ring had.
    fullest: usize,
    /// Whether all rings were read to their end.
    complete: bool,
    /// Whether a ring could not be read, because there was no buffer.
    starved: bool,
    /// Whether a buffer is full.
    full: bool,
}

/// How long a record that is begun is waited for at the end: nothing runs any more that could begin one.
const UNFINISHED: Duration = Duration::from_millis(500);

/// Drains the rings until `stop`, and then once more.
pub fn drain(rings: &[MapHandle], ring_bytes: u32, stop: &AtomicBool, counters: &Arc<Counters>, pool: &Pool) -> Result<()> {
    let mut governor = Governor::new();
    let mut shards = Vec::new();
    for map in rings {
        let taken = Rc::new(RefCell::new(Taken { most: pool.most, ..Taken::default() }));
        let into = taken.clone();
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |record| into.borrow_mut().copy(record)).context("cannot read a ring buffer")?;
        shards.push(Shard { ring: builder.build().context("cannot read a ring buffer")?, taken });
    }
    let mut held_since = None;
    let longest = Duration::from_nanos((u64::from(ring_bytes) * 1_000_000_000 / FILL_RATE).clamp(2_000_000, 50_000_000));
    loop {
        let last = stop.load(Ordering::Acquire);
        let polled = poll(&shards, counters, pool);
        let mut ended = last && polled.complete;
        if ended && shards.iter().any(|shard| shard.span().is_some()) {
            let since = *held_since.get_or_insert_with(Instant::now);
            ended = since.elapsed() > UNFINISHED;
            if ended {
                for (ring, (shard, map)) in shards.iter().zip(rings).enumerate() {
                    read_around(shard, map, ring, ring_bytes, counters, pool);
                }
            }
        }
        // A builder that is behind gets few large buffers instead of many small ones.
        if polled.full || ended || pool.on_the_way.load(Ordering::Acquire) == 0 {
            let watermark = if ended { u64::MAX } else { polled.watermark };
            if !hand_on(&shards, pool, watermark) || ended {
                return Ok(());
            }
        }
        governor.look();
        if polled.starved || held_since.is_some() {
            std::thread::sleep(NO_BUFFER);
        } else if polled.complete && !last {
            // The fuller, the sooner.
            let eighths = (polled.fullest as u64 * 8 / u64::from(ring_bytes)) as u32;
            std::thread::sleep(longest / (1 + eighths));
        }
    }
}

impl Shard {
    /// From where to where in the ring there is something to read, if there is.
    fn span(&self) -> Option<(u64, u64)> {
        // SAFETY: the ring lives as long as its buffer, which has one.
        let (from, to) = unsafe {
            let ring = libbpf_sys::ring_buffer__ring(self.ring.as_libbpf_object().as_ptr(), 0);
            if ring.is_null() {
                return None;
            }
            (libbpf_sys::ring__consumer_pos(ring), libbpf_sys::ring__producer_pos(ring))
        };
        Some((from, to)).filter(|(from, to)| from < to)
    }
}

/// Hands on what is behind a record that nobody will finish.
fn read_around(shard: &Shard, map: &MapHandle, ring: usize, ring_bytes: u32, counters: &Counters, pool: &Pool) {
    let Some((from, to)) = shard.span() else { return };
    let mut of_ring = Taken::default();
    let mut unfinished = counters.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
    let read = Data::of(map, ring_bytes).and_then(|data| {
        data.read(from, to, |record| match record {
            Record::Whole(bytes) => {
                of_ring.copy(bytes);
            }
            Record::Unfinished(bytes) => *unfinished.entry(table_of(bytes)).or_default() += 1,
        })
    });
    if read.is_err() {
        *unfinished.entry(usize::MAX).or_default() += 1;
    }
    counters.events.fetch_add(of_ring.records, Ordering::Relaxed);
    counters.malformed.fetch_add(of_ring.malformed, Ordering::Relaxed);
    if !of_ring.bytes.is_empty() {
        pool.on_the_way.fetch_add(1, Ordering::AcqRel);
        // If nobody takes it, the recording has failed anyway.
        let _ = pool.hand_on.send(Drained::Records { ring, bytes: of_ring.bytes });
    }
}

/// The table that an unfinished record says that it is of (`struct ebrec_head` of bpf/events.h).
fn table_of(record: &[u8]) -> usize {
    record.get(14..16).and_then(|bytes| bytes.try_into().ok()).map_or(usize::MAX, |bytes| usize::from(u16::from_ne_bytes(bytes)))
}

fn poll(shards: &[Shard], counters: &Counters, pool: &Pool) -> Polled {
    let mut polled = Polled { watermark: boot_ns().saturating_sub(SLACK_NS), fullest: 0, complete: true, starved: false, full: false };
    let mut events = 0;
    for (shard, returned) in shards.iter().zip(&pool.returned) {
        let mut taken = shard.taken.borrow_mut();
        if taken.bytes.capacity() == 0 {
            taken.bytes = returned.try_recv().unwrap_or_default();
            taken.bytes.clear();
        }
        let before = taken.bytes.len();
        if taken.bytes.capacity() == 0 {
            polled.starved = true;
        } else if !taken.is_full() {
            drop(taken);
            let _ = shard.ring.consume_raw();
            taken = shard.taken.borrow_mut();
        }
        polled.fullest = polled.fullest.max(taken.bytes.len() - before);
        if taken.bytes.capacity() == 0 || taken.is_full() {
            // There may be more that is hardly younger than the last that was read.
            polled.complete = false;
            polled.full |= taken.is_full();
            polled.watermark = polled.watermark.min(taken.last_ts.saturating_sub(SLACK_NS));
        }
        events += std::mem::take(&mut taken.records);
        counters.malformed.fetch_add(std::mem::take(&mut taken.malformed), Ordering::Relaxed);
    }
    counters.events.fetch_add(events, Ordering::Relaxed);
    polled
}

/// Hands on what was read so far. False if nobody takes it any more.
fn hand_on(shards: &[Shard], pool: &Pool, watermark: u64) -> bool {
    let send = |item| {
        pool.on_the_way.fetch_add(1, Ordering::AcqRel);
        // There is room for all buffers, so this doesn't block.
        pool.hand_on.send(item).is_ok()
    };
    for (ring, shard) in shards.iter().enumerate() {
        let mut taken = shard.taken.borrow_mut();
        if !taken.bytes.is_empty() && !send(Drained::Records { ring, bytes: std::mem::take(&mut taken.bytes) }) {
            return false;
        }
    }
    send(Drained::Watermark(watermark))
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
