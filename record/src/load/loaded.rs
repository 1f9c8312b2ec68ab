//! The loaded programs: run, asked, given up.

use super::refused::{Failed, attach_reason};
use super::{CALL_ENDS, HANDLER, SHED, SPARES, UPROBES, handle};
use crate::hooks::{Hook, Program};
use crate::kernel::{Trial, variable_offset};
use crate::maps;
use crate::perf_event::CpuWatcher;
use crate::scheduling::drop_together;
use anyhow::{Context, Result};
use libbpf_rs::btf::Btf;
use libbpf_rs::{Iter, Link, MapCore, MapFlags, Object};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The loaded programs and their maps, which others than the one that detaches may look at.
pub struct Loaded {
    /// What became of each hook.
    pub hooks: Vec<Hook>,
    /// What is attached, with the probe that it is for.
    pub(super) links: Mutex<Vec<(String, Link)>>,
    /// What runs at events of perf, by probe.
    pub(super) events: Mutex<Vec<(String, CpuWatcher)>>,
    /// By probe, the bits of its handlers of system calls.
    pub(super) handlers: BTreeMap<String, u32>,
    /// Probes that were given up.
    pub(super) shed: Mutex<BTreeSet<String>>,
    /// See [`Loaded::failures`].
    pub(super) failures: Mutex<Vec<(String, String)>>,
    pub(super) object: Object,
    /// Where in `.bss` its ends of the window stand.
    pub(super) window: Window,
    /// Whether probes in libraries harm who runs them, if there are programs for such; nothing was put there before that was known.
    pub(super) trial: Option<Arc<Trial>>,
    pub(super) told_of_harm: OnceLock<()>,
}

/// Runs the iterators of one moment and returns the records they gave.
pub(super) fn run_iterators(object: &Object, programs: &[Program], moment: &str) -> Result<Vec<u8>, Failed> {
    let mut records = Vec::new();
    for program in programs.iter().filter(|program| program.mechanism == moment) {
        run_iterator(object, program, &mut records).map_err(|reason| Failed::Program { name: program.name.clone(), reason })?;
    }
    Ok(records)
}

/// Closes links.
pub(super) fn detach_links(links: Vec<(String, Link)>) {
    drop_together(links, 8);
}

/// Runs an iterator and adds the records it gives; if it fails, those that it gave before.
pub(super) fn run_iterator(object: &Object, program: &Program, records: &mut Vec<u8>) -> Result<(), String> {
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

/// Where in `.bss` the ends of the window stand (`bpf/ebrec.h`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) from: usize,
    pub(super) until: usize,
}

impl Window {
    pub(super) fn of(object: &[u8]) -> Result<Window> {
        let btf = Btf::from_raw("ebrec", object).context("the embedded object's BTF")?.context("the embedded object has no BTF")?;
        let at =
            |variable: &str| variable_offset(&btf, ".bss", variable).map(|(at, _)| at).with_context(|| format!("no variable {variable}"));
        Ok(Window { from: at("window_from")?, until: at("window_until")? })
    }
}

impl Loaded {
    pub(super) fn links(&self) -> MutexGuard<'_, Vec<(String, Link)>> {
        // Links are only moved in and out: what a panic left is as good as any.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn events(&self) -> MutexGuard<'_, Vec<(String, CpuWatcher)>> {
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
        detach_links(gone);
        Ok(())
    }

    /// Waits for the instant, a moment ahead, that the programs have put into a variable.
    pub(super) fn wait_for(&self, end: fn(&Window) -> usize) -> Result<u64> {
        let offset = end(&self.window);
        let map = self.object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss")).context("the object has no .bss")?;
        let bytes = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).context("cannot read .bss")?.unwrap_or_default();
        let instant = bytes.get(offset..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        anyhow::ensure!(instant > 0, "the kernel did not run the program that sets an end of the window");
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

    /// Tables of which rows are missing, and why, since the last time: an iterator failed, or it came out late that probes do harm.
    pub fn failures(&self) -> Vec<(String, String)> {
        if let Some(Err(reason)) = self.trial.as_ref().and_then(|trial| trial.wait(Some(Duration::ZERO)))
            && self.told_of_harm.set(()).is_ok()
        {
            let in_libraries = |hook: &&Hook| hook.choice.as_ref().is_ok_and(|(mechanism, _)| UPROBES.contains(&mechanism.as_str()));
            for hook in self.hooks.iter().filter(in_libraries) {
                self.fail(hook, &reason);
            }
        }
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rows of the tables that a hook feeds are missing.
    fn fail(&self, hook: &Hook, reason: &str) {
        let tables = ebrec_format::events::PROBES.iter().filter(|probe| probe.name == hook.probe).flat_map(|probe| probe.tables);
        let fed = tables.map(|table| table().name.to_owned()).filter(|table| hook.feeds(table));
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).extend(fed.map(|table| (table, reason.to_owned())));
    }

    pub(super) fn iterate(&self, moment: &str) -> Vec<u8> {
        let mut records = Vec::new();
        let shed = self.shed.lock().map(|shed| shed.clone()).unwrap_or_default();
        for hook in self.hooks.iter().filter(|hook| !shed.contains(&hook.probe)) {
            let programs = hook.choice.as_ref().map_or(&[] as &[Program], |(_, programs)| programs);
            for program in programs.iter().filter(|program| program.mechanism == moment) {
                if let Err(reason) = run_iterator(&self.object, program, &mut records) {
                    self.fail(hook, &format!("iterator failed: {reason}"));
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

    /// By table, for how many events a program was not run that writes its rows, nor the one that is there for it (`ON_TP_TWICE` of
    /// `bpf/ebrec.h`, `CALL_LEVEL` of `bpf/core.bpf.c`).
    ///
    /// The kernel doesn't run a program on a CPU on which it runs already (`recursion_misses`, since 5.12): when an interrupt comes in the
    /// middle of it or, where tracepoints can be preempted (Linux 7), another task gets the CPU. `bpf_preempt_disable` is no remedy: at its
    /// end the kernel preempts what waited, with the program still marked as running. Which table the row would have been of isn't known
    /// if the hook feeds several: it counts for each.
    pub fn skipped(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.run_stats();
        // Read after what was skipped: what came in between is told the next time.
        let lost = |name: &str, map: &str, key: u32| {
            let skipped = stats.get(name).map_or(0, |stats| stats.skipped);
            skipped.saturating_sub(if skipped > 0 { self.taken(map, key) } else { 0 })
        };
        let of_calls: u64 = (0u32..).zip(CALL_ENDS).map(|(key, end)| lost(end, "", 0) + lost(&format!("{end}0"), "call_levels", key)).sum();
        let mut tables: BTreeMap<&'static str, (u64, bool)> = BTreeMap::new();
        for hook in &self.hooks {
            let Ok((mechanism, programs)) = &hook.choice else { continue };
            let map = format!("{}__{}__at_work", hook.probe, hook.hook);
            let counted = programs.iter().filter(|program| !program.part.as_deref().is_some_and(|part| SPARES.contains(&part)));
            let own: u64 = counted.map(|program| lost(&program.name, &map, 0)).sum();
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

    /// What other programs did for one that was not run: the last number of the map that they share, if there is one.
    fn taken(&self, map: &str, key: u32) -> u64 {
        let Some(map) = self.object.maps().find(|of| of.name().to_str() == Some(map)) else { return 0 };
        let cpus = map.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY).ok().flatten().unwrap_or_default();
        cpus.iter().filter_map(|cpu| cpu.last_chunk().map(|bytes| u64::from_ne_bytes(*bytes))).sum()
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
