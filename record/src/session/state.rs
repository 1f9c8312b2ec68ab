//! What the recorder itself has to write: what is known at the start, every second, and at the end. A thread of its own, so that nothing that
//! takes time here (an iterator over many sockets, /proc) holds up the clock.

use crate::drain::{Counters, boot_ns, clock_ns};
use crate::flow::Inlet;
use crate::host::{self, Sampler, Seen};
use crate::load::Loaded;
use crate::losses::Losses;
use crate::shed::{self, Shedding};
use crate::store::Work;
use crate::talk::say;
use anyhow::{Context as _, Result};
use ebrec_format::events;
use ebrec_format::events::session::{CaptureRow, Clock, LibraryRow, Loss, ProbeRow};
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::manifest::Manifest;
use ebrec_format::table::{Row, batch_of};
use ebrec_format::wire::{NULL32, NULL64};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The end, as the supervisor saw it.
#[derive(Debug)]
pub struct End {
    /// What ended the recording.
    pub by: String,
    /// When the window ended, ns of CLOCK_BOOTTIME.
    pub at: u64,
    /// The libraries in which hooks were.
    pub libraries: Vec<LibraryRow>,
}

/// What the recorder knows.
pub struct State {
    work: Inlet<Work>,
    counters: Arc<Counters>,
    losses: Losses,
    sampler: Sampler,
    seen: Seen,
    manifest: Manifest,
    malformed: u64,
    shedding: Option<Shedding>,
    /// Rows of this thread that nobody took, by the number of their table, since losses were written.
    refused: BTreeMap<usize, u64>,
}

impl State {
    /// Begins with the manifest of the start.
    pub fn new(work: Inlet<Work>, counters: Arc<Counters>, losses: Losses, manifest: Manifest, max_cpu: Option<u32>) -> State {
        let shedding = max_cpu.map(|percent| Shedding::new(percent, host::own_cost().0));
        State {
            work,
            counters,
            losses,
            sampler: Sampler::default(),
            seen: Seen::default(),
            manifest,
            malformed: 0,
            shedding,
            refused: BTreeMap::new(),
        }
    }
}

impl State {
    /// Writes what is known at the start, tells `ready`, and then every second what has changed, until it is told of the end and has
    /// written what is known then. Gives the manifest back.
    /// When `ending` is set the window is over, and nothing of after it is written.
    pub fn run(mut self, loaded: &Loaded, ready: &Sender<()>, end: &Receiver<End>, ending: &AtomicBool) -> Result<(Manifest, Losses)> {
        self.write_state(loaded)?;
        let _ = ready.send(());
        if self.manifest.probes.get("process").is_some_and(|probe| probe.requested) {
            let started = (self.manifest.started_ns - self.manifest.boot_to_utc_ns) as u64;
            self.send_records(&crate::cgroups::records(started)?);
        }
        let mut next = Instant::now() + Duration::from_secs(1);
        loop {
            match end.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Timeout) if ending.load(Ordering::Acquire) => next += Duration::from_secs(1),
                Err(RecvTimeoutError::Timeout) => {
                    next += Duration::from_secs(1);
                    if next < Instant::now() {
                        // It was held up, or the host slept.
                        next = Instant::now() + Duration::from_secs(1);
                    }
                    self.second(loaded)?;
                    self.shed(loaded);
                    self.send_records(&crate::build::in_order(&loaded.records_of_second()));
                    self.manifest.ended_ns = boot_ns() as i64 + self.manifest.boot_to_utc_ns;
                    self.work.offer(0, Work::Manifest(Box::new(self.manifest.clone())));
                }
                Ok(end) => {
                    self.finish_state(loaded, &end)?;
                    break;
                }
                // The supervisor has given up.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok((self.manifest, self.losses))
    }

    fn offer(
        &mut self,
        table: usize,
        batch: arrow::record_batch::RecordBatch,
        as_work: fn(usize, arrow::record_batch::RecordBatch) -> Work,
    ) {
        let rows = batch.num_rows() as u64;
        if !self.work.offer(batch.get_array_memory_size(), as_work(table, batch)) {
            // Nobody takes it: the disk stands still, and the encoder has all it may hold.
            *self.refused.entry(table).or_default() += rows;
        }
    }

    fn send<R: Row>(&mut self, rows: &[R]) -> Result<()> {
        if rows.is_empty() { Ok(()) } else { self.send_as(rows, Work::Batch) }
    }

    fn send_as<R: Row>(&mut self, rows: &[R], as_work: fn(usize, arrow::record_batch::RecordBatch) -> Work) -> Result<()> {
        let mut context = Context { boot_to_utc_ns: self.manifest.boot_to_utc_ns, resolver: &mut NoResolver };
        let table = events::tables().position(|table| table.name == R::table().name).context("an undeclared table")?;
        let batch = batch_of(rows, &mut context);
        self.offer(table, batch, as_work);
        Ok(())
    }

    /// What is known from the start: the tables of state, and a manifest.
    fn write_state(&mut self, loaded: &Loaded) -> Result<()> {
        self.send(&self.probe_rows())?;
        self.send(&[self.capture_row(NULL64, None)])?;
        self.second(loaded)?;
        self.work.offer(0, Work::Manifest(Box::new(self.manifest.clone())));
        Ok(())
    }

    fn probe_rows(&self) -> Vec<ProbeRow> {
        let mut rows = Vec::new();
        for (name, state) in &self.manifest.probes {
            if !state.requested {
                let reason = Some("not asked for".to_owned());
                rows.push(ProbeRow {
                    probe: Some(name.clone()),
                    hook: None,
                    mechanism: None,
                    status: Some("off".to_owned()),
                    reason,
                    runs: NULL64,
                    run_time_ns: NULL64,
                });
            }
            for hook in &state.hooks {
                let status = match &hook.mechanism {
                    Some(_) => "active",
                    None if hook.is_off() => "off",
                    None => "failed",
                };
                rows.push(ProbeRow {
                    probe: Some(name.clone()),
                    hook: Some(hook.hook.clone()),
                    mechanism: hook.mechanism.clone(),
                    status: Some(status.to_owned()),
                    reason: hook.reason.clone(),
                    runs: hook.runs.unwrap_or(NULL64),
                    run_time_ns: hook.run_time_ns.unwrap_or(NULL64),
                });
            }
        }
        rows
    }

    fn capture_row(&self, ended: u64, ended_by: Option<&str>) -> CaptureRow {
        let m = &self.manifest;
        CaptureRow {
            ts: (m.started_ns - m.boot_to_utc_ns) as u64,
            end_ts: ended,
            host: Some(m.host.name.clone()),
            kernel: Some(m.host.kernel.clone()),
            arch: Some(m.host.arch.clone()),
            cpus: m.host.cpus,
            format_version: m.format_version,
            recorder: Some(m.recorder_version.clone()),
            command: Some(m.command.join(" ")),
            ended_by: ended_by.map(str::to_owned),
        }
    }

    /// What is done every second.
    fn second(&mut self, loaded: &Loaded) -> Result<()> {
        self.tell_what_is_new()?;
        let now = boot_ns();
        let sample = self.sampler.sample(now);
        self.send(&[sample])?;
        let clock = Clock { ts: now, boot_ns: now, mono_ns: clock_ns(libc::CLOCK_MONOTONIC), real_ns: clock_ns(libc::CLOCK_REALTIME) };
        self.send(&[clock])?;
        self.take_losses(loaded, now)
    }

    /// Disks, mounts, network interfaces and containers that weren't there a second ago.
    fn tell_what_is_new(&mut self) -> Result<()> {
        let fresh = self.seen.fresh();
        self.send(&fresh.disks)?;
        self.send(&fresh.mounts)?;
        self.send(&fresh.netdevs)?;
        self.send(&fresh.containers)
    }

    /// Gives up a probe if recording takes more CPU time than it may.
    fn shed(&mut self, loaded: &Loaded) {
        let Some(shedding) = &mut self.shedding else { return };
        let Some(given_up) = shedding.second(host::own_cost().0, &self.counters.made, |probe| loaded.can_shed(probe)) else { return };
        let why = format!("given up after {:.1} s: {}", given_up.after.as_secs_f64(), given_up.why);
        if let Err(error) = loaded.shed(given_up.probe) {
            say!("ebrec-record: probe {} can't be given up: {error:#}", given_up.probe);
            return;
        }
        say!("ebrec-record: probe {} is {why}; table {} ends here", given_up.probe, given_up.tables.join(", "));
        for hook in self.manifest.probes.get_mut(given_up.probe).into_iter().flat_map(|probe| &mut probe.hooks) {
            hook.reason.get_or_insert_with(|| why.clone());
        }
    }

    fn take_losses(&mut self, loaded: &Loaded, now: u64) -> Result<()> {
        let mut rows: Vec<Loss> = Vec::new();
        if let Some(shedding) = &mut self.shedding {
            for (table, lost) in shedding.lost() {
                self.losses.add(&mut rows, now, table, shed::REASON, lost);
            }
        }
        // Before `sample`, which begins the next interval.
        self.losses.skipped(&mut rows, now, &loaded.skipped());
        self.losses.sample(&mut rows, now);
        for (table, reason) in loaded.failures() {
            self.losses.add(&mut rows, now, &table, &reason, 1);
        }
        let malformed = self.counters.malformed.load(Ordering::Relaxed);
        if malformed > self.malformed {
            rows.push(Loss {
                ts: now,
                end_ts: now,
                cpu: NULL32,
                table_name: None,
                reason: Some("malformed".to_owned()),
                lost: malformed - self.malformed,
            });
            self.malformed = malformed;
        }
        let unfinished = std::mem::take(&mut *self.counters.unfinished.lock().unwrap_or_else(PoisonError::into_inner));
        for (table, lost) in unfinished {
            let table = events::tables().nth(table).map(|table| table.name);
            self.losses.add_of(&mut rows, now, table, "never finished", lost);
        }
        let stacks_lost = self.counters.stacks_lost.swap(0, Ordering::Relaxed);
        self.losses.add(&mut rows, now, "stack", "too many stacks", stacks_lost);
        for (table, rows_lost) in std::mem::take(&mut self.refused) {
            let name = events::tables().nth(table).map_or("", |table| table.name);
            self.losses.add(&mut rows, now, name, "disk too slow", rows_lost);
        }
        self.counters.lost.store(self.losses.total(), Ordering::Relaxed);
        self.send(&rows)
    }

    /// What is known only at the end: open connections, run counts, the last losses.
    fn finish_state(&mut self, loaded: &Loaded, end: &End) -> Result<()> {
        let records = crate::build::in_order(&loaded.final_records());
        self.send_records(&records);
        self.tell_what_is_new()?;
        let stats = loaded.run_stats();
        for (name, stats) in stats.iter().filter(|(_, stats)| stats.runs > 0) {
            let Some(program) = crate::hooks::Program::parse(name, "") else { continue };
            let hooks = self.manifest.probes.get_mut(&program.probe).map(|p| &mut p.hooks);
            if let Some(hook) = hooks.and_then(|hooks| hooks.iter_mut().find(|hook| hook.hook == program.hook)) {
                hook.runs = Some(hook.runs.unwrap_or(0) + stats.runs);
                hook.run_time_ns = Some(hook.run_time_ns.unwrap_or(0) + stats.time_ns);
            }
        }
        self.send(&end.libraries)?;
        let started = (self.manifest.started_ns - self.manifest.boot_to_utc_ns) as u64;
        self.take_losses(loaded, end.at.max(started + 1))?;
        self.manifest.ended_ns = end.at as i64 + self.manifest.boot_to_utc_ns;
        self.manifest.ended_by.clone_from(&end.by);
        self.manifest.complete = true;
        // What was written at the start didn't know the end.
        self.send_as(&self.probe_rows(), Work::Replace)?;
        self.send_as(&[self.capture_row(end.at, Some(&end.by))], Work::Replace)
    }

    fn send_records(&mut self, records: &[u8]) {
        let mut sinks: Vec<_> = events::tables().map(|table| (table.builder)()).collect();
        let mut context = Context { boot_to_utc_ns: self.manifest.boot_to_utc_ns, resolver: &mut NoResolver };
        let mut at = 0;
        while let Some(head) = records.get(at..at + 16) {
            let size = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
            let table = usize::from(u16::from_ne_bytes([head[14], head[15]]));
            if let (Some(record), Some(sink)) = (records.get(at..at + size), sinks.get_mut(table)) {
                sink.append_record(record, &mut context);
            }
            at += size.next_multiple_of(8).max(8);
        }
        let batches: Vec<_> = sinks
            .iter_mut()
            .enumerate()
            .filter(|(_, sink)| sink.rows() > 0)
            .map(|(table, sink)| (table, sink.finish(&mut context)))
            .collect();
        for (table, batch) in batches {
            self.offer(table, batch, Work::Batch);
        }
    }
}
