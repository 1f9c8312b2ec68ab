//! Signals of known kinds from a known sender to known targets, with what becomes of each.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

/// A signal that the child blocks: the first stays pending, the others find it there.
const BLOCKED: i32 = libc::SIGUSR1;
/// One that it ignores.
const IGNORED: i32 = libc::SIGUSR2;
/// One that queues (and is blocked as well).
fn queued() -> i32 {
    libc::SIGRTMIN() + 1
}

/// `signals [N]`: N of each kind to a child, a fault, a timer, and the child's end.
pub fn run(args: &Args) -> Result<Value> {
    let times = args.number_at(0, 10)?;
    let (mut ready, mut tell) = sys::pipe()?;
    let (hold, release) = sys::pipe()?;
    // The parent's end must outlive the child, so it isn't moved into it.
    let release_fd = release.as_raw_fd();
    let child = sys::fork(move || {
        // SAFETY: the child's copy of a descriptor that nothing else in it uses; with it open, the end of the parent wouldn't be seen.
        unsafe { libc::close(release_fd) };
        prepare_target()?;
        tell.write_all(b"r").context("tell the parent")?;
        // Until the parent kills it.
        let mut hold = hold;
        let _ = hold.read(&mut [0]);
        Ok(sys::HELPER_FAILED)
    })?;
    ready.read_exact(&mut [0]).context("wait for the child")?;

    let mut sent = Vec::new();
    let mut row = |signal: i32, code: &str, is_group: bool, results: Vec<&str>, from: i32, to: i32| {
        sent.push(json!({ "signal": signal, "code": code, "is_group": is_group, "results": results, "sender": from, "target": to }));
    };
    let me = sys::getpid();
    for _ in 0..times {
        // SAFETY: kill and sigqueue take no pointers but an integer in the union's place.
        unsafe {
            sys::check("kill", libc::kill(child, BLOCKED))?;
            sys::check("kill", libc::kill(child, IGNORED))?;
            let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(1) };
            sys::check("sigqueue", libc::sigqueue(child, queued(), value))?;
        }
    }
    let times = times as usize;
    let pending = std::iter::once("delivered").chain(std::iter::repeat("already_pending")).take(times).collect();
    row(BLOCKED, "SI_USER", true, pending, me, child);
    row(IGNORED, "SI_USER", true, vec!["ignored"; times], me, child);
    row(queued(), "SI_QUEUE", true, vec!["delivered"; times], me, child);
    // SAFETY: no pointers. To the thread, not the process: its own pending set.
    sys::check("tgkill", unsafe { libc::syscall(libc::SYS_tgkill, child, child, BLOCKED) })?;
    row(BLOCKED, "SI_TKILL", false, vec!["delivered"], me, child);
    // SAFETY: no pointers.
    sys::check("kill", unsafe { libc::kill(child, libc::SIGTERM) })?;
    row(libc::SIGTERM, "SI_USER", true, vec!["delivered"], me, child);
    let status = sys::wait(child)?;
    drop(release);
    if !libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != libc::SIGTERM {
        return fail(format!("the child ended with wait status {status:#x}"));
    }
    // Nobody handles it, so it is dropped on its way.
    row(libc::SIGCHLD, "CLD_KILLED", true, vec!["ignored"], child, me);

    let faulty = sys::fork(fault)?;
    let status = sys::wait(faulty)?;
    if !libc::WIFSIGNALED(status) || libc::WTERMSIG(status) != libc::SIGSEGV {
        return fail(format!("the faulty child ended with wait status {status:#x}"));
    }
    row(libc::SIGSEGV, "SEGV_MAPERR", false, vec!["delivered"], faulty, faulty);
    row(libc::SIGCHLD, "CLD_KILLED", true, vec!["ignored"], faulty, me);
    Ok(json!({ "sent": sent }))
}

fn prepare_target() -> Result<()> {
    // SAFETY: an all-zero set is initialised by sigemptyset; the pointers live across the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, BLOCKED);
        libc::sigaddset(&raw mut set, queued());
        sys::check("sigprocmask", libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        if libc::signal(IGNORED, libc::SIG_IGN) == libc::SIG_ERR {
            return Err(ebrec_tests::Error::os("signal"));
        }
    }
    Ok(())
}

/// Writes where nothing is mapped.
fn fault() -> Result<i32> {
    let nothing = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit reads a struct that lives across the call. What follows kills the process, which is the point: Rust's own
    // handler (for stack overflows) would only add a second signal, so it goes first.
    unsafe {
        sys::check("setrlimit", libc::setrlimit(libc::RLIMIT_CORE, &raw const nothing))?;
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        std::ptr::without_provenance_mut::<u8>(64).write_volatile(1);
    }
    Ok(sys::HELPER_FAILED)
}
