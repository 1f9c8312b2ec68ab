//! Which BPF programs there are, and which of them to use on this kernel.
//!
//! The programs' names say all: `PROBE__HOOK__MECHANISM[_Nargs][__PART]` (see `bpf/ebrec.h`). Nothing here lists a hook.

use crate::kernel::Kernel;
use ebrec_format::events;
use ebrec_format::manifest::NOT_ASKED;
use std::collections::{BTreeMap, BTreeSet};

/// A BPF program, as its name and section describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its whole name.
    pub name: String,
    /// Its section, from which libbpf knows how to attach it.
    pub section: String,
    /// The probe it belongs to.
    pub probe: String,
    /// The hook it serves.
    pub hook: String,
    /// How it is attached.
    pub mechanism: String,
    /// How many arguments its target must take.
    pub args: Option<usize>,
    /// Which of the hook's programs, if there are several; for map iterators, the map.
    pub part: Option<String>,
    /// The tables that its hook feeds, if not all of the probe's.
    pub feeds: Vec<String>,
    /// The hook of the same probe without which its hook is of no use.
    pub needs: Option<String>,
}

impl Program {
    /// Reads a program's name. `None` if it isn't of the form.
    pub fn parse(name: &str, section: &str) -> Option<Program> {
        let mut fields = name.split("__");
        let (probe, hook, mechanism) = (fields.next()?, fields.next()?, fields.next()?);
        let part = fields.next().map(str::to_owned);
        if fields.next().is_some() {
            return None;
        }
        let counted = mechanism.strip_suffix("args").and_then(|m| m.rsplit_once('_')).and_then(|(m, n)| Some((m, n.parse().ok()?)));
        let (mechanism, args) = counted.map_or((mechanism, None), |(m, n)| (m, Some(n)));
        Some(Program {
            name: name.to_owned(),
            section: section.to_owned(),
            probe: probe.to_owned(),
            hook: hook.to_owned(),
            mechanism: mechanism.to_owned(),
            args,
            part,
            feeds: Vec::new(),
            needs: None,
        })
    }

    /// Whether it is an iterator, run at one moment instead of being attached for the window.
    pub fn is_iterator(&self) -> bool {
        self.mechanism.starts_with("iter_")
    }
}

/// What was chosen for a hook.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The probe it belongs to.
    pub probe: String,
    /// Its name.
    pub hook: String,
    /// The tables that it feeds, if not all of the probe's.
    pub feeds: Vec<String>,
    /// The programs to load, and the mechanism they share; or why there are none.
    pub choice: Result<(String, Vec<Program>), String>,
}

impl Hook {
    /// Whether no option asked for it.
    pub fn is_off(&self) -> bool {
        self.choice.as_ref().is_err_and(|reason| reason.starts_with(NOT_ASKED))
    }

    /// Whether it writes rows of a table of its probe, where it is attached.
    pub fn feeds(&self, table: &str) -> bool {
        self.feeds.is_empty() || self.feeds.iter().any(|fed| fed == table)
    }
}

/// Chooses for every hook of `probes` the first mechanism that this kernel offers.
///
/// `excluded` are programs that were tried and failed, with the reason. `prefer` moves a mechanism to the front.
pub fn choose(
    programs: &[Program],
    probes: &BTreeSet<String>,
    kernel: &Kernel,
    excluded: &BTreeMap<String, String>,
    prefer: Option<&str>,
) -> Vec<Hook> {
    let mut hooks: Vec<Hook> = Vec::new();
    for first in programs.iter().filter(|program| probes.contains(&program.probe)) {
        if hooks.iter().any(|hook| hook.probe == first.probe && hook.hook == first.hook) {
            continue;
        }
        let of_hook: Vec<&Program> = programs.iter().filter(|p| p.probe == first.probe && p.hook == first.hook).collect();
        let choice = choose_for(&of_hook, kernel, excluded, prefer);
        hooks.push(Hook { probe: first.probe.clone(), hook: first.hook.clone(), feeds: first.feeds.clone(), choice });
    }
    for program in programs.iter().filter(|program| program.needs.is_some()) {
        let needed = hooks.iter().find(|hook| hook.probe == program.probe && Some(&hook.hook) == program.needs.as_ref());
        if let Some(needed) = needed.filter(|needed| needed.choice.is_err()) {
            let reason = format!("of no use without {}.{}", needed.probe, needed.hook);
            let hook = hooks.iter_mut().find(|hook| hook.probe == program.probe && hook.hook == program.hook);
            hook.into_iter().for_each(|hook| hook.choice = Err(reason.clone()));
        }
    }
    // The order of the object's sections is nobody's order.
    hooks.sort_by_key(|hook| events::PROBES.iter().position(|probe| probe.name == hook.probe));
    hooks
}

fn choose_for(
    programs: &[&Program],
    kernel: &Kernel,
    excluded: &BTreeMap<String, String>,
    prefer: Option<&str>,
) -> Result<(String, Vec<Program>), String> {
    // A variant is a mechanism with a number of arguments; its parts belong together.
    let mut variants: Vec<Vec<&Program>> = Vec::new();
    for program in programs {
        match variants.iter_mut().find(|v| v[0].mechanism == program.mechanism && v[0].args == program.args && v[0].part.is_some()) {
            Some(variant) if program.part.is_some() => variant.push(program),
            _ => variants.push(vec![program]),
        }
    }
    if let Some(prefer) = prefer {
        variants.sort_by_key(|variant| variant[0].mechanism != prefer);
    }
    let mut reasons: Vec<String> = Vec::new();
    for variant in variants {
        let mut usable = Vec::new();
        let mut failed = None;
        for (i, program) in variant.iter().enumerate() {
            // The parts may be of functions with different signatures: only the first one's is stated.
            let args = if i == 0 { program.args } else { None };
            match excluded.get(&program.name).map_or_else(|| kernel.usable(&program.section, args), |reason| Err(reason.clone())) {
                Ok(()) => usable.push((*program).clone()),
                Err(reason) if i == 0 => {
                    failed = Some(reason);
                    break;
                }
                Err(_) => {}
            }
        }
        match failed {
            None => return Ok((variant[0].mechanism.clone(), usable)),
            Some(reason) if !reasons.contains(&reason) => reasons.push(reason),
            Some(_) => {}
        }
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let read = |name| Program::parse(name, "").map(|p| (p.probe, p.hook, p.mechanism, p.args, p.part));
        let strings = |probe: &str, hook: &str, mechanism: &str| (probe.to_owned(), hook.to_owned(), mechanism.to_owned());
        let (probe, hook, mechanism) = strings("tcp", "send", "fexit");
        assert_eq!(read("tcp__send__fexit_3args__sendpage"), Some((probe, hook, mechanism, Some(3), Some("sendpage".to_owned()))));
        let (probe, hook, mechanism) = strings("sched", "switch", "tp_btf");
        assert_eq!(read("sched__switch__tp_btf"), Some((probe, hook, mechanism, None, None)));
        assert_eq!(Program::parse("nonsense", ""), None);
        assert_eq!(Program::parse("a__b__c__d__e", ""), None);
    }
}
