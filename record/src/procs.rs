//! The processes that existed at the start: what /proc says of them, for the table `process`.
//!
//! There may be thousands, their command lines are as long as their owners like, and reading one may never return (the memory
//! of a process is read, and that may lie on a file system that doesn't answer). So recording doesn't wait for it: a thread takes the
//! records of the snapshot, asks for each process once, by [`tongs`], for a limited time, and hands the
//! rows over as they are resolved. What can't be read is null, and counted with its reason.

use crate::drain::Counters;
use crate::flow::Inlet;
use crate::scheduling::{Class, spawn};
use crate::store::Work;
use crate::tongs::{self, Fetcher, What, Why};
use anyhow::{Context as _, Result};
use ebrec_format::events;
use ebrec_format::events::process::Process;
use ebrec_format::kind::{Context, ProcessDetails, Resolver};
use ebrec_format::table::Row;
use ebrec_format::text::escape;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zerocopy::FromBytes;

/// What is kept of a command line; format/TABLES.md says so.
const MOST_ARGS: usize = 16 << 10;
/// What is read of /proc/PID/cgroup: a line for each hierarchy. A path has at most 4 KiB.
const MOST_CGROUP: usize = 16 << 10;
/// How long all of it may take. On a host with tens of thousands of processes the last ones are left out.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it goes on when recording ends before.
const PATIENCE_AT_END: Duration = Duration::from_millis(200);
/// Processes that are asked for at a time, and how long that may take: it takes less than a millisecond.
const AT_A_TIME: usize = 16;
const PATIENCE_AT_A_TIME: Duration = Duration::from_millis(500);
/// If it took longer, each is asked for alone, and the one that doesn't answer is left out.
const PATIENCE_ALONE: Duration = Duration::from_millis(50);
/// A batch is finished when it has so many rows, or so many bytes.
const BATCH_ROWS: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;

/// The thread that asks.
#[derive(Debug)]
pub struct Procs {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Procs {
    /// Takes the processes out of the records of the snapshot, and starts. `ready` is told when all were asked: they may be gone soon.
    pub fn start(
        snapshot: &mut Vec<u8>,
        work: Inlet<Work>,
        counters: Arc<Counters>,
        boot_to_utc_ns: i64,
        ready: Sender<()>,
    ) -> Result<Procs> {
        let table = events::tables().position(|table| table.name == Process::table().name).context("no table of processes")?;
        let records = take(snapshot, table);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let resolve = move || {
            run(&records, table, &work, &counters, boot_to_utc_ns, &flag);
            let _ = ready.send(());
        };
        // A process that is not asked soon may be gone.
        let thread = spawn(Class::Favoured, "ebrec-procs", resolve).context("cannot start a thread")?;
        Ok(Procs { thread, stop })
    }

    /// Lets it end soon: within [`PATIENCE_AT_END`], and the time that the store needs to take the rows. What wasn't asked for by then is
    /// null.
    pub fn stop(self) -> JoinHandle<()> {
        self.stop.store(true, Ordering::Release);
        self.thread
    }
}

/// A process of the snapshot: its pid in the recorder's /proc, which need not be the kernel's, and 0 if it isn't there; and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    pid: u32,
    start: u64,
}

/// The records of `table`; the others stay.
fn take(snapshot: &mut Vec<u8>, table: usize) -> Vec<Process> {
    let (mut records, mut rest, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(head) = snapshot.get(at..at + 16) {
        let size = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some(record) = snapshot.get(at..at + size).filter(|record| record.len() >= 48) else { break };
        if usize::from(u16::from_ne_bytes([head[14], head[15]])) != table {
            rest.extend_from_slice(record);
        } else if let Ok((record, _)) = Process::read_from_prefix(record) {
            records.push(record);
        }
        at += size;
    }
    // What can't be taken apart is for whoever comes next to count.
    rest.extend_from_slice(snapshot.get(at..).unwrap_or_default());
    *snapshot = rest;
    records
}

fn run(records: &[Process], table: usize, work: &Inlet<Work>, counters: &Counters, boot_to_utc_ns: i64, stop: &AtomicBool) {
    let mut asker = Asker::new(records, stop);
    let mut sink = (Process::table().builder)();
    let mut left = records;
    while !left.is_empty() {
        // As far as there is something to ask.
        let (now, later) = left.split_at(asker.ask(left));
        left = later;
        for record in now {
            let mut one = One(asker.details(record));
            let mut context = Context { boot_to_utc_ns, resolver: &mut one };
            if !sink.append_record(zerocopy::IntoBytes::as_bytes(record), &mut context) {
                counters.malformed.fetch_add(1, Ordering::Relaxed);
            }
            if sink.rows() >= BATCH_ROWS || sink.bytes() >= BATCH_BYTES {
                // If nobody takes it, writing has failed and the session says so.
                let batch = sink.finish(&mut context);
                let _ = work.push(batch.get_array_memory_size(), Work::Batch(table, batch));
            }
        }
    }
    if sink.rows() > 0 {
        let batch = sink.finish(&mut Context { boot_to_utc_ns, resolver: &mut One::default() });
        let _ = work.push(batch.get_array_memory_size(), Work::Batch(table, batch));
    }
}

/// What was read for the row that is appended.
#[derive(Default)]
struct One(ProcessDetails);

impl Resolver for One {
    fn process(&mut self, _: u32) -> ProcessDetails {
        std::mem::take(&mut self.0)
    }
}

/// What was read of a process, or why not.
type Answer = Result<ProcessDetails, Why>;

struct Asker<'a> {
    fetcher: Fetcher,
    stop: &'a AtomicBool,
    deadline: Instant,
    stopped: bool,
    /// The thread in whose row the arguments stand: the first one, if it is there.
    row_of: HashMap<Key, u32>,
    /// Command lines are here only until their row is made.
    known: HashMap<Key, ProcessDetails>,
}

impl<'a> Asker<'a> {
    fn new(records: &[Process], stop: &'a AtomicBool) -> Asker<'a> {
        let mut row_of = HashMap::new();
        for record in records {
            let tid = row_of.entry(key_of(record)).or_insert(record.head.task.tid);
            if record.head.task.tid == record.head.task.pid {
                *tid = record.head.task.tid;
            }
        }
        let deadline = Instant::now() + PATIENCE;
        Asker { fetcher: Fetcher::new("ebrec-proc-read"), stop, deadline, stopped: false, row_of, known: HashMap::new() }
    }

    /// Asks for the next processes; the result is how many records can be resolved now.
    fn ask(&mut self, records: &[Process]) -> usize {
        let mut fresh: Vec<(Key, bool)> = Vec::new();
        let mut ready = 0;
        for record in records {
            let key = key_of(record);
            if !self.known.contains_key(&key) && !fresh.iter().any(|(other, _)| *other == key) {
                if fresh.len() >= AT_A_TIME {
                    break;
                }
                fresh.push((key, record.is_kernel == 1));
            }
            ready += 1;
        }
        for (key, answer) in self.answers(&fresh) {
            let details = answer.unwrap_or_else(|why| {
                tongs::count(What::Process, why);
                ProcessDetails::default()
            });
            self.known.insert(key, details);
        }
        ready
    }

    fn answers(&mut self, keys: &[(Key, bool)]) -> Vec<(Key, Answer)> {
        if !self.stopped && self.stop.load(Ordering::Acquire) {
            self.stopped = true;
            self.deadline = self.deadline.min(Instant::now() + PATIENCE_AT_END);
        }
        let late = || keys.iter().map(|(key, _)| (*key, Err(Why::Slow))).collect();
        let left = self.deadline.saturating_duration_since(Instant::now());
        if keys.is_empty() || left.is_zero() {
            return late();
        }
        let all = keys.to_vec();
        let read_all = move || all.into_iter().map(|(key, is_kernel)| (key, read(key, is_kernel))).collect();
        if let Some(answers) = self.fetcher.fetch(PATIENCE_AT_A_TIME.min(left), read_all) {
            return answers;
        }
        let alone = |&(key, is_kernel): &(Key, bool)| {
            let left = self.deadline.saturating_duration_since(Instant::now());
            (key, self.fetcher.fetch(PATIENCE_ALONE.min(left), move || read(key, is_kernel)).unwrap_or(Err(Why::Slow)))
        };
        keys.iter().map(alone).collect()
    }

    fn details(&mut self, record: &Process) -> ProcessDetails {
        let key = key_of(record);
        let Some(known) = self.known.get_mut(&key) else { return ProcessDetails::default() };
        let is_its_row = self.row_of.get(&key) == Some(&record.head.task.tid);
        let cmdline = if is_its_row { known.cmdline.take() } else { None };
        ProcessDetails { cmdline, cgroup: known.cgroup.clone() }
    }
}

fn key_of(record: &Process) -> Key {
    Key { pid: record.proc, start: record.head.task.start }
}

fn read(key: Key, is_kernel: bool) -> Answer {
    let Key { pid, start } = key;
    let why = |error: io::Error| Why::of(&error);
    let cmdline = if is_kernel { None } else { Some(tongs::of_process(pid, "cmdline", MOST_ARGS).map_err(why)?) };
    let (cgroup, _) = tongs::of_process(pid, "cgroup", MOST_CGROUP).map_err(why)?;
    // Afterwards: what was read is this process's only if it is still there. In another pid namespace the number is another's.
    if !is_alive(pid, start) {
        return Err(Why::Gone);
    }
    let line = cgroup.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
    Ok(ProcessDetails { cmdline, cgroup: line.map(|path| Arc::from(escape(path).as_ref())) })
}

/// Whether the process that the kernel meant still has this pid. Its start is part of its identity; /proc tells it in ticks.
pub fn is_alive(pid: u32, start_ns: u64) -> bool {
    let Ok((stat, _)) = tongs::of_process(pid, "stat", 4096) else { return false };
    // The name may hold anything; the fields behind it are counted from its end. The start is the 22nd of all.
    let fields = stat.iter().rposition(|&byte| byte == b')').map_or(&[][..], |end| &stat[end + 1..]);
    let ticks = fields.split(|&byte| byte == b' ').nth(20).and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
    // SAFETY: no preconditions.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    let tick_ns = 1_000_000_000 / per_second;
    ticks.is_some_and(|ticks| ticks.abs_diff(start_ns / tick_ns) <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebrec_format::wire::{Head, Task};
    use zerocopy::IntoBytes;

    fn record(pid: u32, tid: u32, start: u64) -> Process {
        let size = size_of::<Process>() as u32;
        let head = Head { ts: 1, size, cpu: 0, table: 0, task: Task { start, pid, tid, comm: [0; 16] } };
        Process { head, started_ts: start, cgroup_id: 1, ppid: 1, uid: 0, is_thread: 0, is_kernel: 0, proc: pid, pad: 0 }
    }

    /// When this process was started, as the kernel would tell it.
    fn own_start() -> u64 {
        let stat = tongs::of_process(std::process::id(), "stat", 4096).map(|(stat, _)| stat).unwrap_or_default();
        let text = String::from_utf8_lossy(&stat).into_owned();
        let ticks: u64 = text.rsplit(')').next().and_then(|rest| rest.split(' ').nth(20)).and_then(|t| t.parse().ok()).unwrap_or(0);
        ticks * 10_000_000
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = std::process::id();
        assert!(!is_alive(pid, 0));
        assert!(is_alive(pid, own_start()));
    }

    #[test]
    fn a_command_line_stands_in_one_row() {
        let pid = std::process::id();
        let stop = AtomicBool::new(false);
        let start = own_start();
        let records: Vec<Process> = [pid + 2, pid, pid + 1].map(|tid| record(pid, tid, start)).to_vec();
        let mut asker = Asker::new(&records, &stop);
        assert_eq!(asker.ask(&records), 3);
        let rows: Vec<ProcessDetails> = records.iter().map(|record| asker.details(record)).collect();
        assert_eq!(rows.iter().map(|row| row.cmdline.is_some()).collect::<Vec<_>>(), [false, true, false]);
        // A filter may leave the first thread out.
        let mut asker = Asker::new(&records[2..], &stop);
        asker.ask(&records[2..]);
        assert!(asker.details(&records[2]).cmdline.is_some());
        // Another process has this pid by now, as one in another pid namespace has.
        let other = [record(pid, pid, start + 5_000_000_000)];
        let mut asker = Asker::new(&other, &stop);
        asker.ask(&other);
        assert_eq!(asker.details(&other[0]), ProcessDetails::default());
        assert!(tongs::unread().get("process details: gone").is_some_and(|&count| count > 0));
    }

    #[test]
    fn only_processes_are_taken_out() {
        let (process, mut other) = (record(7, 7, 1), record(8, 8, 1));
        other.head.table = 3;
        let mut snapshot = [other.as_bytes(), process.as_bytes(), other.as_bytes(), &[1; 20]].concat();
        assert_eq!(take(&mut snapshot, 0).len(), 1);
        assert_eq!(snapshot, [other.as_bytes(), other.as_bytes(), &[1; 20]].concat());
    }
}
