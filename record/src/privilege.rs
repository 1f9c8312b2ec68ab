//! The privileges of the recorder: which it needs for what, and the end of those that it doesn't need once everything is attached.
//!
//! From then on its threads read what others control, for as long as the recording lasts. Whatever that may do to them, they can then
//! load no module, set no clock, take no other user's identity and send nothing to the network. COMMAND is forked before and keeps
//! what the user has.

use std::sync::atomic::{AtomicBool, Ordering};

/// include/uapi/linux/capability.h
mod number {
    pub const CHOWN: u32 = 0;
    pub const DAC_OVERRIDE: u32 = 1;
    pub const DAC_READ_SEARCH: u32 = 2;
    pub const FOWNER: u32 = 3;
    pub const NET_ADMIN: u32 = 12;
    pub const IPC_LOCK: u32 = 14;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_NICE: u32 = 23;
    pub const SYSLOG: u32 = 34;
    pub const PERFMON: u32 = 38;
    pub const BPF: u32 = 39;
    pub const CHECKPOINT_RESTORE: u32 = 40;
}

/// What recording needs: number, name, and what for. CAP_SYS_ADMIN stands for the first two.
pub const NEEDED: [(u32, &str, &str); 7] = [
    (number::BPF, "CAP_BPF", "to load BPF programs"),
    (number::PERFMON, "CAP_PERFMON", "to trace with them"),
    (number::NET_ADMIN, "CAP_NET_ADMIN", "for the programs that look at sockets"),
    (number::SYS_PTRACE, "CAP_SYS_PTRACE", "to read other users' command lines and mappings"),
    (number::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "likewise, and their libraries"),
    (
        number::CHECKPOINT_RESTORE,
        "CAP_CHECKPOINT_RESTORE",
        "to open libraries as they are mapped, be they deleted or in another mount namespace",
    ),
    (number::SYSLOG, "CAP_SYSLOG", "for the names of the kernel's functions"),
];

/// Where the kernel asks for more than CAP_PERFMON.
const NEEDED_BY_PARANOID: (u32, &str, &str) =
    (number::SYS_ADMIN, "CAP_SYS_ADMIN", "for samples and lookups, because kernel.perf_event_paranoid is 3 or more");

/// What recording needs on this host.
pub fn needed() -> Vec<(u32, &'static str, &'static str)> {
    let more = (paranoid() >= PARANOID_BEYOND_PERFMON).then_some(NEEDED_BY_PARANOID);
    NEEDED.into_iter().chain(more).collect()
}

/// What is needed while it records: for new libraries and CPUs, for /proc, for the iterators of the end, and for the capture.
const KEPT: [u32; 11] = [
    number::BPF,
    number::PERFMON,
    number::SYS_PTRACE,
    number::DAC_READ_SEARCH,
    number::CHECKPOINT_RESTORE,
    number::SYSLOG,
    // The directory may be another user's, and the capture is given to who called sudo.
    number::DAC_OVERRIDE,
    number::CHOWN,
    number::FOWNER,
    // Threads that are started later get their class by themselves.
    number::SYS_NICE,
    number::IPC_LOCK,
];

/// Where kernel.perf_event_paranoid is this high (Debian's and Android's own), CAP_PERFMON isn't enough for perf events.
const PARANOID_BEYOND_PERFMON: i32 = 3;

fn to_keep(paranoid: i32) -> u64 {
    let kept = KEPT.iter().fold(0, |set, number| set | 1 << number);
    let needs_admin = paranoid >= PARANOID_BEYOND_PERFMON || PROBES_NEED_ADMIN.load(Ordering::Relaxed);
    if needs_admin { kept | 1 << number::SYS_ADMIN } else { kept }
}

/// Whether libraries that are found later get their probes by perf events, which takes CAP_SYS_ADMIN (perf_uprobe_event_init); the
/// newer interface, since 6.6, doesn't.
static PROBES_NEED_ADMIN: AtomicBool = AtomicBool::new(false);

/// Says that it is so. Before anything is dropped.
pub fn keep_for_probes() {
    PROBES_NEED_ADMIN.store(true, Ordering::Relaxed);
}

#[allow(clippy::disallowed_methods, reason = "the kernel's own setting")]
fn paranoid() -> i32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    text.trim().parse().unwrap_or(PARANOID_BEYOND_PERFMON)
}

/// struct __user_cap_header_struct
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// struct __user_cap_data_struct; there are two, for the lower and the higher numbers.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Drops what isn't needed any more from the calling thread, and so from those that it starts. If that isn't possible, all stays as it
/// is: it protects others, and isn't what was asked for.
pub fn drop_unneeded() {
    let keep = to_keep(paranoid());
    // No program that is executed gets them back. Without CAP_SETPCAP it is not permitted, nor needed: NO_NEW_PRIVS says the same.
    // SAFETY: numbers only.
    unsafe {
        for number in (0..64).filter(|number| keep >> number & 1 == 0) {
            libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
        }
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: a header and two sets, as the version says; both live across the calls.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) != 0 {
            return;
        }
        for (half, data) in data.iter_mut().enumerate() {
            let keep = (keep >> (32 * half)) as u32;
            *data = Data { effective: data.effective & keep, permitted: data.permitted & keep, inheritable: 0 };
        }
        libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective() -> u64 {
        let status = crate::tongs::system_text("/proc/thread-self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
    }

    #[test]
    fn what_recording_does_not_need_is_gone() {
        let before = effective();
        let after = std::thread::spawn(|| {
            drop_unneeded();
            effective()
        });
        let after = after.join().unwrap_or(u64::MAX);
        assert_eq!(after, before & to_keep(paranoid()));
        // Other threads, and with them what waits to become COMMAND, are not touched.
        assert_eq!(effective(), before);
    }

    #[test]
    fn only_paranoid_kernels_keep_everything_powerful() {
        assert_eq!(to_keep(2) >> number::SYS_ADMIN & 1, 0);
        assert_eq!(to_keep(3) >> number::SYS_ADMIN & 1, 1);
        assert_eq!(to_keep(2) >> number::NET_ADMIN & 1, 0);
    }
}
