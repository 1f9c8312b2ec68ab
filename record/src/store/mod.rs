//! The encoding thread: makes Parquet segments of batches and keeps them safe on disk. The layout is that of
//! [`ebrec_format::capture`].
//!
//! [`segments`] makes a table's segments, [`disk`] writes them, [`durable`] knows in which order a file is synced, named and
//! removed. Here is decided what becomes of a segment: small ones are kept loose and merged as they become many, large ones go
//! into the pack (or, with `--format dir`, into the table's directory) for good. [`finish`] is the end.

mod disk;
mod durable;
mod finish;
mod segments;

use crate::budget::Stages;
use crate::flow::Outlet;
use crate::usage::Usage;
use anyhow::{Context, Result, bail};
use arrow::record_batch::RecordBatch;
use disk::{Content, Disk, Job};
use ebrec_format::capture::{LOOSE, PACK};
use ebrec_format::manifest::{MANIFEST, Manifest, TableState};
use ebrec_format::pack::PackWriter;
use ebrec_format::{events, segment};
use segments::{Loose, Sealed, TableFile};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// A segment is sealed after this long even if it is small: what a power loss can take.
const SEGMENT_AGE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// From this size on a segment goes into the pack for good.
const PACK_BYTES: usize = 1 << 20;
/// And with so many rows, even if they are small: what is loose is read and written again, at the latest while the user waits.
const PACK_ROWS: usize = 1 << 16;
/// So many loose segments of a table that were merged equally often are made one.
const MERGED_AT_ONCE: usize = 4;
/// All of a table are when they have so many rows together, and go into the pack.
const LOOSE_ROWS: usize = 1 << 17;
/// More than this is not read back for merging: such segments go into the pack as they are.
const MERGE_RAW: u64 = 12 << 20;
/// What an entry takes in the pack beside its bytes: its name and numbers, in front of it and in the directory.
const ENTRY_BYTES: u64 = 192;
/// What is kept free for the manifest and the rows of the end.
const END_BYTES: u64 = 96 << 10;

/// What the encoding thread is asked to do.
pub enum Work {
    /// Write rows of the table with this number.
    Batch(usize, RecordBatch),
    /// Write rows of a table instead of those that it has.
    Replace(usize, RecordBatch),
    /// Write the manifest as it is now.
    Manifest(Box<Manifest>),
}

/// What the store and those who watch over it tell each other while it works.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Bytes on disk.
    pub bytes: AtomicU64,
    /// How often the disk has done something, to tell a slow one from one that stands still.
    pub moves: AtomicU64,
    /// Set when writing has failed: recording must end.
    pub failed: AtomicBool,
    /// Set when the capture nearly has the size that it may have: recording must end.
    pub full: AtomicBool,
    /// Set by who watches: don't wait for the disk any longer. What is sealed stays in the `.partial` directory.
    pub abort: AtomicBool,
}

impl Gauge {
    fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }
}

/// How the capture is to be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One ZIP file.
    File,
    /// A directory.
    Dir,
}

/// Where a capture is to be, and how large it may become.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its name.
    pub output: &'a Path,
    /// Its form.
    pub layout: Layout,
    /// Whether it takes the place of another one, when it is complete.
    pub force: bool,
    /// Bytes that it never exceeds.
    pub max_size: u64,
    /// What may be held in memory.
    pub stages: Stages,
}

/// The store of one capture.
pub struct Store {
    partial: PathBuf,
    output: PathBuf,
    layout: Layout,
    force: bool,
    tables: Vec<TableFile>,
    /// Tables that are in the capture even if they have no row.
    present: Vec<bool>,
    gauge: Arc<Gauge>,
    disk: Disk,
    /// Keeps other recorders from taking the directory for one that was left.
    _held: Option<File>,
    /// What a killed recording of this name had left.
    aside: Option<PathBuf>,
    max_size: u64,
    /// What the segments in the making may take in memory, bytes.
    most_open: usize,
    /// Bytes of all sealed segments.
    sealed: u64,
    /// Rows of each table that had no room.
    refused: Vec<u64>,
    /// Bytes of a while ago, for how fast they grow.
    pace: (Instant, u64, f64),
}

impl Store {
    /// Creates `OUTPUT.partial/`. `present` tells by name which tables are being recorded.
    pub fn create(place: &Place<'_>, present: impl Fn(&str) -> bool, gauge: Arc<Gauge>) -> Result<Store> {
        let mut tables = Vec::new();
        for table in events::tables() {
            tables.push(TableFile::new(table, segment::encode(table, &[])?.len() as u64 + ENTRY_BYTES));
        }
        let present: Vec<bool> = tables.iter().map(|t| present(t.table.name)).collect();
        let least = END_BYTES + tables.iter().zip(&present).filter(|(_, present)| **present).map(|(t, _)| t.empty).sum::<u64>();
        if place.max_size < least {
            let what = format!("--max-size {}: a capture of these tables takes {least} bytes without a row", place.max_size);
            bail!(Usage::new(what, "give a larger --max-size, or fewer --probes"));
        }
        let partial = partial_path(place.output);
        let aside = if place.force { make_way(&partial)? } else { None };
        // The disk's thread makes these names durable: a disk that is slow, or has no CPU for its work, doesn't hold up the start.
        durable::begin_directory(&partial)?;
        let held = durable::hold(&partial)?;
        let pack = match place.layout {
            Layout::File => Some(PackWriter::new(durable::create(&partial.join(PACK))?)),
            Layout::Dir => None,
        };
        durable::begin_directory(&partial.join(LOOSE))?;
        let disk = Disk::start(pack, gauge.clone(), place.stages.disk).context("cannot start a thread")?;
        disk.ask(Job::Names(durable::parent(&partial).to_owned()))?;
        disk.ask(Job::Names(partial.clone()))?;
        Ok(Store {
            partial,
            output: place.output.to_owned(),
            layout: place.layout,
            force: place.force,
            refused: vec![0; tables.len()],
            tables,
            present,
            gauge,
            disk,
            _held: held,
            aside,
            max_size: place.max_size,
            most_open: place.stages.segments,
            sealed: 0,
            pace: (Instant::now(), 0, 0.0),
        })
    }

    /// Works until the senders are gone. Stops at the first failure; what was sealed before stays.
    pub fn run(&mut self, work: &Outlet<Work>) -> Result<()> {
        let mut result = self.run_until_failure(work);
        if result.is_err() {
            self.gauge.failed.store(true, Ordering::Release);
            // The disk's own reason is better than what came of it here.
            if let Err(error) = self.disk.end()
                && !self.gauge.is_aborted()
            {
                result = Err(error);
            }
            // The pipeline must not block on us: take what comes and let it go.
            while work.recv().is_ok() {}
        }
        result
    }

    fn run_until_failure(&mut self, work: &Outlet<Work>) -> Result<()> {
        let mut checked = Instant::now();
        loop {
            segment::hurry(work.is_behind());
            match work.recv_timeout(LOOK) {
                Ok(Work::Batch(table, batch)) => self.write(table, &batch)?,
                Ok(Work::Replace(table, batch)) => self.replace(table, &batch)?,
                Ok(Work::Manifest(manifest)) => self.write_manifest(&manifest)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.gauge.failed.load(Ordering::Acquire) {
                bail!("the disk failed");
            }
            if checked.elapsed() > LOOK {
                checked = Instant::now();
                for table in 0..self.tables.len() {
                    if self.tables[table].since().is_some_and(|since| since.elapsed() >= SEGMENT_AGE) {
                        self.seal(table)?;
                    }
                }
                self.watch_size()?;
            }
        }
    }

    fn write(&mut self, index: usize, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.tables[index].state.rows += batch.num_rows() as u64;
        // Of a small capture a segment may not be a large part: how much its rows need is only known when it is sealed.
        if self.tables[index].write(batch, self.max_size / 8)? {
            self.seal(index)?;
        }
        self.bound_open()?;
        self.watch_size()
    }

    /// Seals the largest segments in the making, if all together take too much memory.
    fn bound_open(&mut self) -> Result<()> {
        while self.tables.iter().map(TableFile::held).sum::<usize>() > self.most_open {
            let Some(largest) = (0..self.tables.len()).max_by_key(|&index| self.tables[index].held()) else { break };
            self.seal(largest)?;
        }
        Ok(())
    }

    /// For tables of a few rows, which are never in the pack before the end. The old rows go when the new ones are on the disk.
    fn replace(&mut self, index: usize, batch: &RecordBatch) -> Result<()> {
        self.tables[index].forget();
        self.tables[index].state.rows = 0;
        let old = std::mem::take(&mut self.tables[index].loose);
        self.write(index, batch)?;
        let sealed = self.tables[index].seal()?;
        self.sealed -= old.iter().map(|loose| loose.len).sum::<u64>();
        let last = self.number(index);
        let first = old.first().map_or(last, |loose| loose.first);
        if let Some(new) = sealed.into_iter().next() {
            self.keep_loose(index, (first, last), 0, new)?;
        }
        self.remove(index, &old)
    }

    /// The number of the next flush of a table.
    fn number(&mut self, index: usize) -> u64 {
        let file = &mut self.tables[index];
        file.next += 1;
        file.next - 1
    }

    /// Ends the open segment of a table and keeps it.
    fn seal(&mut self, index: usize) -> Result<()> {
        for segment in self.tables[index].seal()? {
            let number = self.number(index);
            if !self.has_room(index, &segment) {
                continue;
            }
            if segment.bytes.len() >= PACK_BYTES || segment.rows >= PACK_ROWS || segment.raw >= MERGE_RAW {
                self.pack(index, (number, number), segment.bytes)?;
                continue;
            }
            self.keep_loose(index, (number, number), 0, segment)?;
            self.merge_many(index)?;
        }
        Ok(())
    }

    /// Whether a segment doesn't make the capture too large. If it does, its rows are counted as lost. What the recorder itself has to say
    /// is little, and is always kept.
    fn has_room(&mut self, index: usize, segment: &Sealed) -> bool {
        let file = &self.tables[index];
        let own = events::probe_of(file.table.name).is_none();
        if own || self.sealed + segment.bytes.len() as u64 + ENTRY_BYTES + self.reserve() <= self.max_size {
            return true;
        }
        self.gauge.full.store(true, Ordering::Release);
        self.refused[index] += segment.rows as u64;
        self.tables[index].state.rows -= segment.rows as u64;
        false
    }

    /// What the end will need: a file for each table that has none yet, the manifest, the last rows.
    fn reserve(&self) -> u64 {
        let tables = self.tables.iter().zip(&self.present);
        END_BYTES + tables.filter(|(file, present)| **present && file.has_none()).map(|(file, _)| file.empty).sum::<u64>()
    }

    /// Says so when what is written and what is on its way comes near the limit.
    fn watch_size(&mut self) -> Result<()> {
        let open = |store: &Store| store.tables.iter().map(TableFile::open_bytes).sum::<u64>();
        let mut bytes = self.sealed + open(self) + self.reserve();
        let (since, before, pace) = &mut self.pace;
        let passed = since.elapsed().as_secs_f64();
        if passed >= 0.5 {
            *pace = bytes.saturating_sub(*before) as f64 / passed;
            (*since, *before) = (Instant::now(), bytes);
        }
        // Until the recording has stopped, what comes in a second may still come.
        let coming = (*pace as u64).clamp(self.max_size / 100, self.max_size / 4);
        if bytes + coming >= self.max_size && open(self) > self.max_size / 16 {
            // What isn't sealed is only guessed.
            for index in 0..self.tables.len() {
                if self.tables[index].open_bytes() > self.max_size / 64 {
                    self.seal(index)?;
                }
            }
            bytes = self.sealed + open(self) + self.reserve();
        }
        self.gauge.bytes.store(bytes, Ordering::Relaxed);
        if bytes + coming >= self.max_size {
            self.gauge.full.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn pack(&mut self, index: usize, (first, last): (u64, u64), bytes: Vec<u8>) -> Result<()> {
        let file = &mut self.tables[index];
        let name = format!("{}/{first:06}-{last:06}.parquet", file.table.name);
        file.state.bytes += bytes.len() as u64;
        file.packed += 1;
        self.sealed += bytes.len() as u64 + ENTRY_BYTES;
        let job = match self.layout {
            Layout::File => Job::Entry(name, bytes),
            Layout::Dir => {
                let directory = self.partial.join(self.tables[index].table.name);
                if !directory.is_dir() {
                    durable::create_directory(&directory)?;
                }
                Job::File(self.partial.join(name), bytes)
            }
        };
        self.disk.ask(job)
    }

    fn loose_path(&self, index: usize, loose: &Loose) -> PathBuf {
        let (first, last) = (loose.first, loose.last);
        self.partial.join(LOOSE).join(format!("{}.{first:06}-{last:06}.parquet", self.tables[index].table.name))
    }

    fn remove(&self, index: usize, replaced: &[Loose]) -> Result<()> {
        self.disk.ask(Job::Remove(replaced.iter().map(|loose| self.loose_path(index, loose)).collect()))
    }

    fn keep_loose(&mut self, index: usize, (first, last): (u64, u64), level: u32, segment: Sealed) -> Result<()> {
        let len = segment.bytes.len() as u64 + ENTRY_BYTES;
        self.sealed += len;
        let content = Content::waiting(segment.bytes);
        let loose = Loose { first, last, rows: segment.rows, raw: segment.raw, len, level, content };
        let job = Job::Loose(self.loose_path(index, &loose), loose.content.clone());
        self.tables[index].loose.push(loose);
        self.disk.ask(job)
    }

    /// Makes one of many loose segments. Each row is read and written again once for each level at most, however long the recording.
    fn merge_many(&mut self, index: usize) -> Result<()> {
        loop {
            let loose = &self.tables[index].loose;
            let bytes: u64 = loose.iter().map(|loose| loose.len).sum();
            if loose.iter().map(|loose| loose.rows).sum::<usize>() >= LOOSE_ROWS || bytes >= PACK_BYTES as u64 {
                return self.merge(index, 0, true);
            }
            let Some(level) = loose.last().map(|loose| loose.level) else { return Ok(()) };
            let equal = loose.iter().rev().take_while(|loose| loose.level == level).count();
            if equal < MERGED_AT_ONCE {
                return Ok(());
            }
            self.merge(index, loose.len() - equal, false)?;
        }
    }

    /// Makes one segment of a table's loose ones from `from` on: in the pack, or loose again.
    fn merge(&mut self, index: usize, from: usize, into_pack: bool) -> Result<()> {
        let old = self.tables[index].loose.split_off(from);
        let Some((first, last)) = old.first().zip(old.last()).map(|(f, l)| (f.first, l.last)) else { return Ok(()) };
        self.sealed -= old.iter().map(|loose| loose.len).sum::<u64>();
        let (rows, raw) = (old.iter().map(|loose| loose.rows).sum(), old.iter().map(|loose| loose.raw).sum());
        if raw > MERGE_RAW {
            for loose in &old {
                let bytes = self.read(index, loose)?;
                self.pack(index, (loose.first, loose.last), bytes)?;
            }
        } else {
            let bytes = if let [alone] = old.as_slice() { self.read(index, alone)? } else { self.merged(index, &old)? };
            if into_pack || bytes.len() >= PACK_BYTES {
                self.pack(index, (first, last), bytes)?;
            } else {
                let level = old.iter().map(|loose| loose.level).max().unwrap_or(0) + 1;
                self.keep_loose(index, (first, last), level, Sealed { rows, raw, bytes })?;
            }
        }
        // Whoever reads in between sees the old ones covered by the new one.
        self.remove(index, &old)
    }

    /// A loose segment's file.
    fn read(&self, index: usize, loose: &Loose) -> Result<Vec<u8>> {
        if let Some(bytes) = loose.content.bytes() {
            return Ok(bytes.to_vec());
        }
        let path = self.loose_path(index, loose);
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The rows of loose segments as one segment.
    fn merged(&self, index: usize, old: &[Loose]) -> Result<Vec<u8>> {
        let mut batches = Vec::new();
        for loose in old {
            batches.extend(segment::decode(self.read(index, loose)?)?);
        }
        segment::encode(self.tables[index].table, &batches).context("cannot merge segments")
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let mut manifest = manifest.clone();
        manifest.tables = self.table_states();
        let json = serde_json::to_vec_pretty(&manifest).context("cannot print the manifest")?;
        self.disk.ask(Job::Manifest(self.partial.join(MANIFEST), json))
    }

    fn table_states(&self) -> BTreeMap<String, TableState> {
        let tables = self.tables.iter().zip(&self.present).filter(|(_, present)| **present);
        tables.map(|(file, _)| (file.table.name.to_owned(), file.state.clone())).collect()
    }

    /// Leaves the directory as it is, readable: the forced way out.
    pub fn abandon(&mut self, manifest: &Manifest) -> Result<PathBuf> {
        for index in 0..self.tables.len() {
            self.seal(index)?;
        }
        self.write_manifest(manifest)?;
        self.disk.end().with_context(|| format!("cannot write to {}", self.partial.display()))?;
        Ok(self.partial.clone())
    }
}

/// Puts aside what a recording of this name has left. One that still runs is in nobody's way.
fn make_way(partial: &Path) -> Result<Option<PathBuf>> {
    if partial.symlink_metadata().is_err() {
        return Ok(None);
    }
    let held = durable::hold(partial).map_err(|error| Usage::new(format!("{error:#}"), "give another -o, or end that recording"))?;
    let aside = durable::set_aside(partial)?;
    drop(held);
    Ok(Some(aside))
}

/// `NAME.ebrec.partial`.
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(ebrec_format::capture::PARTIAL_SUFFIX);
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
