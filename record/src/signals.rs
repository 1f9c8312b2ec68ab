//! Signals as events of the main loop, and the command that is recorded.

use crate::scheduling::Before;
use anyhow::{Context, Result};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// What some signals did when the program was started; COMMAND is to have the same.
#[derive(Debug, Clone, Copy)]
pub struct Inherited {
    sigchld: libc::sighandler_t,
    sigxfsz: libc::sighandler_t,
}

/// Receives SIGINT, SIGTERM, SIGHUP and SIGCHLD from a descriptor instead of a handler.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    inherited: Inherited,
}

impl Signals {
    /// Blocks the signals in this thread and those it starts. Call before any is started. A SIGHUP that is ignored (nohup) stays ignored.
    pub fn block() -> Result<Signals> {
        // SAFETY: sigset_t is plain data that sigemptyset makes valid; the set outlives the calls. No handler of ours is replaced.
        let (fd, inherited) = unsafe {
            let mut hangup: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGHUP, std::ptr::null(), &mut hangup);
            let inherited = Inherited {
                // Ignored, it would have the kernel reap COMMAND and say nothing of it.
                sigchld: libc::signal(libc::SIGCHLD, libc::SIG_DFL),
                // A capture that gets too large (RLIMIT_FSIZE) is an error of writing, not a reason to die.
                sigxfsz: libc::signal(libc::SIGXFSZ, libc::SIG_IGN),
            };
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD] {
                libc::sigaddset(&mut set, signal);
            }
            if hangup.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(&mut set, libc::SIGHUP);
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            // Blocked, it lets a recorder in the background write to a terminal that doesn't want that (stty tostop), instead of stopping it.
            libc::sigaddset(&mut set, libc::SIGTTOU);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            (fd, inherited)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot receive signals");
        }
        // SAFETY: the descriptor was just returned to us and nobody else owns it.
        Ok(Signals { fd: unsafe { OwnedFd::from_raw_fd(fd) }, inherited })
    }

    /// What COMMAND is to be given back.
    pub fn inherited(&self) -> Inherited {
        self.inherited
    }

    /// The next signal, if one comes within `timeout`.
    pub fn wait(&self, timeout: Duration) -> Option<i32> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&mut poll, 1, millis) } <= 0 {
            return None;
        }
        // SAFETY: signalfd_siginfo is plain numbers, for which zero is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` is `size` bytes long.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), std::ptr::from_mut(&mut info).cast(), size) };
        (n == size as isize).then_some(info.ssi_signo as i32)
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It exited.
    Exited {
        /// The command's name.
        name: String,
        /// Its exit status.
        code: u8,
    },
    /// A signal killed it.
    Killed {
        /// The command's name.
        name: String,
        /// The signal.
        signal: i32,
    },
    /// It could not be executed.
    NotStarted {
        /// The command's name.
        name: String,
        /// What execvp(3) said.
        errno: i32,
    },
}

impl Status {
    /// The exit status that a shell has for it: 127 not found, 126 not executable, 128 and the signal.
    pub fn code(&self) -> u8 {
        match self {
            Status::Exited { code, .. } => *code,
            Status::Killed { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Status::NotStarted { errno: libc::ENOENT, .. } => 127,
            Status::NotStarted { .. } => 126,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Exited { name, code } => write!(f, "{name} exited with {code}"),
            Status::Killed { name, signal } => write!(f, "{name} was killed by signal {signal}"),
            Status::NotStarted { name, errno } => {
                write!(f, "{name} cannot be executed: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

/// A command that waits to be started.
#[derive(Debug)]
pub struct Command {
    /// Its process.
    pub pid: i32,
    go: Option<OwnedFd>,
    /// Where the child writes the errno if the command can't be executed; execvp closes its end.
    failure: OwnedFd,
    name: String,
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut pipe = [0; 2];
    // SAFETY: an array of two descriptors to write to.
    if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot make a pipe");
    }
    // SAFETY: both were just returned to us and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(pipe[0]), OwnedFd::from_raw_fd(pipe[1])) })
}

impl Command {
    /// Forks a child that waits. It is not the command yet, but its pid is, and can be filtered by.
    pub fn prepare(args: &[OsString], inherited: Inherited) -> Result<Command> {
        let name = args.first().map(|arg| ebrec_format::text::escape(arg.as_encoded_bytes()).into_owned()).unwrap_or_default();
        let args: Vec<CString> =
            args.iter().map(|arg| CString::new(arg.clone().into_vec())).collect::<Result<_, _>>().context("an argument contains NUL")?;
        let mut argv: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let (wait, go) = pipe()?;
        let (failure, fail) = pipe()?;
        let before = Before::get();
        // SAFETY: the child only calls async-signal-safe functions, on memory that was made before the fork.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error()).context("cannot fork");
        }
        if pid == 0 {
            // SAFETY: as above; `argv` ends with NULL. If the recorder dies or gives up, the read ends with 0.
            unsafe {
                libc::close(go.as_raw_fd());
                if let Some(before) = before {
                    before.restore();
                }
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                libc::signal(libc::SIGCHLD, inherited.sigchld);
                libc::signal(libc::SIGXFSZ, inherited.sigxfsz);
                let mut begin = 0u8;
                if libc::read(wait.as_raw_fd(), std::ptr::from_mut(&mut begin).cast(), 1) != 1 {
                    libc::_exit(127);
                }
                libc::execvp(argv[0], argv.as_ptr());
                let errno = (*libc::__errno_location()).to_ne_bytes();
                libc::write(fail.as_raw_fd(), errno.as_ptr().cast(), errno.len());
                libc::_exit(127)
            }
        }
        drop((wait, fail));
        Ok(Command { pid, go: Some(go), failure, name })
    }

    /// Lets the command begin.
    pub fn start(&mut self) {
        if let Some(go) = self.go.take() {
            // SAFETY: one byte from a valid buffer.
            unsafe { libc::write(go.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
        }
    }

    /// How it ended, if it has. Told once.
    pub fn ended(&self) -> Option<Status> {
        let mut status = 0;
        // SAFETY: `status` is valid to write to.
        if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } != self.pid {
            return None;
        }
        let name = self.name.clone();
        let mut errno = [0u8; 4];
        // SAFETY: four bytes to write to. The child has ended, so the read ends at once.
        let said = unsafe { libc::read(self.failure.as_raw_fd(), errno.as_mut_ptr().cast(), errno.len()) };
        Some(if said == errno.len() as isize {
            Status::NotStarted { name, errno: i32::from_ne_bytes(errno) }
        } else if libc::WIFSIGNALED(status) {
            Status::Killed { name, signal: libc::WTERMSIG(status) }
        } else {
            Status::Exited { name, code: libc::WEXITSTATUS(status) as u8 }
        })
    }
}
