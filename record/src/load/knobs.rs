//! What the programs are told before they are loaded: the `const volatile` variables of the object.

use super::{OBJECT, Settings, WantedCgroup};
use crate::hooks::Program;
use crate::kernel::{Kernel, variable_offset};
use crate::namespaces::Namespaces;
use anyhow::{Context, Result};
use libbpf_rs::btf::Btf;
use libbpf_rs::{OpenMapMut, OpenObject};
use std::collections::BTreeMap;

/// `ALL_SYSCALLS` of `bpf/syscalls.h`.
const ALL_CALLS: u32 = u32::MAX;
/// `SYSCALL_TIMED` of `bpf/syscalls.h`.
const TIMED: u32 = 1 << 31;
/// `BEYOND_MOST` of `bpf/syscalls.h`.
pub const BEYOND_MOST: usize = 16;

/// What the handlers of system calls want.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Calls {
    /// Some call is wanted.
    pub(super) wanted: bool,
    /// Some call's beginning is.
    pub(super) timed: bool,
}

/// The `const volatile` variables of the object, by name.
pub(super) struct Knobs<'a> {
    btf: Btf<'static>,
    rodata: OpenMapMut<'a>,
}

impl<'a> Knobs<'a> {
    pub(super) fn of(open: &'a mut OpenObject) -> Result<Knobs<'a>> {
        let btf = Btf::from_raw("ebrec", OBJECT).context("the embedded object's BTF")?.context("the embedded object has no BTF")?;
        let rodata = open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata")).context("the object has no .rodata")?;
        Ok(Knobs { btf, rodata })
    }

    pub(super) fn slot(&mut self, name: &str) -> Result<&mut [u8]> {
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

/// The same in bpf/ebrec.h.
const CGROUP_PATH_MOST: usize = 256;

/// Sets the `const volatile` variables of `bpf/ebrec.h` and `bpf/syscalls.h` by their names.
pub(super) fn set_knobs(open: &mut OpenObject, settings: &Settings, handlers: &[Program]) -> Result<Calls> {
    let mut knobs = Knobs::of(open)?;
    knobs.set("ring_mask", &(settings.rings - 1).to_ne_bytes())?;
    knobs.set("filter_process", &u32::from(!settings.pids.is_empty()).to_ne_bytes())?;
    knobs.set("filter_comm", &u32::from(!settings.comms.is_empty()).to_ne_bytes())?;
    knobs.set("filter_cgroup", &(settings.cgroups.len() as u32).to_ne_bytes())?;
    let ids: Vec<u8> = settings.cgroups.iter().flat_map(|cgroup| cgroup.id.to_ne_bytes()).collect();
    let levels: Vec<u8> = settings.cgroups.iter().flat_map(|cgroup| cgroup.depth.to_ne_bytes()).collect();
    knobs.set("cgroup_ids", &ids)?;
    knobs.set("cgroup_levels", &levels)?;
    let path = |cgroup: &WantedCgroup| {
        let mut path = cgroup.path.clone().into_bytes();
        // With a NUL behind it.
        if path.len() >= CGROUP_PATH_MOST {
            path.clear();
        }
        path.resize(CGROUP_PATH_MOST, 0);
        path
    };
    knobs.set("cgroup_paths", &settings.cgroups.iter().flat_map(path).collect::<Vec<u8>>())?;
    knobs.set("preempts_programs", &u32::from(Kernel::preempts_programs()).to_ne_bytes())?;
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
pub(super) fn bits_by_probe(handlers: &[Program]) -> BTreeMap<String, u32> {
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
