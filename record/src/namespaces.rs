//! The recorder's namespaces. In a container its pids, its cgroups and its clocks need not be those that the kernel uses in what the
//! programs see; `bpf/pid_ns.h` translates, and what can't be translated is refused with a sentence.

use crate::tongs::system_text;
use crate::usage::Usage;
use anyhow::{Result, bail};
use std::path::{Component, Path};

/// `NO_PROC` of `bpf/pid_ns.h`.
const NO_PROC: u32 = u32::MAX;
/// Inodes of the first namespaces (include/linux/proc_ns.h).
const FIRST_PID: &str = "pid:[4026531836]";
const FIRST_USER: &str = "user:[4026531837]";
const FIRST_CGROUP: &str = "cgroup:[4026531835]";

/// What the kernel side is told of the recorder's namespaces before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// By how many pid namespaces /proc is above the recorder's own; [`NO_PROC`] if it doesn't show the recorder.
    pub proc_above: u32,
    /// Depth of the recorder's cgroup as its cgroup namespace shows it. A number below zero if the recorder is outside of what its
    /// namespace shows as the root.
    pub cgroup_depth: i32,
}

impl Namespaces {
    /// Those of this process.
    pub fn of_self() -> Namespaces {
        let status = system_text("/proc/self/status").unwrap_or_default();
        let cgroup = system_text("/proc/self/cgroup").unwrap_or_default();
        let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
        Namespaces { proc_above: proc_above(&status), cgroup_depth: path.map_or(0, depth) }
    }
}

/// /proc tells of a process the pids that it has in /proc's own namespace and in all below.
fn proc_above(status: &str) -> u32 {
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    pids.map_or(NO_PROC, |pids| (pids.split_ascii_whitespace().count() as u32).wrapping_sub(1))
}

/// How deep a path of cgroups lies. One that isn't below the root of the cgroup namespace begins with `/..`.
pub fn depth(path: impl AsRef<Path>) -> i32 {
    let step = |component: Component<'_>| match component {
        Component::Normal(_) => 1,
        Component::ParentDir => -1,
        _ => 0,
    };
    path.as_ref().components().map(step).sum()
}

#[allow(clippy::disallowed_methods, reason = "a link of this process, which the kernel answers")]
fn is(namespace: &str, first: &str) -> bool {
    // Where it can't be read, nothing is known; then it isn't spoken of.
    std::fs::read_link(format!("/proc/self/ns/{namespace}")).is_ok_and(|link| link != Path::new(first))
}

/// Whether the recorder's pids aren't those of the host.
pub fn has_own_pids() -> bool {
    is("pid", FIRST_PID)
}

/// Whether the paths of cgroups aren't those of the kernel.
pub fn has_own_cgroups() -> bool {
    is("cgroup", FIRST_CGROUP)
}

/// Whether the recorder's privileges are those of a user namespace, which count for nothing that it does.
pub fn has_own_users() -> bool {
    is("user", FIRST_USER)
}

/// What the capture and `ebrec check` say of a recorder in a pid namespace.
pub const OWN_PIDS: &str = "--pid and -- COMMAND mean pids of this pid namespace; the capture has the host's. Processes and sockets of other \
                            namespaces are recorded, but not listed as they were at the start";

/// Fails where times of the kernel and of the recorder can't be compared.
pub fn refuse_foreign_clock() -> Result<()> {
    let offsets = system_text("/proc/self/timens_offsets").unwrap_or_default();
    if is_clock_shifted(&offsets) {
        bail!(Usage::new(
            "the recorder is in a time namespace: its clocks are not those of the kernel",
            "start it outside of it (nsenter --time=/proc/1/ns/time)"
        ));
    }
    Ok(())
}

/// Lines of clock, seconds, nanoseconds (time_namespaces(7)).
fn is_clock_shifted(offsets: &str) -> bool {
    offsets.lines().any(|line| line.split_ascii_whitespace().skip(1).any(|number| number != "0"))
}

/// A process that a filter names: its pid here, and as the kernel has it.
pub type Seed = (u32, u32);

/// Fails if a process was not found; then a filter would let nothing through.
pub fn refuse_unknown(seeds: &[Seed]) -> Result<()> {
    if let Some((pid, _)) = seeds.iter().find(|(_, of_kernel)| *of_kernel == 0) {
        let of = if has_own_pids() { " of this pid namespace" } else { "" };
        bail!(Usage::new(format!("there is no process {pid}{of}"), "give the pid of a process (not of a thread) that runs, or -- COMMAND"));
    }
    Ok(())
}

/// What the capture is to say of the namespaces, by name of a setting.
pub fn settings(seeds: &[Seed]) -> Vec<(String, String)> {
    if !has_own_pids() {
        return Vec::new();
    }
    let mut settings = vec![("pid_namespace".to_owned(), OWN_PIDS.to_owned())];
    let pids: Vec<String> = seeds.iter().map(|(here, of_kernel)| format!("{here}={of_kernel}")).collect();
    if !pids.is_empty() {
        settings.push(("pids_of_filter".to_owned(), pids.join(" ")));
    }
    settings
}

/// What to say at the start of the pids that were asked for.
pub fn explanation(seeds: &[Seed]) -> Option<String> {
    if !has_own_pids() {
        return None;
    }
    let pids: Vec<String> = seeds.iter().map(|(here, of_kernel)| format!("{here} is {of_kernel} there")).collect();
    let pids = if pids.is_empty() { String::new() } else { format!(" ({})", pids.join(", ")) };
    Some(format!("in a pid namespace: {OWN_PIDS}{pids}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_proc_is_told_by_the_pids_in_it() {
        assert_eq!(proc_above("Name:\tx\nNSpid:\t4711\nNSpgid:\t4711\n"), 0);
        assert_eq!(proc_above("Pid:\t4711\nNSpid:\t4711\t12\t1\n"), 2);
        // /proc isn't there, or shows a namespace that the recorder isn't in.
        assert_eq!(proc_above(""), NO_PROC);
    }

    #[test]
    fn depths_are_relative_to_the_namespace() {
        for (path, expected) in [("/", 0), ("/a", 1), ("/a/b.scope", 2), ("/..", -1), ("/../../c", -1), ("", 0)] {
            assert_eq!(depth(path), expected, "{path}");
        }
    }

    #[test]
    fn a_shifted_clock_is_seen() {
        assert!(!is_clock_shifted("monotonic           0         0\nboottime            0         0\n"));
        assert!(!is_clock_shifted(""), "before 5.6 there are no such namespaces");
        assert!(is_clock_shifted("monotonic           0         0\nboottime      -86400         0\n"));
        assert!(is_clock_shifted("monotonic           5         1\nboottime            0         0\n"));
    }

    #[test]
    fn a_process_that_was_not_found_is_refused() {
        assert!(refuse_unknown(&[(1, 1), (12, 4711)]).is_ok());
        let error = refuse_unknown(&[(1, 1), (12, 0)]).map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.starts_with("there is no process 12")));
    }
}
