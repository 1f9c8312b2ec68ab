//! Attaching to perf's software events: one on each CPU that is online.

use libbpf_rs::{Link, ProgramMut};
use std::io;

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

/// Attaches `prog` to the event that its `part` names on every CPU that is online; the clock ticks `hz` times a second. CPUs that
/// come online later are left out.
pub fn attach(prog: &ProgramMut<'_>, part: Option<&str>, hz: u32) -> Result<Vec<Link>, String> {
    let event = Event::of(part, hz)?;
    let name = event.name();
    let mut links = Vec::new();
    let mut failed = None;
    for cpu in online()? {
        match open(event, cpu) {
            Ok(fd) => match prog.attach_perf_event(fd) {
                // The link owns the descriptor.
                Ok(link) => links.push(link),
                Err(error) => {
                    // SAFETY: libbpf doesn't take the descriptor if it fails, so it is ours alone.
                    unsafe { libc::close(fd) };
                    return Err(format!("perf's {name} takes no program: {error}"));
                }
            },
            // It went offline since the list was read.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => failed = Some(error),
            Err(error) => return Err(format!("the kernel refuses perf's {name} on CPU {cpu}: {error}")),
        }
    }
    match failed {
        Some(error) if links.is_empty() => Err(format!("the kernel refuses perf's {name}: {error}")),
        _ => Ok(links),
    }
}

/// An event of one CPU, whatever task it runs.
fn open(event: Event, cpu: u32) -> io::Result<i32> {
    // PERF_TYPE_SOFTWARE
    let mut attr = libbpf_sys::perf_event_attr { type_: 1, ..Default::default() };
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
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd as i32) }
}

/// How many frames the kernel gives at most (`STACK_FRAMES` of `bpf/profile.bpf.c`, or kernel.perf_event_max_stack if that is less).
pub fn frames_most() -> u32 {
    let most = crate::tongs::system_text("/proc/sys/kernel/perf_event_max_stack").ok().and_then(|text| text.trim().parse().ok());
    most.unwrap_or(127).min(127)
}

fn online() -> Result<Vec<u32>, String> {
    let path = "/sys/devices/system/cpu/online";
    let text = crate::tongs::system_text(path).map_err(|error| format!("{path}: {error}"))?;
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
