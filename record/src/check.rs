//! `ebrec check`: can this host record, and what would be used?

use crate::cli::Check;
use crate::hooks;
use crate::kernel::{BTF_PATH, Kernel};
use crate::load;
use crate::privilege::NEEDED;
use anyhow::Result;
use ebrec_format::events;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// CAP_SYS_ADMIN: it stands for CAP_BPF and CAP_PERFMON.
const SYS_ADMIN: u32 = 21;

fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
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
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let missing = missing_capabilities();
    let btf = Path::new(BTF_PATH).exists();
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
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
            load::load(&kernel, &settings)?.hooks
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
        println!("{all:#}");
        return Ok(can);
    }
    println!("kernel        {}", release.trim());
    println!("BTF           {}", if btf { "yes" } else { "no: ebrec needs Linux 5.8 or newer, built with CONFIG_DEBUG_INFO_BTF" });
    println!("privilege     {}", if missing.is_empty() { "yes".to_owned() } else { format!("no: {} missing", missing.join(", ")) });
    if let Some(explanation) = crate::namespaces::explanation(&[]) {
        println!("namespace     {explanation}");
    }
    if confidential {
        println!("lockdown      confidentiality: the kernel lets nobody read its memory, so nothing can be recorded");
    }
    if !hooks_found.is_empty() {
        println!("\n{:<10} {:<14} {:<10} why not", "probe", "hook", "mechanism");
        for hook in &hooks_found {
            let (mechanism, reason) = match &hook.choice {
                Ok((mechanism, _)) => (mechanism.as_str(), ""),
                Err(reason) => ("-", reason.as_str()),
            };
            println!("{}", format!("{:<10} {:<14} {mechanism:<10} {reason}", hook.probe, hook.hook).trim_end());
        }
    }
    println!();
    if crate::namespaces::has_own_users() {
        println!("Run it on the host, or in a container without a user namespace.");
    } else if !missing.is_empty() {
        println!("Run as root, or give the recorder what it needs:");
        let exe = std::env::current_exe().map_or_else(|_| "ebrec-record".to_owned(), |path| path.display().to_string());
        let needed = crate::privilege::needed();
        let names: Vec<String> = needed.iter().map(|(_, name, _)| name.to_lowercase()).collect();
        println!("  sudo setcap {}=ep {exe}", names.join(","));
        for (_, name, why) in needed {
            println!("    {name:<24} {why}");
        }
    }
    match (can, usable == hooks_found.len()) {
        (true, true) => println!("This host can record everything."),
        (true, false) => println!("This host can record; {} of {} hooks are missing.", hooks_found.len() - usable, hooks_found.len()),
        (false, _) => println!("This host cannot record."),
    }
    Ok(can)
}
