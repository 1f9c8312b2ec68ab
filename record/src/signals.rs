//! Signals as events of the main loop, and the command that is recorded.

use anyhow::{Context, Result};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// Receives SIGINT, SIGTERM, SIGHUP and SIGCHLD from a descriptor instead of a handler.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the signals in this thread and those it starts. Call before any is started.
    pub fn block() -> Result<Signals> {
        // SAFETY: sigset_t is plain data that sigemptyset makes valid; the set outlives the calls.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD] {
                libc::sigaddset(&mut set, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot receive signals");
        }
        // SAFETY: the descriptor was just returned to us and nobody else owns it.
        Ok(Signals { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
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

/// A command that waits to be started.
#[derive(Debug)]
pub struct Command {
    /// Its process.
    pub pid: i32,
    go: Option<OwnedFd>,
    name: String,
}

impl Command {
    /// Forks a child that waits. It is not the command yet, but its pid is, and can be filtered by.
    pub fn prepare(args: &[OsString]) -> Result<Command> {
        let name = args.first().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
        let args: Vec<CString> =
            args.iter().map(|arg| CString::new(arg.clone().into_vec())).collect::<Result<_, _>>().context("an argument contains NUL")?;
        let mut argv: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let mut pipe = [0; 2];
        // SAFETY: an array of two descriptors to write to.
        if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error()).context("cannot make a pipe");
        }
        // SAFETY: the child only calls async-signal-safe functions, on memory that was made before the fork.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error()).context("cannot fork");
        }
        if pid == 0 {
            // SAFETY: as above; `argv` ends with NULL. If the recorder dies or gives up, the read ends with 0.
            unsafe {
                libc::close(pipe[1]);
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
                libc::signal(libc::SIGPIPE, libc::SIG_DFL);
                let mut go = 0u8;
                if libc::read(pipe[0], std::ptr::from_mut(&mut go).cast(), 1) != 1 {
                    libc::_exit(127);
                }
                libc::execvp(argv[0], argv.as_ptr());
                let message = b"ebrec-record: the command cannot be executed\n";
                libc::write(2, message.as_ptr().cast(), message.len());
                libc::_exit(127)
            }
        }
        // SAFETY: both descriptors are ours alone.
        let (read_end, go) = unsafe { (OwnedFd::from_raw_fd(pipe[0]), OwnedFd::from_raw_fd(pipe[1])) };
        drop(read_end);
        Ok(Command { pid, go: Some(go), name })
    }

    /// Lets the command begin.
    pub fn start(&mut self) {
        if let Some(go) = self.go.take() {
            // SAFETY: one byte from a valid buffer.
            unsafe { libc::write(go.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<String> {
        let mut status = 0;
        // SAFETY: `status` is valid to write to.
        if unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) } != self.pid {
            return None;
        }
        Some(if libc::WIFSIGNALED(status) {
            format!("{} was killed by signal {}", self.name, libc::WTERMSIG(status))
        } else {
            format!("{} exited with {}", self.name, libc::WEXITSTATUS(status))
        })
    }
}
