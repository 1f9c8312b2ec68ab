//! `ebrec check`: can this host record, and what would be used?

use crate::cli::Check;
use crate::hooks;
use crate::kernel::{BTF_PATH, Kernel};
use crate::load;
use crate::privilege::NEEDED;
use crate::talk;
use crate::tongs;
use anyhow::Result;
use ebrec_format::events;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What to do where bpf is denied.
pub const NOT_DENIED: &str = "give the container the capabilities by --cap-add, with which Docker's profile allows the call, or another profile (--security-opt seccomp=…)";

/// CAP_SYS_ADMIN: it stands for CAP_BPF and CAP_PERFMON.
const SYS_ADMIN: u32 = 21;

fn effective() -> u64 {
    let status = tongs::system_text("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// Whether this process has the capability of this number.
pub fn has_capability(bit: u32) -> bool {
    effective() & (1 << bit) != 0
}

/// What denies the system call bpf to a process that has the capabilities: a container's seccomp profile, or a security module.
pub fn who_denies_bpf() -> Option<&'static str> {
    /// A command that no kernel has: one that is asked answers EINVAL, whoever asks.
    const NO_COMMAND: libc::c_int = 0x7fff;
    // SAFETY: no attributes are given, and none are read.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, NO_COMMAND, std::ptr::null::<u8>(), 0) };
    let denied = answer < 0 && matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
    if !denied {
        return None;
    }
    let status = tongs::system_text("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
    Some(if filtered { "a seccomp profile" } else { "a security module" })
}

/// The capabilities without which nothing can be recorded, as far as they are missing.
pub fn missing_capabilities() -> Vec<&'static str> {
    if crate::namespaces::has_own_users() {
        return vec!["any privilege outside of this user namespace"];
    }
    let have = effective();
    if have & (1 << SYS_ADMIN) != 0 {
        return Vec::new();
    }
    NEEDED[..2].iter().filter(|(bit, ..)| have & (1 << bit) == 0).map(|(_, name, _)| *name).collect()
}

/// Prints what is found; the result is whether everything can be recorded.
pub fn check(args: &Check) -> Result<bool> {
    let release = tongs::system_text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut missing = missing_capabilities();
    let denied = who_denies_bpf().filter(|_| missing.is_empty());
    let denial = denied.map(|who| format!("the system call bpf (denied by {who})"));
    missing.extend(denial.as_deref());
    let btf = Path::new(BTF_PATH).exists();
    let lockdown = tongs::system_text("/sys/kernel/security/lockdown").unwrap_or_default();
    let confidential = lockdown.contains("[confidentiality]");
    let mut hooks_found = Vec::new();
    if btf {
        let kernel = Kernel::read()?;
        let probes: BTreeSet<String> = events::PROBES.iter().map(|p| p.name.to_owned()).collect();
        hooks_found = if missing.is_empty() {
            // The kernel has the last word: load and attach everything for a moment.
            let settings = load::Settings {
                probes,
                rings: 1,
                ring_bytes: 4096,
                sample_hz: 99,
                prefer: args.mechanism.clone(),
                ..load::Settings::default()
            };
            load::load(&kernel, &settings)?.loaded.hooks.clone()
        } else {
            hooks::choose(&load::programs()?, &probes, &kernel, &BTreeMap::new(), args.mechanism.as_deref())
        };
        hooks_found.retain(|hook| hook.probe != "core");
    }
    let usable = hooks_found.iter().filter(|hook| hook.choice.is_ok()).count();
    let can = btf && missing.is_empty() && !confidential && usable > 0;
    if args.json {
        let rows: Vec<_> = hooks_found
            .iter()
            .map(|h| json!({"probe": h.probe, "hook": h.hook, "mechanism": h.choice.as_ref().ok().map(|(m, _)| m), "reason": h.choice.as_ref().err()}))
            .collect();
        let all = json!({"can_record": can, "kernel": release.trim(), "btf": btf, "missing_capabilities": missing,
            "pid_namespace": crate::namespaces::explanation(&[]), "hooks": rows});
        talk::print(&format!("{all:#}\n"))?;
        return Ok(can);
    }
    let mut out = String::new();
    macro_rules! line {
        ($($arg:tt)*) => { out += &format!("{}\n", format_args!($($arg)*)) };
    }
    line!("kernel        {}", release.trim());
    line!("BTF           {}", if btf { "yes" } else { "no: ebrec needs Linux 5.8 or newer, built with CONFIG_DEBUG_INFO_BTF" });
    line!("privilege     {}", if missing.is_empty() { "yes".to_owned() } else { format!("no: {} missing", missing.join(", ")) });
    if let Some(explanation) = crate::namespaces::explanation(&[]) {
        line!("namespace     {explanation}");
    }
    if confidential {
        line!("lockdown      confidentiality: the kernel lets nobody read its memory, so nothing can be recorded");
    }
    if !hooks_found.is_empty() {
        line!("\n{:<10} {:<14} {:<10} why not", "probe", "hook", "mechanism");
        for hook in &hooks_found {
            let (mechanism, reason) = match &hook.choice {
                Ok((mechanism, _)) => (mechanism.as_str(), ""),
                Err(reason) => ("-", reason.as_str()),
            };
            line!("{}", format!("{:<10} {:<14} {mechanism:<10} {reason}", hook.probe, hook.hook).trim_end());
        }
    }
    out.push('\n');
    if crate::namespaces::has_own_users() {
        line!("Run it on the host, or in a container without a user namespace.");
    } else if denied.is_some() {
        line!("To have the call allowed, {NOT_DENIED}.");
    } else if !missing.is_empty() {
        line!("Run as root, or give the recorder what it needs:");
        let exe = std::env::current_exe().map_or_else(|_| "ebrec-record".to_owned(), |path| path.display().to_string());
        let needed = crate::privilege::needed();
        let names: Vec<String> = needed.iter().map(|(_, name, _)| name.to_lowercase()).collect();
        line!("  sudo setcap {}=ep {exe}", names.join(","));
        for (_, name, why) in needed {
            line!("    {name:<24} {why}");
        }
    }
    match (can, usable == hooks_found.len()) {
        (true, true) => line!("This host can record everything."),
        (true, false) => line!("This host can record; {} of {} hooks are missing.", hooks_found.len() - usable, hooks_found.len()),
        (false, _) => line!("This host cannot record."),
    }
    talk::print(&out)?;
    Ok(can)
}
