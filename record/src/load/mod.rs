//! Loading and attaching: opens the embedded object, sets its knobs, and tries until what is left works.

mod knobs;
mod loaded;
mod refused;
mod tables;

pub use knobs::BEYOND_MOST;
pub use loaded::Loaded;

use crate::hooks::{self, Hook, Program};
use crate::kernel::Kernel;
use crate::maps;
use crate::namespaces::{self, Seed};
use crate::perf_event::{CpuEvents, CpuWatcher};
use crate::scheduling::{Class, Inherited, enter};
use crate::uprobes::{FunctionProgram, Watcher};
use anyhow::{Context, Result, bail};
use ebrec_format::events::session::LibraryRow;
use ebrec_format::manifest::NOT_ASKED;
use knobs::{Knobs, bits_by_probe, set_knobs};
use libbpf_rs::{MapCore as _, MapHandle, Object, ObjectBuilder, OpenObject, PrintLevel};
use loaded::{Window, detach_links, run_iterators};
use refused::{Failed, attach_reason, blame, keep_log, take_log};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock};
use tables::{Rings, choose_maps, fill_filters, found_seeds, hand_over};

/// The mechanism of handlers of system calls (`bpf/syscalls.h`): not attached, but called by [`DISPATCHER`].
const HANDLER: &str = "sys_exit";
/// The program that calls the handlers.
const DISPATCHER: &str = "core__syscalls__tp_btf__exit";
/// The one that remembers when a call began, for handlers that want to know.
const CALL_BEGINS: &str = "core__syscalls__tp_btf__enter";
/// The two, in the order of `enum call_end` of `bpf/core.bpf.c`. Where a task can be preempted within them there are several of each, whose
/// names are theirs with a number behind ([`is_level`]).
const CALL_ENDS: [&str; 2] = [DISPATCHER, CALL_BEGINS];
/// The part that is the second of a hook's two programs (`ON_TP_TWICE` of `bpf/ebrec.h`): wherever it is, or only where a task can be
/// preempted in the midst of the first.
const SPARES: [&str; 2] = ["spare", SPARE_PREEMPTED];
const SPARE_PREEMPTED: &str = "spare_preempted";
/// The mechanism of programs in functions of libraries, which are found while recording; and the part that is for all their returns.
const UPROBES: [&str; 2] = ["uprobe_multi", "uprobe"];
const RETURN: &str = "return";
/// The probes that have such programs.
const IN_LIBRARIES: [&str; 1] = ["dns"];
/// The map in which handlers are given up (`shed_handlers` of `bpf/core.bpf.c`).
const SHED: &str = ".data.shed";
/// The mechanism of programs that run at perf's software events.
const PERF_EVENT: &str = "perf_event";
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ebrec.bpf.o"));

/// A cgroup that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCgroup {
    /// Its id.
    pub id: u64,
    /// Its depth below the root that the cgroup namespace shows; above it, a number below zero.
    pub depth: u32,
    /// Its path as the kernel has it, by which it is known again when it is removed and made once more; empty if that isn't known.
    pub path: String,
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
    /// cgroups that alone are recorded.
    pub cgroups: Vec<WantedCgroup>,
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
    if IN_LIBRARIES.iter().any(|probe| probes.contains(*probe)) {
        kernel.trial();
    }
    let all = programs()?;
    let mut excluded = not_asked(settings, &all);
    let uses = maps::Uses::of(OBJECT)?;
    let mut rings = Rings::start(settings)?;
    // Each turn loses at least one program, so this ends.
    loop {
        let hooks = hooks::choose(&all, &probes, kernel, &excluded, settings.prefer.as_deref());
        match attempt(kernel, settings, &uses, &mut rings, hooks) {
            Ok(attached) => return Ok(Attached { rings: rings.take(), ..attached }),
            Err(Failed::Program { name, reason }) if name == DISPATCHER || is_level(&name, DISPATCHER) => {
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

fn attempt(kernel: &Kernel, settings: &Settings, uses: &maps::Uses, rings: &mut Rings, hooks: Vec<Hook>) -> Result<Attached, Failed> {
    let chosen: Vec<Program> =
        hooks.iter().filter_map(|hook| hook.choice.as_ref().ok()).flat_map(|(_, programs)| programs.clone()).collect();
    // Handlers are called by the dispatcher, which is loaded only for them.
    let (handlers, mut chosen): (Vec<Program>, Vec<Program>) = chosen.into_iter().partition(|program| program.mechanism == HANDLER);
    let mut open = open()?;
    let calls = set_knobs(&mut open, settings, &handlers)?;
    let preempts = Kernel::preempts_programs();
    chosen.retain(|program| {
        let is_of = |end| program.name == end || is_level(&program.name, end);
        let is_for_this_kernel = if preempts { !CALL_ENDS.contains(&program.name.as_str()) } else { !is_for_preempted(program) };
        (!is_of(DISPATCHER) || calls.wanted) && (!is_of(CALL_BEGINS) || calls.timed) && is_for_this_kernel
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
    let window = Window::of(OBJECT)?;
    hand_over(&object, rings.made()?)?;
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
    let watcher = watch_libraries(&object, &chosen, kernel)?;
    let trial = watcher.is_some().then(|| kernel.trial().clone());
    let handlers = bits_by_probe(&handlers);
    let (links, events, shed, failures) = (Mutex::new(links), Mutex::new(events), Mutex::default(), Mutex::default());
    let loaded = Arc::new(Loaded { hooks, links, events, handlers, shed, failures, object, window, trial, told_of_harm: OnceLock::new() });
    Ok(Attached { loaded, rings: Vec::new(), drops, seeds, snapshot: Vec::new(), watcher, libraries: Vec::new() })
}

/// Whether a program is one of those that take the place of `end`, one of [`CALL_ENDS`].
fn is_level(name: &str, end: &str) -> bool {
    name.strip_prefix(end).is_some_and(|level| !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a program is only of use where a task can be preempted in the midst of another.
fn is_for_preempted(program: &Program) -> bool {
    program.part.as_deref() == Some(SPARE_PREEMPTED) || CALL_ENDS.iter().any(|end| is_level(&program.name, end))
}

/// Starts to look for libraries, if a program is for their functions.
fn watch_libraries(object: &Object, chosen: &[Program], kernel: &Kernel) -> Result<Option<Watcher>> {
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
    Watcher::start(kernel.trial().clone(), programs, handle(object, "images_started")?, handle(object, "images_seen")?).map(Some)
}

fn handle(object: &Object, name: &str) -> Result<MapHandle> {
    let map = object.maps().find(|map| map.name().to_str() == Some(name)).with_context(|| format!("no map {name}"))?;
    MapHandle::try_from(&map).with_context(|| format!("cannot use map {name}"))
}

impl Attached {
    /// Opens the window, and takes the snapshot of what is there; returns when the window began, ns of CLOCK_BOOTTIME. All hooks are
    /// attached by now; to be called when the rings are read.
    pub fn open(&mut self) -> Result<u64> {
        self.loaded.iterate("iter_open");
        let from = self.loaded.wait_for(|window| window.from)?;
        self.snapshot = self.loaded.iterate("iter_start");
        Ok(from)
    }

    /// Ends the window and detaches all hooks; the maps, and what is still in the rings, remain. Returns when the window ended.
    pub fn detach(&mut self) -> u64 {
        self.loaded.iterate("iter_stop");
        // If the programs could not be told, they go on until they are detached.
        let until = self.loaded.wait_for(|window| window.until).unwrap_or_else(|_| crate::drain::boot_ns());
        self.loaded.iterate("iter_last");
        let links = std::mem::take(&mut *self.loaded.links());
        let watcher = self.watcher.take();
        // Each waits for the kernel.
        let inherited = Inherited::begin();
        self.libraries = std::thread::scope(|scope| {
            let libraries = watcher.map(|mut watcher| {
                scope.spawn(move || {
                    enter(Class::RealTime);
                    watcher.stop()
                })
            });
            scope.spawn(|| {
                enter(Class::RealTime);
                self.loaded.events().clear();
            });
            detach_links(links);
            libraries.and_then(|libraries| libraries.join().ok()).unwrap_or_default()
        });
        drop(inherited);
        until
    }
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

    /// A probe that isn't listed is only tried later, one that is for nothing.
    #[test]
    fn those_in_libraries_are_known() -> Result<()> {
        let of: BTreeSet<String> =
            programs()?.into_iter().filter(|program| UPROBES.contains(&program.mechanism.as_str())).map(|program| program.probe).collect();
        assert_eq!(of.iter().map(String::as_str).collect::<Vec<_>>(), IN_LIBRARIES);
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
        let core = include_str!("../../../bpf/core.bpf.c");
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
