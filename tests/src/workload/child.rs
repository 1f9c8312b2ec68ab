//! What a process does after `exec` has made it this program again: report itself, then end as it was told.
//!
//! It is told by the environment, so that its argument vector is free to be anything.

use crate::sys;
use ebrec_tests::{Context, Error, Result, fail};
use serde_json::json;
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::FromRawFd;

/// Says how to end: see [`Ending`].
pub const ENDING: &str = "EBREC_WORKLOAD_ENDING";
/// Number of the inherited descriptor to report to.
pub const REPORT_FD: &str = "EBREC_WORKLOAD_REPORT_FD";

/// How a child ends.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// `exit_group` with a code.
    Exit(i32),
    /// Kills itself, without a core dump unless `core`.
    Signal {
        /// Number of the signal.
        signal: i32,
        /// Whether a core dump is allowed.
        core: bool,
    },
    /// The leader ends alone with `leader`; when it is a zombie, a second thread ends with `thread`:
    /// by `exit_group` if `group`, else alone.
    LeaderFirst {
        /// Exit code of the leader.
        leader: i32,
        /// Exit code of the other thread.
        thread: i32,
        /// Whether the other thread ends the whole process.
        group: bool,
    },
}

impl Ending {
    /// As text for [`ENDING`].
    pub fn text(self) -> String {
        match self {
            Self::Exit(code) => format!("exit {code}"),
            Self::Signal { signal, core } => format!("signal {signal} {}", i32::from(core)),
            Self::LeaderFirst { leader, thread, group } => {
                format!("leader-first {leader} {thread} {}", i32::from(group))
            }
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<i32> = words.filter_map(|word| word.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            ("exit", &[code]) => Ok(Self::Exit(code)),
            ("signal", &[signal, core]) => Ok(Self::Signal { signal, core: core != 0 }),
            ("leader-first", &[leader, thread, group]) => Ok(Self::LeaderFirst { leader, thread, group: group != 0 }),
            _ => fail(format!("{ENDING}='{text}' is not understood")),
        }
    }

    /// Whether this may lead to that wait status.
    pub fn fits(self, status: i32) -> bool {
        const CORE_DUMPED: i32 = 0x80;
        match self {
            Self::Exit(code) => status == code << 8,
            Self::Signal { signal, .. } => status & !CORE_DUMPED == signal,
            Self::LeaderFirst { thread, group: true, .. } => status == thread << 8,
            // Kernels before 6.0 give the parent the code of the leader, later ones that of the last thread.
            Self::LeaderFirst { leader, thread, group: false } => status == leader << 8 || status == thread << 8,
        }
    }
}

/// Ends this process if it is such a child; `None` if it is not.
pub fn run_if_asked() -> Option<Result<Infallible>> {
    let ending = std::env::var(ENDING).ok()?;
    Some(report_and_end(&ending))
}

fn report_and_end(ending: &str) -> Result<Infallible> {
    let ending = Ending::parse(ending)?;
    let fd: i32 = std::env::var(REPORT_FD).ok().and_then(|fd| fd.parse().ok()).context("no report descriptor")?;
    // SAFETY: the parent left this descriptor open for us, and nobody else here uses it.
    let mut report = unsafe { File::from_raw_fd(fd) };
    let cmdline = std::fs::read("/proc/self/cmdline").context("read /proc/self/cmdline")?;
    // Every argument ends with a NUL; an empty one is only its NUL.
    let args: Vec<String> = cmdline.split_inclusive(|&b| b == 0).map(|arg| sys::hex(&arg[..arg.len() - 1])).collect();
    sys::send_line(
        &mut report,
        &json!({
            "comm": sys::comm()?, "cmdline": args, "start_ticks": sys::start_ticks(sys::getpid())?,
        }),
    )?;
    match ending {
        Ending::Exit(code) => sys::exit_now(code),
        Ending::Signal { signal, core } => die_by(signal, core),
        Ending::LeaderFirst { leader, thread, group } => leave_first(leader, thread, group, report),
    }
}

fn die_by(signal: i32, core: bool) -> Result<Infallible> {
    let bytes = if core { libc::RLIM_INFINITY } else { 0 };
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` lives across the call.
    sys::check("setrlimit(RLIMIT_CORE)", unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) })?;
    // Rust's runtime handles SIGSEGV and ignores SIGPIPE; SIGKILL's disposition cannot be set, and needs not.
    // SAFETY: the default action replaces whatever handler there is.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: signals this process only.
    sys::check("kill", unsafe { libc::kill(sys::getpid(), signal) })?;
    Err(Error::new(format!("signal {signal} did not end the process")))
}

fn leave_first(leader: i32, thread: i32, group: bool, mut report: File) -> Result<Infallible> {
    let pid = sys::getpid();
    std::thread::spawn(move || {
        let outcome = (|| {
            // /proc/thread-self, because /proc/self stops working once the leader is gone.
            sys::send_line(&mut report, &json!({ "thread": sys::gettid() }))?;
            let stat = format!("/proc/{pid}/task/{pid}/stat");
            sys::wait_until("the leader is a zombie", || Ok(std::fs::read_to_string(&stat).context(&stat)?.contains(") Z ")))
        })();
        if let Err(why) = outcome {
            eprintln!("ebrec-workload: thread that outlives its leader: {why}");
            sys::exit_now(sys::HELPER_FAILED);
        }
        drop(report);
        if group {
            sys::exit_now(thread);
        }
        exit_this_thread(thread)
    });
    exit_this_thread(leader)
}

/// What pthread_exit asks of the kernel, with a code, and without unwinding Rust's frames.
fn exit_this_thread(code: i32) -> ! {
    // SAFETY: ends this thread for good; its stack is never used again and the process is about to end.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    sys::exit_now(sys::HELPER_FAILED)
}
