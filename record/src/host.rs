//! The host: what it is, what exists on it, and how it does, second by second.

use crate::containers::Containers;
use crate::drain::clock_ns;
use crate::tongs::{self, names};
use ebrec_format::events::host::{Container, Disk, Mount, Netdev, SystemSample};
use ebrec_format::manifest::Host;
use ebrec_format::wire::{NULL32, NULL64};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

/// A small file as trimmed text; nothing if it isn't there.
fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(tongs::system_text(path).ok()?.trim().to_owned())
}

/// What the host is.
pub fn facts() -> Host {
    let os = read("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    Host {
        name: read("/proc/sys/kernel/hostname").unwrap_or_default(),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: online_cpus(),
        os: os.unwrap_or_default(),
        boot_id: read("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
    }
}

/// CPUs that are online now.
pub fn online_cpus() -> u32 {
    // SAFETY: sysconf has no preconditions.
    let n = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    u32::try_from(n).unwrap_or(1).max(1)
}

/// Size of a page of memory.
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(4096)
}

/// CPUs that may ever be there: rings are made for their numbers.
pub fn possible_cpus() -> u32 {
    // SAFETY: sysconf has no preconditions.
    let n = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u32::try_from(n).unwrap_or(1).max(1)
}

/// A block device (/sys/block).
fn disk(name: String) -> Disk {
    let of = |file: &str| read(format!("/sys/block/{name}/{file}"));
    let scheduler = of("queue/scheduler").map(|text| {
        // The one in use stands in brackets.
        text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(text.clone(), |(in_use, _)| in_use.to_owned())
    });
    Disk {
        dev: of("dev"),
        // Always in units of 512 bytes (Documentation/ABI/stable/sysfs-block).
        size_bytes: of("size").and_then(|s| s.parse::<u64>().ok()).map_or(NULL64, |sectors| sectors * 512),
        rotational: of("queue/rotational").and_then(|s| s.parse().ok()).unwrap_or(NULL32),
        scheduler,
        model: of("device/model"),
        name: Some(name),
    }
}

/// The mounts (/proc/self/mountinfo, proc(5)).
fn mounts(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let own = |text: Option<&&str>| text.map(|t| (*t).to_owned());
            Some(Mount {
                dev: own(left.get(2)),
                fs: own(right.first()),
                path: own(left.get(4)),
                source: own(right.get(1)),
                options: own(left.get(5)),
            })
        })
        .collect()
}

/// A network interface (/sys/class/net).
fn netdev(name: String) -> Netdev {
    let of = |file: &str| read(format!("/sys/class/net/{name}/{file}"));
    Netdev {
        ifindex: of("ifindex").and_then(|s| s.parse().ok()).unwrap_or(NULL32),
        mtu_bytes: of("mtu").and_then(|s| s.parse().ok()).unwrap_or(NULL64),
        state: of("operstate"),
        name: Some(name),
    }
}

/// Mounts that are told of; a host that makes more all the time is told of no more.
const MOST_MOUNTS: usize = 16_384;

/// What came into being since it was looked for last.
#[derive(Debug, Default)]
pub struct Fresh {
    pub disks: Vec<Disk>,
    pub mounts: Vec<Mount>,
    pub netdevs: Vec<Netdev>,
    pub containers: Vec<Container>,
}

/// What has been seen of disks, mounts, network interfaces and containers, so that what is new is told.
#[derive(Debug, Default)]
pub struct Seen {
    disks: BTreeSet<String>,
    netdevs: BTreeSet<String>,
    mountinfo: String,
    mounts: HashSet<[Option<String>; 4]>,
    containers: Containers,
}

impl Seen {
    /// What wasn't there when this was asked last.
    pub fn fresh(&mut self) -> Fresh {
        let new_of = |seen: &mut BTreeSet<String>, directory: &str| -> Vec<String> {
            let now: BTreeSet<String> = names(directory).into_iter().collect();
            let new = now.difference(seen).cloned().collect();
            *seen = now;
            new
        };
        let disks = new_of(&mut self.disks, "/sys/block").into_iter().map(disk).collect();
        let netdevs = new_of(&mut self.netdevs, "/sys/class/net").into_iter().map(netdev).collect();
        Fresh { disks, mounts: self.fresh_mounts(), netdevs, containers: self.containers.fresh() }
    }

    fn fresh_mounts(&mut self) -> Vec<Mount> {
        let text = read("/proc/self/mountinfo").unwrap_or_default();
        if text == self.mountinfo {
            return Vec::new();
        }
        let is_new = |mount: &Mount| {
            let key = [&mount.dev, &mount.fs, &mount.path, &mount.source].map(Clone::clone);
            self.mounts.len() < MOST_MOUNTS && self.mounts.insert(key)
        };
        let mounts = mounts(&text).into_iter().filter(is_new).collect();
        self.mountinfo = text;
        mounts
    }
}

/// Counters that only rise, as they stood at one moment.
#[derive(Debug, Clone, Default)]
struct Counters {
    cpu: [u64; 8],
    psi: [Option<u64>; 5],
    vm: [Option<u64>; 7],
}

/// Takes a sample a second; knows the one before.
#[derive(Debug, Default)]
pub struct Sampler {
    before: Option<Counters>,
}

impl Sampler {
    /// A sample of now. Differences of the first one are null.
    pub fn sample(&mut self, now_boot_ns: u64) -> SystemSample {
        let load = read("/proc/loadavg").unwrap_or_default();
        let fields: Vec<&str> = load.split(' ').collect();
        let average = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
        let (running, tasks) = fields.get(3).and_then(|f| f.split_once('/')).unzip();
        let count = |text: Option<&str>| text.and_then(|t| t.parse().ok()).unwrap_or(NULL64);
        let memory: HashMap<String, u64> = read("/proc/meminfo").unwrap_or_default().lines().filter_map(kilobytes).collect();
        let mem = |name: &str| memory.get(name).copied().unwrap_or(NULL64);
        let counters = Counters { cpu: cpu_times(), psi: pressures(), vm: vm_counters() };
        let before = self.before.replace(counters.clone());
        let cpu = |i: usize| before.as_ref().map_or(NULL64, |b| counters.cpu[i].saturating_sub(b.cpu[i]));
        let psi = |i: usize| match (&before, counters.psi[i]) {
            (Some(Counters { psi, .. }), Some(now)) => psi[i].map_or(NULL64, |b| now.saturating_sub(b)),
            _ => NULL64,
        };
        let vm = |i: usize| match (before.as_ref().and_then(|b| b.vm[i]), counters.vm[i]) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => NULL64,
        };
        let swap_used = match (memory.get("SwapTotal"), memory.get("SwapFree")) {
            (Some(total), Some(free)) => total.saturating_sub(*free),
            _ => NULL64,
        };
        SystemSample {
            ts: now_boot_ns,
            load1: average(0),
            load5: average(1),
            load15: average(2),
            running: count(running),
            tasks: count(tasks),
            cpu_user_ns: cpu(0),
            cpu_nice_ns: cpu(1),
            cpu_system_ns: cpu(2),
            cpu_idle_ns: cpu(3),
            cpu_iowait_ns: cpu(4),
            cpu_irq_ns: cpu(5),
            cpu_softirq_ns: cpu(6),
            cpu_steal_ns: cpu(7),
            mem_total_bytes: mem("MemTotal"),
            mem_free_bytes: mem("MemFree"),
            mem_available_bytes: mem("MemAvailable"),
            mem_cached_bytes: mem("Cached"),
            mem_buffers_bytes: mem("Buffers"),
            mem_dirty_bytes: mem("Dirty"),
            mem_writeback_bytes: mem("Writeback"),
            swap_used_bytes: swap_used,
            disk_read_bytes: vm(0),
            disk_written_bytes: vm(1),
            major_faults: vm(2),
            dirtied_bytes: vm(3),
            refaulted_bytes: vm(4),
            swapped_in_bytes: vm(5),
            swapped_out_bytes: vm(6),
            psi_cpu_some_ns: psi(0),
            psi_memory_some_ns: psi(1),
            psi_memory_full_ns: psi(2),
            psi_io_some_ns: psi(3),
            psi_io_full_ns: psi(4),
        }
    }
}

fn kilobytes(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.split_once(':')?;
    let number = rest.trim().split(' ').next()?.parse::<u64>().ok()?;
    Some((name.to_owned(), number * 1024))
}

/// user, nice, system, idle, iowait, irq, softirq, steal of all CPUs, ns (/proc/stat, proc(5)).
fn cpu_times() -> [u64; 8] {
    // SAFETY: sysconf has no preconditions.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    let mut times = [0; 8];
    let stat = read("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    for (time, field) in times.iter_mut().zip(fields) {
        *time = field.parse::<u64>().unwrap_or(0) * (1_000_000_000 / ticks);
    }
    times
}

/// Counters of /proc/vmstat in the order of the fields from `disk_read_bytes` on, as bytes where they count pages.
fn vm_counters() -> [Option<u64>; 7] {
    let text = read("/proc/vmstat").unwrap_or_default();
    let counters: HashMap<&str, u64> =
        text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(name, count)| Some((name, count.parse().ok()?))).collect();
    let get = |name: &str, unit: u64| counters.get(name).map(|count| count * unit);
    let page = page_bytes();
    [
        // In KiB, whatever the names say (submit_bio counts sectors, all_vm_events halves them).
        get("pgpgin", 1024),
        get("pgpgout", 1024),
        get("pgmajfault", 1),
        get("nr_dirtied", page),
        // One counter until 5.8, which had none for anonymous memory.
        get("workingset_refault_file", page).or_else(|| get("workingset_refault", page)),
        get("pswpin", page),
        get("pswpout", page),
    ]
}

/// Totals of cpu some, memory some, memory full, io some, io full, ns (Documentation/accounting/psi.rst).
fn pressures() -> [Option<u64>; 5] {
    let total = |resource: &str, which: &str| {
        let text = read(format!("/proc/pressure/{resource}"))?;
        let line = text.lines().find(|line| line.starts_with(which))?;
        Some(line.rsplit_once("total=")?.1.parse::<u64>().ok()? * 1000)
    };
    [total("cpu", "some"), total("memory", "some"), total("memory", "full"), total("io", "some"), total("io", "full")]
}

/// What is added to CLOCK_BOOTTIME to make it UTC, ns: the reading with the least time between the two clocks.
pub fn boot_to_utc_ns() -> i64 {
    let read = || {
        let before = clock_ns(libc::CLOCK_BOOTTIME);
        let real = clock_ns(libc::CLOCK_REALTIME);
        let after = clock_ns(libc::CLOCK_BOOTTIME);
        (after - before, real as i64 - ((before + after) / 2) as i64)
    };
    let mut best = read();
    for _ in 0..8 {
        best = best.min(read());
    }
    best.1
}

/// CPU time of this process so far, ns, and its largest resident set, bytes (getrusage(2)).
pub fn own_cost() -> (u64, u64) {
    // SAFETY: rusage is plain numbers, for which zero is valid; getrusage writes it whole.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid to write to.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000;
    (ns(usage.ru_utime) + ns(usage.ru_stime), usage.ru_maxrss as u64 * 1024)
}

/// What this process had in memory at most beside rings of `ring_bytes`, of its largest resident set. Each page of a ring is mapped twice
/// in a row, so that a record at its end can be read in one piece, and the kernel counts it each time.
pub fn without_rings(max_rss_bytes: u64, ring_bytes: u64) -> u64 {
    max_rss_bytes.saturating_sub(2 * ring_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_facts() {
        let facts = facts();
        assert!(!facts.kernel.is_empty() && facts.cpus >= 1);
        assert!(Seen::default().fresh().mounts.iter().any(|mount| mount.path.as_deref() == Some("/")));
        let mut sampler = Sampler::default();
        assert_eq!(sampler.sample(1).cpu_user_ns, NULL64);
        let second = sampler.sample(2);
        assert_ne!(second.cpu_user_ns, NULL64);
        assert!(second.mem_total_bytes > second.mem_free_bytes && second.load1.is_some());
        for counter in
            [second.disk_read_bytes, second.disk_written_bytes, second.major_faults, second.dirtied_bytes, second.refaulted_bytes]
        {
            assert_ne!(counter, NULL64);
        }
    }
}
