//! Who of the recorder runs when the host has no CPU left: the classes of its threads, and memory that stays resident.
//!
//! On a host with hundreds of runnable tasks a thread of the ordinary class gets a CPU for some milliseconds a second. A recorder
//! that waits for that starts minutes late and loses what its rings can't hold. So what starts, keeps the clock, drains and builds
//! columns is in a real-time class, and what stands behind it (encoding, disk) has the highest priority that the ordinary class knows.
//!
//! What keeps that harmless: [`Governor`] takes the class away from the drain or the builder
//! when it needs more than [`REALTIME_SHARE`] of one CPU; the kernel's own limit (`kernel.sched_rt_runtime_us`) stays as it is; the class is
//! not inherited (`SCHED_RESET_ON_FORK`), neither by threads nor by COMMAND.

use crate::drain::clock_ns;
use std::io;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The lowest real-time priority: above every ordinary task, below every real-time task of others.
const PRIORITY: i32 = 1;
/// The highest priority of the ordinary class (setpriority(2)).
const NICE: i32 = -20;
/// So much of one CPU may the drain and the builder each take in the real-time class, of each [`PERIOD`].
pub const REALTIME_SHARE: f64 = 0.3;
const PERIOD: Duration = Duration::from_millis(100);
/// The recorder is killed late when memory is short: what it takes is bounded and little, and it holds the record of why memory is short.
/// Not -1000, so that it can still be killed (proc_pid_oom_score_adj(5)).
const OOM_SCORE_ADJ: &str = "-800";

/// include/uapi/linux/capability.h
const CAP_IPC_LOCK: u32 = 14;

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It starts the recording, keeps the clock, drains rings or builds columns, and takes little CPU.
    RealTime,
    /// It stands behind these and must keep up.
    Favoured,
}

/// What was asked for, and what the kernel said to it.
static GRANTED: OnceLock<Granted> = OnceLock::new();

#[derive(Debug, Clone)]
struct Granted {
    before: Before,
    realtime: Result<(), String>,
    nice: Result<(), String>,
}

/// Gives the calling thread, the first, its class. To be called before anything that takes time.
pub fn begin(allow_realtime: bool) {
    let before = Before::of_this_thread();
    let realtime = if allow_realtime { set_realtime() } else { Err("--no-realtime".to_owned()) };
    // Without effect on a real-time thread, but it tells whether the others will get it.
    let nice = set_nice(NICE);
    let _ = GRANTED.set(Granted { before, realtime, nice });
}

/// What the recorder itself was started with: that is what COMMAND is to run with.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    policy: i32,
    priority: i32,
    nice: i32,
}

impl Before {
    fn of_this_thread() -> Before {
        let mut param = libc::sched_param { sched_priority: 0 };
        // SAFETY: `param` is valid to write to; 0 is the calling thread.
        unsafe {
            libc::sched_getparam(0, &mut param);
            let policy = libc::sched_getscheduler(0);
            Before { policy, priority: param.sched_priority, nice: libc::getpriority(libc::PRIO_PROCESS, 0) }
        }
    }

    /// As it was when the program started, if [`begin`] was called.
    pub fn get() -> Option<Before> {
        GRANTED.get().map(|granted| granted.before)
    }

    /// Gives the calling thread what was there before. Only system calls, so that a forked child may do it.
    pub fn restore(self) {
        let param = libc::sched_param { sched_priority: self.priority };
        // SAFETY: a valid parameter; 0 is the calling thread. What isn't permitted changes nothing.
        unsafe {
            libc::sched_setscheduler(0, self.policy.max(0), &param);
            libc::setpriority(libc::PRIO_PROCESS, 0, self.nice);
        }
    }
}

/// Starts a thread that has its class from its first instruction. Else it would first wait for a CPU as an ordinary thread, on a busy
/// host half a second, and who started it with it.
pub fn spawn<T: Send + 'static>(class: Class, name: &str, f: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    let _inherited = Inherited::begin();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        enter(class);
        f()
    })
}

/// Drops things for each of which the kernel waits until all CPUs have passed by, so it is asked from `threads` real-time threads at once.
pub fn drop_together<T: Send>(things: Vec<T>, threads: usize) {
    let mut piles: Vec<Vec<T>> = Vec::new();
    piles.resize_with(things.len().min(threads), Vec::new);
    for (place, thing) in things.into_iter().enumerate() {
        piles[place % threads].push(thing);
    }
    let _inherited = Inherited::begin();
    std::thread::scope(|scope| {
        for pile in piles {
            scope.spawn(move || {
                enter(Class::RealTime);
                drop(pile);
            });
        }
    });
}

/// While it lives, threads that a real-time thread starts are real-time threads until they [`enter`] a class of their own.
pub struct Inherited(bool);

impl Inherited {
    /// Without effect if the calling thread isn't one, or it isn't permitted.
    pub fn begin() -> Inherited {
        let granted = GRANTED.get().is_some_and(|granted| granted.realtime.is_ok());
        // SAFETY: no pointers.
        let is_realtime = unsafe { libc::sched_getscheduler(0) } == libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        Inherited(granted && is_realtime && set_policy(libc::SCHED_RR).is_ok())
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        if self.0 {
            let _ = set_realtime();
        }
    }
}

/// Gives the calling thread its class, as far as [`begin`] found it permitted. Threads don't inherit it from the one that starts them,
/// unless [`Inherited`] lets them.
pub fn enter(class: Class) {
    let Some(granted) = GRANTED.get() else { return };
    if class == Class::RealTime && granted.realtime.is_ok() && set_realtime().is_ok() {
        return;
    }
    // SAFETY: no pointers.
    if unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK == libc::SCHED_RR && class == Class::Favoured {
        set_ordinary();
    }
    if granted.nice.is_ok() {
        // It was permitted before; if not any more, the thread works on at the priority that it has.
        let _ = set_nice(NICE);
    }
}

/// What the recorder runs with, in words, for manifest and summary.
pub fn describe() -> String {
    match GRANTED.get() {
        None => "ordinary".to_owned(),
        Some(Granted { realtime: Ok(()), .. }) => format!(
            "SCHED_RR {PRIORITY} for start, clock, draining and building (at most {:.0} % of a CPU each), nice {NICE} for encoding",
            REALTIME_SHARE * 100.0
        ),
        Some(Granted { realtime: Err(why), nice: Ok(()), .. }) => format!("nice {NICE}, no real-time class ({why})"),
        Some(Granted { realtime: Err(why), nice: Err(_), .. }) => format!("ordinary, no real-time class ({why})"),
    }
}

fn set_realtime() -> Result<(), String> {
    set_policy(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK)
}

fn set_policy(policy: i32) -> Result<(), String> {
    let param = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: a valid parameter; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &param) } == 0 {
        return Ok(());
    }
    Err(match std::io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::EPERM) => {
            "not permitted: CAP_SYS_NICE is missing, or the cgroup has no real-time budget".to_owned()
        }
        e => e.to_string(),
    })
}

fn set_nice(nice: i32) -> Result<(), String> {
    // SAFETY: no pointers; on Linux, 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
}

fn set_ordinary() {
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid parameter; 0 is the calling thread. Giving up a class is always permitted.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, &param) };
}

/// Watches what a real-time thread takes, and makes it an ordinary one for as long as that is too much.
#[derive(Debug)]
pub struct Governor {
    since: Instant,
    cpu_ns: u64,
    demoted: bool,
}

impl Governor {
    /// For the calling thread.
    pub fn new() -> Governor {
        Governor { since: Instant::now(), cpu_ns: clock_ns(libc::CLOCK_THREAD_CPUTIME_ID), demoted: false }
    }

    /// To be called often by the thread.
    pub fn look(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed < PERIOD {
            return;
        }
        let cpu_ns = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID);
        let share = (cpu_ns - self.cpu_ns) as f64 / elapsed.as_nanos() as f64;
        (self.since, self.cpu_ns) = (Instant::now(), cpu_ns);
        if share > REALTIME_SHARE && !self.demoted {
            enter(Class::Favoured);
            self.demoted = true;
        } else if share <= REALTIME_SHARE && self.demoted {
            enter(Class::RealTime);
            self.demoted = false;
        }
    }
}

/// Keeps in memory whatever the process has touched and will touch: under memory pressure a recorder whose code is read from disk again
/// loses events, and reads more than it writes. Only with CAP_IPC_LOCK: with the ordinary limit, later allocations would fail.
pub fn lock_memory() -> Result<(), String> {
    if !crate::check::has_capability(CAP_IPC_LOCK) {
        return Err("CAP_IPC_LOCK is missing".to_owned());
    }
    // SAFETY: no pointers.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}

/// The opposite of [`lock_memory`]: the kernel may take memory back.
pub fn unlock_memory() {
    // SAFETY: no preconditions.
    unsafe { libc::munlockall() };
}

/// Asks the kernel to kill others first when memory is short. To be called after COMMAND was forked, which would inherit it.
pub fn be_killed_late() -> Result<(), String> {
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: no pointers; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn the_class_is_not_inherited_and_is_taken_away_from_who_takes_too_much() {
        if set_realtime().is_err() {
            return;
        }
        let _ = GRANTED.set(Granted { before: Before::of_this_thread(), realtime: Ok(()), nice: Ok(()) });
        assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
        assert_eq!(std::thread::spawn(policy).join().ok(), Some(libc::SCHED_OTHER));
        {
            let _inherited = Inherited::begin();
            assert_eq!(std::thread::spawn(policy).join().ok(), Some(libc::SCHED_RR));
        }
        assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
        let of = |class| spawn(class, "ebrec-test", policy).ok().and_then(|thread| thread.join().ok());
        assert_eq!(of(Class::RealTime), Some(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK));
        assert_eq!(of(Class::Favoured).map(|policy| policy & !libc::SCHED_RESET_ON_FORK), Some(libc::SCHED_OTHER));
        let mut governor = Governor::new();
        let spin = |long: Duration| {
            let began = Instant::now();
            while began.elapsed() < long {
                std::hint::spin_loop();
            }
        };
        spin(PERIOD + Duration::from_millis(5));
        governor.look();
        assert_eq!(policy(), libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK);
        std::thread::sleep(PERIOD + Duration::from_millis(5));
        governor.look();
        assert_eq!(policy(), libc::SCHED_RR | libc::SCHED_RESET_ON_FORK);
        set_ordinary();
    }
}
