//! What the running kernel has, as its BTF tells: tracepoints, functions and how many arguments they take.

use crate::scheduling::{Class, spawn};
use crate::tongs;
use anyhow::{Context, Result, bail};
use libbpf_rs::btf::types::{Enum, Enum64, Func, FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, BtfType, HasSize as _, TypeId};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Where the kernel shows its BTF.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel.
pub struct Kernel {
    btf: Btf<'static>,
    /// What was asked of functions by name: each time, all types of the kernel are looked through.
    functions: RefCell<HashMap<String, Option<(TypeId, usize)>>>,
    /// Whether probes in functions of others harm them; tried once, if there is a program for such.
    trial: OnceCell<Arc<Trial>>,
}

/// How long the start may wait for the trial. On a host without a CPU to spare the kernel takes a second for it, and programs can be
/// loaded before they are put anywhere.
const TRIAL_PATIENCE: Duration = Duration::from_millis(100);

/// An attempt ([`crate::trial`]) and what came of it.
#[derive(Debug, Default)]
pub struct Trial {
    result: Mutex<Option<Result<(), Reason>>>,
    ended: Condvar,
}

impl Trial {
    fn end(&self, result: Result<(), Reason>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.ended.notify_all();
    }

    /// What came of it; `None` if that isn't known before the time is over.
    pub fn wait(&self, most: Option<Duration>) -> Option<Result<(), Reason>> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = |result: &mut Option<_>| result.is_none();
        match most {
            Some(most) => self.ended.wait_timeout_while(result, most, pending).unwrap_or_else(PoisonError::into_inner).0.clone(),
            None => self.ended.wait_while(result, pending).unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// Why a target of a hook can't be used.
pub type Reason = String;

impl Kernel {
    /// Reads the kernel's BTF.
    pub fn read() -> Result<Kernel> {
        if !Path::new(BTF_PATH).exists() {
            bail!("this kernel has no {BTF_PATH}: ebrec needs Linux 5.8 or newer, built with CONFIG_DEBUG_INFO_BTF");
        }
        let btf = Btf::from_vmlinux().with_context(|| format!("cannot read {BTF_PATH}"))?;
        Ok(Kernel { btf, functions: RefCell::default(), trial: OnceCell::new() })
    }

    /// How many arguments a tracepoint hands to a tp_btf program, if the kernel has it.
    fn tracepoint_args(&self, name: &str) -> Option<usize> {
        let typedef: Typedef<'_> = self.btf.type_by_name(&format!("btf_trace_{name}"))?;
        let ptr = Ptr::try_from(typedef.next_type()?).ok()?;
        let proto = FuncProto::try_from(ptr.next_type()?).ok()?;
        // The first parameter is the tracepoint's own data.
        Some(proto.iter().count().saturating_sub(1))
    }

    /// A function's type, and how many arguments it takes.
    fn function(&self, name: &str) -> Option<(TypeId, usize)> {
        if let Some(known) = self.functions.borrow().get(name) {
            return *known;
        }
        let found = self.find_function(name);
        self.functions.borrow_mut().insert(name.to_owned(), found);
        found
    }

    fn find_function(&self, name: &str) -> Option<(TypeId, usize)> {
        // Not by name alone: an iterator's function has the name of a struct.
        let func = self.btf.type_by_kind::<Func<'_>>().find(|func| func.name().is_some_and(|n| n == name))?;
        let proto = FuncProto::try_from(func.next_type()?).ok()?;
        Some((func.type_id(), proto.iter().count()))
    }

    /// Whether the kernel knows a type of BPF map.
    pub fn has_map_type(&self, map_type: u32) -> bool {
        self.enum_has("bpf_map_type", u64::from(map_type))
    }

    /// Whether programs may keep what they remember of a task with it wherever they run. Where that isn't certain, tables by tid are
    /// kept as large as if it were not so: `has_task_storage` of bpf/core_fixes.h and its kin have the last word.
    pub fn keeps_slots_in_tasks(&self) -> bool {
        let known =
            [("bpf_local_storage_map", "selem_ma"), ("bpf_local_storage_map", "use_kmalloc_nolock"), ("bpf_local_storage", "mem_charge")];
        self.has_map_type(libbpf_sys::BPF_MAP_TYPE_TASK_STORAGE) && known.iter().any(|(of, member)| self.has_member(of, member))
    }

    /// Whether the verifier looks only at those global functions that are called (2afae08c9dcb "bpf: Validate global subprogs lazily"). Else
    /// it looks at all of them, and the maps that they name must be there.
    pub fn verifies_what_is_called(&self) -> bool {
        self.has_member("bpf_func_info_aux", "called")
    }

    /// Whether a task can be preempted in the middle of a tracepoint's program. Nothing that could be asked tells it; 6.18 with
    /// `preempt=full` runs all programs, 7.3 doesn't (the recording `crowd` of tests/vm/jobs/ebrec).
    pub fn preempts_programs() -> bool {
        let release = tongs::system_text("/proc/sys/kernel/osrelease").unwrap_or_default();
        release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
    }

    fn has_member(&self, of: &str, member: &str) -> bool {
        let found = self.btf.type_by_name::<Struct<'_>>(of);
        found.is_some_and(|found| found.iter().any(|other| other.name.is_some_and(|name| name.to_str() == Some(member))))
    }

    fn enum_has(&self, name: &str, value: u64) -> bool {
        if let Some(e) = self.btf.type_by_name::<Enum<'_>>(name) {
            return e.iter().any(|member| member.value == value as i64);
        }
        self.btf.type_by_name::<Enum64<'_>>(name).is_some_and(|e| e.iter().any(|member| member.value == i128::from(value)))
    }

    /// Whether a program of section `section` can exist on this kernel; `args` is how many arguments its target must take.
    pub fn usable(&self, section: &str, args: Option<usize>) -> Result<(), Reason> {
        let section = section.trim_start_matches('?');
        let (kind, target) = section.split_once('/').unwrap_or((section, ""));
        let found = match kind {
            "tp_btf" => self.tracepoint_args(target).ok_or_else(|| format!("this kernel has no tracepoint {target}"))?,
            "fentry" | "fexit" => {
                let (id, count) = self.function(target).ok_or_else(|| format!("this kernel has no function {target}"))?;
                if args.is_none_or(|args| args == count) {
                    trial(id, target).map_err(|error| format!("the kernel refuses {kind} on {target}: {error}"))?;
                }
                count
            }
            "kprobe" | "kretprobe" => {
                if !has_kprobes() {
                    return Err("this kernel has no kprobes".to_owned());
                }
                self.function(target).map_or(0, |(_, count)| count)
            }
            "uprobe" | "uretprobe" => {
                if !crate::uprobes::are_possible() {
                    return Err("this kernel has no uprobes".to_owned());
                }
                self.probes_are_harmless()?;
                0
            }
            "uprobe.multi" => {
                if !self.has_uprobe_multi() {
                    return Err("this kernel has no uprobe_multi".to_owned());
                }
                self.probes_are_harmless()?;
                0
            }
            "iter" => {
                let name = format!("bpf_iter_{target}");
                self.function(&name).ok_or_else(|| format!("this kernel has no iterator {target}"))?;
                0
            }
            _ => 0,
        };
        match args {
            Some(args) if args != found => Err(format!("{target} takes {found} arguments, not {args}")),
            _ => Ok(()),
        }
    }
}

impl Kernel {
    fn has_uprobe_multi(&self) -> bool {
        self.enum_has("bpf_attach_type", libbpf_sys::BPF_TRACE_UPROBE_MULTI.into())
    }

    /// Whether probes in functions of others harm them: the attempt, begun if it wasn't. It waits for the kernel, and there is more to do.
    pub fn trial(&self) -> &Arc<Trial> {
        self.trial.get_or_init(|| {
            let (trial, multi) = (Arc::new(Trial::default()), self.has_uprobe_multi());
            let ended = trial.clone();
            if spawn(Class::RealTime, "ebrec-trial", move || ended.end(crate::trial::probes_are_harmless(multi))).is_err() {
                trial.end(crate::trial::probes_are_harmless(multi));
            }
            trial
        })
    }

    fn probes_are_harmless(&self) -> Result<(), Reason> {
        self.trial().wait(Some(TRIAL_PATIENCE)).unwrap_or(Ok(()))
    }
}

fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe/type").exists()
}

/// Loads the smallest fexit program for a function: whether the kernel lets us is not visible in any other way.
fn trial(function: TypeId, target: &str) -> std::io::Result<()> {
    let name = CString::new("ebrec_trial").unwrap_or_default();
    let license = CString::new("GPL").unwrap_or_default();
    // r0 = 0; exit (opcodes of include/uapi/linux/bpf.h)
    let mut mov = libbpf_sys::bpf_insn { code: 0xb7, ..Default::default() };
    mov.set_dst_reg(0);
    let exit = libbpf_sys::bpf_insn { code: 0x95, ..Default::default() };
    let program = [mov, exit];
    let opts = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as u64,
        expected_attach_type: libbpf_sys::BPF_TRACE_FEXIT,
        attach_btf_id: function.into(),
        ..Default::default()
    };
    let _ = target;
    // SAFETY: all pointers are to live, initialised values for the duration of the call; the count is the array's.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_TRACING,
            name.as_ptr(),
            license.as_ptr(),
            program.as_ptr(),
            program.len() as u64,
            std::ptr::from_ref(&opts).cast_mut(),
        )
    };
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    unsafe { libc::close(fd) };
    Ok(())
}

/// Offsets of the global variables of a data section (`.rodata`), from the BPF object's own BTF.
pub fn variable_offset(btf: &Btf<'_>, section: &str, variable: &str) -> Option<(usize, usize)> {
    let section: libbpf_rs::btf::types::DataSec<'_> = btf.type_by_name(section)?;
    for var in section.iter() {
        let ty: BtfType<'_> = btf.type_by_id(var.ty)?;
        if ty.name().is_some_and(|name| name.to_str() == Some(variable)) {
            return Some((var.offset as usize, var.size));
        }
    }
    let _ = section.size();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_takes_long_is_waited_for_as_long_as_one_wants() {
        let trial = Arc::new(Trial::default());
        assert_eq!(trial.wait(Some(Duration::ZERO)), None);
        let waiting = {
            let trial = trial.clone();
            std::thread::spawn(move || trial.wait(None))
        };
        trial.end(Err("it is killed".to_owned()));
        assert_eq!(waiting.join().ok(), Some(Some(Err("it is killed".to_owned()))));
        assert_eq!(trial.wait(Some(Duration::ZERO)), Some(Err("it is killed".to_owned())));
    }
}
