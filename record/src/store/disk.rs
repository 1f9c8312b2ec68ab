//! The thread that writes: everything that may take long on a slow disk, a rename too, is done in order by a thread that the
//! pipeline doesn't wait for, because an encoder that waits makes the rings overflow. What waits for the disk is bounded in bytes.

use super::Gauge;
use super::durable::{self, Group};
use crate::scheduling::{Class, spawn};
use anyhow::{Error, Result, anyhow};
use ebrec_format::pack::PackWriter;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// So much is written at a time, at most, before it is synced together.
const GROUP_BYTES: usize = 8 << 20;
/// How often who waits looks whether it shall go on waiting.
const LOOK: Duration = Duration::from_millis(20);

/// What a loose segment holds, as long as its file isn't in place.
#[derive(Default)]
pub struct Content(Mutex<Option<Arc<Vec<u8>>>>);

impl Content {
    /// Of a file that is yet to be written.
    pub fn waiting(bytes: Vec<u8>) -> Arc<Content> {
        Arc::new(Content(Mutex::new(Some(Arc::new(bytes)))))
    }

    /// The bytes; `None` if they are in the file.
    pub fn bytes(&self) -> Option<Arc<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_in_place(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the disk is asked for.
pub enum Job {
    /// Make the names in a directory durable, before anything is written below it.
    Names(PathBuf),
    /// A loose segment.
    Loose(PathBuf, Arc<Content>),
    /// A segment that is a file of its own for good.
    File(PathBuf, Vec<u8>),
    /// An entry of the pack.
    Entry(String, Vec<u8>),
    /// The manifest. Of several that wait only the last is written.
    Manifest(PathBuf, Vec<u8>),
    /// Remove what the jobs before this one stand for, if they were done.
    Remove(Vec<PathBuf>),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Loose(_, content) => content.bytes().map_or(0, |bytes| bytes.len()),
            Job::File(_, bytes) | Job::Entry(_, bytes) | Job::Manifest(_, bytes) => bytes.len(),
            Job::Remove(_) | Job::Names(_) => 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Of the jobs that wait and those that are being done.
    bytes: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk of one capture.
pub struct Disk {
    shared: Arc<Shared>,
    gauge: Arc<Gauge>,
    /// Bytes that may wait; then the encoder waits too.
    most: usize,
    thread: Option<JoinHandle<(Option<PackWriter>, Option<Error>)>>,
}

impl Disk {
    /// Starts the thread. `pack` is where entries go; `most` bytes may wait.
    pub fn start(pack: Option<PackWriter>, gauge: Arc<Gauge>, most: usize) -> Result<Disk> {
        let shared = Arc::<Shared>::default();
        let mut writer = Writer { pack, failed: None };
        let (jobs, failure) = (shared.clone(), gauge.clone());
        let thread = spawn(Class::Favoured, "ebrec-disk", move || {
            while let Some((group, bytes)) = next_group(&jobs) {
                writer.write(group);
                failure.moves.fetch_add(1, Ordering::Relaxed);
                if writer.failed.is_some() {
                    failure.failed.store(true, Ordering::Release);
                }
                jobs.lock().bytes -= bytes;
                jobs.changed.notify_all();
            }
            (writer.pack, writer.failed)
        })?;
        Ok(Disk { shared, gauge, most, thread: Some(thread) })
    }

    /// Asks for something. Waits while too much waits already, but not longer than the recording is to go on.
    pub fn ask(&self, job: Job) -> Result<()> {
        let bytes = job.bytes();
        let mut queue = self.shared.lock();
        while queue.bytes > 0 && queue.bytes + bytes > self.most {
            if self.gauge.is_aborted() {
                return Err(aborted());
            }
            if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                return Err(anyhow!("the disk's thread has ended"));
            }
            queue = self.shared.changed.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.bytes += bytes;
        queue.jobs.push_back(job);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until everything is done, unless the recording is to be given up. Returns the pack, whole so far.
    pub fn end(&mut self) -> Result<Option<PackWriter>> {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if self.gauge.is_aborted() {
                return Err(aborted());
            }
            let queue = self.shared.lock();
            drop(self.shared.changed.wait_timeout(queue, LOOK).unwrap_or_else(PoisonError::into_inner));
        }
        let Some(thread) = self.thread.take() else { return Err(anyhow!("the disk's thread has ended")) };
        match thread.join() {
            Ok((pack, None)) => Ok(pack),
            Ok((_, Some(error))) => Err(error),
            Err(_) => Err(anyhow!("the disk's thread failed")),
        }
    }
}

/// Why something isn't done.
pub fn aborted() -> Error {
    anyhow!("it was given up before it was complete")
}

/// The jobs that come next, and how many bytes they are. `None` at the end.
fn next_group(shared: &Shared) -> Option<(Vec<Job>, usize)> {
    let mut queue = shared.lock();
    while queue.jobs.is_empty() {
        if queue.closed {
            return None;
        }
        queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
    let (mut group, mut bytes) = (Vec::new(), 0);
    while bytes < GROUP_BYTES {
        let Some(job) = queue.jobs.pop_front() else { break };
        bytes += job.bytes();
        group.push(job);
    }
    Some((group, bytes))
}

struct Writer {
    pack: Option<PackWriter>,
    failed: Option<Error>,
}

impl Writer {
    /// Does jobs together: all data is synced, then names are given, then directories are synced, then what is replaced is removed.
    /// After a failure nothing is removed any more: nobody knows then what the disk has kept.
    fn write(&mut self, jobs: Vec<Job>) {
        let mut files = Group::default();
        let mut in_place = Vec::new();
        let mut replaced = Vec::new();
        let mut packed = false;
        let last = jobs.iter().rposition(|job| matches!(job, Job::Manifest(..)));
        for (number, job) in jobs.into_iter().enumerate() {
            let done = match job {
                Job::Names(directory) => durable::sync_directory(&directory),
                Job::Loose(path, content) => {
                    let done = content.bytes().map_or(Ok(()), |bytes| files.write(&path, &bytes));
                    if done.is_ok() {
                        in_place.push(content);
                    }
                    done
                }
                Job::File(path, bytes) => files.write(&path, &bytes),
                Job::Manifest(path, bytes) if Some(number) == last => files.write(&path, &bytes),
                Job::Manifest(..) => Ok(()),
                Job::Entry(name, bytes) => {
                    packed = true;
                    self.append(&name, &bytes)
                }
                Job::Remove(paths) => {
                    replaced.extend(paths);
                    Ok(())
                }
            };
            self.note(done);
        }
        if packed {
            let synced = self.pack.as_ref().map_or(Ok(()), PackWriter::sync);
            self.note(synced.map_err(|error| Error::new(error).context("cannot sync the capture")));
        }
        let named = files.name();
        if named.is_ok() {
            in_place.iter().for_each(|content| content.is_in_place());
        }
        self.note(named);
        if self.failed.is_none() {
            replaced.iter().for_each(|path| durable::remove(path));
        }
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(pack) = &mut self.pack else { return Err(anyhow!("there is no pack for {name}")) };
        pack.append(name, bytes).map_err(|error| Error::new(error).context("cannot write the capture"))
    }

    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_nothing_is_removed() {
        let dir = std::env::temp_dir().join(format!("ebrec-disk-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let old = dir.join("old.parquet");
        for (whole, left) in [(false, true), (true, false)] {
            std::fs::write(&old, "old").unwrap();
            let gauge = Arc::new(Gauge::default());
            let mut disk = Disk::start(None, gauge.clone(), 1 << 20).unwrap();
            let new = if whole { dir.join("new.parquet") } else { dir.join("nowhere/new.parquet") };
            disk.ask(Job::Loose(new.clone(), Content::waiting(b"new".to_vec()))).unwrap();
            disk.ask(Job::Remove(vec![old.clone()])).unwrap();
            assert_eq!(disk.end().is_ok(), whole);
            assert_eq!((old.exists(), new.exists()), (left, whole));
            assert_eq!(gauge.failed.load(Ordering::Acquire), !whole);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn who_waits_for_a_disk_that_stands_still_can_be_sent_home() {
        let gauge = Arc::new(Gauge::default());
        // No thread takes anything: the disk hangs.
        let disk = Disk { shared: Arc::default(), gauge: gauge.clone(), most: 1000, thread: None };
        disk.ask(Job::Manifest("a".into(), vec![0; 1000])).unwrap();
        let waiting = std::thread::spawn(move || disk.ask(Job::Manifest("b".into(), vec![0; 8])).is_err());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        gauge.abort.store(true, Ordering::Release);
        assert!(waiting.join().unwrap());
    }
}
