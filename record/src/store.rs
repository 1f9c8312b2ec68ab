//! The encoding thread: makes Parquet segments of batches and keeps them safe on disk. The layout is that of
//! [`ebrec_format::capture`].

use anyhow::{Context, Result, bail};
use arrow::array::{AsArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::TimestampNanosecondType;
use arrow::record_batch::RecordBatch;
use ebrec_format::capture::{LOOSE, PACK};
use ebrec_format::manifest::{MANIFEST, Manifest, TableState};
use ebrec_format::pack::PackWriter;
use ebrec_format::table::Table;
use ebrec_format::{events, segment};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A segment is sealed after this long even if it is small: what a power loss can take.
const SEGMENT_AGE: Duration = Duration::from_secs(3);
/// A segment of this many rows is sealed at once.
const SEGMENT_ROWS: usize = 1 << 19;
/// So many rows that came late are sealed at once.
const LATE_ROWS: usize = 1 << 16;
/// From this size on a segment goes into the pack for good.
const PACK_BYTES: usize = 1 << 20;
/// And with so many rows, even if they are small: what is loose is read and written again, at the latest while the user waits.
const PACK_ROWS: usize = 1 << 16;
/// So many loose segments of a table are made one.
const LOOSE_MOST: usize = 32;
/// Or those with so many rows together.
const LOOSE_ROWS: usize = 1 << 18;
/// So many files may wait for the disk; then the encoding waits too.
const WAITING: usize = 64;

/// What the encoding thread is asked to do.
pub enum Work {
    /// Write rows of the table with this number.
    Batch(usize, RecordBatch),
    /// Write rows of a table instead of those that it has.
    Replace(usize, RecordBatch),
    /// Write the manifest as it is now.
    Manifest(Box<Manifest>),
}

/// Figures that others read while the store works.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Bytes on disk.
    pub bytes: AtomicU64,
    /// Set when writing has failed: recording must end.
    pub failed: AtomicBool,
}

/// How the capture is to be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One ZIP file.
    File,
    /// A directory.
    Dir,
}

enum Sealed {
    Pack(PackWriter),
    Dir,
}

struct Loose {
    first: u64,
    last: u64,
    rows: usize,
    content: Arc<Content>,
}

/// What a loose segment holds, as long as its file isn't in place.
#[derive(Default)]
struct Content(Mutex<Option<Vec<u8>>>);

impl Content {
    fn waiting(bytes: Vec<u8>) -> Arc<Content> {
        Arc::new(Content(Mutex::new(Some(bytes))))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Option<Vec<u8>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn in_place(&self) -> bool {
        self.with(|bytes| bytes.is_none())
    }
}

struct Open {
    writer: segment::Writer,
    rows: usize,
    since: Instant,
    last_ts: i64,
    /// Rows that are older than what was written before them.
    late: Vec<RecordBatch>,
    late_rows: usize,
}

struct TableFile {
    table: &'static Table,
    open: Option<Open>,
    next: u64,
    loose: Vec<Loose>,
    state: TableState,
    segments: usize,
}

/// The store of one capture.
pub struct Store {
    partial: PathBuf,
    output: PathBuf,
    sealed: Sealed,
    tables: Vec<TableFile>,
    /// Tables that are in the capture even if they have no row.
    present: Vec<bool>,
    gauge: Arc<Gauge>,
    disk: Option<(SyncSender<ToDisk>, std::thread::JoinHandle<()>)>,
    finishing: Arc<AtomicBool>,
    bytes: u64,
}

/// What may take long on a slow disk, a rename too: it is done in order by a thread that nobody waits for, because an encoder
/// that waits makes the rings overflow.
enum ToDisk {
    /// Write and sync a file, then give it its name.
    Loose(PathBuf, Arc<Content>),
    /// Write a file and give it its name.
    Manifest(PathBuf, Vec<u8>),
    /// Remove files, unless what stands for them is not in place.
    Remove(Vec<PathBuf>, Option<Arc<Content>>),
    /// Sync the pack.
    Pack(File),
}

impl Store {
    /// Creates `OUTPUT.partial/`. `present` tells by name which tables are being recorded.
    pub fn create(output: &Path, layout: Layout, present: impl Fn(&str) -> bool, gauge: Arc<Gauge>) -> Result<Store> {
        let partial = partial_path(output);
        create_directory(&partial)?;
        create_directory(&partial.join(LOOSE))?;
        let sealed = match layout {
            Layout::File => Sealed::Pack(PackWriter::new(create(&partial.join(PACK))?)),
            Layout::Dir => Sealed::Dir,
        };
        let tables: Vec<TableFile> = events::tables()
            .map(|table| TableFile { table, open: None, next: 1, loose: Vec::new(), state: TableState::default(), segments: 0 })
            .collect();
        let present = tables.iter().map(|t| present(t.table.name)).collect();
        let (to_disk, queue) = std::sync::mpsc::sync_channel(WAITING);
        let finishing = Arc::new(AtomicBool::new(false));
        let (flag, failed) = (finishing.clone(), gauge.clone());
        let thread = std::thread::Builder::new()
            .name("ebrec-disk".to_owned())
            .spawn(move || write_all(&queue, &flag, &failed))
            .context("cannot start a thread")?;
        Ok(Store { partial, output: output.to_owned(), sealed, tables, present, gauge, disk: Some((to_disk, thread)), finishing, bytes: 0 })
    }

    /// Works until the senders are gone. Stops at the first failure; what was sealed before stays.
    pub fn run(&mut self, work: &Receiver<Work>) -> Result<()> {
        let result = self.run_until_failure(work);
        if result.is_err() {
            self.gauge.failed.store(true, Ordering::Release);
            // The pipeline must not block on us: take what comes and let it go.
            while work.recv().is_ok() {}
        }
        result
    }

    fn run_until_failure(&mut self, work: &Receiver<Work>) -> Result<()> {
        let mut checked = Instant::now();
        loop {
            match work.recv_timeout(Duration::from_millis(500)) {
                Ok(Work::Batch(table, batch)) => self.write(table, &batch)?,
                Ok(Work::Replace(table, batch)) => self.replace(table, &batch)?,
                Ok(Work::Manifest(manifest)) => self.write_manifest(&manifest)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if checked.elapsed() > Duration::from_millis(500) {
                checked = Instant::now();
                for table in 0..self.tables.len() {
                    if self.tables[table].open.as_ref().is_some_and(|open| open.since.elapsed() >= SEGMENT_AGE) {
                        self.seal(table)?;
                    }
                }
            }
        }
    }

    fn write(&mut self, index: usize, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let file = &mut self.tables[index];
        file.state.rows += batch.num_rows() as u64;
        let open = match &mut file.open {
            Some(open) => open,
            None => file.open.insert(Open {
                writer: segment::Writer::new(file.table).context("cannot begin a segment")?,
                rows: 0,
                since: Instant::now(),
                last_ts: i64::MIN,
                late: Vec::new(),
                late_rows: 0,
            }),
        };
        let mut batch = batch.clone();
        if file.table.has_ts() {
            if !is_sorted(&batch) {
                batch = segment::sort(file.table, &batch)?;
            }
            // What took long is told when it is over, under the time when it began. Such rows would break the order that windows
            // rely on, so they become a segment of their own.
            let late = instants(&batch).partition_point(|&ts| ts < open.last_ts);
            if late > 0 {
                open.late_rows += late;
                open.late.push(copy(file.table, &batch.slice(0, late))?);
                batch = batch.slice(late, batch.num_rows() - late);
            }
            open.last_ts = instants(&batch).last().copied().unwrap_or(open.last_ts);
        }
        open.writer.write(&batch)?;
        open.rows += batch.num_rows();
        if open.rows >= SEGMENT_ROWS || open.late_rows >= LATE_ROWS {
            self.seal(index)?;
        }
        Ok(())
    }

    /// For tables of a few rows, which are never in the pack before the end.
    fn replace(&mut self, index: usize, batch: &RecordBatch) -> Result<()> {
        self.tables[index].open = None;
        self.tables[index].state.rows = 0;
        let old = std::mem::take(&mut self.tables[index].loose);
        let paths = old.iter().map(|loose| self.loose_path(index, loose.first, loose.last)).collect();
        self.to_disk(ToDisk::Remove(paths, None));
        self.write(index, batch)
    }

    /// Ends the open segment of a table and writes it, and what came too late for it as another.
    fn seal(&mut self, index: usize) -> Result<()> {
        let Some(open) = self.tables[index].open.take() else { return Ok(()) };
        if open.late_rows > 0 {
            let bytes = segment::encode(self.tables[index].table, &open.late).context("cannot write late rows")?;
            self.keep(index, open.late_rows, bytes)?;
        }
        if open.rows > 0 {
            let bytes = open.writer.finish().context("cannot end a segment")?;
            self.keep(index, open.rows, bytes)?;
        }
        Ok(())
    }

    /// Writes a segment.
    fn keep(&mut self, index: usize, rows: usize, bytes: Vec<u8>) -> Result<()> {
        let file = &mut self.tables[index];
        let seq = file.next;
        file.next += 1;
        if bytes.len() >= PACK_BYTES || rows >= PACK_ROWS {
            return self.pack(index, seq, seq, &bytes);
        }
        self.write_loose(index, seq, seq, rows, bytes);
        let loose = &self.tables[index].loose;
        let many = loose.len() >= LOOSE_MOST || loose.iter().map(|l| l.rows).sum::<usize>() >= LOOSE_ROWS;
        if many && loose.iter().all(|l| l.content.in_place()) {
            self.merge_loose(index)?;
        }
        Ok(())
    }

    fn pack(&mut self, index: usize, first: u64, last: u64, bytes: &[u8]) -> Result<()> {
        let file = &mut self.tables[index];
        let name = format!("{}/{first:06}-{last:06}.parquet", file.table.name);
        match &mut self.sealed {
            Sealed::Pack(pack) => {
                pack.append(&name, bytes).with_context(|| format!("cannot write {}", self.partial.join(PACK).display()))?;
                if let (Some((disk, _)), Ok(handle)) = (&self.disk, pack.handle()) {
                    let _ = disk.send(ToDisk::Pack(handle));
                }
            }
            Sealed::Dir => {
                let path = self.partial.join(&name);
                if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
                    create_directory(directory)?;
                }
                let temporary = path.with_extension("tmp");
                create(&temporary)?
                    .write_all(bytes)
                    .and_then(|()| std::fs::rename(&temporary, &path))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        file.state.bytes += bytes.len() as u64;
        file.segments += 1;
        self.add_bytes(bytes.len() as u64);
        Ok(())
    }

    fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.gauge.bytes.store(self.bytes, Ordering::Relaxed);
    }

    fn loose_path(&self, index: usize, first: u64, last: u64) -> PathBuf {
        self.partial.join(LOOSE).join(format!("{}.{first:06}-{last:06}.parquet", self.tables[index].table.name))
    }

    fn to_disk(&self, item: ToDisk) {
        if let Some((disk, _)) = &self.disk {
            // If the thread is gone, its end says why.
            let _ = disk.send(item);
        }
    }

    fn write_loose(&mut self, index: usize, first: u64, last: u64, rows: usize, bytes: Vec<u8>) {
        self.add_bytes(bytes.len() as u64);
        let content = Content::waiting(bytes);
        self.to_disk(ToDisk::Loose(self.loose_path(index, first, last), content.clone()));
        self.tables[index].loose.push(Loose { first, last, rows, content });
    }

    /// Makes one segment of a table's loose ones: in the pack if it is large enough, or else loose again.
    fn merge_loose(&mut self, index: usize) -> Result<()> {
        let Some((first, last)) = self.tables[index].loose.first().zip(self.tables[index].loose.last()).map(|(f, l)| (f.first, l.last))
        else {
            return Ok(());
        };
        let bytes = self.merged(index)?;
        let old = std::mem::take(&mut self.tables[index].loose);
        let paths = old.iter().map(|loose| self.loose_path(index, loose.first, loose.last)).collect();
        let rows = old.iter().map(|l| l.rows).sum();
        // Whoever reads in between sees the old ones covered by the new one.
        if bytes.len() >= PACK_BYTES || rows >= LOOSE_ROWS {
            self.pack(index, first, last, &bytes)?;
            self.to_disk(ToDisk::Remove(paths, None));
        } else {
            self.write_loose(index, first, last, rows, bytes);
            let content = self.tables[index].loose.last().map(|loose| loose.content.clone());
            self.to_disk(ToDisk::Remove(paths, content));
        }
        Ok(())
    }

    /// The rows of a table's loose segments as one segment.
    fn merged(&self, index: usize) -> Result<Vec<u8>> {
        let mut batches = Vec::new();
        for loose in &self.tables[index].loose {
            let bytes = match loose.content.with(|bytes| bytes.clone()) {
                Some(bytes) => bytes,
                None => {
                    let path = self.loose_path(index, loose.first, loose.last);
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?
                }
            };
            batches.extend(segment::decode(bytes)?);
        }
        segment::encode(self.tables[index].table, &batches).context("cannot merge segments")
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        let mut manifest = manifest.clone();
        manifest.tables = self.table_states();
        let json = serde_json::to_vec_pretty(&manifest).context("cannot print the manifest")?;
        self.to_disk(ToDisk::Manifest(self.partial.join(MANIFEST), json));
        Ok(())
    }

    fn table_states(&self) -> BTreeMap<String, TableState> {
        self.tables
            .iter()
            .zip(&self.present)
            .filter(|(_, present)| **present)
            .map(|(t, _)| (t.table.name.to_owned(), t.state.clone()))
            .collect()
    }

    /// Leaves the directory as it is, readable: the forced way out.
    pub fn abandon(&mut self, manifest: &Manifest) -> Result<PathBuf> {
        for index in 0..self.tables.len() {
            self.seal(index)?;
        }
        self.write_manifest(manifest)?;
        self.end_disk();
        if self.gauge.failed.load(Ordering::Acquire) {
            bail!("cannot write to {}", self.partial.display());
        }
        Ok(self.partial.clone())
    }

    fn end_disk(&mut self) {
        self.finishing.store(true, Ordering::Release);
        if let Some((disk, thread)) = self.disk.take() {
            drop(disk);
            let _ = thread.join();
        }
    }

    /// Where the unfinished capture is.
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Makes the capture whole: one segment of what each table still has loose, the manifest, the final name.
    pub fn finish(mut self, manifest: &mut Manifest) -> Result<u64> {
        for index in 0..self.tables.len() {
            self.seal_rest(index)?;
        }
        self.end_disk();
        let mut states = self.table_states();
        for (name, state) in &mut states {
            state.lost = manifest.tables.get(name).map_or(0, |t| t.lost);
        }
        manifest.tables = states;
        let json = serde_json::to_vec_pretty(&manifest).context("cannot print the manifest")?;
        let size = match self.sealed {
            Sealed::Pack(mut pack) => {
                pack.append(MANIFEST, &json).context("cannot write the manifest")?;
                let file = pack.finish().context("cannot end the capture")?;
                std::fs::rename(self.partial.join(PACK), &self.output)
                    .with_context(|| format!("cannot create {}", self.output.display()))?;
                std::fs::remove_dir_all(&self.partial).with_context(|| format!("cannot remove {}", self.partial.display()))?;
                file.metadata()?.len()
            }
            Sealed::Dir => {
                create(&self.partial.join(MANIFEST))?.write_all(&json).context("cannot write the manifest")?;
                std::fs::remove_dir_all(self.partial.join(LOOSE)).context("cannot remove the loose segments")?;
                std::fs::rename(&self.partial, &self.output).with_context(|| format!("cannot create {}", self.output.display()))?;
                self.bytes
            }
        };
        if let Some(directory) = self.output.parent().filter(|d| !d.as_os_str().is_empty()) {
            // The name must survive a power loss as the bytes do; not every file system lets a directory be synced.
            let _ = File::open(directory).and_then(|d| d.sync_all());
        }
        Ok(size)
    }

    /// Everything of a table that is not in the pack yet becomes one entry of it.
    fn seal_rest(&mut self, index: usize) -> Result<()> {
        let file = &mut self.tables[index];
        if file.loose.is_empty()
            && let Some(open) = file.open.take_if(|open| open.late_rows == 0)
        {
            let seq = file.next;
            file.next += 1;
            let bytes = open.writer.finish().context("cannot end a segment")?;
            return self.pack(index, seq, seq, &bytes);
        }
        self.seal(index)?;
        let file = &self.tables[index];
        if let Some((first, last)) = file.loose.first().zip(file.loose.last()).map(|(f, l)| (f.first, l.last)) {
            let bytes = self.merged(index)?;
            self.tables[index].loose.clear();
            return self.pack(index, first, last, &bytes);
        }
        if self.present[index] && file.segments == 0 {
            let bytes = segment::encode(file.table, &[])?;
            return self.pack(index, 0, 0, &bytes);
        }
        Ok(())
    }
}

/// The `ts` of a batch's rows.
fn instants(batch: &RecordBatch) -> &[i64] {
    batch.column(0).as_primitive_opt::<TimestampNanosecondType>().map_or(&[], |ts| ts.values())
}

/// Rows without what they are a part of: a slice would keep its whole batch, and a dictionary all the values that the batch had.
fn copy(table: &Table, batch: &RecordBatch) -> Result<RecordBatch> {
    let all = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
    let schema = table.schema();
    let columns = take_record_batch(batch, &all)?
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(c, f)| cast(c, f.data_type()))
        .collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn is_sorted(batch: &RecordBatch) -> bool {
    instants(batch).is_sorted()
}

/// `NAME.ebrec.partial`.
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(ebrec_format::capture::PARTIAL_SUFFIX);
    PathBuf::from(name)
}

/// Creates a file that only its owner can read: captures contain secrets.
///
/// What somebody has put in its place is not written to: under sudo the directory is another user's ([`crate::owner`]).
fn create(path: &Path) -> Result<File> {
    let _ = std::fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    crate::owner::give(&file);
    Ok(file)
}

/// Creates a directory that only its owner can enter.
fn create_directory(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.with_context(|| format!("cannot create {}", path.display()))?;
    let open = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path);
    if let Ok(directory) = open {
        crate::owner::give(&directory);
    }
    Ok(())
}

/// Does what the disk is asked for. After a failure the recording ends.
fn write_all(queue: &Receiver<ToDisk>, finishing: &AtomicBool, gauge: &Gauge) {
    while let Ok(item) = queue.recv() {
        let hurry = finishing.load(Ordering::Acquire);
        let done = match item {
            ToDisk::Loose(path, content) => write_content(&path, &content, !hurry),
            ToDisk::Manifest(path, bytes) => write_named(&path, &bytes, false),
            ToDisk::Remove(paths, instead) => {
                if instead.is_none_or(|content| content.in_place()) {
                    paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
                }
                Ok(())
            }
            // The end of the recording needn't wait for the disk: what a crash of the host takes then is what it takes of any file.
            ToDisk::Pack(file) if !hurry => file.sync_data().context("cannot sync the capture"),
            ToDisk::Pack(_) => Ok(()),
        };
        if let Err(error) = done
            && !gauge.failed.swap(true, Ordering::AcqRel)
        {
            eprintln!("ebrec-record: {error:#}");
        }
    }
}

fn write_content(path: &Path, content: &Content, sync: bool) -> Result<()> {
    let Some(bytes) = content.with(|bytes| bytes.clone()) else { return Ok(()) };
    write_named(path, &bytes, sync)?;
    content.with(|bytes| *bytes = None);
    Ok(())
}

/// Writes a file under a temporary name first, so that nobody sees it half written.
fn write_named(path: &Path, bytes: &[u8], sync: bool) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = create(&temporary)?;
    file.write_all(bytes)
        .and_then(|()| if sync { file.sync_data() } else { Ok(()) })
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
