//! Where frames lie: which file was mapped at an address, while the process lives.
//!
//! Two sources are put together. The kernel tells build id and file offset of each frame at the moment of the sample; that holds even
//! if the process is gone or has executed another program since, but names no file. `/proc/PID/maps` names files, those without
//! build id too, and lets them be opened, but only as long as the process lives. So a process is looked at when its first stack
//! comes, and again when a stack has a frame that can't be placed.

use super::build_id::hex;
use super::maps::{Line, maps_of, own_vdso};
use super::perf_map;
use crate::elf;
use crate::tongs::{self, Fetcher, What, Why};
use ebrec_format::events::profile::Stack;
use ebrec_format::text::escape;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Address spaces whose mappings are remembered, and mappings of all of them, 10 MB: the oldest are forgotten.
const MOST_SPACES: usize = 4096;
const ALL_MAPPINGS: usize = 256 * 1024;
/// How long a process's list may take to be read, and a file to be opened and looked at.
const MAPS_PATIENCE: Duration = Duration::from_millis(100);
const FILE_PATIENCE: Duration = Duration::from_millis(100);
/// Looks at /proc/PID/maps per second, of all processes.
const LOOKS_PER_SECOND: u32 = 500;
/// How long a process is left alone after the first look: a young one still maps what it will run. Each look doubles it, up to this.
const NEXT_LOOK: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_secs(1);
/// The same of one with a perf map: its code grows, and what is hot is in few stacks, which may have come at the wrong moment.
const LONGEST_REST_OF_JIT: Duration = Duration::from_millis(100);
/// Processes with code in anonymous memory whose perf maps are sought at the end.
const MOST_PERF_MAPS: usize = 256;
/// Files that are known, and bytes of their paths.
const MOST_FILES: usize = 64 * 1024;
const MOST_PATH_BYTES: usize = 8 << 20;

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: u64,
    /// Offset in the file, if there is one.
    offset: u64,
    region: Region,
    /// The perf map that may name it although it lies in a file, or [`NO_MAP`].
    map: u32,
}

/// Of code in a program's or a library's file, which no JIT compiler has written.
const NO_MAP: u32 = u32::MAX;

/// What lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    /// The kernel.
    Kernel,
    /// A file: its number.
    File(u32),
    /// Memory without file, of a process with a perf map: its number.
    Jit(u32),
    /// Nobody can tell any more.
    Unknown,
}

impl Place {
    /// What to ask for the function's name with: the place of the call, which for a caller is before the address.
    pub fn question(&self, depth: usize) -> (Region, u64) {
        let at = if matches!(self.region, Region::File(_)) { self.offset } else { self.address };
        // A caller's address is the one that it returns to, and that may be another function's.
        (self.region, at - u64::from(depth > 0 && at > 0))
    }

    /// What to ask for if the file doesn't name it: JIT compilers that map their code twice, once to write and once to run it, need a file
    /// for that, in memory (memfd_create(2); .NET since 7).
    pub fn second_question(&self, depth: usize) -> Option<(Region, u64)> {
        (self.map != NO_MAP).then(|| (Region::Jit(self.map), self.address - u64::from(depth > 0 && self.address > 0)))
    }

    /// The offset in the file.
    pub fn offset(&self) -> Option<u64> {
        matches!(self.region, Region::File(_)).then_some(self.offset)
    }

    /// What lies there.
    pub fn region(&self) -> Region {
        self.region
    }
}

/// A file that code was mapped from.
pub struct Module {
    /// Its path, as its process saw it. None: only its build id is known.
    pub path: Option<Arc<str>>,
    /// Its build id, hexadecimal.
    pub build_id: Option<Arc<str>>,
    /// The same as the kernel tells it.
    short: Option<[u8; 20]>,
    /// The file, if it could be opened.
    pub file: Option<Arc<File>>,
    /// Its size then.
    pub bytes: u64,
    /// Whether it is known to be no program or library: what runs in it was written by a JIT compiler.
    pub is_data: bool,
}

/// What was found out about a file by opening it.
struct Looked {
    file: Arc<File>,
    build_id: Option<Vec<u8>>,
    bytes: u64,
    is_elf: bool,
}

#[derive(Clone, Copy)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    region: Region,
    map: u32,
}

/// The executable mappings of an address space, as they were when last looked at.
#[derive(Default)]
struct Space {
    mappings: Vec<Mapping>,
    looked: Option<Instant>,
    /// Until the next look.
    rest: Duration,
    /// Whether a stack came since that has no place.
    is_behind: bool,
    perf_map: Option<u32>,
}

impl Space {
    /// Frames that nothing is mapped at are common, where code has no frame pointers: a process isn't looked at for them alone as often as for
    /// what is new.
    fn may_look_again(&self, is_last: bool) -> bool {
        let rest = match (is_last, self.is_behind) {
            (true, _) => NEXT_LOOK,
            (false, true) => self.rest,
            (false, false) => self.rest * 4,
        };
        self.looked.is_none_or(|looked| looked.elapsed() >= rest)
    }
}

/// An address space: a process between two execs. The pid is the one in /proc.
type SpaceKey = (u32, u64, u32);

/// Everything that is known of where frames lie.
pub struct Places {
    fetcher: Fetcher,
    spaces: HashMap<SpaceKey, Space>,
    /// In the order in which they were first seen.
    order: VecDeque<SpaceKey>,
    /// Of all spaces.
    mappings: usize,
    modules: Vec<Module>,
    path_bytes: usize,
    by_inode: HashMap<(u64, u64), u32>,
    by_build_id: HashMap<[u8; 20], u32>,
    /// None while one is looked at, and if that never came back.
    perf_maps: Vec<Option<perf_map::Place>>,
    vdso: Option<u32>,
    open: usize,
    looks: (Option<Instant>, u32),
}

impl Default for Places {
    fn default() -> Places {
        Places {
            fetcher: Fetcher::new("ebrec-places"),
            spaces: HashMap::new(),
            order: VecDeque::new(),
            mappings: 0,
            modules: Vec::new(),
            path_bytes: 0,
            by_inode: HashMap::new(),
            by_build_id: HashMap::new(),
            perf_maps: Vec::new(),
            vdso: None,
            open: 0,
            looks: (None, 0),
        }
    }
}

impl Places {
    /// Where the frames of a new stack lie.
    pub fn of(&mut self, record: &Stack, tail: &[u8]) -> Box<[Place]> {
        let depth = (record.depth as usize).min(tail.len() / 8);
        let (addresses, rest) = tail.split_at(depth * 8);
        let addresses = addresses.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
        if record.kind != 0 {
            return addresses.map(|address| Place { address, offset: 0, region: Region::Kernel, map: NO_MAP }).collect();
        }
        let key = (record.proc, record.head.task.start, record.exec);
        let told: Vec<&[u8]> = rest.chunks_exact(32).collect();
        // If the two walks of the stack differ, which they shouldn't, nothing is known of any frame.
        let told = if told.len() == depth { told } else { Vec::new() };
        let mut places = Vec::with_capacity(depth);
        let mut looked = false;
        for (nth, address) in addresses.enumerate() {
            let by_kernel = told.get(nth).and_then(|told| build_id_and_offset(told));
            let mut place = self.place(key, address, by_kernel);
            if !looked && self.may_look(key) && (!self.spaces.contains_key(&key) || self.wants_look(&place)) {
                looked = true;
                self.look(key);
                place = self.place(key, address, by_kernel);
            }
            places.push(place);
        }
        if places.iter().any(|place| place.region == Region::Unknown)
            && let Some(space) = self.spaces.get_mut(&key)
        {
            space.is_behind = !looked;
        }
        places.into()
    }

    /// Seeks the frames again that had no place when they were sought last: a JIT compiler maps more code as long as its process lives.
    /// `is_last`: there won't be another time. Whether there may be more to know later.
    pub fn again(&mut self, record: &Stack, places: &mut [Place], last: Instant, is_last: bool) -> bool {
        let key = (record.proc, record.head.task.start, record.exec);
        let Some(space) = self.spaces.get(&key) else { return false };
        if space.looked.is_none_or(|looked| looked <= last) {
            // There are many stacks like this one, and nothing new is known for most of them.
            if self.is_tired() || !space.may_look_again(is_last) {
                return true;
            }
            self.look(key);
        }
        let mut is_left = false;
        for place in places.iter_mut().filter(|place| place.region == Region::Unknown) {
            *place = self.place(key, place.address, None);
            is_left |= place.region == Region::Unknown;
        }
        is_left
    }

    /// A frame's place by what is known now. The kernel's word is better than the mappings, which may be another program's by now.
    fn place(&mut self, key: SpaceKey, address: u64, by_kernel: Option<([u8; 20], u64)>) -> Place {
        let mapping = self.spaces.get(&key).and_then(|space| {
            let after = space.mappings.partition_point(|mapping| mapping.start <= address);
            space.mappings.get(after.checked_sub(1)?).filter(|mapping| address < mapping.end).copied()
        });
        if let Some((build_id, offset)) = by_kernel {
            // Of several files with the same build id, copies of each other, the one that this process has mapped.
            let own = mapping.map(|mapping| mapping.region).filter(|region| match region {
                Region::File(file) => self.module(*file).is_some_and(|module| module.short == Some(build_id)),
                _ => false,
            });
            let region = own.or_else(|| self.file_of_build_id(build_id).map(Region::File)).unwrap_or(Region::Unknown);
            return Place { address, offset, region, map: NO_MAP };
        }
        match mapping {
            Some(Mapping { start, offset, region, map, .. }) => Place { address, offset: address - start + offset, region, map },
            None => Place { address, offset: 0, region: Region::Unknown, map: NO_MAP },
        }
    }

    /// Whether a look at the process could tell more of a place.
    fn wants_look(&self, place: &Place) -> bool {
        match place.region {
            Region::File(file) => self.modules.get(file as usize).is_some_and(|module| module.path.is_none()),
            Region::Unknown => true,
            Region::Kernel | Region::Jit(_) => false,
        }
    }

    fn may_look(&self, key: SpaceKey) -> bool {
        let looked = self.spaces.get(&key).and_then(|space| Some((space.looked?, space.rest)));
        !self.is_tired() && looked.is_none_or(|(looked, rest)| looked.elapsed() >= rest)
    }

    fn is_tired(&self) -> bool {
        self.looks.0.is_some_and(|since| since.elapsed() < Duration::from_secs(1)) && self.looks.1 >= LOOKS_PER_SECOND
    }

    /// The file with a build id, which may be one of which nothing more is known yet.
    fn file_of_build_id(&mut self, build_id: [u8; 20]) -> Option<u32> {
        if let Some(&file) = self.by_build_id.get(&build_id) {
            return Some(file);
        }
        let module = Module {
            path: None,
            build_id: Some(hex(shown(&build_id)).into()),
            short: Some(build_id),
            file: None,
            bytes: 0,
            is_data: false,
        };
        let file = self.add(module)?;
        self.by_build_id.insert(build_id, file);
        Some(file)
    }

    fn add(&mut self, module: Module) -> Option<u32> {
        let bytes = module.path.as_ref().map_or(0, |path| path.len());
        if self.modules.len() >= MOST_FILES || self.path_bytes + bytes > MOST_PATH_BYTES {
            return None;
        }
        self.path_bytes += bytes;
        self.modules.push(module);
        Some(self.modules.len() as u32 - 1)
    }

    /// Reads a process's mappings and opens what it has mapped.
    fn look(&mut self, key: SpaceKey) {
        let now = Instant::now();
        if self.looks.0.is_none_or(|since| since.elapsed() >= Duration::from_secs(1)) {
            self.looks = (Some(now), 0);
        }
        self.looks.1 += 1;
        let known = self.spaces.remove(&key);
        if known.is_none() {
            self.order.push_back(key);
        }
        let mut space = known.unwrap_or_default();
        self.mappings -= space.mappings.len();
        space.looked = Some(now);
        space.is_behind = false;
        let (pid, start, _) = key;
        match self.fetcher.fetch(MAPS_PATIENCE, move || maps_of(pid, start)) {
            Some(Ok(lines)) if !lines.is_empty() => {
                space.mappings = lines.iter().map(|line| self.mapping(pid, &mut space, line)).collect();
            }
            // It has ended, or was another by then.
            Some(Ok(_)) => tongs::count(What::Mappings, Why::Gone),
            Some(Err(error)) => tongs::count(What::Mappings, Why::of(&error)),
            None => tongs::count(What::Mappings, Why::Slow),
        }
        let map = space.perf_map.and_then(|nth| self.perf_maps.get(nth as usize)?.as_ref());
        let has_map = map.is_some_and(perf_map::Place::is_there);
        space.rest = (space.rest * 2).clamp(NEXT_LOOK, if has_map { LONGEST_REST_OF_JIT } else { LONGEST_REST });
        self.mappings += space.mappings.len();
        self.spaces.insert(key, space);
        while (self.order.len() > MOST_SPACES || self.mappings > ALL_MAPPINGS)
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            if oldest == key {
                self.order.push_back(oldest);
            } else if let Some(space) = self.spaces.remove(&oldest) {
                self.mappings -= space.mappings.len();
            }
        }
    }

    fn mapping(&mut self, pid: u32, space: &mut Space, line: &Line) -> Mapping {
        let region = match line.path.as_slice() {
            _ if line.inode != 0 => self.file_of_mapping(pid, line).map_or(Region::Unknown, Region::File),
            b"[vdso]" => self.vdso().map_or(Region::Unknown, Region::File),
            b"[vsyscall]" => Region::Unknown,
            _ => self.perf_map_of(pid, space).map_or(Region::Unknown, Region::Jit),
        };
        let offset = if line.inode != 0 { line.offset } else { 0 };
        let is_data = matches!(region, Region::File(file) if self.module(file).is_some_and(|module| module.is_data));
        let map = if is_data { self.perf_map_of(pid, space).unwrap_or(NO_MAP) } else { NO_MAP };
        Mapping { start: line.start, end: line.end, offset, region, map }
    }

    /// Code in memory that no file is behind: a JIT compiler's, which may tell what it is.
    fn perf_map_of(&mut self, pid: u32, space: &mut Space) -> Option<u32> {
        if let Some(nth) = space.perf_map {
            if let Some(mut place) = self.perf_maps.get_mut(nth as usize).and_then(Option::take) {
                let looked = self.fetcher.fetch(FILE_PATIENCE, move || {
                    place.look();
                    place
                });
                self.perf_maps[nth as usize] = looked;
            }
            return Some(nth);
        }
        if self.perf_maps.len() >= MOST_PERF_MAPS {
            return None;
        }
        let place = self.fetcher.fetch(FILE_PATIENCE, move || perf_map::Place::of(pid))??;
        self.perf_maps.push(Some(place));
        space.perf_map = Some(self.perf_maps.len() as u32 - 1);
        space.perf_map
    }

    fn file_of_mapping(&mut self, pid: u32, line: &Line) -> Option<u32> {
        let key = (line.device, line.inode);
        if let Some(&file) = self.by_inode.get(&key) {
            return Some(file);
        }
        let looked = if self.open < most_open() { self.look_at_file(pid, line) } else { None };
        let is_data = looked.as_ref().map_or_else(|| line.path.starts_with(b"/memfd:"), |looked| !looked.is_elf);
        let (file, build_id, bytes) = looked.map_or((None, None, 0), |looked| (Some(looked.file), looked.build_id, looked.bytes));
        let short = build_id.as_ref().and_then(|id| (id.len() <= 20).then(|| padded(id)));
        let path = Some(Arc::from(escape(line.name()).as_ref()));
        self.open += usize::from(file.is_some());
        let module = Module { path, build_id: build_id.map(|id| hex(&id).into()), short, file, bytes, is_data };
        let known = short.and_then(|short| self.by_build_id.get(&short).copied());
        let number = match known.and_then(|number| Some((number, self.modules.get_mut(number as usize)?))) {
            // The kernel told of it before.
            Some((number, before)) if before.path.is_none() => {
                *before = module;
                number
            }
            _ => self.add(module)?,
        };
        self.by_inode.insert(key, number);
        if let Some(short) = short {
            self.by_build_id.entry(short).or_insert(number);
        }
        Some(number)
    }

    /// Opens a mapped file and reads its build id.
    fn look_at_file(&mut self, pid: u32, line: &Line) -> Option<Looked> {
        let line = line.clone();
        let look = move || {
            let file = line.open(pid)?;
            let (build_id, bytes, is_elf) = (elf::build_id(&file), file.metadata()?.len(), elf::is_elf(&file));
            io::Result::Ok(Looked { file: Arc::new(file), build_id, bytes, is_elf })
        };
        let looked = self.fetcher.fetch(FILE_PATIENCE, look);
        match &looked {
            Some(Ok(_)) => {}
            Some(Err(error)) => tongs::count(What::Program, Why::of(error)),
            None => tongs::count(What::Program, Why::Slow),
        }
        looked?.ok()
    }

    /// The kernel's code in every process. Ours is the same, and a file of it is as good as any.
    fn vdso(&mut self) -> Option<u32> {
        if self.vdso.is_none() {
            let file = own_vdso();
            let build_id = file.as_ref().and_then(elf::build_id).map(|id| hex(&id).into());
            self.vdso =
                self.add(Module { path: Some("[vdso]".into()), build_id, short: None, file: file.map(Arc::new), bytes: 0, is_data: false });
        }
        self.vdso
    }

    /// A file by its number.
    pub fn module(&self, file: u32) -> Option<&Module> {
        self.modules.get(file as usize)
    }

    /// The functions that a process's JIT compiler has told of by now, at these addresses.
    pub fn jit_names(&mut self, nth: u32, mut addresses: Vec<u64>, deadline: Instant) -> Vec<(u64, Arc<str>)> {
        let Some(mut place) = self.perf_maps.get_mut(nth as usize).and_then(Option::take) else { return Vec::new() };
        addresses.sort_unstable();
        addresses.dedup();
        let read = move || (place.names(&addresses, deadline), place);
        match self.fetcher.fetch(deadline.saturating_duration_since(Instant::now()), read) {
            Some((names, place)) => {
                self.perf_maps[nth as usize] = Some(place);
                names
            }
            None => {
                tongs::count(What::PerfMap, Why::Slow);
                Vec::new()
            }
        }
    }
}

/// What the kernel told of a frame: `struct bpf_stack_build_id`, if it is valid.
fn build_id_and_offset(told: &[u8]) -> Option<([u8; 20], u64)> {
    const BPF_STACK_BUILD_ID_VALID: i32 = 1;
    let status = i32::from_ne_bytes(told.get(..4)?.try_into().ok()?);
    let build_id: [u8; 20] = told.get(4..24)?.try_into().ok()?;
    let offset = u64::from_ne_bytes(told.get(24..32)?.try_into().ok()?);
    (status == BPF_STACK_BUILD_ID_VALID && build_id != [0; 20]).then_some((build_id, offset))
}

/// A build id as the kernel has it: 20 bytes, zeros at the end of a shorter one.
fn padded(build_id: &[u8]) -> [u8; 20] {
    let mut padded = [0; 20];
    padded[..build_id.len()].copy_from_slice(build_id);
    padded
}

/// The other way: linkers make ids of 20 bytes (sha1), 16 (md5, uuid) or 8 (fast).
fn shown(padded: &[u8; 20]) -> &[u8] {
    let zeros = padded.iter().rev().take_while(|&&byte| byte == 0).count();
    &padded[..if zeros >= 12 {
        8
    } else if zeros >= 4 {
        16
    } else {
        20
    }]
}

/// How many files may be kept open: half of what the process may have.
fn most_open() -> usize {
    static MOST: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *MOST.get_or_init(|| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place to write to.
        if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
            return 256;
        }
        let most = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: `most` is initialised; the soft limit may always be raised to the hard one.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) } == 0 {
            limit = most;
        }
        usize::try_from(limit.rlim_cur / 2).unwrap_or(256).min(4096)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_ids_of_any_length() {
        for id in [&[7_u8; 20][..], &[7; 16], &[7; 8]] {
            assert_eq!(shown(&padded(id)), id);
        }
    }
}
