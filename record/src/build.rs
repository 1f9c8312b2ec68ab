//! The building thread: puts the records of all rings in order of time, resolves them, and makes columns of them.

use crate::drain::{Counters, Drained, Passes, WayBack};
use crate::flow::Inlet;
use crate::resolve::HostResolver;
use crate::scheduling::Governor;
use crate::stacks::Intake;
use crate::store::Work;
use arrow::record_batch::RecordBatch;
use ebrec_format::events;
use ebrec_format::kind::Context;
use ebrec_format::table::RowSink;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// A batch of a busy table has this many rows, or takes this much.
const BATCH_ROWS: usize = 8 * 1024;
const BATCH_BYTES: usize = 2 << 20;
/// Rows of a quiet table wait at most this long; long enough for a connection to be accepted, so that its first rows
/// find their owner.
const BATCH_AGE: Duration = Duration::from_secs(2);

/// One ring's records that are not in order yet: buffers as they came, and where in the first one to go on.
#[derive(Default)]
struct Pending {
    buffers: VecDeque<Vec<u8>>,
    at: usize,
}

impl Pending {
    fn head(&self) -> Option<(u64, usize, u16)> {
        let b = self.buffers.front()?.get(self.at..self.at + 16)?;
        let ts = u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        Some((ts, u32::from_ne_bytes([b[8], b[9], b[10], b[11]]) as usize, u16::from_ne_bytes([b[14], b[15]])))
    }

    fn add(&mut self, fresh: Vec<u8>) {
        if !fresh.is_empty() {
            self.buffers.push_back(fresh);
        }
    }

    /// Gives up the pool's buffers, if it has them all, by copying what is left in them: that is little, but what would let the rest go may be
    /// behind it in the ring, which can't be read without a buffer.
    fn let_go(&mut self, ring: usize, way_back: &WayBack) {
        if self.buffers.iter().filter(|buffer| way_back.owns(buffer)).count() < way_back.share {
            return;
        }
        let at = std::mem::take(&mut self.at);
        for (nth, buffer) in self.buffers.iter_mut().enumerate() {
            let rest = buffer.get(if nth == 0 { at } else { 0 }..).unwrap_or_default().to_vec();
            way_back.give(ring, std::mem::replace(buffer, rest));
        }
    }

    /// Goes behind a record of `size` bytes. A buffer that is used up is given back.
    fn advance(&mut self, size: usize) -> Option<Vec<u8>> {
        self.at += size.next_multiple_of(8);
        if self.buffers.front().is_some_and(|front| self.at + 16 > front.len()) {
            self.at = 0;
            return self.buffers.pop_front();
        }
        None
    }
}

/// Columns of all tables in the making.
struct Tables {
    sinks: Vec<Box<dyn RowSink>>,
    /// Rows that are told of at their end and began long before: apart, so that the others are in order as they come.
    late: Vec<Box<dyn RowSink>>,
    /// The latest `ts` of each table so far.
    latest: Vec<u64>,
    resolver: HostResolver,
    stacks: Option<Intake>,
    boot_to_utc_ns: i64,
    counters: Arc<Counters>,
    work: Inlet<Work>,
    returned: WayBack,
    open: bool,
}

impl Tables {
    fn append(&mut self, table: u16, ts: u64, record: &[u8]) {
        if self.stacks.as_ref().is_some_and(|stacks| stacks.take(table, record)) {
            return;
        }
        let Some(latest) = self.latest.get_mut(usize::from(table)) else {
            self.counters.malformed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let sinks = if ts < *latest { &mut self.late } else { &mut self.sinks };
        *latest = ts.max(*latest);
        let sink = &mut sinks[usize::from(table)];
        let mut context = Context { boot_to_utc_ns: self.boot_to_utc_ns, resolver: &mut self.resolver };
        if !sink.append_record(record, &mut context) {
            self.counters.malformed.fetch_add(1, Ordering::Relaxed);
        } else if sink.rows() >= BATCH_ROWS || sink.bytes() >= BATCH_BYTES {
            let batch = sink.finish(&mut context);
            self.hand_on(usize::from(table), batch);
        }
    }

    fn flush(&mut self) {
        let mut done = Vec::new();
        for (table, sink) in self.sinks.iter_mut().enumerate().chain(self.late.iter_mut().enumerate()) {
            if sink.rows() > 0 {
                let mut context = Context { boot_to_utc_ns: self.boot_to_utc_ns, resolver: &mut self.resolver };
                let batch = sink.finish(&mut context);
                done.push((table, batch));
            }
        }
        done.into_iter().for_each(|(table, batch)| self.hand_on(table, batch));
        self.resolver.age();
    }

    fn hand_on(&mut self, table: usize, batch: RecordBatch) {
        let bytes = batch.get_array_memory_size();
        self.counters.made.add(table, batch.num_rows(), bytes);
        self.open &= self.work.push(bytes, Work::Batch(table, batch)).is_ok();
    }

    /// What all columns in the making take.
    fn bytes(&self) -> usize {
        self.sinks.iter().chain(&self.late).map(|sink| sink.bytes()).sum()
    }
}

/// Where records go.
pub struct Outlets {
    /// To the encoder, as batches.
    pub work: Inlet<Work>,
    /// Stacks to their own thread.
    pub stacks: Option<Intake>,
    /// If the batches of all tables take more bytes than this together, all are finished.
    pub most: usize,
}

/// Builds until the drain ends. `first` are records from before, the snapshot; `ready` is told when they are resolved, because
/// what they name may be gone soon.
pub fn build(first: Vec<u8>, ready: &Sender<()>, passes: &Passes, outlets: Outlets, counters: Arc<Counters>, boot_to_utc_ns: i64) {
    let Outlets { work, stacks, most } = outlets;
    let sinks = || events::tables().map(|table| (table.builder)()).collect::<Vec<_>>();
    let latest = vec![0; events::tables().count()];
    let (resolver, returned) = (HostResolver::default(), passes.way_back.clone());
    let mut tables =
        Tables { sinks: sinks(), late: sinks(), latest, resolver, stacks, boot_to_utc_ns, counters, work, returned, open: true };
    let mut snapshot = vec![Pending::default()];
    snapshot[0].add(in_order(&first));
    drop(first);
    merge(&mut snapshot, u64::MAX, &mut tables);
    let _ = ready.send(());
    let mut pending: Vec<Pending> = Vec::new();
    let mut flushed = Instant::now();
    let mut governor = Governor::new();
    while tables.open {
        governor.look();
        match passes.queue.recv_timeout(BATCH_AGE) {
            Ok(Drained::Records { ring, bytes }) => {
                pending.resize_with(pending.len().max(ring + 1), Pending::default);
                pending[ring].add(bytes);
                passes.done();
            }
            Ok(Drained::Watermark(watermark)) => {
                merge(&mut pending, watermark, &mut tables);
                for (ring, records) in pending.iter_mut().enumerate() {
                    records.let_go(ring, &passes.way_back);
                }
                passes.done();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if flushed.elapsed() >= BATCH_AGE || tables.bytes() > most {
            tables.flush();
            flushed = Instant::now();
        }
    }
    merge(&mut pending, u64::MAX, &mut tables);
    tables.flush();
}

/// Appends everything up to `watermark` in order of time.
fn merge(pending: &mut [Pending], watermark: u64, tables: &mut Tables) {
    let mut heads: BinaryHeap<Reverse<(u64, usize)>> =
        pending.iter().enumerate().filter_map(|(i, p)| p.head().map(|(ts, ..)| Reverse((ts, i)))).collect();
    while let Some(Reverse((ts, i))) = heads.pop() {
        if ts > watermark {
            return;
        }
        let until = heads.peek().map_or(watermark, |Reverse((ts, _))| *ts).min(watermark);
        let ring = &mut pending[i];
        // As long as this ring has the oldest record, the heap needn't be asked.
        while let Some((ts, size, table)) = ring.head() {
            if ts > until {
                heads.push(Reverse((ts, i)));
                break;
            }
            match ring.buffers.front().and_then(|front| front.get(ring.at..ring.at + size)) {
                Some(record) => tables.append(table, ts, record),
                None => {
                    tables.counters.malformed.fetch_add(1, Ordering::Relaxed);
                }
            }
            if let Some(used) = ring.advance(size.max(16)) {
                tables.returned.give(i, used);
            }
        }
    }
}

/// Records sorted by time, padded to eight bytes.
pub fn in_order(records: &[u8]) -> Vec<u8> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(b) = records.get(at..at + 16) {
        let ts = u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
        let size = u32::from_ne_bytes([b[8], b[9], b[10], b[11]]) as usize;
        if size < 48 || at + size > records.len() {
            break;
        }
        starts.push((ts, at, size));
        at += size;
    }
    starts.sort_unstable();
    let mut out = Vec::with_capacity(records.len());
    for (_, at, size) in starts {
        out.extend_from_slice(&records[at..at + size]);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}
