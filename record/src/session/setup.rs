//! From the command line to what is loaded, where it is written, and what the manifest says first.

use crate::budget::Budget;
use crate::cli::Record;
use crate::host;
use crate::load::{Attached, Settings, WantedCgroup};
use crate::signals::Command;
use crate::store::partial_path;
use crate::usage::Usage;
use anyhow::{Context as _, Result, bail};
use ebrec_format::manifest::{Cost, FORMAT_VERSION, HookState, Manifest, ProbeState};
use ebrec_format::{capture, events, manifest};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the capture goes.
pub fn output_path(args: &Record) -> Result<PathBuf> {
    if let Some(path) = &args.output {
        return Ok(path.clone());
    }
    let host = host::facts().name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    let now = chrono::Local::now().format("%Y%m%d-%H%M%S");
    Ok(PathBuf::from(format!("ebrec-{host}-{now}.ebrec")))
}

/// Refuses to begin what would overwrite something.
pub fn refuse_existing(output: &Path, force: bool) -> Result<()> {
    if let Some(parent) = output.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        bail!(Usage::new(format!("{}: no such directory", parent.display()), "create it, or give another -o"));
    }
    for path in [output.to_owned(), partial_path(output)] {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !force {
            bail!(Usage::new(format!("{} exists", path.display()), "give another -o, or --force to overwrite it"));
        }
        // What --force allows to replace: a capture of this name, never another directory.
        let parts = [manifest::MANIFEST, capture::PACK, capture::LOOSE];
        if metadata.is_dir() && !parts.iter().any(|part| path.join(part).exists()) {
            bail!(Usage::new(format!("{} is a directory and not a capture", path.display()), "give another -o"));
        }
    }
    Ok(())
}

/// What is loaded.
pub fn settings(
    args: &Record,
    budget: &Budget,
    probes: &BTreeSet<String>,
    calls: Option<Vec<u32>>,
    cgroups: Vec<WantedCgroup>,
    command: Option<&Command>,
) -> Settings {
    let mut pids = args.pid.clone();
    pids.extend(command.and_then(|c| u32::try_from(c.pid).ok()));
    Settings {
        probes: probes.clone(),
        rings: budget.rings,
        ring_bytes: budget.ring_bytes,
        map_bytes: budget.maps,
        pids,
        comms: args.comm.clone(),
        cgroups,
        include_self: args.include_self,
        syscalls: calls,
        sample_hz: args.sample_hz,
        not_asked: if args.off_cpu_stacks { Vec::new() } else { vec![("profile", "off_cpu", "--off-cpu-stacks")] },
        prefer: args.mechanism.clone(),
    }
}

/// Asks the kernel to count runs and run time of BPF programs as long as the result lives.
pub fn enable_stats() -> Result<Option<std::os::fd::OwnedFd>> {
    use std::os::fd::FromRawFd;
    // SAFETY: no pointers; the call returns a descriptor or a negative error.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd)).context("cannot let the kernel count BPF runs (--bpf-stats)");
    }
    // SAFETY: the descriptor was just returned to us and nobody else owns it.
    Ok(Some(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }))
}

/// How the recorder was called, as the user typed it.
fn command_line() -> Vec<String> {
    let mut args: Vec<String> = std::env::args_os().map(|arg| ebrec_format::text::escape(arg.as_encoded_bytes()).into_owned()).collect();
    if let Some(program) = args.first_mut() {
        if std::env::var_os("EBREC_FRONT").is_some() {
            "ebrec record".clone_into(program);
        } else if let Some((_, name)) = program.rsplit_once('/') {
            *program = name.to_owned();
        }
    }
    args
}

/// The manifest at the start.
pub fn first_manifest(
    args: &Record,
    settings: &Settings,
    attached: &Attached,
    probes: &BTreeSet<String>,
    filters: std::collections::BTreeMap<String, Vec<String>>,
    boot_to_utc_ns: i64,
    started: u64,
) -> Manifest {
    let mut states: std::collections::BTreeMap<String, ProbeState> = events::PROBES
        .iter()
        .map(|probe| (probe.name.to_owned(), ProbeState { requested: probes.contains(probe.name), hooks: Vec::new() }))
        .collect();
    for hook in attached.loaded.hooks.iter().filter(|hook| hook.probe != "core") {
        let (mechanism, reason) = match &hook.choice {
            Ok((mechanism, _)) => (Some(mechanism.clone()), None),
            Err(reason) => (None, Some(reason.clone())),
        };
        states.entry(hook.probe.clone()).or_default().hooks.push(HookState {
            hook: hook.hook.clone(),
            tables: hook.feeds.clone(),
            mechanism,
            reason,
            ..HookState::default()
        });
    }
    let ring_bytes = u64::from(settings.rings) * u64::from(settings.ring_bytes);
    Manifest {
        format_version: FORMAT_VERSION,
        recorder_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host::facts(),
        command: command_line(),
        started_ns: started as i64 + boot_to_utc_ns,
        ended_ns: started as i64 + boot_to_utc_ns,
        boot_to_utc_ns,
        filters,
        settings: [
            ("max_size", args.max_size),
            ("memory", args.memory),
            ("rings", settings.rings.into()),
            ("ring_bytes", settings.ring_bytes.into()),
            ("sample_hz", args.sample_hz.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_string()))
        .into(),
        probes: states,
        notes: args.notes.iter().cloned().collect(),
        recorder: Cost { ring_bytes, map_bytes: attached.loaded.map_bytes(), ..Cost::default() },
        ..Manifest::default()
    }
}
