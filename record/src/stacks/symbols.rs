//! Names of functions, by blazesym, within a time.
//!
//! Symbol tables only, no DWARF: these name every function and take milliseconds where debug information of gigabytes takes minutes.
//! A file that was stripped is looked up by its build id below /usr/lib/debug, and in the symbols that it may carry compressed.

use super::build_id::{build_id_of_notes, hex};
use super::debugdata::{self, Taken};
use super::demangle::{LONGEST_NAME, demangled};
use super::places::{Place, Places, Region};
use crate::tongs::{self, Fetcher, What, Why, path_of};
use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};
use ebrec_format::kind::{Frame, StackFrames};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

const OUT_OF_TIME: &str = "out of time";
const NO_SYMBOLS: &str = "no symbols";
const UNKNOWN_PLACE: &str = "unknown place";
const OUT_OF_MEMORY: &str = "out of memory";

/// What all names take together; a program may have names of any length. Beyond, frames keep their place.
const MOST_NAME_BYTES: usize = 16 << 20;
/// How long a file may take to be opened and copied.
const FILE_PATIENCE: Duration = Duration::from_secs(1);

/// Tables of symbols that stay in memory until they are needed again: by the bytes of their files, of which they take a small part.
const CACHED_BYTES: u64 = 256 << 20;
/// How long the end may have to wait for a look at the flag.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Jobs that wait; more are given up.
const MOST_JOBS: usize = 1 << 16;

/// The names that were asked for, as far as they were found.
///
/// A thread seeks them while the recording goes on, so that little is left for the end. A table of symbols that takes long can't be
/// interrupted; at the end nobody waits for it longer than there is time, and the thread ends with the process.
pub struct Names {
    names: HashMap<(Region, u64), Arc<str>>,
    name_bytes: usize,
    /// What was asked for before.
    asked: HashSet<(Region, u64)>,
    /// Jobs that were not answered yet, by region.
    open: HashMap<Region, usize>,
    kernel: KernelImage,
    jobs: SyncSender<Job>,
    answers: Receiver<Answer>,
}

/// A question to the thread: the functions at some places of a region.
struct Job {
    region: Region,
    /// The file itself, and the build id by which its debug file is found. None for the kernel.
    file: Option<Arc<File>>,
    build_id: Option<Arc<str>>,
    places: Vec<u64>,
}

enum Answer {
    Name(Region, u64, Arc<str>),
    Image(KernelImage),
    Done(Region),
}

impl Names {
    /// Starts the thread. It begins with the kernel's symbols, which nearly every stack needs.
    pub fn start() -> anyhow::Result<Names> {
        let (jobs, queue) = sync_channel::<Job>(MOST_JOBS);
        let (found, answers) = channel();
        let seeker = std::thread::Builder::new().name("ebrec-symbols".to_owned());
        let fetcher = Fetcher::new("ebrec-programs");
        seeker.spawn(move || Seeker { found, fetcher, cache: VecDeque::new(), cached: 0 }.run(&queue))?;
        let mut names = Names {
            names: HashMap::new(),
            name_bytes: 0,
            asked: HashSet::new(),
            open: HashMap::new(),
            kernel: KernelImage::default(),
            jobs,
            answers,
        };
        names.send(Job { region: Region::Kernel, file: None, build_id: None, places: Vec::new() });
        Ok(names)
    }

    fn send(&mut self, job: Job) {
        *self.open.entry(job.region).or_default() += 1;
        // Not answered if it can't be sent: its frames are out of time then.
        let _ = self.jobs.try_send(job);
    }

    /// Asks for the names of the functions at these places, as far as it wasn't done before.
    pub fn ask(&mut self, places: impl Iterator<Item = (Region, u64)>, known: &mut Places) {
        // How often a region is asked for, and where.
        let mut questions: BTreeMap<Region, (u64, Vec<u64>)> = BTreeMap::new();
        for (region, at) in places {
            let (count, fresh) = questions.entry(region).or_default();
            *count += 1;
            if self.asked.insert((region, at)) {
                fresh.push(at);
            }
        }
        let mut jobs = Vec::new();
        for (region, (count, mut places)) in questions.into_iter().filter(|(_, (_, places))| !places.is_empty()) {
            places.sort_unstable();
            match region {
                Region::Kernel => jobs.push((u64::MAX, Job { region, file: None, build_id: None, places })),
                Region::File(file) => {
                    let module = known.module(file);
                    let (file, build_id) = module.map(|m| (m.file.clone(), m.build_id.clone())).unwrap_or_default();
                    let bytes = module.map_or(0, |module| module.bytes);
                    // A sparse file is as large as its owner likes.
                    let worth = (u128::from(count) << 32) / (u128::from(bytes) + (64 << 10));
                    jobs.push((u64::try_from(worth).unwrap_or(u64::MAX), Job { region, file, build_id, places }));
                }
                // What a JIT compiler tells changes: it is asked at the end.
                Region::Jit(_) | Region::Unknown => {}
            }
        }
        // Many frames at little cost come first: by Smith's rule that names most of them in the time there is.
        jobs.sort_by_key(|(worth, _)| std::cmp::Reverse(*worth));
        jobs.into_iter().for_each(|(_, job)| self.send(job));
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer);
        }
    }

    /// Waits for the answers until the deadline, or until there is a hurry, and reads the perf maps.
    pub fn finish(&mut self, places: impl Iterator<Item = (Region, u64)>, known: &mut Places, deadline: Instant, hurry: &AtomicBool) {
        let mut by_map: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (region, at) in places {
            if let Region::Jit(nth) = region {
                by_map.entry(nth).or_default().push(at);
            }
        }
        // One after the other: each has up to 32 MiB.
        for (nth, addresses) in by_map {
            for (at, name) in known.jit_names(nth, addresses, deadline) {
                self.put((Region::Jit(nth), at), name);
            }
        }
        while self.open.values().any(|&open| open > 0) && !hurry.load(Ordering::Acquire) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left.min(LOOK_EVERY)) {
                Ok(answer) => self.take(answer),
                Err(RecvTimeoutError::Timeout) if left > LOOK_EVERY => {}
                Err(_) => break,
            }
        }
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Name(region, at, name) => self.put((region, at), name),
            Answer::Image(image) => self.kernel = image,
            Answer::Done(region) => {
                self.open.entry(region).and_modify(|open| *open = open.saturating_sub(1));
            }
        }
    }

    fn put(&mut self, place: (Region, u64), name: Arc<str>) {
        if self.name_bytes + name.len() <= MOST_NAME_BYTES {
            self.name_bytes += name.len();
            self.names.insert(place, name);
        }
    }

    /// Forgets what was asked: the memory is bounded by the stacks that are kept.
    pub fn forget(&mut self) {
        self.names.clear();
        self.name_bytes = 0;
        self.asked.clear();
    }

    /// The frames of a stack, with the names that were found.
    pub fn frames(&self, stack: &[Place], places: &Places) -> StackFrames {
        let mut unresolved = None;
        let mut frames: Vec<Frame> = Vec::with_capacity(stack.len());
        for (depth, place) in stack.iter().enumerate() {
            let region = place.region();
            let second = || self.names.get(&place.second_question(depth)?);
            let name = self.names.get(&place.question(depth)).or_else(second);
            if name.is_none() {
                let why = match region {
                    Region::Unknown => UNKNOWN_PLACE,
                    _ if self.name_bytes + LONGEST_NAME > MOST_NAME_BYTES => OUT_OF_MEMORY,
                    _ if self.open.get(&region).is_none_or(|&open| open == 0) => NO_SYMBOLS,
                    _ => OUT_OF_TIME,
                };
                unresolved.get_or_insert(why);
            }
            frames.push(self.frame(place, name, places));
        }
        drop_tracing(&mut frames);
        StackFrames { frames, unresolved }
    }

    fn frame(&self, place: &Place, name: Option<&Arc<str>>, places: &Places) -> Frame {
        let (module, build_id, offset) = match place.region() {
            Region::Kernel => {
                let offset = self.kernel.offset(place.address);
                // Modules and BPF programs lie outside of the image that the build id is of.
                (Some("[kernel]".into()), offset.and(self.kernel.build_id.clone()), offset)
            }
            Region::File(file) => {
                let module = places.module(file);
                (module.and_then(|m| m.path.clone()), module.and_then(|m| m.build_id.clone()), place.offset())
            }
            Region::Jit(_) | Region::Unknown => (None, None, None),
        };
        let function = name.map_or_else(|| stand_in(module.as_deref()), ToString::to_string);
        Frame { function, address: place.address, module, build_id, offset }
    }
}

/// What stands for a function without a name, as perf and BCC write it.
fn stand_in(module: Option<&str>) -> String {
    match module.map(|path| path.rsplit('/').next().unwrap_or(path)) {
        Some(name) if name.starts_with('[') => name.to_owned(),
        Some(name) => format!("[{name}]"),
        None => "[unknown]".to_owned(),
    }
}

/// A stack that the scheduler's hook took begins with the hook itself: nobody asked for that.
fn drop_tracing(frames: &mut Vec<Frame>) {
    const LONGEST: usize = 10;
    let Some(schedule) = frames.iter().take(LONGEST).position(|frame| frame.function.starts_with("__schedule")) else { return };
    let is_tracing = |frame: &Frame| {
        let known = ["bpf_", "__bpf_", "__traceiter_", "trace_", "perf_", "___bpf", "[kernel]"];
        known.iter().any(|prefix| frame.function.starts_with(prefix))
    };
    if frames[..schedule].iter().all(is_tracing) {
        frames.drain(..schedule);
    }
}

/// The thread that asks blazesym.
struct Seeker {
    found: Sender<Answer>,
    fetcher: Fetcher,
    /// What was read, the latest last.
    cache: VecDeque<Known>,
    cached: u64,
}

/// What is known of a region's functions.
struct Known {
    region: Region,
    /// What it takes, about, of [`CACHED_BYTES`].
    bytes: u64,
    symbolizer: Symbolizer,
    /// Where to look, the better one first: the file itself, its debug file. The symbolizer knows them by their descriptors.
    files: Vec<Arc<File>>,
}

fn symbolizer() -> Symbolizer {
    let builder = Symbolizer::builder().enable_auto_reload(false).enable_code_info(false).enable_inlined_fns(false);
    // It takes every short name for a type of C++.
    builder.enable_demangling(false).build()
}

/// A file that can be mapped without fear, and what it counts in the cache.
fn mappable(file: Arc<File>) -> Option<(Arc<File>, u64)> {
    let bytes = file.metadata().ok()?.len();
    if tongs::is_steady(&file) {
        return Some((file, bytes));
    }
    let (copy, bytes) = debugdata::copy(&file)?;
    // All of it is in memory, of the other a part.
    Some((Arc::new(copy), bytes * 4))
}

/// The files that may name the functions of a module.
fn files_of(file: Option<Arc<File>>, build_id: Option<&str>) -> Vec<(Arc<File>, u64)> {
    let debug = build_id.and_then(|id| {
        let (first, rest) = id.split_at_checked(2)?;
        let file = tongs::file(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug")).ok()?;
        mappable(Arc::new(file))
    });
    file.and_then(mappable).into_iter().chain(debug).collect()
}

impl Seeker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let known = self.known(&job);
            let left = match job.region {
                Region::Kernel => self.seek_in_kernel(&known.symbolizer, &job),
                _ => self.seek_in_files(&known, &job),
            };
            self.keep(known);
            if left.is_none() || self.found.send(Answer::Done(job.region)).is_err() {
                // Nobody waits for the answers any more.
                return;
            }
        }
    }

    fn known(&mut self, job: &Job) -> Known {
        if let Some(known) = self.cache.iter().position(|known| known.region == job.region).and_then(|nth| self.cache.remove(nth)) {
            self.cached -= known.bytes;
            return known;
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        if job.region != Region::Kernel {
            let (file, build_id) = (job.file.clone(), job.build_id.clone());
            match self.fetcher.fetch(FILE_PATIENCE, move || files_of(file, build_id.as_deref())) {
                Some(found) => {
                    bytes = found.iter().map(|(_, bytes)| *bytes).sum::<u64>().max(1);
                    files = found.into_iter().map(|(file, _)| file).collect();
                }
                None => tongs::count(What::Program, Why::Slow),
            }
        }
        Known { region: job.region, bytes, symbolizer: symbolizer(), files }
    }

    fn keep(&mut self, known: Known) {
        self.cached += known.bytes;
        self.cache.push_back(known);
        // Not the kernel's: it has no bytes, and stays.
        while self.cached > CACHED_BYTES
            && let Some(nth) = self.cache.iter().position(|known| known.bytes > 0)
            && let Some(known) = self.cache.remove(nth)
        {
            self.cached -= known.bytes;
        }
    }

    fn seek_in_kernel(&self, symbolizer: &Symbolizer, job: &Job) -> Option<Vec<u64>> {
        if job.places.is_empty() {
            self.found.send(Answer::Image(KernelImage::read())).ok()?;
        }
        let kernel = Source::Kernel(Kernel { vmlinux: MaybeDefault::None, debug_syms: false, ..Kernel::default() });
        // One question more reads the symbols even if there is none yet.
        let places = if job.places.is_empty() { &[0][..] } else { &job.places };
        self.seek(symbolizer, job.region, &kernel, Input::AbsAddr(places), places)
    }

    fn seek_in_files(&mut self, known: &Known, job: &Job) -> Option<Vec<u64>> {
        let mut left = job.places.clone();
        for file in &known.files {
            if left.is_empty() {
                break;
            }
            let source = Source::Elf(Elf { debug_syms: false, ..Elf::new(path_of(file)) });
            left = self.seek(&known.symbolizer, job.region, &source, Input::FileOffset(&left), &left)?;
        }
        let Some(file) = job.file.clone().filter(|_| !left.is_empty()) else { return Some(left) };
        match self.fetcher.fetch(FILE_PATIENCE, move || debugdata::take(&file)).flatten() {
            Some(taken) => self.seek_in_parts(job.region, &taken, left),
            None => Some(left),
        }
    }

    /// The same in a file that was taken apart. Its parts are not kept: they have no names by which they could be found again.
    fn seek_in_parts(&self, region: Region, taken: &Taken, mut left: Vec<u64>) -> Option<Vec<u64>> {
        let symbolizer = symbolizer();
        let (exported, others) = (path_of(&taken.exported), path_of(&taken.others));
        let (places, addresses): (Vec<u64>, Vec<u64>) = left.iter().filter_map(|&place| Some((place, taken.loads.address(place)?))).unzip();
        let source = Source::Elf(Elf { debug_syms: false, ..Elf::new(others) });
        let unknown = self.seek(&symbolizer, region, &source, Input::VirtOffset(&addresses), &places)?;
        left.retain(|place| unknown.contains(place) || taken.loads.address(*place).is_none());
        let source = Source::Elf(Elf { debug_syms: false, ..Elf::new(exported) });
        self.seek(&symbolizer, region, &source, Input::FileOffset(&left), &left)
    }

    /// Tells the names that a source knows; what it doesn't is left. None if nobody waits for the answers any more.
    fn seek(&self, symbolizer: &Symbolizer, region: Region, source: &Source<'_>, input: Input<&[u64]>, places: &[u64]) -> Option<Vec<u64>> {
        let Ok(symbols) = symbolizer.symbolize(source, input) else { return Some(places.to_vec()) };
        let mut left = Vec::new();
        for (&at, symbol) in places.iter().zip(&symbols) {
            match symbol {
                Symbolized::Sym(symbol) => self.found.send(Answer::Name(region, at, demangled(&symbol.name))).ok()?,
                Symbolized::Unknown(_) => left.push(at),
            }
        }
        Some(left)
    }
}

/// The kernel's image: where it lies, and which it is.
#[derive(Debug, Default)]
struct KernelImage {
    start: u64,
    end: u64,
    build_id: Option<Arc<str>>,
}

impl KernelImage {
    fn read() -> KernelImage {
        let build_id = tongs::system("/sys/kernel/notes").ok().and_then(|notes| build_id_of_notes(&notes)).map(|id| hex(&id).into());
        let mut image = KernelImage { build_id, ..KernelImage::default() };
        let Ok(file) = tongs::system_file("/proc/kallsyms") else { return image };
        // A kernel without CONFIG_KALLSYMS_ALL names its code alone.
        let mut code_end = 0;
        for line in std::io::BufReader::with_capacity(1 << 16, file).split(b'\n').map_while(Result::ok) {
            let limit = match line.get(16..) {
                Some(b" T _text" | b" t _text") => &mut image.start,
                Some(b" T _etext" | b" t _etext") => &mut code_end,
                Some(b" B _end" | b" b _end" | b" D _end" | b" d _end") => &mut image.end,
                _ => continue,
            };
            *limit = std::str::from_utf8(&line[..16]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        }
        image.end = image.end.max(code_end);
        image
    }

    /// Offset of an address from the image's begin, if it lies in it.
    fn offset(&self, address: u64) -> Option<u64> {
        (self.start != 0 && (self.start..self.end).contains(&address)).then(|| address - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<Frame> {
        names.iter().map(|name| Frame { function: (*name).to_owned(), ..Frame::default() }).collect()
    }

    #[test]
    fn the_hook_is_not_part_of_the_stack() {
        let mut stack = frames(&["bpf_prog_1234_x", "bpf_trace_run4", "__traceiter_sched_switch", "__schedule", "schedule"]);
        drop_tracing(&mut stack);
        assert_eq!(stack, frames(&["__schedule", "schedule"]));
        // A sample that hit a program is about that program.
        let mut stack = frames(&["bpf_prog_1234_x", "bpf_trace_run4", "do_syscall_64"]);
        drop_tracing(&mut stack);
        assert_eq!(stack.len(), 3);
        let mut stack = frames(&["update_curr", "__schedule"]);
        drop_tracing(&mut stack);
        assert_eq!(stack.len(), 2);
    }

    #[test]
    fn what_has_no_name_is_called_by_its_file() {
        assert_eq!(stand_in(Some("/usr/lib/libc.so.6")), "[libc.so.6]");
        assert_eq!(stand_in(Some("[vdso]")), "[vdso]");
        assert_eq!(stand_in(None), "[unknown]");
    }
}
