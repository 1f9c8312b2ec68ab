//! Where frames lie: which file was mapped at an address, while the process lives.
//!
//! Two sources are put together. The kernel tells build id and file offset of each frame at the moment of the sample; that holds even
//! if the process is gone or has executed another program since, but names no file. `/proc/PID/maps` names files, those without
//! build id too, and lets them be opened, but only as long as the process lives. So a process is looked at when its first stack
//! comes, and again when a stack has a frame that can't be placed.

use super::build_id::hex;
use super::perf_map::{self, PerfMap};
use ebrec_format::events::profile::Stack;
use ebrec_format::text::escape;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Address spaces whose mappings are remembered.
const MOST_SPACES: usize = 4096;
/// Mappings of one address space; one with more is not looked at beyond these.
const MOST_MAPPINGS: usize = 16 * 1024;
/// Looks at /proc/PID/maps per second, of all processes.
const LOOKS_PER_SECOND: u32 = 500;
/// How long a process is left alone after the first look: a young one still maps what it will run. Each look doubles it, up to this.
const NEXT_LOOK: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Processes with code in anonymous memory whose perf maps are sought at the end.
const MOST_PERF_MAPS: usize = 256;
/// Files that are known, and of these, files that are kept open.
const MOST_FILES: usize = 64 * 1024;

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: u64,
    /// Offset in the file, if there is one.
    offset: u64,
    region: Region,
}

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
    pub file: Option<File>,
}

#[derive(Clone, Copy)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    region: Region,
}

/// The executable mappings of an address space, as they were when last looked at.
#[derive(Default)]
struct Space {
    mappings: Vec<Mapping>,
    looked: Option<Instant>,
    /// Until the next look.
    rest: Duration,
    perf_map: Option<u32>,
}

/// An address space: a process between two execs. The pid is the one in /proc.
type SpaceKey = (u32, u64, u32);

/// Everything that is known of where frames lie.
#[derive(Default)]
pub struct Places {
    spaces: HashMap<SpaceKey, Space>,
    /// In the order in which they were first seen.
    order: VecDeque<SpaceKey>,
    modules: Vec<Module>,
    by_inode: HashMap<(u64, u64), u32>,
    by_build_id: HashMap<[u8; 20], u32>,
    perf_maps: Vec<perf_map::Place>,
    vdso: Option<u32>,
    open: usize,
    looks: (Option<Instant>, u32),
}

impl Places {
    /// Where the frames of a new stack lie.
    pub fn of(&mut self, record: &Stack, tail: &[u8]) -> Box<[Place]> {
        let depth = (record.depth as usize).min(tail.len() / 8);
        let (addresses, rest) = tail.split_at(depth * 8);
        let addresses = addresses.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
        if record.kind != 0 {
            return addresses.map(|address| Place { address, offset: 0, region: Region::Kernel }).collect();
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
        places.into()
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
            return Place { address, offset, region };
        }
        match mapping {
            Some(mapping) => Place { address, offset: address - mapping.start + mapping.offset, region: mapping.region },
            None => Place { address, offset: 0, region: Region::Unknown },
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
        let tired = self.looks.0.is_some_and(|since| since.elapsed() < Duration::from_secs(1)) && self.looks.1 >= LOOKS_PER_SECOND;
        !tired && looked.is_none_or(|(looked, rest)| looked.elapsed() >= rest)
    }

    /// The file with a build id, which may be one of which nothing more is known yet.
    fn file_of_build_id(&mut self, build_id: [u8; 20]) -> Option<u32> {
        if let Some(&file) = self.by_build_id.get(&build_id) {
            return Some(file);
        }
        let module = Module { path: None, build_id: Some(hex(shown(&build_id)).into()), short: Some(build_id), file: None };
        let file = self.add(module)?;
        self.by_build_id.insert(build_id, file);
        Some(file)
    }

    fn add(&mut self, module: Module) -> Option<u32> {
        if self.modules.len() >= MOST_FILES {
            return None;
        }
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
        if !self.spaces.contains_key(&key) {
            if self.order.len() >= MOST_SPACES
                && let Some(oldest) = self.order.pop_front()
            {
                self.spaces.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let mut space = self.spaces.remove(&key).unwrap_or_default();
        space.looked = Some(now);
        space.rest = (space.rest * 2).clamp(NEXT_LOOK, LONGEST_REST);
        let (pid, start, _) = key;
        if is_alive(pid, start)
            && let Ok(maps) = std::fs::read(format!("/proc/{pid}/maps"))
            // What was read is this process's only if it is still there.
            && is_alive(pid, start)
        {
            let lines = maps.split(|&byte| byte == b'\n').filter_map(Line::parse).take(MOST_MAPPINGS);
            let mappings: Vec<Mapping> = lines.map(|line| self.mapping(pid, &mut space, &line)).collect();
            if !mappings.is_empty() {
                space.mappings = mappings;
            }
        }
        self.spaces.insert(key, space);
    }

    fn mapping(&mut self, pid: u32, space: &mut Space, line: &Line<'_>) -> Mapping {
        let region = match line.path {
            _ if line.inode != 0 => self.file_of_mapping(pid, line).map_or(Region::Unknown, Region::File),
            b"[vdso]" => self.vdso().map_or(Region::Unknown, Region::File),
            b"[vsyscall]" => Region::Unknown,
            _ => self.perf_map_of(pid, space).map_or(Region::Unknown, Region::Jit),
        };
        let offset = if line.inode != 0 { line.offset } else { 0 };
        Mapping { start: line.start, end: line.end, offset, region }
    }

    /// Code in memory that no file is behind: a JIT compiler's, which may tell what it is.
    fn perf_map_of(&mut self, pid: u32, space: &mut Space) -> Option<u32> {
        if let Some(nth) = space.perf_map {
            if let Some(place) = self.perf_maps.get_mut(nth as usize) {
                place.look();
            }
            return Some(nth);
        }
        if self.perf_maps.len() >= MOST_PERF_MAPS {
            return None;
        }
        self.perf_maps.push(perf_map::Place::of(pid)?);
        space.perf_map = Some(self.perf_maps.len() as u32 - 1);
        space.perf_map
    }

    fn file_of_mapping(&mut self, pid: u32, line: &Line<'_>) -> Option<u32> {
        let key = (line.device, line.inode);
        if let Some(&file) = self.by_inode.get(&key) {
            return Some(file);
        }
        let file = if self.open < most_open() { line.open(pid) } else { None };
        let build_id = file.as_ref().and_then(build_id_of);
        let short = build_id.as_ref().and_then(|id| (id.len() <= 20).then(|| padded(id)));
        let path = Some(Arc::from(escape(line.path.strip_suffix(b" (deleted)").unwrap_or(line.path)).as_ref()));
        self.open += usize::from(file.is_some());
        let module = Module { path, build_id: build_id.map(|id| hex(&id).into()), short, file };
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

    /// The kernel's code in every process. Ours is the same, and a file of it is as good as any.
    fn vdso(&mut self) -> Option<u32> {
        if self.vdso.is_none() {
            let file = own_vdso();
            let build_id = file.as_ref().and_then(build_id_of).map(|id| hex(&id).into());
            self.vdso = self.add(Module { path: Some("[vdso]".into()), build_id, short: None, file });
        }
        self.vdso
    }

    /// A file by its number.
    pub fn module(&self, file: u32) -> Option<&Module> {
        self.modules.get(file as usize)
    }

    /// What a process's JIT compiler has told by now.
    pub fn perf_map(&mut self, nth: u32) -> Option<PerfMap> {
        self.perf_maps.get_mut(nth as usize)?.read()
    }
}

/// One line of /proc/PID/maps about executable memory.
struct Line<'a> {
    start: u64,
    end: u64,
    offset: u64,
    device: u64,
    inode: u64,
    range: &'a str,
    path: &'a [u8],
}

impl<'a> Line<'a> {
    /// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH` (proc_pid_maps(5)).
    fn parse(line: &'a [u8]) -> Option<Line<'a>> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let (range, permissions, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
        if permissions.as_bytes().get(2) != Some(&b'x') {
            return None;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (start, end) = range.split_once('-')?;
        let (major, minor) = device.split_once(':')?;
        let path = words.next().unwrap_or_default();
        Some(Line {
            start: number(start)?,
            end: number(end)?,
            offset: number(offset)?,
            device: number(major)? << 32 | number(minor)?,
            inode: inode.parse().ok()?,
            range,
            path: path.trim_ascii_start(),
        })
    }

    /// Opens the file that is mapped: itself, be it deleted or in another mount namespace; else, where that isn't allowed
    /// (it takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE), what has its path and is the same inode.
    fn open(&self, pid: u32) -> Option<File> {
        let open = |path: &std::path::Path| {
            let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
            let metadata = file.metadata().ok()?;
            (metadata.is_file() && metadata.ino() == self.inode).then_some(file)
        };
        open(format!("/proc/{pid}/map_files/{}", self.range).as_ref()).or_else(|| {
            let path = std::str::from_utf8(self.path).ok()?;
            open(format!("/proc/{pid}/root{path}").as_ref())
        })
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

/// Whether the process that the kernel meant still has this pid. Its start is part of its identity; /proc tells it in ticks.
fn is_alive(pid: u32, start_ns: u64) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { return false };
    // The name may hold anything; the fields behind it are counted from its end. The start is the 22nd of all.
    let fields = stat.iter().rposition(|&byte| byte == b')').map_or(&[][..], |end| &stat[end + 1..]);
    let ticks = fields.split(|&byte| byte == b' ').nth(20).and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
    // SAFETY: no preconditions.
    let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    let tick_ns = 1_000_000_000 / per_second;
    ticks.is_some_and(|ticks| ticks.abs_diff(start_ns / tick_ns) <= 1)
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

/// The path under which an open file can be opened again.
pub fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn build_id_of(file: &File) -> Option<Vec<u8>> {
    let build_id = blazesym::helper::read_elf_build_id(&path_of(file)).ok()??;
    Some(build_id.to_vec()).filter(|id| !id.is_empty() && id.len() <= 64)
}

/// The vdso as a file in memory.
fn own_vdso() -> Option<File> {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::FromRawFd;
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let line = maps.split(|&byte| byte == b'\n').filter_map(Line::parse).find(|line| line.path == b"[vdso]")?;
    let size = usize::try_from(line.end - line.start).ok().filter(|&size| size <= 1 << 20)?;
    let mut bytes = vec![0; size];
    let mut memory = File::open("/proc/self/mem").ok()?;
    memory.seek(SeekFrom::Start(line.start)).ok()?;
    memory.read_exact(&mut bytes).ok()?;
    // SAFETY: the name ends with NUL; a descriptor or -1 is returned.
    let fd = unsafe { libc::memfd_create(c"ebrec-vdso".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(&bytes).ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = Line::parse(b"55d0c0a00000-55d0c0a25000 r-xp 00002000 fe:01 1234                       /usr/bin/a b (deleted)");
        let line = line.map(|line| (line.start, line.end, line.offset, line.device, line.inode, line.path));
        assert_eq!(line, Some((0x55d0_c0a0_0000, 0x55d0_c0a2_5000, 0x2000, 0xfe_0000_0001, 1234, &b"/usr/bin/a b (deleted)"[..])));
        assert!(Line::parse(b"7f00-7f01 rw-p 00000000 00:00 0 ").is_none());
        let anonymous = Line::parse(b"7f00-7f01 rwxp 00000000 00:00 0 ").map(|line| (line.inode, line.path));
        assert_eq!(anonymous, Some((0, &b""[..])));
        for bad in [&b""[..], b"x", b"7f00 r-xp 0 0:0 0", b"7f00-7f01 r-xp zz 00:00 0"] {
            assert!(Line::parse(bad).is_none());
        }
    }

    #[test]
    fn build_ids_of_any_length() {
        for id in [&[7_u8; 20][..], &[7; 16], &[7; 8]] {
            assert_eq!(shown(&padded(id)), id);
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let pid = std::process::id();
        assert!(!is_alive(pid, 0));
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ticks: u64 = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(20)).and_then(|t| t.parse().ok()).unwrap_or(0);
        assert!(is_alive(pid, ticks * 10_000_000));
    }

    #[test]
    fn the_vdso_is_an_elf_file() {
        // Absent on some machines; where it is, it has symbols.
        if let Some(file) = own_vdso() {
            let mut magic = [0; 4];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut magic, 0).unwrap_or_default();
            assert_eq!(&magic, b"\x7fELF");
        }
    }
}
