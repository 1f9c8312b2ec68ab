//! Probes in the functions of C libraries: finds every library that is in use, the containers' own ones too, and those
//! that come into use while it records.
//!
//! At the start it looks at what all processes have mapped. From then on the kernel tells it of each program file that is executed
//! for the first time; it looks what that maps, at once and again for three seconds, because the libraries are mapped after the
//! program, and on a busy host that takes its time. What a program calls in the first millisecond of a library that nobody had mapped before can be missed.
//!
//! Files are opened as the process has them (`/proc/PID/map_files`), so that other mount namespaces and deleted files are no
//! different, and handed to the kernel as open files, so that the process may end meanwhile. They are anybody's: all that asks for
//! one, the kernel's own reading of it included, is done by a [`Fetcher`], and the end of a recording waits for none of it.

mod attach;

pub use attach::{Pmu, attach_multi};

use crate::drain::boot_ns;
use crate::elf;
use crate::kernel::Trial;
use crate::scheduling::{Class, drop_together, spawn};
use crate::tongs::{self, Fetcher, What, Why};
use anyhow::{Context, Result};
use ebrec_format::events::session::LibraryRow;
use ebrec_format::kind::LOOKUP_FUNCTIONS;
use libbpf_rs::{MapCore, MapFlags, MapHandle, RingBufferBuilder};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Libraries that probes are put into; a host with more distinct C libraries has hundreds of images.
const MOST_LIBRARIES: usize = 64;
/// When a new process is looked at, after it has executed its program.
const LOOKS_MS: [u64; 10] = [0, 1, 2, 4, 10, 30, 100, 300, 1000, 3000];
/// After so many looks the kernel need not tell of the same image any more: one that has no library may be executed often.
const LOOKS_TO_KNOW: usize = 8;
/// New programs that are looked at per second; one look costs some tens of microseconds.
const LOOKS_PER_SECOND: u32 = 200;
/// New programs that wait for a look.
const MOST_WAITING: usize = 512;
/// Recording begins after so long, even if not all processes were looked at yet; the rest is then done while it records.
const START_PATIENCE: Duration = Duration::from_millis(250);
/// How long the thread may take to look at the flag; and how long the end waits for what it has to say.
const STOP_PATIENCE: Duration = Duration::from_millis(50);
/// What is read of /proc/PID/maps, and the C libraries that are taken from it. Programs have a hundred lines and one library.
const MOST_MAPS: u64 = 8 << 20;
const MOST_OF_A_PROCESS: usize = 16;
/// Mappings of what is called like a C library, all processes together, and rows about them.
const MOST_MAPPED: usize = 4096;
const MOST_ROWS: usize = 1024;
/// How long one process's mappings may take to be read, and one file to be opened, read and given its probes.
const MAPS_PATIENCE: Duration = Duration::from_millis(100);
const FILE_PATIENCE: Duration = Duration::from_millis(500);

/// Whether the kernel has such probes.
pub fn are_possible() -> bool {
    Pmu::find().is_some()
}

/// A loaded program for the functions of libraries.
#[derive(Debug)]
pub struct FunctionProgram {
    /// The function; `None` for the program that runs when any of the functions returns.
    pub function: Option<String>,
    /// Whether it can be in many functions by one link; then, but for the return, it is for all of them.
    pub multi: bool,
    /// The program.
    pub program: OwnedFd,
}

/// What was found and done, for the thread that does it and the one that ends it.
#[derive(Debug, Default)]
struct Held {
    /// No probe is put anywhere any more.
    stopped: bool,
    attached: Vec<OwnedFd>,
    rows: Vec<LibraryRow>,
}

/// Both sides only move things in and out: what a panic left is as good as any.
fn held(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that looks for libraries, and the probes that it put in them.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    held: Arc<Mutex<Held>>,
    ended: Receiver<()>,
}

impl Watcher {
    /// Starts it; returns when the running processes have been looked at, or have taken too long. `started` is the ring in which the
    /// kernel tells of new programs, `seen` the map of those that it need not tell of.
    pub fn start(trial: Arc<Trial>, programs: Vec<FunctionProgram>, started: MapHandle, seen: MapHandle) -> Result<Watcher> {
        let stop = Arc::new(AtomicBool::new(false));
        let all: Arc<Mutex<Held>> = Arc::default();
        let (flag, into) = (stop.clone(), all.clone());
        let (ready, is_ready) = channel();
        // Dropped when the thread ends.
        let (alive, ended) = channel::<()>();
        let watch = move || {
            // Until all processes have been looked at, the start waits for it; then it needs a CPU soon, because new programs may end soon.
            crate::privilege::drop_unneeded();
            // Nothing is put anywhere before it is known that it does no harm.
            if !matches!(trial.wait(None), Some(Ok(()))) {
                return;
            }
            if let Some(libraries) = Libraries::new(programs, into) {
                libraries.watch(&started, &seen, &flag, &ready);
            }
            drop(alive);
        };
        // Nobody joins it: it may hang in a file of others.
        spawn(Class::Favoured, "ebrec-uprobes", watch).context("cannot start a thread")?;
        let _ = is_ready.recv_timeout(START_PATIENCE);
        Ok(Watcher { stop, held: all, ended })
    }

    /// Takes the probes out of the libraries and says which they were. Waits for the kernel, but for no file and no process.
    pub fn stop(&mut self) -> Vec<LibraryRow> {
        self.stop.store(true, Ordering::Release);
        let attached = {
            let mut held = held(&self.held);
            held.stopped = true;
            std::mem::take(&mut held.attached)
        };
        // Few threads would wait long: a library's functions have a probe each.
        drop_together(attached, 16);
        let _ = self.ended.recv_timeout(2 * STOP_PATIENCE);
        std::mem::take(&mut held(&self.held).rows)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A file as `/proc/PID/maps` names it.
type Mapped = (String, u64);

/// What the kernel tells of a new program: `struct image_started` of bpf/dns_lookup.bpf.c.
struct Started {
    image: [u8; 16],
    /// As the kernel has it, and in /proc.
    pid: u32,
    proc: u32,
    /// Which look is the next, and when.
    look: usize,
    executed: Instant,
}

/// The programs that are put into files.
struct Programs {
    pmu: Pmu,
    names: Vec<String>,
    /// For entries, and for returns.
    entries: Vec<OwnedFd>,
    returns: Vec<OwnedFd>,
    multi: bool,
}

/// Probes in a file: how many functions have them, and why others don't.
struct Placed {
    probes: Vec<OwnedFd>,
    functions: u32,
    reason: Option<String>,
}

impl Programs {
    /// Puts the probes into a file.
    fn place(&self, file: &File) -> Result<Placed> {
        let found = elf::functions(file, &self.names).context("cannot find its functions")?;
        let mut placed = Placed { probes: Vec::new(), functions: 0, reason: None };
        // The returns first: a call that is seen to begin is then seen to end.
        if self.multi && !found.is_empty() {
            let probes = self.returns.iter().map(|program| (true, program)).chain(self.entries.iter().map(|program| (false, program)));
            let places: Vec<(u64, u64)> = found.iter().map(|function| (function.offset, function.name as u64)).collect();
            let attached: io::Result<Vec<OwnedFd>> =
                probes.map(|(returns, program)| attach_multi(file, &places, returns, None, program)).collect();
            placed.probes = attached.context("the kernel refuses the probes")?;
            placed.functions = found.len() as u32;
        }
        for function in found.iter().filter(|_| !self.multi) {
            let probes = self.returns.iter().map(|program| (true, program)).chain([(false, &self.entries[function.name])]);
            let attached: io::Result<Vec<OwnedFd>> =
                probes.map(|(returns, program)| self.pmu.attach(file, function.offset, returns, program)).collect();
            match attached {
                Ok(attached) => {
                    placed.probes.extend(attached);
                    placed.functions += 1;
                }
                Err(error) => placed.reason = Some(format!("{}: {error}", self.names[function.name])),
            }
        }
        Ok(placed)
    }
}

struct Libraries {
    programs: Arc<Programs>,
    fetcher: Fetcher,
    /// Mappings that were looked at, and the files behind them: one file may be mapped by several names and devices.
    mapped: HashSet<Mapped>,
    files: HashSet<(u64, u64)>,
    held: Arc<Mutex<Held>>,
    in_use: usize,
    not_looked_at: u64,
    not_told: u64,
    invisible: u64,
}

impl Libraries {
    fn new(programs: Vec<FunctionProgram>, held: Arc<Mutex<Held>>) -> Option<Libraries> {
        let (mut names, mut entries, mut returns) = (Vec::new(), Vec::new(), Vec::new());
        let multi = programs.iter().any(|program| program.multi);
        for FunctionProgram { function, program, .. } in programs {
            match function {
                Some(function) => {
                    names.push(function);
                    entries.push(program);
                }
                None => returns.push(program),
            }
        }
        if multi {
            names = LOOKUP_FUNCTIONS.map(str::to_owned).to_vec();
        }
        raise_file_limit();
        Some(Libraries {
            programs: Arc::new(Programs { pmu: Pmu::find()?, names, entries, returns, multi }),
            fetcher: Fetcher::new("ebrec-libraries"),
            mapped: HashSet::new(),
            files: HashSet::new(),
            held,
            in_use: 0,
            not_looked_at: 0,
            not_told: 0,
            invisible: 0,
        })
    }

    fn watch(mut self, started: &MapHandle, seen: &MapHandle, stop: &AtomicBool, ready: &Sender<()>) {
        let fresh = Rc::new(RefCell::new(Vec::new()));
        let into = fresh.clone();
        let mut builder = RingBufferBuilder::new();
        let added = builder.add(started, move |bytes| {
            let number = |at: usize| bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes));
            if let (Some(image), Some(pid), Some(proc)) = (bytes.first_chunk::<16>(), number(16), number(20)) {
                into.borrow_mut().push(Started { image: *image, pid, proc, look: 0, executed: Instant::now() });
            }
            0
        });
        let ring = added.map(|_| ()).and_then(|()| builder.build());
        self.look_at_all(stop);
        let _ = ready.send(());
        let Ok(ring) = ring else { return };
        let mut waiting: VecDeque<Started> = VecDeque::new();
        let (mut second, mut looks) = (Instant::now(), 0);
        while !stop.load(Ordering::Acquire) {
            let now = Instant::now();
            let due = |new: &Started| new.executed + Duration::from_millis(LOOKS_MS.get(new.look).copied().unwrap_or(0));
            let next = waiting.iter().map(|new| due(new).saturating_duration_since(now)).min().unwrap_or(STOP_PATIENCE);
            let _ = ring.poll(next.min(STOP_PATIENCE));
            if second.elapsed() >= Duration::from_secs(1) {
                (second, looks) = (Instant::now(), 0);
            }
            for new in fresh.borrow_mut().drain(..) {
                if new.proc == 0 {
                    // No later look would find it either.
                    let _ = seen.update(&new.image, &boot_ns().to_ne_bytes(), MapFlags::ANY);
                    self.invisible += 1;
                    continue;
                }
                looks += 1;
                if looks > LOOKS_PER_SECOND || waiting.len() >= MOST_WAITING {
                    // The kernel tells of it again when it is executed again.
                    self.not_looked_at += 1;
                } else {
                    waiting.push_back(new);
                }
            }
            let now = Instant::now();
            for mut new in std::mem::take(&mut waiting) {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                if due(&new) > now {
                    waiting.push_back(new);
                    continue;
                }
                // If it is gone, the next of its kind may live longer.
                let Some(found) = self.look_at(new.proc, Some(new.pid)) else { continue };
                new.look += 1;
                if found || new.look == LOOKS_TO_KNOW {
                    let _ = seen.update(&new.image, &boot_ns().to_ne_bytes(), MapFlags::ANY);
                }
                if !found && new.look < LOOKS_MS.len() {
                    waiting.push_back(new);
                }
            }
        }
        let mut held = held(&self.held);
        if self.not_looked_at > 0 {
            let reason = format!("{} executions of new programs came too fast to look at", self.not_looked_at);
            held.rows.push(row(None, None, 0, "left out", Some(reason)));
        }
        if self.not_told > 0 {
            let reason = format!("{} more files are called like a C library", self.not_told);
            held.rows.push(row(None, None, 0, "left out", Some(reason)));
        }
        if self.invisible > 0 {
            let reason = format!("{} executions of new programs in pid namespaces that the recorder's /proc doesn't show", self.invisible);
            held.rows.push(row(None, None, 0, "left out", Some(reason)));
        }
    }

    fn look_at_all(&mut self, stop: &AtomicBool) {
        let pids = tongs::names("/proc").into_iter().filter_map(|name| name.parse().ok());
        for pid in pids.take_while(|_: &u32| !stop.load(Ordering::Acquire)) {
            // In another namespace, what the kernel calls it isn't known.
            self.look_at(pid, (!crate::namespaces::has_own_pids()).then_some(pid));
        }
    }

    /// Looks at what a process has mapped; `pid` is its pid in /proc, `known_as` the kernel's. Whether there is a C library; `None` if the process is gone, or doesn't answer.
    fn look_at(&mut self, pid: u32, known_as: Option<u32>) -> Option<bool> {
        let mappings = match self.fetcher.fetch(MAPS_PATIENCE, move || mappings_of(pid)) {
            Some(Ok(mappings)) => mappings?,
            Some(Err(_)) => return None,
            None => {
                tongs::count(What::Mappings, Why::Slow);
                return None;
            }
        };
        let found = !mappings.is_empty();
        for mapping in mappings {
            let known = (mapping.device.clone(), mapping.inode);
            if self.mapped.contains(&known) {
                continue;
            }
            if self.mapped.len() >= MOST_MAPPED {
                self.not_told += 1;
                continue;
            }
            self.mapped.insert(known);
            self.add(pid, known_as, mapping);
        }
        Some(found)
    }

    fn add(&mut self, pid: u32, known_as: Option<u32>, mapping: Mapping) {
        let path = ebrec_format::text::escape(&mapping.path).into_owned();
        let (functions, status, reason) = match self.attach(pid, mapping) {
            // The same file by another name.
            Ok(None) => return,
            Ok(Some((0, reason))) => (0, "failed", Some(reason.unwrap_or_else(|| "it has none of the functions".to_owned()))),
            Ok(Some((functions, reason))) => (functions, "active", reason),
            Err(error) => (0, "failed", Some(format!("{error:#}"))),
        };
        let mut held = held(&self.held);
        if held.rows.len() < MOST_ROWS {
            held.rows.push(row(Some(path), known_as, functions, status, reason));
        } else {
            self.not_told += 1;
        }
    }

    /// Puts the probes into a file. How many functions have them, and why others don't; `None` if the file was seen before.
    fn attach(&mut self, pid: u32, mapping: Mapping) -> Result<Option<(u32, Option<String>)>> {
        let slow = || {
            tongs::count(What::Program, Why::Slow);
            anyhow::anyhow!("it doesn't answer in time")
        };
        let open = move || {
            let file = mapping.open(pid)?;
            let metadata = file.metadata().context("cannot look at the file")?;
            anyhow::Ok((file, (metadata.dev(), metadata.ino())))
        };
        let (file, identity) = self.fetcher.fetch(FILE_PATIENCE, open).ok_or_else(slow)??;
        if !self.files.insert(identity) {
            return Ok(None);
        }
        if self.in_use >= MOST_LIBRARIES {
            anyhow::bail!("more than {MOST_LIBRARIES} C libraries are in use");
        }
        let programs = self.programs.clone();
        // The kernel reads the file, too, so this may take as long as others like. Probes that come too late are taken out there.
        let Placed { probes, functions, reason } = self.fetcher.fetch(FILE_PATIENCE, move || programs.place(&file)).ok_or_else(slow)??;
        {
            let mut held = held(&self.held);
            if !held.stopped {
                held.attached.extend(probes);
            }
        }
        self.in_use += usize::from(functions > 0);
        Ok(Some((functions, reason)))
    }
}

/// The C libraries that a process has mapped; `None` if it has nothing mapped any more.
fn mappings_of(pid: u32) -> io::Result<Option<Vec<Mapping>>> {
    let maps = tongs::system_file(format!("/proc/{pid}/maps"))?;
    let (mut mappings, mut lines): (Vec<Mapping>, u64) = (Vec::new(), 0);
    for line in BufReader::new(maps.take(MOST_MAPS)).split(b'\n') {
        lines += 1;
        let Some(mapping) = Mapping::parse(&line?) else { continue };
        if !mappings.iter().any(|other| other.device == mapping.device && other.inode == mapping.inode) {
            mappings.push(mapping);
        }
        if mappings.len() >= MOST_OF_A_PROCESS {
            break;
        }
    }
    Ok((lines > 0).then_some(mappings))
}

fn row(path: Option<String>, pid: Option<u32>, functions: u32, status: &str, reason: Option<String>) -> LibraryRow {
    let pid = pid.unwrap_or(ebrec_format::wire::NULL32);
    LibraryRow { ts: boot_ns(), path, pid, functions, status: Some(status.to_owned()), reason }
}

/// An executable mapping of what may be a C library.
struct Mapping {
    range: String,
    device: String,
    inode: u64,
    path: Vec<u8>,
}

impl Mapping {
    /// Reads a line of `/proc/PID/maps`: `start-end perms offset device inode path` (proc_pid_maps(5)).
    fn parse(line: &[u8]) -> Option<Mapping> {
        let slash = line.iter().position(|&byte| byte == b'/')?;
        let (fields, path) = line.split_at(slash);
        let file = path.rsplit(|&byte| byte == b'/').next()?;
        if !is_c_library(file) {
            return None;
        }
        let mut fields = std::str::from_utf8(fields).ok()?.split_ascii_whitespace();
        let (range, permissions, _, device, inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        if permissions.as_bytes().get(2) != Some(&b'x') {
            return None;
        }
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path).to_vec();
        Some(Mapping { range: range.to_owned(), device: device.to_owned(), inode: inode.parse().ok()?, path })
    }

    /// Opens the file that the process has mapped.
    fn open(&self, pid: u32) -> Result<File> {
        use std::os::unix::ffi::OsStrExt;
        // There, addresses have no zeros in front.
        let range: Vec<&str> = self.range.split('-').map(|address| address.trim_start_matches('0')).collect();
        tongs::file(format!("/proc/{pid}/map_files/{}", range.join("-")))
            .or_else(|error| {
                // Without CAP_CHECKPOINT_RESTORE, or when it is mapped no more: by its name, if that still names the same file.
                let file = tongs::in_root_of(pid, std::ffi::OsStr::from_bytes(&self.path))?;
                if file.metadata()?.ino() == self.inode { Ok(file) } else { Err(error) }
            })
            .inspect_err(|error| tongs::count(What::Program, Why::of(error)))
            .context("cannot open it")
    }
}

/// Whether a file's name is one that C libraries have: glibc's `libc.so.6` and `libc-2.31.so`, musl's `libc.so`, `ld-musl-x86_64.so.1` and
/// `libc.musl-x86_64.so.1`.
fn is_c_library(file: &[u8]) -> bool {
    let is_versioned = file.strip_prefix(b"libc-").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
    file.starts_with(b"libc.so") || is_versioned || file.starts_with(b"ld-musl-") || file.starts_with(b"libc.musl-")
}

/// A probe is an open file; the usual limit of 1024 is soon reached.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max.min(limit.rlim_cur.max(8192));
        // SAFETY: `limit` is valid to read. If it is refused, the lower limit stays.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_c_libraries_are_recognised() {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let read = |line: &str| Mapping::parse(line.as_bytes()).map(|m| (m.range, m.device, m.inode, text(m.path)));
        let whole = read("7f5e9d028000-7f5e9d17d000 r-xp 00026000 fe:01 1234                       /usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(whole, Some(("7f5e9d028000-7f5e9d17d000".into(), "fe:01".into(), 1234, "/usr/lib/x86_64-linux-gnu/libc.so.6".into())));
        let path = |line: &str| read(line).map(|mapping| mapping.3);
        assert_eq!(path("7f-80 r-xp 0 fe:01 9 /lib/ld-musl-x86_64.so.1 (deleted)").as_deref(), Some("/lib/ld-musl-x86_64.so.1"));
        assert_eq!(path("7f-80 r-xp 0 fe:01 9 /a dir/libc-2.31.so").as_deref(), Some("/a dir/libc-2.31.so"));
        for other in [
            "7f-80 r--p 0 fe:01 9 /usr/lib/libc.so.6",
            "7f-80 r-xp 0 fe:01 9 /usr/lib/libcap.so.2",
            "7f-80 r-xp 0 fe:01 9 /usr/lib/libc-client.so",
            "7f-80 r-xp 0 00:00 0 [vdso]",
            "/libc.so.6",
            "",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn the_c_library_of_a_process_has_the_functions() -> Result<()> {
        // A static test program has none.
        let Some(mapping) = mappings_of(std::process::id())?.and_then(|mappings| mappings.into_iter().next()) else { return Ok(()) };
        let names = ["getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r", "gethostbyname2_r"].map(str::to_owned);
        let found: HashSet<usize> = elf::functions(&mapping.open(std::process::id())?, &names)?.iter().map(|f| f.name).collect();
        assert_eq!(found.len(), names.len());
        Ok(())
    }
}
