//! System calls of known number, result and duration, made one by one.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{BufRead, PipeReader, Read, Write};
use std::path::Path;

/// What a call returns each time.
#[derive(Clone, Copy)]
enum Returns {
    This(i64),
    /// An address.
    Any,
}

/// A call: name, number, arguments, what it returns.
struct Call(&'static str, i64, [usize; 4], Returns);

/// What the child has at hand for its calls.
struct Things {
    zero: usize,
    null: usize,
    buffer: [u8; 512],
}

/// The number of calls and results of the child are these, and it makes no others in between.
fn known(things: &mut Things) -> Vec<Call> {
    use Returns::{Any, This};
    let buffer = things.buffer.as_mut_ptr().expose_provenance();
    let (zero, null) = (things.zero, things.null);
    let nowhere = c"/there-is-nothing".as_ptr().expose_provenance();
    let at_cwd = libc::AT_FDCWD as isize as usize;
    let none = -1_isize as usize;
    let errno = |errno: i32| This(-i64::from(errno));
    // SAFETY: these take no arguments and cannot fail.
    let (pid, tid, ppid, uid, euid, gid, egid) =
        unsafe { (libc::getpid(), libc::gettid(), libc::getppid(), libc::getuid(), libc::geteuid(), libc::getgid(), libc::getegid()) };
    // SAFETY: no pointers.
    let (group, session) = unsafe { (libc::getpgid(0), libc::getsid(0)) };
    vec![
        Call("getpid", libc::SYS_getpid, [0; 4], This(pid.into())),
        Call("gettid", libc::SYS_gettid, [0; 4], This(tid.into())),
        Call("getppid", libc::SYS_getppid, [0; 4], This(ppid.into())),
        Call("getuid", libc::SYS_getuid, [0; 4], This(uid.into())),
        Call("geteuid", libc::SYS_geteuid, [0; 4], This(euid.into())),
        Call("getgid", libc::SYS_getgid, [0; 4], This(gid.into())),
        Call("getegid", libc::SYS_getegid, [0; 4], This(egid.into())),
        Call("getpgid", libc::SYS_getpgid, [0; 4], This(group.into())),
        Call("getsid", libc::SYS_getsid, [0; 4], This(session.into())),
        Call("read", libc::SYS_read, [zero, buffer, 100, 0], This(100)),
        Call("read", libc::SYS_read, [none, buffer, 100, 0], errno(libc::EBADF)),
        Call("write", libc::SYS_write, [null, buffer, 50, 0], This(50)),
        Call("write", libc::SYS_write, [null, buffer, 7, 0], This(7)),
        Call("openat", libc::SYS_openat, [at_cwd, nowhere, 0, 0], errno(libc::ENOENT)),
        Call("close", libc::SYS_close, [none, 0, 0, 0], errno(libc::EBADF)),
        Call("lseek", libc::SYS_lseek, [zero, 0, 0, 0], This(0)),
        Call("fstat", libc::SYS_fstat, [zero, buffer, 0, 0], This(0)),
        Call("fcntl", libc::SYS_fcntl, [none, libc::F_GETFD as usize, 0, 0], errno(libc::EBADF)),
        Call("sched_yield", libc::SYS_sched_yield, [0; 4], This(0)),
        Call("uname", libc::SYS_uname, [buffer, 0, 0, 0], This(0)),
        Call("getrandom", libc::SYS_getrandom, [buffer, 16, 0, 0], This(16)),
        Call("kill", libc::SYS_kill, [pid as usize, 0, 0, 0], This(0)),
        Call("kill", libc::SYS_kill, [pid as usize, 1000, 0, 0], errno(libc::EINVAL)),
        Call("mprotect", libc::SYS_mprotect, [1, 1, 0, 0], errno(libc::EINVAL)),
        Call("munmap", libc::SYS_munmap, [1, 1, 0, 0], errno(libc::EINVAL)),
        Call("brk", libc::SYS_brk, [0; 4], Any),
    ]
}

/// Makes a call; the result as the kernel returns it.
fn make(call: &Call) -> i64 {
    let [a, b, c, d] = call.2;
    // SAFETY: the arguments are numbers, or point to memory that is large enough and outlives the call; calls with bad
    // arguments fail.
    let returned = unsafe { libc::syscall(call.1, a, b, c, d) };
    if returned == -1 { -i64::from(sys::errno()) } else { returned }
}

/// `calls [N] [--sleeps N]`: N of each from a child, then sleeps of a known length.
pub fn run(args: &Args) -> Result<Value> {
    let (times, sleeps) = (args.number_at(0, 100)?, args.number_or("sleeps", 10)?);
    let (truth, mut report) = sys::pipe()?;
    let child = sys::fork(move || {
        let (zero, null) = (std::fs::File::open("/dev/zero").context("open /dev/zero")?, sys::open_rw(Path::new("/dev/null"))?);
        use std::os::fd::AsRawFd;
        let mut things = Things { zero: zero.as_raw_fd() as usize, null: null.as_raw_fd() as usize, buffer: [0; 512] };
        let calls = known(&mut things);
        let mut wrong = Vec::with_capacity(1);
        let nap = libc::timespec { tv_sec: 0, tv_nsec: 3_000_000 };
        let start = sys::boot_ns()?;
        for _ in 0..times {
            for call in &calls {
                let returned = make(call);
                if matches!(call.3, Returns::This(expected) if expected != returned) && wrong.is_empty() {
                    wrong.push((call.0, returned));
                }
            }
        }
        for _ in 0..sleeps {
            // SAFETY: the timespec outlives the call; nothing is asked back.
            unsafe { libc::syscall(libc::SYS_nanosleep, &raw const nap, 0) };
        }
        let end = sys::boot_ns()?;
        if let Some((name, returned)) = wrong.pop() {
            return fail(format!("{name} returned {returned}"));
        }
        let calls: Vec<Value> = calls
            .iter()
            .map(|Call(name, nr, _, returns)| {
                let ret = if let Returns::This(ret) = returns { Some(*ret) } else { None };
                json!({ "name": name, "nr": nr, "ret": ret, "count": times })
            })
            .chain([json!({ "name": "nanosleep", "nr": libc::SYS_nanosleep, "ret": 0, "count": sleeps, "least_ns": nap.tv_nsec })])
            .collect();
        sys::send_line(&mut report, &json!({ "tid": sys::gettid(), "start_boot_ns": start, "end_boot_ns": end, "calls": calls }))?;
        Ok(0)
    })?;
    let mut lines = sys::read_lines(truth)?;
    sys::wait_ok(child)?;
    let mut truth = lines.pop().context("the child told nothing")?;
    truth["compat"] = compat(times)?;
    Ok(truth)
}

/// Calls of the 32-bit ABI from 64-bit code, whose numbers mean other calls: getpid is 20, which is writev in the other.
/// Null where the kernel has no such ABI.
#[cfg(target_arch = "x86_64")]
fn compat(times: u64) -> Result<Value> {
    let child = sys::fork(move || {
        let pid = sys::getpid();
        for _ in 0..times {
            let mut result = 20_i32;
            // SAFETY: getpid takes no arguments and changes nothing but eax; the kernel may clear r8 to r11.
            unsafe {
                std::arch::asm!("int 0x80", inout("eax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
            }
            if result != pid {
                return fail(format!("getpid of the 32-bit ABI returned {result}"));
            }
        }
        Ok(0)
    })?;
    let status = sys::wait(child)?;
    // Without the ABI the instruction is a fault.
    if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV {
        return Ok(Value::Null);
    }
    if status != 0 {
        return fail(format!("the child with calls of the 32-bit ABI ended with wait status {status:#x}"));
    }
    Ok(json!({ "pid": child, "wrong_name": "writev", "count": times }))
}

#[cfg(not(target_arch = "x86_64"))]
fn compat(_: u64) -> Result<Value> {
    Ok(Value::Null)
}

/// `calls-hold`: a child that waits in read() from the start, and lines on stdin: `release` lets it go on to its exit, `block` makes
/// another one that waits until the end, `quit`.
pub fn hold(_: &Args) -> Result<Value> {
    let (early_hold, mut early_release) = sys::pipe()?;
    let early = waiting(early_hold)?;
    sys::wait_until("the first child waits", || in_read(early))?;
    eprintln!("ready");
    let (late_hold, _late_release) = sys::pipe()?;
    let mut late_hold = Some(late_hold);
    let mut late = None;
    let mut released = (0, 0);
    for line in std::io::stdin().lock().lines() {
        match line.context("stdin")?.as_str() {
            "release" => {
                let before = sys::boot_ns()?;
                early_release.write_all(b"x").context("release")?;
                sys::wait_ok(early)?;
                released = (before, sys::boot_ns()?);
                eprintln!("done release");
            }
            "block" => {
                let child = waiting(late_hold.take().context("only one")?)?;
                sys::wait_until("the second child waits", || in_read(child))?;
                late = Some((child, sys::boot_ns()?));
                eprintln!("done block");
            }
            "quit" => break,
            other => return fail(format!("unknown order '{other}'")),
        }
    }
    let (late, blocked_before) = late.context("never told to block")?;
    // It has the pipe's other end, too, so that closing ours would not end its wait.
    // SAFETY: no pointers; it is our child, not waited for yet.
    sys::check("kill", unsafe { libc::kill(late, libc::SIGKILL) })?;
    sys::wait(late)?;
    eprintln!("done quit");
    Ok(json!({ "early": early, "late": late, "released_boot_ns": [released.0, released.1], "blocked_before_boot_ns": blocked_before }))
}

fn waiting(mut hold: PipeReader) -> Result<i32> {
    sys::fork(move || {
        let got = hold.read(&mut [0]).context("read")?;
        Ok(if got == 1 { 0 } else { sys::HELPER_FAILED })
    })
}

/// Whether a process sleeps in read(): /proc/PID/syscall begins with the number.
fn in_read(pid: i32) -> Result<bool> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    if text.is_empty() {
        // A kernel without it: sleeping is all that can be seen.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("stat")?;
        return Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')));
    }
    Ok(text.split(' ').next() == Some(&libc::SYS_read.to_string()))
}
