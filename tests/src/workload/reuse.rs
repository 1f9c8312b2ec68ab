//! Processes that have the same pid, one after the other.

use crate::args::Args;
use crate::net::{self, Side};
use crate::sys;
use crate::transfer::{self, RecvBy, SendBy};
use ebrec_tests::{Context, Error, Result, fail};
use serde_json::{Value, json};
use std::ffi::CString;
use std::io::PipeWriter;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// `pid-reuse [--times N] [--gap-ms N]`.
///
/// The n-th process (from 1) is called `wl-reuse-n`, sends 111 n bytes over a connection, and exits with 11 n.
pub fn run(args: &Args) -> Result<Value> {
    net::ensure_loopback()?;
    let times = args.number_or("times", 2)?.clamp(1, 20);
    let gap = Duration::from_millis(args.number_or("gap-ms", 50)?);
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let to = listener.local_addr().context("getsockname")?;
    // Somebody else may take the pid in between: then all starts again with another one.
    for _ in 0..20 {
        let mut instances: Vec<Value> = Vec::new();
        while (instances.len() as u64) < times {
            let pid = instances.first().and_then(|first| first["pid"].as_i64()).map(|pid| pid as i32);
            match live(instances.len() as u64 + 1, pid, &listener, to)? {
                Some(instance) => instances.push(instance),
                None => break,
            }
            std::thread::sleep(gap);
        }
        if instances.len() as u64 == times {
            net::wait_until_settled(&[to.port()])?;
            return Ok(json!({ "reused_pid": instances[0]["pid"], "instances": instances }));
        }
    }
    fail("other processes took the pid 20 times")
}

/// One process, from its birth (with this pid, if given) to its end; `None` if the pid is taken.
fn live(number: u64, pid: Option<i32>, listener: &TcpListener, to: SocketAddr) -> Result<Option<Value>> {
    let (reports, report) = sys::pipe()?;
    let born_after = sys::boot_ns()?;
    let work = move || be(number, to, report);
    let child = match pid {
        None => sys::fork(work)?,
        Some(pid) => match fork_as(pid, work)? {
            Some(child) => child,
            None => return Ok(None),
        },
    };
    let born_before = sys::boot_ns()?;
    let mut side = Side::accept(listener)?;
    transfer::recv(&mut side, 111 * number, 4096, RecvBy::Recv, false)?;
    transfer::recv_eof(&mut side, RecvBy::Recv)?;
    side.close()?;
    let truth = sys::read_lines(reports)?;
    let status = sys::wait(child)?;
    if status != (11 * number as i32) << 8 {
        return fail(format!("process {child} ended with wait status {status:#x}"));
    }
    let mut truth = truth.into_iter().next().context("the process did not report")?;
    truth["status"] = sys::status_json(status);
    truth["born_after_boot_ns"] = born_after.into();
    truth["born_before_boot_ns"] = born_before.into();
    truth["reaped_before_boot_ns"] = sys::boot_ns()?.into();
    truth["server"] = side.truth()?;
    Ok(Some(truth))
}

fn be(number: u64, to: SocketAddr, mut report: PipeWriter) -> Result<i32> {
    sys::set_comm(&CString::new(format!("wl-reuse-{number}")).context("name")?)?;
    let mut side = Side::connect(to)?;
    transfer::send(&mut side, 111 * number, 4096, SendBy::Send)?;
    side.close()?;
    let truth = json!({
        "pid": sys::getpid(), "comm": sys::comm()?, "start_ticks": sys::start_ticks(sys::getpid())?,
        "exit_code": 11 * number, "client": side.truth()?,
    });
    sys::send_line(&mut report, &truth)?;
    Ok(11 * number as i32)
}

/// What clone3 reads, in its second version (since 5.5).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// Forks a child that has this pid; `None` if it is taken.
fn fork_as(pid: i32, work: impl FnOnce() -> Result<i32>) -> Result<Option<i32>> {
    let args = CloneArgs { exit_signal: libc::SIGCHLD as u64, set_tid: (&raw const pid) as u64, set_tid_size: 1, ..CloneArgs::default() };
    // SAFETY: as fork (no flags, no stack), from a process with one thread; `args` and `pid` live across the call.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) } {
        -1 if sys::errno() == libc::EEXIST => Ok(None),
        -1 if sys::errno() == libc::EPERM => fail("choosing a pid needs root (CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN)"),
        -1 => Err(Error::os("clone3 with a chosen pid")),
        0 => sys::run_and_exit(work),
        child => Ok(Some(child as i32)),
    }
}
