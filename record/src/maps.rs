//! The maps of the BPF object: which of them the chosen programs need, how large they are made, and what they take.
//!
//! Hash maps are allocated whole when they are made, tens of megabytes of kernel memory for all probes. So a map that no loaded
//! program refers to is not made, and those that are needed only at times are made as small as the host allows.

use crate::hooks::Program;
use anyhow::{Context, Result};
use libbpf_rs::Object;
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};

/// Maps that the recorder itself asks for, whatever is loaded.
const ASKED_FOR: [&str; 4] = ["drops", "rings", "seed_pids", "wanted_comms"];
/// How the functions are called that a dispatcher calls for the handlers of system calls (`ON_SYS_EXIT` of bpf/syscalls.h).
const HANDLE: &str = "__handle";

/// What of the object refers to which maps.
#[derive(Debug, Default)]
pub struct Uses {
    /// All maps that are declared.
    declared: BTreeSet<String>,
    /// By function, the maps that it refers to, and the functions that it calls.
    maps: BTreeMap<String, BTreeSet<String>>,
    calls: BTreeMap<String, BTreeSet<String>>,
}

/// A function's place in its section.
struct Function {
    section: usize,
    from: u64,
    to: u64,
    name: String,
}

impl Uses {
    /// Reads the relocations of the object.
    pub fn of(object: &[u8]) -> Result<Uses> {
        let file = ElfFile64::<LittleEndian>::parse(object).context("the embedded object")?;
        let mut uses = Uses::default();
        let maps = file.section_by_name(".maps").context("the embedded object has no maps")?.index();
        let functions: Vec<Function> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .filter_map(|symbol| {
                let section = symbol.section_index()?.0;
                Some(Function {
                    section,
                    from: symbol.address(),
                    to: symbol.address() + symbol.size(),
                    name: symbol.name().ok()?.to_owned(),
                })
            })
            .collect();
        let at = |section: usize, offset: u64| {
            functions.iter().find(|function| function.section == section && (function.from..function.to).contains(&offset))
        };
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            for (offset, relocation) in section.relocations() {
                let Some(from) = at(section.index().0, offset) else { continue };
                let RelocationTarget::Symbol(target) = relocation.target() else { continue };
                let symbol = file.symbol_by_index(target).context("a symbol of the embedded object")?;
                let Some(of) = symbol.section_index() else { continue };
                if of == maps {
                    uses.maps.entry(from.name.clone()).or_default().insert(symbol.name()?.to_owned());
                    continue;
                }
                // A call: to a function by its name, or to a place in a section that the instruction names, in instructions from its end.
                let code = section.data().context("code of the embedded object")?;
                let operand = usize::try_from(offset).ok().and_then(|offset| code.get(offset + 4..)?.first_chunk::<4>());
                let operand = i64::from(i32::from_le_bytes(*operand.context("an instruction of the embedded object")?));
                let place = if symbol.kind() == SymbolKind::Section { (operand + 1) * 8 } else { symbol.address() as i64 };
                if let Some(to) = u64::try_from(place).ok().and_then(|place| at(of.0, place)) {
                    uses.calls.entry(from.name.clone()).or_default().insert(to.name.clone());
                }
            }
        }
        let in_maps = file.symbols().filter(|symbol| symbol.section_index() == Some(maps) && symbol.kind() == SymbolKind::Data);
        uses.declared.extend(in_maps.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())));
        Ok(uses)
    }

    /// The maps that aren't needed when these programs are loaded, with these handlers of system calls.
    pub fn unneeded(&self, programs: &[Program], handlers: &[Program]) -> BTreeSet<String> {
        let handles: BTreeSet<String> = handlers.iter().map(|program| format!("{}__{}{HANDLE}", program.probe, program.hook)).collect();
        let mut left: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        while let Some(function) = left.pop() {
            // The dispatcher names all handlers; those without a bit are never called, which the verifier sees.
            if (function.ends_with(HANDLE) && !handles.contains(function)) || !seen.insert(function) {
                continue;
            }
            left.extend(self.calls.get(function).into_iter().flatten().map(String::as_str));
        }
        let needed: BTreeSet<&String> = seen.iter().filter_map(|function| self.maps.get(*function)).flatten().collect();
        let unneeded = |name: &&String| !needed.contains(name) && !ASKED_FOR.contains(&name.as_str());
        self.declared.iter().filter(unneeded).cloned().collect()
    }
}

/// A map that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Whether it is a hash table, and so takes room for every entry that it may have.
    pub is_hash: bool,
    /// Sizes of key and value, bytes.
    pub key: u32,
    /// See `key`.
    pub value: u32,
    /// How many entries it has room for.
    pub entries: u32,
}

/// What decides how many entries are needed.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Whether processes are followed (--pid, -- COMMAND).
    pub follows: bool,
    /// Whether what is remembered of a task is kept with it, so that no table by tid is used.
    pub slots_in_tasks: bool,
    /// Tasks that there are.
    pub tasks: u32,
    /// CPUs that there may be.
    pub cpus: u32,
}

/// Of an entry beside key and value, with its share of the buckets: `struct htab_elem` and `struct bucket` of kernel/bpf/hashtab.c.
const OVERHEAD: u64 = 64;
/// No table becomes smaller than this to save memory.
const LEAST_ENTRIES: u32 = 1024;
/// Tables by tid where the kernel keeps this with the tasks: they are made, because programs refer to them, and not used.
const BY_TID: [&str; 4] = ["tid_slots", "syscall_tid_slots", "off_cpu_tids", "pc_tid_tasks"];
/// Interrupts of a CPU that have a sum each.
const SUMS_OF_A_CPU: u32 = 256;

impl Shape {
    fn bytes(&self) -> u64 {
        let each = OVERHEAD + u64::from(self.key).next_multiple_of(8) + u64::from(self.value).next_multiple_of(8);
        if self.is_hash { u64::from(self.entries) * each } else { 0 }
    }

    /// How much it is to be spared: what doesn't fit into the table of connections is missing from ten tables.
    fn worth(&self) -> u64 {
        if self.name == "conns" { 8 } else { 1 }
    }

    fn fit_host(&mut self, facts: &Facts) {
        let wanted = match self.name.as_str() {
            "wanted" if !facts.follows => 1,
            name if BY_TID.contains(&name) && facts.slots_in_tasks => LEAST_ENTRIES,
            // With room for four times as many: those that end leave their entry behind.
            name if BY_TID.contains(&name) => facts.tasks.saturating_mul(4).max(8192).checked_next_power_of_two().unwrap_or(u32::MAX),
            "irq_sums" => facts.cpus.saturating_mul(SUMS_OF_A_CPU).max(LEAST_ENTRIES),
            _ => return,
        };
        self.entries = self.entries.min(wanted);
    }
}

/// Gives the maps the sizes that this host needs, and smaller ones if they take more than `most` bytes together.
pub fn fit(shapes: &mut [Shape], facts: &Facts, most: u64) {
    shapes.iter_mut().for_each(|shape| shape.fit_host(facts));
    while shapes.iter().map(Shape::bytes).sum::<u64>() > most {
        let largest = shapes.iter_mut().filter(|shape| shape.entries > LEAST_ENTRIES).max_by_key(|shape| shape.bytes() / shape.worth());
        let Some(largest) = largest else { return };
        largest.entries = (largest.entries / 2).max(LEAST_ENTRIES);
    }
}

/// Tasks that there are now.
pub fn tasks() -> u32 {
    let load = crate::tongs::system_text("/proc/loadavg").unwrap_or_default();
    // The fourth field is "runnable/all".
    load.split(' ').nth(3).and_then(|field| field.split_once('/')?.1.parse().ok()).unwrap_or(u32::MAX)
}

/// What the maps of an object take in the kernel, bytes: those that were made.
pub fn bytes_of(object: &Object) -> u64 {
    let of = |map: libbpf_rs::Map<'_>| {
        let text = crate::tongs::system_text(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd())).ok()?;
        text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse::<u64>().ok()
    };
    object.maps().filter(|map| map.as_fd().as_raw_fd() >= 0).filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str, key: u32, value: u32, entries: u32) -> Shape {
        Shape { name: name.to_owned(), is_hash: true, key, value, entries }
    }

    #[test]
    fn the_largest_maps_give_way() {
        let all = || {
            vec![
                shape("wanted", 16, 1, 65536),
                shape("tid_slots", 4, 16, 65536),
                shape("conns", 8, 136, 65536),
                shape("block_requests", 8, 104, 16384),
                shape("told_files", 16, 48, 16384),
                shape("oom_killed", 4, 88, 256),
                Shape { is_hash: false, ..shape("drops", 4, 688, 1) },
            ]
        };
        let facts = Facts { follows: false, slots_in_tasks: true, tasks: 300, cpus: 2 };
        let entries = |facts: &Facts, most: u64| {
            let mut shapes = all();
            fit(&mut shapes, facts, most);
            let total: u64 = shapes.iter().map(Shape::bytes).sum();
            (shapes.iter().map(|shape| shape.entries).collect::<Vec<_>>(), total)
        };
        assert_eq!(entries(&facts, u64::MAX).0, [1, 1024, 65536, 16384, 16384, 256, 1]);
        let (fitted, total) = entries(&facts, 8 << 20);
        assert!(total <= 8 << 20 && fitted[2] >= 16384, "{fitted:?}");
        // Less than the least: as small as they become.
        assert_eq!(entries(&facts, 0).0, [1, 1024, 1024, 1024, 1024, 256, 1]);
        let old = Facts { follows: true, slots_in_tasks: false, tasks: 3000, ..facts };
        assert_eq!(entries(&old, u64::MAX).0[..2], [65536, 16384]);
        assert_eq!(entries(&Facts { tasks: u32::MAX, ..old }, u64::MAX).0[1], 65536);
        assert!(tasks() > 1 && tasks() < u32::MAX);
    }
}
