//! The stacks of the samples: kept from the records as they come, named at the end.
//!
//! A thread of its own ([`start`]) is given each new stack by the building thread. It finds out at once where the frames lie
//! ([`places`]), because the process may be gone soon, and keeps the files open that are mapped there: a file that is deleted, or in
//! another mount namespace, stays readable. While the recording goes on, another thread seeks the functions' names ([`symbols`]).
//! When it ends, that thread is waited for, for a limited time, and the table `stack` is written. What has no name by then keeps
//! its place.

mod build_id;
mod debugdata;
mod demangle;
mod maps;
mod perf_map;
mod places;
mod symbols;

use crate::drain::Counters;
use crate::flow::Inlet;
use crate::store::Work;
use anyhow::{Context as _, Result};
pub use build_id::build_id_of_notes;
use ebrec_format::events;
use ebrec_format::events::profile::Stack;
use ebrec_format::kind::{Context, Resolver, StackFrames};
use ebrec_format::table::Row;
use places::{Place, Places, Region};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use symbols::Names;
use zerocopy::{FromBytes, IntoBytes};

/// Stacks on their way from the building thread, and their bytes; more are counted as lost.
const QUEUE: usize = 4096;
const QUEUE_BYTES: usize = 4 << 20;
/// Frames that are kept until they are written, 6 MB and what is asked of them: then they are named and written before the end.
const MOST_FRAMES: usize = 256 << 10;
/// Distinct stacks of a capture, 16 MB for their numbers; more are counted as lost.
const MOST_STACKS: usize = 1 << 20;
/// How long naming may take at the end. With it, the capture is still usable two seconds after the window.
const TIME_TO_NAME: Duration = Duration::from_millis(1000);
/// How often names are sought while the recording goes on.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How often frames without a place are sought again.
const PLACE_EVERY: Duration = Duration::from_millis(100);
/// Rows of a batch, and bytes: names may be long.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;

/// What takes stacks' records out of the stream.
pub struct Intake {
    queue: SyncSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    table: u16,
    counters: Arc<Counters>,
}

impl Intake {
    /// Whether the record was a stack's; it is then taken.
    pub fn take(&self, table: u16, record: &[u8]) -> bool {
        if table != self.table {
            return false;
        }
        let is_full = self.waiting.fetch_add(record.len(), Ordering::AcqRel) + record.len() > QUEUE_BYTES;
        if is_full || self.queue.try_send(record.to_vec()).is_err() {
            self.waiting.fetch_sub(record.len(), Ordering::AcqRel);
            self.counters.stacks_lost.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// Starts the thread. It ends, with all stacks written, when the intake is dropped; it seeks no more names once `hurry` is set.
pub fn start(work: Inlet<Work>, counters: Arc<Counters>, boot_to_utc_ns: i64, hurry: Arc<AtomicBool>) -> Result<(Intake, JoinHandle<()>)> {
    let table = events::tables().position(|table| table.name == Stack::table().name).context("no table of stacks")?;
    let (queue, incoming) = sync_channel(QUEUE);
    let stacks = Stacks {
        table,
        work,
        boot_to_utc_ns,
        hurry,
        counters: counters.clone(),
        places: Places::default(),
        names: Names::start().context("cannot start a thread")?,
        asked: 0,
        seen: HashSet::new(),
        kept: Vec::new(),
        unplaced: Vec::new(),
        frames: 0,
        waiting: Arc::default(),
    };
    let waiting = stacks.waiting.clone();
    let thread = std::thread::Builder::new().name("ebrec-stacks".to_owned()).spawn(move || stacks.run(&incoming));
    Ok((Intake { queue, waiting, table: table as u16, counters }, thread.context("cannot start a thread")?))
}

/// A stack that waits for its names.
struct Kept {
    record: Stack,
    places: Box<[Place]>,
}

impl Kept {
    fn questions(&self) -> impl Iterator<Item = (Region, u64)> {
        let all = self.places.iter().enumerate();
        all.flat_map(|(depth, place)| [Some(place.question(depth)), place.second_question(depth)]).flatten()
    }
}

/// The thread's state.
struct Stacks {
    table: usize,
    work: Inlet<Work>,
    boot_to_utc_ns: i64,
    hurry: Arc<AtomicBool>,
    counters: Arc<Counters>,
    places: Places,
    names: Names,
    /// How many of the kept stacks' names were asked for.
    asked: usize,
    seen: HashSet<u64>,
    kept: Vec<Kept>,
    /// Which of them have frames without a place, and when these were sought last.
    unplaced: Vec<(usize, Instant)>,
    frames: usize,
    /// Bytes in the queue.
    waiting: Arc<AtomicUsize>,
}

impl Stacks {
    fn run(mut self, incoming: &Receiver<Vec<u8>>) {
        let (mut asked, mut placed) = (Instant::now(), Instant::now());
        loop {
            match incoming.recv_timeout(if self.unplaced.is_empty() { ASK_EVERY } else { PLACE_EVERY }) {
                Ok(record) => {
                    self.waiting.fetch_sub(record.len(), Ordering::AcqRel);
                    self.keep(&record);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if placed.elapsed() >= PLACE_EVERY {
                self.place_again(false);
                placed = Instant::now();
            }
            if asked.elapsed() >= ASK_EVERY {
                self.ask();
                asked = Instant::now();
            }
            if self.frames >= MOST_FRAMES {
                self.write();
            }
        }
        self.write();
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Ok((record, tail)) = Stack::read_from_prefix(bytes) else {
            self.counters.malformed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if self.seen.contains(&record.stack_id) {
            return;
        }
        if self.seen.len() >= MOST_STACKS {
            self.counters.stacks_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.seen.insert(record.stack_id);
        let places = self.places.of(&record, tail);
        self.frames += places.len();
        if places.iter().any(|place| place.region() == Region::Unknown) {
            self.unplaced.push((self.kept.len(), Instant::now()));
        }
        self.kept.push(Kept { record, places });
    }

    /// Seeks again what had no place, and asks for the names of what has one since.
    fn place_again(&mut self, is_last: bool) {
        let (known, kept) = (&mut self.places, &mut self.kept);
        self.unplaced.retain_mut(|(nth, last)| {
            let Some(Kept { record, places }) = kept.get_mut(*nth) else { return false };
            let now = Instant::now();
            let is_left = known.again(record, places, *last, is_last);
            *last = now;
            is_left
        });
    }

    /// Asks for the names of what is new.
    fn ask(&mut self) {
        let fresh = self.kept.iter().skip(self.asked).flat_map(Kept::questions);
        self.names.ask(fresh, &mut self.places);
        self.asked = self.kept.len();
    }

    /// Hands the stacks that are kept to the store, with the names that are found in time.
    fn write(&mut self) {
        self.place_again(true);
        self.unplaced.clear();
        // All of them: some were asked for before they had a place. What was answered isn't asked for again.
        self.asked = 0;
        self.ask();
        self.names.finish(self.kept.iter().flat_map(Kept::questions), &mut self.places, Instant::now() + TIME_TO_NAME, &self.hurry);
        let kept = std::mem::take(&mut self.kept);
        (self.frames, self.asked) = (0, 0);
        let mut sink = (Stack::table().builder)();
        let mut one = One::default();
        let mut kept = kept.into_iter().peekable();
        while let Some(stack) = kept.next() {
            one.0 = Some(self.names.frames(&stack.places, &self.places));
            let mut context = Context { boot_to_utc_ns: self.boot_to_utc_ns, resolver: &mut one };
            sink.append_record(stack.record.as_bytes(), &mut context);
            if sink.rows() >= BATCH_ROWS || sink.bytes() >= BATCH_BYTES || kept.peek().is_none() {
                let batch = sink.finish(&mut context);
                // If nobody takes it, writing has failed and the session says so.
                let _ = self.work.push(batch.get_array_memory_size(), Work::Batch(self.table, batch));
            }
        }
        self.names.forget();
    }
}

/// Resolves the frames of one stack, which were found before.
#[derive(Default)]
struct One(Option<StackFrames>);

impl Resolver for One {
    fn frames(&mut self, _: &[u8]) -> Option<StackFrames> {
        self.0.take()
    }
}
