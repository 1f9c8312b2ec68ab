//! From what the user asked to what is to be done, and errors that say what to do.

use crate::cli::Record;
use crate::load::WantedCgroup;
use anyhow::{Result, bail};
use ebrec_format::events;
use ebrec_format::syscalls::Arch;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// `SYSCALLS_MAX` of `bpf/syscalls.h`.
const SYSCALLS_MAX: u32 = 512;

/// An error with the line that says what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Usage {
    what: String,
    /// What to do.
    pub remedy: String,
}

impl Usage {
    /// What is wrong, and what to do.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Usage {
        Usage { what: what.into(), remedy: remedy.into() }
    }
}

/// The probes that `--probes` names.
pub fn probes_of(list: &[String]) -> Result<BTreeSet<String>> {
    let mut probes = BTreeSet::new();
    for word in list {
        match word.as_str() {
            "all" => probes.extend(events::PROBES.iter().map(|p| p.name.to_owned())),
            "default" => probes.extend(events::PROBES.iter().filter(|p| p.default).map(|p| p.name.to_owned())),
            word => {
                let name = word.strip_prefix('+').unwrap_or(word);
                if !events::PROBES.iter().any(|p| p.name == name) {
                    let names: Vec<&str> = events::PROBES.iter().map(|p| p.name).collect();
                    bail!(Usage::new(
                        format!("no probe is called '{name}'"),
                        format!("the probes are: {}; or say default or all", names.join(", "))
                    ));
                }
                if name != word {
                    probes.extend(events::PROBES.iter().filter(|p| p.default).map(|p| p.name.to_owned()));
                }
                probes.insert(name.to_owned());
            }
        }
    }
    Ok(probes)
}

/// The numbers of the system calls that `--syscalls` names; `None` is all.
pub fn syscalls_of(list: &[String]) -> Result<Option<Vec<u32>>> {
    let arch = Arch::own();
    let mut calls = Vec::new();
    for name in list {
        match arch.number(name).filter(|&nr| i32::try_from(nr).is_ok()) {
            Some(nr) => calls.push(nr),
            None => {
                let meant = arch.most_alike(name).map_or_else(
                    || "see ausyscall --dump, or `man syscalls`, for the names".to_owned(),
                    |meant| format!("did you mean {meant}?"),
                );
                bail!(Usage::new(format!("no system call of this architecture is called '{name}'"), meant));
            }
        }
    }
    let beyond = calls.iter().filter(|&&nr| nr >= SYSCALLS_MAX).count();
    if beyond > crate::load::BEYOND_MOST {
        bail!(Usage::new(
            format!("{beyond} system calls with numbers from {SYSCALLS_MAX} on"),
            format!("name at most {} of them, or record all: --probes +syscall", crate::load::BEYOND_MOST)
        ));
    }
    Ok((!list.is_empty()).then_some(calls))
}

/// cgroups, and what the manifest says of all filters.
type Filters = (Vec<WantedCgroup>, BTreeMap<String, Vec<String>>);

/// Checks the filters and finds the cgroups.
pub fn filters_of(args: &Record) -> Result<Filters> {
    let mut filters = BTreeMap::new();
    crate::namespaces::refuse_foreign_clock()?;
    for pid in &args.pid {
        if !exists(*pid) {
            bail!(Usage::new(format!("there is no process {pid}"), "give the pid of a process that runs, or -- COMMAND to start one"));
        }
    }
    if let Some(comm) = args.comm.iter().find(|comm| comm.is_empty() || comm.len() > 15) {
        bail!(Usage::new(format!("'{comm}' can't be the name of a thread"), "names have 1 to 15 bytes, as `ps -o comm` prints them"));
    }
    if args.comm.len() > 64 || args.cgroup.len() > 4 || args.pid.len() > 1000 {
        bail!(Usage::new("too many filters", "at most 1000 --pid, 64 --comm, 4 --cgroup"));
    }
    let mut cgroups = Vec::new();
    for path in &args.cgroup {
        cgroups.push(cgroup(path)?);
    }
    let mut add = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            filters.insert(name.to_owned(), values);
        }
    };
    add("pid", args.pid.iter().map(u32::to_string).collect());
    add("comm", args.comm.clone());
    add("syscalls", args.syscalls.clone());
    add("cgroup", args.cgroup.iter().map(|p| p.display().to_string()).collect());
    add("command", args.command.iter().map(|arg| arg.to_string_lossy().into_owned()).collect());
    Ok((cgroups, filters))
}

/// Whether a process has this pid, in the recorder's own pid namespace: /proc may be another one's.
fn exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    // SAFETY: signal 0 is only a question; 0 and less would be groups of processes.
    pid > 0 && (unsafe { libc::kill(pid, 0) } == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

/// Where cgroup v2 is mounted, and which of its directories is mounted there (/proc/self/mountinfo). Of several mounts the one that
/// `path` is below, else one that shows what the cgroup namespace does, else the last.
pub fn cgroup_mount(mountinfo: &str, path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3).map(PathBuf::from);
        let (root, mount) = (fields.next()?, fields.next()?);
        right.starts_with("cgroup2 ").then_some((mount, root))
    });
    mounts.max_by_key(|(mount, root)| (path.starts_with(mount), root == Path::new("/")))
}

/// A cgroup's id, which is its directory's inode, and its depth below the root that the cgroup namespace shows; of what it doesn't
/// show, that is below zero.
fn cgroup(path: &Path) -> Result<WantedCgroup> {
    let mountinfo = crate::tongs::system_text("/proc/self/mountinfo").unwrap_or_default();
    let Some((mount, root)) = cgroup_mount(&mountinfo, path) else {
        bail!(Usage::new("cgroup v2 is not mounted", "mount it (mount -t cgroup2 none /sys/fs/cgroup), or filter by --pid or --comm"));
    };
    let below = path.strip_prefix(&mount).unwrap_or(path);
    let below: PathBuf = below.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let directory = mount.join(&below);
    match std::fs::metadata(&directory) {
        Ok(metadata) if metadata.is_dir() => {
            let depth = below.components().count() as i32 + crate::namespaces::depth(&root);
            let whole = root.join(&below);
            let is_the_kernels = !crate::namespaces::has_own_cgroups() && whole.components().all(|c| c != Component::ParentDir);
            let path = if is_the_kernels { whole.to_string_lossy().into_owned() } else { String::new() };
            // The kernel adds the root's own depth.
            Ok(WantedCgroup { id: metadata.ino(), depth: depth as u32, path })
        }
        _ => bail!(Usage::new(
            format!("there is no cgroup {}", directory.display()),
            "give a path below the cgroup v2 mount, as /proc/PID/cgroup shows it"
        )),
    }
}

/// A failure to load, with what is missing if it is privilege.
pub fn explain_privilege(error: anyhow::Error) -> anyhow::Error {
    if error.downcast_ref::<Usage>().is_some() {
        return error;
    }
    if crate::namespaces::has_own_users() {
        return anyhow::Error::new(Usage::new(
            "no privilege to record: in a user namespace, whose privileges don't count for BPF programs",
            "run it outside of it: on the host, or in a container without user namespace (see: ebrec check)",
        ));
    }
    let missing = crate::check::missing_capabilities();
    if missing.is_empty() {
        let Some(who) = crate::check::who_denies_bpf() else { return error };
        return anyhow::Error::new(Usage::new(
            format!("no privilege to record: {who} denies the system call bpf"),
            crate::check::NOT_DENIED,
        ));
    }
    anyhow::Error::new(Usage::new(
        format!("no privilege to record: {} missing", missing.join(", ")),
        "run it as root (sudo ebrec record …), or see what is missing with: ebrec check",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_mounts_the_one_that_fits() {
        let mounts = "29 1 0:26 /.. /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 1 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
31 1 0:26 / /mnt/cg rw - cgroup2 none rw
32 1 0:26 /x /mnt/of/x rw - cgroup2 none rw
";
        let of = |path: &str| {
            cgroup_mount(mounts, Path::new(path)).map(|(mount, root)| (mount.display().to_string(), root.display().to_string()))
        };
        let pair = |mount: &str, root: &str| Some((mount.to_owned(), root.to_owned()));
        assert_eq!(of("a/b"), pair("/mnt/cg", "/"));
        assert_eq!(of("/a/b"), pair("/mnt/cg", "/"));
        assert_eq!(of("/sys/fs/cgroup/unified/a"), pair("/sys/fs/cgroup/unified", "/.."));
        assert_eq!(of("/mnt/of/x/y"), pair("/mnt/of/x", "/x"));
        assert_eq!(cgroup_mount("", Path::new("a")), None);
    }

    #[test]
    fn who_exists_is_asked_of_the_kernel() {
        assert!(exists(std::process::id()) && exists(1));
        assert!(!exists(0) && !exists(u32::MAX) && !exists(i32::MAX as u32));
    }
}
