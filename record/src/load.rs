//! Loading and attaching: opens the embedded object, sets its knobs, and tries until what is left works.

use crate::hooks::{self, Hook, Program};
use crate::kernel::{Kernel, variable_offset};
use crate::maps;
use crate::namespaces::{self, Namespaces, Seed};
use crate::perf_event::{CpuEvents, CpuWatcher};
use crate::scheduling::{Class, enter};
use crate::uprobes::{FunctionProgram, Watcher};
use anyhow::{Context, Result, bail};
use ebrec_format::events::session::LibraryRow;
use ebrec_format::manifest::NOT_ASKED;
use libbpf_rs::btf::Btf;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder, OpenMapMut, OpenObject, PrintLevel};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The mechanism of handlers of system calls (`bpf/syscalls.h`): not attached, but called by [`DISPATCHER`].
const HANDLER: &str = "sys_exit";
/// The program that calls the handlers.
const DISPATCHER: &str = "core__syscalls__tp_btf__exit";
/// The one that remembers when a call began, for handlers that want to know.
const CALL_BEGINS: &str = "core__syscalls__tp_btf__enter";
/// The mechanism of programs in functions of libraries, which are found while recording; and the part that is for all their returns.
const UPROBES: [&str; 2] = ["uprobe_multi", "uprobe"];
const RETURN: &str = "return";
/// The map in which handlers are given up (`shed_handlers` of `bpf/core.bpf.c`).
const SHED: &str = ".data.shed";
/// The mechanism of programs that run at perf's software events.
const PERF_EVENT: &str = "perf_event";
/// `ALL_SYSCALLS` of `bpf/syscalls.h`.
const ALL_CALLS: u32 = u32::MAX;
/// `SYSCALL_TIMED` of `bpf/syscalls.h`.
const TIMED: u32 = 1 << 31;
/// `BEYOND_MOST` of `bpf/syscalls.h`.
pub const BEYOND_MOST: usize = 16;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ebrec.bpf.o"));

/// What libbpf printed since it was last taken: its words name the program that failed.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn keep_log(_: PrintLevel, line: String) {
    if let Ok(mut log) = LOG.lock()
        && log.len() < 1000
    {
        log.push(line);
    }
}

fn take_log() -> Vec<String> {
    LOG.lock().map(|mut log| std::mem::take(&mut *log)).unwrap_or_default()
}

/// What the programs are to be loaded with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The probes.
    pub probes: BTreeSet<String>,
    /// Ring buffers: how many, a power of two.
    pub rings: u32,
    /// Size of each, bytes, a power of two.
    pub ring_bytes: u32,
    /// What the other maps may take, bytes.
    pub map_bytes: u64,
    /// Pids whose processes, with descendants, alone are recorded.
    pub pids: Vec<u32>,
    /// Names of threads that alone are recorded.
    pub comms: Vec<String>,
    /// cgroups (id, depth) that alone are recorded.
    pub cgroups: Vec<(u64, u32)>,
    /// Record the recorder too.
    pub include_self: bool,
    /// Numbers of the system calls to record, if not all.
    pub syscalls: Option<Vec<u32>>,
    /// Samples of each CPU per second.
    pub sample_hz: u32,
    /// Hooks (probe, name) that no option asks for, and the option that would.
    pub not_asked: Vec<(&'static str, &'static str, &'static str)>,
    /// Mechanism to prefer.
    pub prefer: Option<String>,
}

/// The loaded programs and their maps, which others than the one that detaches may look at.
pub struct Loaded {
    /// What became of each hook.
    pub hooks: Vec<Hook>,
    /// What is attached, with the probe that it is for.
    links: Mutex<Vec<(String, Link)>>,
    /// What runs at events of perf, by probe.
    events: Mutex<Vec<(String, CpuWatcher)>>,
    /// By probe, the bits of its handlers of system calls.
    handlers: BTreeMap<String, u32>,
    /// Probes that were given up.
    shed: Mutex<BTreeSet<String>>,
    /// Tables of which an iterator should have told rows, and why it could not.
    failures: Mutex<Vec<(String, String)>>,
    object: Object,
}

/// The loaded and attached programs. Dropping it detaches everything.
pub struct Attached {
    /// The programs.
    pub loaded: Arc<Loaded>,
    /// The ring buffers.
    pub rings: Vec<MapHandle>,
    /// Counts of dropped records.
    pub drops: MapHandle,
    /// The processes that the filters name.
    pub seeds: Vec<Seed>,
    /// Records that the iterators at the start gave, when the window has been opened.
    pub snapshot: Vec<u8>,
    watcher: Option<Watcher>,
    /// The libraries in which hooks were; known at the end.
    pub libraries: Vec<LibraryRow>,
}

/// The programs of the embedded object.
pub fn programs() -> Result<Vec<Program>> {
    libbpf_rs::set_print(Some((PrintLevel::Info, keep_log)));
    let mut open = open()?;
    let mut programs = programs_of(&open);
    let mut knobs = Knobs::of(&mut open)?;
    for program in &mut programs {
        // Only hooks that feed less than their probe's tables say so.
        if let Ok(text) = knobs.slot(&format!("{}__{}__feeds", program.probe, program.hook)) {
            let text = String::from_utf8_lossy(text);
            program.feeds = text.trim_end_matches('\0').split_whitespace().map(str::to_owned).collect();
        }
        if let Ok(text) = knobs.slot(&format!("{}__{}__needs", program.probe, program.hook)) {
            program.needs = Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
    }
    Ok(programs)
}

fn open() -> Result<OpenObject> {
    ObjectBuilder::default().name("ebrec")?.open_memory(OBJECT).context("cannot open the embedded BPF object")
}

fn programs_of(open: &OpenObject) -> Vec<Program> {
    let parsed = open.progs().filter_map(|prog| Program::parse(&prog.name().to_string_lossy(), &prog.section().to_string_lossy()));
    let mut programs: Vec<Program> = parsed.collect();
    // libbpf goes by section, and all handlers share theirs: it would come early in some hook.
    programs.sort_by_key(|program| program.mechanism == HANDLER);
    programs
}

/// Loads and attaches what `settings` ask for. A hook that can't be had is left out; the reason is in [`Attached::hooks`].
pub fn load(kernel: &Kernel, settings: &Settings) -> Result<Attached> {
    let mut probes = settings.probes.clone();
    probes.insert("core".to_owned());
    let all = programs()?;
    let mut excluded = not_asked(settings, &all);
    let uses = maps::Uses::of(OBJECT)?;
    // Each turn loses at least one program, so this ends.
    loop {
        let hooks = hooks::choose(&all, &probes, kernel, &excluded, settings.prefer.as_deref());
        match attempt(kernel, settings, &uses, hooks) {
            Ok(attached) => return Ok(attached),
            Err(Failed::Program { name, reason }) if name == DISPATCHER => {
                excluded.extend(refused_handlers(settings, &all, &excluded, &reason)?);
            }
            Err(Failed::Program { name, reason }) if !excluded.contains_key(&name) => {
                excluded.insert(name, reason);
            }
            Err(Failed::Program { name, reason }) => bail!("program {name}: {reason}"),
            Err(Failed::Whole(error)) => return Err(error),
        }
    }
}

/// The programs that no option asks for, with what to say of them.
fn not_asked(settings: &Settings, programs: &[Program]) -> BTreeMap<String, String> {
    let option = |program: &Program| {
        let of = settings.not_asked.iter().find(|(probe, hook, _)| program.probe == *probe && program.hook == *hook);
        of.map(|(_, _, option)| format!("{NOT_ASKED} ({option})"))
    };
    programs.iter().filter_map(|program| Some((program.name.clone(), option(program)?))).collect()
}

/// The handlers because of which the kernel refuses the program that calls them: each is tried alone.
fn refused_handlers(
    settings: &Settings,
    programs: &[Program],
    excluded: &BTreeMap<String, String>,
    reason: &str,
) -> Result<BTreeMap<String, String>> {
    let handlers: Vec<&Program> = programs.iter().filter(|p| p.mechanism == HANDLER && !excluded.contains_key(&p.name)).collect();
    let mut refused = BTreeMap::new();
    for handler in &handlers {
        let mut open = open()?;
        for mut prog in open.progs_mut() {
            let this = prog.name().to_str() == Some(&handler.name);
            prog.set_autoload(this);
        }
        set_knobs(&mut open, settings, &[])?;
        take_log();
        if let Err(error) = open.load()
            && let Failed::Program { reason, .. } = blame(&error)
        {
            refused.insert(handler.name.clone(), reason);
        }
    }
    if refused.is_empty() {
        // Each is accepted alone, but not together: none can be had.
        refused.extend(handlers.iter().map(|handler| (handler.name.clone(), reason.to_owned())));
    }
    Ok(refused)
}

/// Why an attempt failed.
enum Failed {
    /// One program is to blame: try without.
    Program { name: String, reason: String },
    /// Nothing can be had.
    Whole(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed::Whole(error)
    }
}

fn attempt(kernel: &Kernel, settings: &Settings, uses: &maps::Uses, hooks: Vec<Hook>) -> Result<Attached, Failed> {
    let chosen: Vec<Program> =
        hooks.iter().filter_map(|hook| hook.choice.as_ref().ok()).flat_map(|(_, programs)| programs.clone()).collect();
    // Handlers are called by the dispatcher, which is loaded only for them.
    let (handlers, mut chosen): (Vec<Program>, Vec<Program>) = chosen.into_iter().partition(|program| program.mechanism == HANDLER);
    let mut open = open()?;
    let calls = set_knobs(&mut open, settings, &handlers)?;
    chosen.retain(|program| match program.name.as_str() {
        DISPATCHER => calls.wanted,
        CALL_BEGINS => calls.timed,
        _ => true,
    });
    for mut prog in open.progs_mut() {
        let name = prog.name().to_string_lossy().into_owned();
        prog.set_autoload(chosen.iter().any(|program| program.name == name));
    }
    let all_handlers = || programs_of(&open).into_iter().filter(|program| program.mechanism == HANDLER).collect();
    let verified: Vec<Program> = if kernel.verifies_what_is_called() { handlers.clone() } else { all_handlers() };
    choose_maps(&mut open, kernel, settings, &uses.unneeded(&chosen, &verified))?;
    take_log();
    let object = open.load().map_err(|error| blame(&error))?;
    let rings = make_rings(&object, settings)?;
    fill_filters(&object, settings)?;
    let drops = handle(&object, "drops")?;
    run_iterators(&object, &chosen, "iter_before")?;
    let seeds = found_seeds(&object, settings)?;
    namespaces::refuse_unknown(&seeds)?;
    let mut links = Vec::new();
    let mut events: BTreeMap<String, Vec<CpuEvents>> = BTreeMap::new();
    for program in chosen.iter().filter(|program| !program.is_iterator() && !UPROBES.contains(&program.mechanism.as_str())) {
        let prog = object.progs_mut().find(|prog| prog.name().to_str() == Some(&program.name));
        let prog = prog.with_context(|| format!("program {} is gone", program.name))?;
        let failed = |reason| Failed::Program { name: program.name.clone(), reason };
        if program.mechanism == PERF_EVENT {
            let of_program = CpuEvents::attach(&prog, program.part.as_deref(), settings.sample_hz).map_err(failed)?;
            events.entry(program.probe.clone()).or_default().push(of_program);
        } else {
            links.push((program.probe.clone(), prog.attach().map_err(|error| failed(attach_reason(program, &error)))?));
        }
    }
    let events = events.into_iter().map(|(probe, events)| Ok((probe, CpuWatcher::start(events).context("cannot start a thread")?)));
    let events = events.collect::<Result<Vec<_>>>()?;
    // What was forked between the first run and the attachment.
    run_iterators(&object, &chosen, "iter_before")?;
    // After the hooks that tell of new programs, so that none is missed in between.
    let watcher = watch_libraries(&object, &chosen)?;
    let handlers = bits_by_probe(&handlers);
    let (links, events, shed, failures) = (Mutex::new(links), Mutex::new(events), Mutex::default(), Mutex::default());
    let loaded = Arc::new(Loaded { hooks, links, events, handlers, shed, failures, object });
    Ok(Attached { loaded, rings, drops, seeds, snapshot: Vec::new(), watcher, libraries: Vec::new() })
}

/// Leaves out the maps that aren't needed, and gives the others their sizes.
fn choose_maps(open: &mut OpenObject, kernel: &Kernel, settings: &Settings, unneeded: &BTreeSet<String>) -> Result<()> {
    let mut shapes = Vec::new();
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if !kernel.has_map_type(map.map_type().into()) || unneeded.contains(&name) {
            map.set_autocreate(false).context("cannot leave out a map")?;
            continue;
        }
        let is_hash = matches!(map.map_type(), MapType::Hash | MapType::LruHash);
        shapes.push(maps::Shape { name, is_hash, key: map.key_size(), value: map.value_size(), entries: map.max_entries() });
    }
    let facts = maps::Facts {
        follows: !settings.pids.is_empty(),
        slots_in_tasks: kernel.keeps_slots_in_tasks(),
        tasks: maps::tasks(),
        cpus: crate::host::possible_cpus(),
    };
    // The sixteenth is for what is no hash table.
    maps::fit(&mut shapes, &facts, settings.map_bytes - settings.map_bytes / 16);
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(shape) = shapes.iter().find(|shape| shape.name == name && shape.is_hash && shape.entries != map.max_entries()) {
            map.set_max_entries(shape.entries).with_context(|| format!("cannot set the size of map {name}"))?;
        }
    }
    Ok(())
}

/// Starts to look for libraries, if a program is for their functions.
fn watch_libraries(object: &Object, chosen: &[Program]) -> Result<Option<Watcher>> {
    let mut programs = Vec::new();
    for program in chosen.iter().filter(|program| UPROBES.contains(&program.mechanism.as_str())) {
        let prog = object.progs_mut().find(|prog| prog.name().to_str() == Some(&program.name));
        let prog = prog.with_context(|| format!("program {} is gone", program.name))?;
        let function = program.part.clone().filter(|part| part != RETURN);
        let multi = program.mechanism == UPROBES[0];
        programs.push(FunctionProgram { function, multi, program: prog.as_fd().try_clone_to_owned().context("cannot use a program")? });
    }
    if programs.is_empty() {
        return Ok(None);
    }
    if programs.iter().any(|program| !program.multi) {
        crate::privilege::keep_for_probes();
    }
    Watcher::start(programs, handle(object, "images_started")?, handle(object, "images_seen")?).map(Some)
}

/// The program that the log blames for a failed load.
fn blame(error: &libbpf_rs::Error) -> Failed {
    let log = take_log();
    let named = log.iter().rev().find_map(|line| {
        let rest = line.split_once("prog '")?.1;
        let (name, what) = rest.split_once("': ")?;
        what.contains("failed").then(|| (name.to_owned(), what.trim().to_owned()))
    });
    match named {
        Some((name, what)) => {
            // The verifier's last words before its statistics are the reason.
            let reason =
                log.iter().flat_map(|line| line.lines()).rev().find(|line| is_verdict(line)).map_or(what, |line| line.trim().to_owned());
            Failed::Program { name, reason: format!("the kernel refuses the program: {reason}") }
        }
        None => {
            let tail: Vec<&str> = log.iter().rev().take(5).map(|line| line.trim()).collect();
            Failed::Whole(anyhow::anyhow!(
                "cannot load the BPF programs: {error}\n  {}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n  ")
            ))
        }
    }
}

fn is_verdict(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty()
        && !line.starts_with("libbpf:")
        && !line.starts_with("processed ")
        && !line.starts_with("-- ")
        && !line.contains("verification time")
        && !line.starts_with("stack depth")
}

fn attach_reason(program: &Program, error: &libbpf_rs::Error) -> String {
    format!("{} cannot be attached: {error}", program.section.trim_start_matches('?'))
}

/// What the handlers of system calls want.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    /// Some call is wanted.
    wanted: bool,
    /// Some call's beginning is.
    timed: bool,
}

/// The `const volatile` variables of the object, by name.
struct Knobs<'a> {
    btf: Btf<'static>,
    rodata: OpenMapMut<'a>,
}

impl<'a> Knobs<'a> {
    fn of(open: &'a mut OpenObject) -> Result<Knobs<'a>> {
        let btf = Btf::from_raw("ebrec", OBJECT).context("the embedded object's BTF")?.context("the embedded object has no BTF")?;
        let rodata = open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata")).context("the object has no .rodata")?;
        Ok(Knobs { btf, rodata })
    }

    fn slot(&mut self, name: &str) -> Result<&mut [u8]> {
        let (offset, size) = variable_offset(&self.btf, ".rodata", name).with_context(|| format!("no knob {name}"))?;
        let bytes = self.rodata.initial_value_mut().context(".rodata has no initial value")?;
        bytes.get_mut(offset..offset + size).with_context(|| format!("knob {name} is out of bounds"))
    }

    /// Sets a variable; an array may be set in part.
    fn set(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let slot = self.slot(name)?;
        let len = slot.len().min(value.len());
        slot[..len].copy_from_slice(&value[..len]);
        Ok(())
    }

    /// An array of 32-bit numbers.
    fn numbers(&mut self, name: &str) -> Result<Vec<u32>> {
        let (words, _) = self.slot(name)?.as_chunks::<4>();
        Ok(words.iter().map(|word| u32::from_ne_bytes(*word)).collect())
    }
}

/// Sets the `const volatile` variables of `bpf/ebrec.h` and `bpf/syscalls.h` by their names.
fn set_knobs(open: &mut OpenObject, settings: &Settings, handlers: &[Program]) -> Result<Calls> {
    let mut knobs = Knobs::of(open)?;
    knobs.set("ring_mask", &(settings.rings - 1).to_ne_bytes())?;
    knobs.set("filter_process", &u32::from(!settings.pids.is_empty()).to_ne_bytes())?;
    knobs.set("filter_comm", &u32::from(!settings.comms.is_empty()).to_ne_bytes())?;
    knobs.set("filter_cgroup", &(settings.cgroups.len() as u32).to_ne_bytes())?;
    let ids: Vec<u8> = settings.cgroups.iter().flat_map(|(id, _)| id.to_ne_bytes()).collect();
    let levels: Vec<u8> = settings.cgroups.iter().flat_map(|(_, level)| level.to_ne_bytes()).collect();
    knobs.set("cgroup_ids", &ids)?;
    knobs.set("cgroup_levels", &levels)?;
    knobs.set("page_size", &page_size().to_ne_bytes())?;
    knobs.set("include_self", &u32::from(settings.include_self).to_ne_bytes())?;
    let namespaces = Namespaces::of_self();
    knobs.set("proc_above", &namespaces.proc_above.to_ne_bytes())?;
    knobs.set("own_cgroup_depth", &namespaces.cgroup_depth.to_ne_bytes())?;
    knobs.set("stack_frames_most", &crate::perf_event::frames_most().to_ne_bytes())?;
    set_handlers(&mut knobs, settings, handlers)
}

/// Gives each handler its bit and enters it in the table of the calls that it wants.
fn set_handlers(knobs: &mut Knobs<'_>, settings: &Settings, handlers: &[Program]) -> Result<Calls> {
    let mut table = knobs.numbers("syscall_handlers")?;
    let mut any_beyond = 0;
    for (place, handler) in handlers.iter().enumerate() {
        let bit = 1u32.checked_shl(place as u32).filter(|&bit| bit != TIMED).context("too many handlers of system calls")?;
        let name = format!("{}__{}", handler.probe, handler.hook);
        knobs.set(&format!("{name}__bit"), &bit.to_ne_bytes())?;
        let timed = if knobs.numbers(&format!("{name}__timed"))? == [1] { TIMED } else { 0 };
        let mut calls = knobs.numbers(&format!("{name}__calls"))?;
        if calls == [ALL_CALLS] {
            calls = settings.syscalls.clone().unwrap_or_else(|| (0..table.len() as u32).collect());
            // Numbers that the table doesn't have: all, or the few that are named.
            let beyond: Vec<u32> = calls.extract_if(.., |call| *call as usize >= table.len()).take(BEYOND_MOST).collect();
            let wanted = if settings.syscalls.is_none() || !beyond.is_empty() { bit | timed } else { 0 };
            knobs.set("syscall_handlers_beyond", &wanted.to_ne_bytes())?;
            knobs.set("syscalls_beyond_named", &(beyond.len() as u32).to_ne_bytes())?;
            knobs.set("syscalls_beyond", &beyond.iter().flat_map(|call| call.to_ne_bytes()).collect::<Vec<u8>>())?;
            any_beyond |= wanted;
        }
        for call in calls {
            let slot = table.get_mut(call as usize).with_context(|| format!("{name}: no system call has number {call}"))?;
            *slot |= bit | timed;
        }
    }
    let bytes: Vec<u8> = table.iter().flat_map(|bits| bits.to_ne_bytes()).collect();
    knobs.set("syscall_handlers", &bytes)?;
    table.push(any_beyond);
    Ok(Calls { wanted: table.iter().any(|bits| *bits != 0), timed: table.iter().any(|bits| bits & TIMED != 0) })
}

/// The bits of the handlers of each probe, as [`set_handlers`] gives them.
fn bits_by_probe(handlers: &[Program]) -> BTreeMap<String, u32> {
    let mut bits: BTreeMap<String, u32> = BTreeMap::new();
    for (place, handler) in handlers.iter().enumerate() {
        *bits.entry(handler.probe.clone()).or_default() |= 1u32.checked_shl(place as u32).unwrap_or(0);
    }
    bits
}

fn page_size() -> u32 {
    // SAFETY: no pointers; a name that every system knows.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}

fn handle(object: &Object, name: &str) -> Result<MapHandle> {
    let map = object.maps().find(|map| map.name().to_str() == Some(name)).with_context(|| format!("no map {name}"))?;
    MapHandle::try_from(&map).with_context(|| format!("cannot use map {name}"))
}

fn make_rings(object: &Object, settings: &Settings) -> Result<Vec<MapHandle>> {
    let outer = handle(object, "rings")?;
    let opts = libbpf_sys::bpf_map_create_opts { sz: size_of::<libbpf_sys::bpf_map_create_opts>() as u64, ..Default::default() };
    let mut rings = Vec::new();
    for shard in 0..settings.rings {
        let ring = MapHandle::create(MapType::RingBuf, Some("ebrec_ring"), 0, 0, settings.ring_bytes, &opts)
            .with_context(|| format!("cannot create a ring buffer of {} bytes; try a smaller --memory", settings.ring_bytes))?;
        let fd = ring.as_fd().as_raw_fd();
        outer.update(&shard.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY).context("cannot hand a ring buffer to the programs")?;
        rings.push(ring);
    }
    Ok(rings)
}

fn fill_filters(object: &Object, settings: &Settings) -> Result<()> {
    let seeds = handle(object, "seed_pids")?;
    for pid in &settings.pids {
        seeds.update(&pid.to_ne_bytes(), &[0; 4], MapFlags::ANY).context("cannot set the filter by process")?;
    }
    let comms = handle(object, "wanted_comms")?;
    for comm in &settings.comms {
        let mut key = [0u8; 16];
        let len = comm.len().min(15);
        key[..len].copy_from_slice(&comm.as_bytes()[..len]);
        comms.update(&key, &[1], MapFlags::ANY).context("cannot set the filter by name")?;
    }
    Ok(())
}

/// The processes that the filters name, as the kernel has them: found by what runs before anything is attached.
fn found_seeds(object: &Object, settings: &Settings) -> Result<Vec<Seed>> {
    let seeds = handle(object, "seed_pids")?;
    let of_kernel = |pid: &u32| -> Result<Seed> {
        let found = seeds.lookup(&pid.to_ne_bytes(), MapFlags::ANY).context("cannot read the filter by process")?;
        let found = found.and_then(|bytes| bytes.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)));
        Ok((*pid, found.unwrap_or(0)))
    };
    settings.pids.iter().map(of_kernel).collect()
}

/// Runs the iterators of one moment and returns the records they gave.
fn run_iterators(object: &Object, programs: &[Program], moment: &str) -> Result<Vec<u8>, Failed> {
    let mut records = Vec::new();
    for program in programs.iter().filter(|program| program.mechanism == moment) {
        run_iterator(object, program, &mut records).map_err(|reason| Failed::Program { name: program.name.clone(), reason })?;
    }
    Ok(records)
}

/// Closes links. For some the kernel waits until all CPUs have passed by, so it is asked from several threads at once.
fn detach_links(links: Vec<Link>) {
    let mut piles: Vec<Vec<Link>> = Vec::new();
    piles.resize_with(8.min(links.len()), Vec::new);
    for (place, link) in links.into_iter().enumerate() {
        piles[place % 8].push(link);
    }
    std::thread::scope(|scope| {
        for pile in piles {
            scope.spawn(move || {
                enter(Class::RealTime);
                drop(pile);
            });
        }
    });
}

/// Runs an iterator and adds the records it gives; if it fails, those that it gave before.
fn run_iterator(object: &Object, program: &Program, records: &mut Vec<u8>) -> Result<(), String> {
    let prog = object.progs_mut().find(|prog| prog.name().to_str() == Some(&program.name));
    let prog = prog.ok_or_else(|| format!("program {} is gone", program.name))?;
    let link = match &program.part {
        Some(map) => handle(object, map).map_err(|error| format!("{error:#}")).and_then(|map| {
            let link = prog.attach_iter(map.as_fd());
            link.map_err(|error| attach_reason(program, &error))
        }),
        None => prog.attach().map_err(|error| attach_reason(program, &error)),
    }?;
    let mut iter = Iter::new(&link).map_err(|error| error.to_string())?;
    read_records(&mut iter, records).map_err(|error| format!("{}: {error}", program.section))
}

/// Reads to the end. The kernel ends a read with EAGAIN when it has gone through a million elements that gave no record
/// (MAX_ITER_OBJECTS of kernel/bpf/bpf_iter.c), and goes on with the next.
fn read_records(from: &mut impl Read, records: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => records.extend_from_slice(&buffer[..n]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

impl Attached {
    /// Opens the window, and takes the snapshot of what is there; returns when the window began, ns of CLOCK_BOOTTIME. All hooks are
    /// attached by now; to be called when the rings are read.
    pub fn open(&mut self) -> Result<u64> {
        self.loaded.iterate("iter_open");
        let from = self.loaded.wait_for("window_from")?;
        self.snapshot = self.loaded.iterate("iter_start");
        Ok(from)
    }

    /// Ends the window and detaches all hooks; the maps, and what is still in the rings, remain. Returns when the window ended.
    pub fn detach(&mut self) -> u64 {
        self.loaded.iterate("iter_stop");
        // If the programs could not be told, they go on until they are detached.
        let until = self.loaded.wait_for("window_until").unwrap_or_else(|_| crate::drain::boot_ns());
        self.loaded.iterate("iter_last");
        let links = std::mem::take(&mut *self.loaded.links());
        self.loaded.events().clear();
        detach_links(links.into_iter().map(|(_, link)| link).collect());
        if let Some(mut watcher) = self.watcher.take() {
            self.libraries = watcher.stop();
        }
        until
    }
}

impl Loaded {
    fn links(&self) -> MutexGuard<'_, Vec<(String, Link)>> {
        // Links are only moved in and out: what a panic left is as good as any.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, Vec<(String, CpuWatcher)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a probe can be given up while recording. The probes in libraries belong to a thread of their own, and cost next to nothing.
    pub fn can_shed(&self, probe: &str) -> bool {
        let mechanisms = self.hooks.iter().filter(|hook| hook.probe == probe).filter_map(|hook| Some(&hook.choice.as_ref().ok()?.0));
        let (count, in_libraries) =
            mechanisms.fold((0, false), |(count, any), mechanism| (count + 1, any || UPROBES.contains(&mechanism.as_str())));
        count > 0 && !in_libraries
    }

    /// Gives up a probe: nothing of it runs from now on, what runs every second or at the end included.
    pub fn shed(&self, probe: &str) -> Result<()> {
        if let Ok(mut shed) = self.shed.lock() {
            shed.insert(probe.to_owned());
        }
        if let Some(bits) = self.handlers.get(probe) {
            let map = handle(&self.object, SHED)?;
            let key = 0u32.to_ne_bytes();
            let before = map.lookup(&key, MapFlags::ANY).context("cannot read what was given up")?.unwrap_or_default();
            let before = before.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            map.update(&key, &(before | bits).to_ne_bytes(), MapFlags::ANY).context("cannot give up handlers of system calls")?;
        }
        self.events().retain(|(of, _)| of != probe);
        let (gone, left) = std::mem::take(&mut *self.links()).into_iter().partition(|(of, _)| of == probe);
        *self.links() = left;
        let gone: Vec<(String, Link)> = gone;
        detach_links(gone.into_iter().map(|(_, link)| link).collect());
        Ok(())
    }

    /// Waits for the instant, a moment ahead, that the programs have put into a variable.
    fn wait_for(&self, variable: &str) -> Result<u64> {
        let btf = Btf::from_raw("ebrec", OBJECT).context("the embedded object's BTF")?.context("the embedded object has no BTF")?;
        let (offset, _) = variable_offset(&btf, ".bss", variable).with_context(|| format!("no variable {variable}"))?;
        let map = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).context("the object has no .bss")?;
        let bytes = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).context("cannot read .bss")?.unwrap_or_default();
        let instant = bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        anyhow::ensure!(instant > 0, "the kernel did not run the program that sets {variable}");
        while let Some(ahead) = instant.checked_sub(crate::drain::boot_ns()).filter(|ahead| *ahead > 0) {
            std::thread::sleep(std::time::Duration::from_nanos(ahead));
        }
        Ok(instant)
    }

    /// What the maps take in the kernel beside the rings, bytes.
    pub fn map_bytes(&self) -> u64 {
        maps::bytes_of(&self.object)
    }

    /// Records of the iterators that run at the end.
    pub fn final_records(&self) -> Vec<u8> {
        self.iterate("iter_end")
    }

    /// Records of those that run every second.
    pub fn records_of_second(&self) -> Vec<u8> {
        self.iterate("iter_second")
    }

    /// Tables of which an iterator failed to tell rows since the last time.
    pub fn failures(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn iterate(&self, moment: &str) -> Vec<u8> {
        let mut records = Vec::new();
        let shed = self.shed.lock().map(|shed| shed.clone()).unwrap_or_default();
        for hook in self.hooks.iter().filter(|hook| !shed.contains(&hook.probe)) {
            let programs = hook.choice.as_ref().map_or(&[] as &[Program], |(_, programs)| programs);
            for program in programs.iter().filter(|program| program.mechanism == moment) {
                if let Err(reason) = run_iterator(&self.object, program, &mut records) {
                    let tables =
                        ebrec_format::events::PROBES.iter().filter(|probe| probe.name == hook.probe).flat_map(|probe| probe.tables);
                    let fed = tables.map(|table| table().name.to_owned()).filter(|table| hook.feeds(table));
                    self.failures.lock().unwrap_or_else(PoisonError::into_inner).extend(fed.map(|table| (table, reason.clone())));
                }
            }
        }
        records
    }

    /// What the kernel counted of each program, by name.
    pub fn run_stats(&self) -> BTreeMap<String, RunStats> {
        self.object
            .progs_mut()
            .filter_map(|prog| {
                let mut info = libbpf_sys::bpf_prog_info::default();
                let mut len = size_of::<libbpf_sys::bpf_prog_info>() as u32;
                let fd = prog.as_fd().as_raw_fd();
                if fd < 0 {
                    return None;
                }
                // SAFETY: `info` is a zeroed struct of the size that is passed.
                let ret = unsafe { libbpf_sys::bpf_obj_get_info_by_fd(fd, std::ptr::from_mut(&mut info).cast(), &mut len) };
                let stats = RunStats { runs: info.run_cnt, time_ns: info.run_time_ns, skipped: info.recursion_misses };
                (ret == 0).then(|| (prog.name().to_string_lossy().into_owned(), stats))
            })
            .collect()
    }

    /// By table, for how many events a program was not run that writes its rows.
    ///
    /// The kernel doesn't run a program on a CPU on which it runs already (`recursion_misses`, since 5.12). Where tracepoints can be preempted (Linux 7),
    /// that happens when another task gets the CPU in the middle of it. `bpf_preempt_disable` is no remedy: at its end the kernel preempts what waited,
    /// with the program still marked as running. Which table the row would have been of isn't known if the hook feeds
    /// several: it counts for each.
    pub fn skipped(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.run_stats();
        let of = |name: &str| stats.get(name).map_or(0, |stats| stats.skipped);
        let of_calls = of(DISPATCHER) + of(CALL_BEGINS);
        let mut tables: BTreeMap<&'static str, (u64, bool)> = BTreeMap::new();
        for hook in &self.hooks {
            let Ok((mechanism, programs)) = &hook.choice else { continue };
            let own: u64 = programs.iter().map(|program| of(&program.name)).sum();
            let of_probe = ebrec_format::events::PROBES.iter().filter(|probe| probe.name == hook.probe);
            let names = of_probe.flat_map(|probe| probe.tables.iter().map(|table| table().name));
            for table in names.filter(|table| hook.feeds(table)) {
                let (of_hooks, by_calls): &mut (u64, bool) = tables.entry(table).or_default();
                *of_hooks += own;
                // All handlers of system calls are one program.
                *by_calls |= mechanism == HANDLER;
            }
        }
        let sum = |(of_hooks, by_calls): (u64, bool)| of_hooks + if by_calls { of_calls } else { 0 };
        tables.into_iter().map(|(table, counts)| (table, sum(counts))).filter(|(_, skipped)| *skipped > 0).collect()
    }
}

/// What the kernel counts of a program.
#[derive(Debug, Clone, Copy)]
pub struct RunStats {
    /// How often it ran, if statistics are on.
    pub runs: u64,
    /// Time that it took in all, if statistics are on.
    pub time_ns: u64,
    /// How often it was not run although its hook was reached.
    pub skipped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table's name that is misspelt would touch no answer.
    #[test]
    fn hooks_feed_tables_of_their_probe() -> Result<()> {
        for program in programs()? {
            for table in &program.feeds {
                let probe = ebrec_format::events::probe_of(table).with_context(|| format!("{}: no table {table}", program.name))?;
                assert_eq!(probe.name, program.probe);
            }
        }
        Ok(())
    }

    /// A map that a loaded program refers to, and that isn't made, makes the kernel refuse the program; one too many only takes room.
    #[test]
    fn maps_are_needed_by_those_who_refer_to_them() -> Result<()> {
        let (uses, all) = (maps::Uses::of(OBJECT)?, programs()?);
        let unneeded = |probes: &[&str]| {
            let of = |program: &&Program| program.probe == "core" || probes.contains(&program.probe.as_str());
            let (handlers, chosen): (Vec<Program>, Vec<Program>) =
                all.iter().filter(of).cloned().partition(|program| program.mechanism == HANDLER);
            uses.unneeded(&chosen, &handlers)
        };
        let all_probes: Vec<&str> = ebrec_format::events::PROBES.iter().map(|probe| probe.name).collect();
        assert_eq!(unneeded(&all_probes), BTreeSet::new(), "a map that nobody needs");
        let without_tcp = unneeded(&["process", "sched", "syscall"]);
        for map in ["conns", "block_requests", "told_files", "stacks_sent", "irq_sums", "lookups"] {
            assert!(without_tcp.contains(map), "{map}");
        }
        for map in ["wanted", "drops", "rings", "ended", "task_slots", "syscall_slots", "switched_at"] {
            assert!(!without_tcp.contains(map), "{map}");
        }
        // By way of a handler of system calls, and of a function that this calls.
        assert!(!unneeded(&["open"]).contains("told_files"));
        assert!(!unneeded(&["tcp"]).contains("conns"));
        Ok(())
    }

    /// A need that is misspelt would never be found missing.
    #[test]
    fn hooks_need_hooks_of_their_probe() -> Result<()> {
        let all = programs()?;
        let needs: Vec<(&Program, &String)> = all.iter().filter_map(|program| Some((program, program.needs.as_ref()?))).collect();
        assert!(!needs.is_empty());
        for (program, needed) in needs {
            assert!(all.iter().any(|other| other.probe == program.probe && other.hook == *needed), "{}: no {needed}", program.name);
        }
        Ok(())
    }

    /// A handler that isn't in HANDLERS of `bpf/core.bpf.c` would never be called.
    #[test]
    fn every_handler_is_listed() -> Result<()> {
        let core = include_str!("../../bpf/core.bpf.c");
        let (_, list) = core.split_once("#define HANDLERS(X)").context("no HANDLERS")?;
        let (list, _) = list.split_once("\n\n").context("HANDLERS has no end")?;
        let listed: BTreeSet<&str> = list.split("X(").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
        let all = programs()?;
        let declared: Vec<String> = all.iter().filter(|p| p.mechanism == HANDLER).map(|p| format!("{}__{}", p.probe, p.hook)).collect();
        assert_eq!(listed, declared.iter().map(String::as_str).collect());
        assert!(all.iter().any(|p| p.name == DISPATCHER) && all.iter().any(|p| p.name == CALL_BEGINS));
        Ok(())
    }
}
