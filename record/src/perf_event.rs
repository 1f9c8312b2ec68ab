//! Attaching to perf's software events: one on each CPU that is online, those too that come online while it records.

use libbpf_rs::ProgramMut;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked which CPUs are online.
const LOOK: Duration = Duration::from_secs(1);
/// PERF_FORMAT_TOTAL_TIME_ENABLED: an event is read as its count and the time for which it was enabled.
const TIME_ENABLED: u64 = 1;

/// include/uapi/linux/perf_event.h
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// A software event (`enum perf_sw_ids` of include/uapi/linux/perf_event.h), and when its program runs.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// PERF_COUNT_SW_CPU_CLOCK, so often a second.
    CpuClock { hz: u32 },
    /// PERF_COUNT_SW_PAGE_FAULTS_MAJ, each.
    MajorFaults,
}

impl Event {
    /// What a program's PART names; the sampler names none.
    fn of(part: Option<&str>, hz: u32) -> Result<Event, String> {
        match part {
            None => Ok(Event::CpuClock { hz }),
            Some("major_faults") => Ok(Event::MajorFaults),
            Some(other) => Err(format!("perf has no event {other}")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Event::CpuClock { .. } => "cpu-clock",
            Event::MajorFaults => "major-faults",
        }
    }
}

/// The events of a program: one on each CPU.
#[derive(Debug)]
pub struct CpuEvents {
    event: Event,
    program: OwnedFd,
    of_cpu: BTreeMap<u32, CpuEvent>,
}

/// The event on one CPU.
#[derive(Debug)]
struct CpuEvent {
    event: File,
    /// For how long the kernel had it enabled when that was last asked, ns.
    enabled_ns: u64,
}

impl CpuEvents {
    /// Attaches `prog` to the event that its `part` names on every CPU that is online; the clock ticks `hz` times a second.
    pub fn attach(prog: &ProgramMut<'_>, part: Option<&str>, hz: u32) -> Result<CpuEvents, String> {
        let program = prog.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
        let mut events = CpuEvents { event: Event::of(part, hz)?, program, of_cpu: BTreeMap::new() };
        let mut failed = None;
        for cpu in online()? {
            match events.add(cpu) {
                Ok(()) => {}
                // It went offline since the list was read.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => failed = Some(error),
                Err(error) => return Err(format!("the kernel refuses perf's {} on CPU {cpu}: {error}", events.event.name())),
            }
        }
        match failed {
            Some(error) if events.of_cpu.is_empty() => Err(format!("the kernel refuses perf's {}: {error}", events.event.name())),
            _ => Ok(events),
        }
    }

    fn add(&mut self, cpu: u32) -> io::Result<()> {
        const SET_BPF: libc::c_ulong = 0x4004_2408; // PERF_EVENT_IOC_SET_BPF
        const ENABLE: libc::c_ulong = 0x2400; // PERF_EVENT_IOC_ENABLE
        let event = open(self.event, cpu)?;
        for (request, argument) in [(SET_BPF, self.program.as_raw_fd()), (ENABLE, 0)] {
            // SAFETY: neither request takes a pointer.
            if unsafe { libc::ioctl(event.as_raw_fd(), request as _, argument) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        self.of_cpu.insert(cpu, CpuEvent { event, enabled_ns: 0 });
        Ok(())
    }

    /// Follows the CPUs that come and go. With a CPU that goes offline its event ends for good, even if the CPU comes back.
    fn follow(&mut self, online: &[u32]) {
        self.of_cpu.retain(|cpu, event| online.contains(cpu) && event.is_alive());
        for cpu in online {
            if !self.of_cpu.contains_key(cpu) {
                // If it is gone again, it is tried again when it is back.
                let _ = self.add(*cpu);
            }
        }
    }
}

impl CpuEvent {
    /// Whether the kernel still counts: then it was enabled since the last look.
    fn is_alive(&mut self) -> bool {
        let mut read = [0; 16];
        let before = self.enabled_ns;
        if !matches!((&self.event).read(&mut read), Ok(16)) {
            return false;
        }
        self.enabled_ns = read.last_chunk::<8>().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        self.enabled_ns > before
    }
}

/// All events, and the thread that follows the CPUs.
#[derive(Debug)]
pub struct CpuWatcher {
    events: Arc<Mutex<Vec<CpuEvents>>>,
    /// Dropped with it; then the thread ends.
    _running: Sender<()>,
}

impl CpuWatcher {
    /// Starts to follow.
    pub fn start(events: Vec<CpuEvents>) -> io::Result<CpuWatcher> {
        let events = Arc::new(Mutex::new(events));
        let followed = events.clone();
        let (running, ended) = channel();
        std::thread::Builder::new().name("ebrec-cpus".to_owned()).spawn(move || {
            crate::privilege::drop_unneeded();
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let Ok(online) = online() else { continue };
                let mut events = followed.lock().unwrap_or_else(PoisonError::into_inner);
                events.iter_mut().for_each(|event| event.follow(&online));
            }
        })?;
        Ok(CpuWatcher { events, _running: running })
    }
}

impl Drop for CpuWatcher {
    fn drop(&mut self) {
        // The thread may be anywhere, but from here on it has nothing to follow.
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// An event of one CPU, whatever task it runs.
fn open(event: Event, cpu: u32) -> io::Result<File> {
    // PERF_TYPE_SOFTWARE
    let mut attr = libbpf_sys::perf_event_attr { type_: 1, read_format: TIME_ENABLED, ..Default::default() };
    attr.size = size_of::<libbpf_sys::perf_event_attr>() as u32;
    match event {
        Event::CpuClock { hz } => {
            attr.config = 0;
            attr.__bindgen_anon_1.sample_freq = u64::from(hz);
            // For a clock the kernel makes a fixed period of the frequency (perf_swevent_init_hrtimer).
            attr.set_freq(1);
            attr.set_exclude_idle(1);
        }
        Event::MajorFaults => {
            attr.config = 6;
            attr.__bindgen_anon_1.sample_period = 1;
        }
    }
    // SAFETY: the attribute is a live, initialised struct of the size that it states; the other arguments are numbers.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}

/// How many frames the kernel gives at most (`STACK_FRAMES` of `bpf/profile.bpf.c`, or kernel.perf_event_max_stack if that is less).
pub fn frames_most() -> u32 {
    let most = std::fs::read_to_string("/proc/sys/kernel/perf_event_max_stack").ok().and_then(|text| text.trim().parse().ok());
    most.unwrap_or(127).min(127)
}

fn online() -> Result<Vec<u32>, String> {
    let path = "/sys/devices/system/cpu/online";
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(numbers(text.trim()))
}

/// The numbers of a list as `0-3,8`.
fn numbers(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse::<u32>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(numbers("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(numbers("0"), [0]);
        assert_eq!(numbers(""), [] as [u32; 0]);
    }
}
