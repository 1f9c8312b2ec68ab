//! The system calls the workloads share, each as a function that fails with a sentence. Knows no workload.

use ebrec_tests::{Context, Error, Result, fail};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Exit status of a forked helper that could not do its work; its reason is on stderr.
pub const HELPER_FAILED: i32 = 99;

/// Turns the -1 of a system call into an error that names `what` was tried.
pub fn check<N: PartialEq + From<i8>>(what: &str, returned: N) -> Result<N> {
    if returned == N::from(-1) { Err(Error::os(what)) } else { Ok(returned) }
}

/// `errno` of the last failed call.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The calling process (the kernel's tgid).
pub fn getpid() -> i32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::getpid() }
}

/// The calling thread (the kernel's pid).
pub fn gettid() -> i32 {
    // SAFETY: takes no arguments and cannot fail.
    unsafe { libc::gettid() }
}

/// Ends the process now, without any clean-up that belongs to its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return; nothing of this process is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Forks a child that does `work` and exits with the code it returns; returns the child's pid.
///
/// Call it only while the process has one thread: the child runs ordinary Rust code.
pub fn fork(work: impl FnOnce() -> Result<i32>) -> Result<i32> {
    // SAFETY: the process has a single thread, so no lock can be held by a thread that the child lacks.
    match check("fork", unsafe { libc::fork() })? {
        0 => run_and_exit(work),
        child => Ok(child),
    }
}

/// What a forked child does: `work`, then exit with its code, without any of the parent's clean-up.
///
/// It dies with its parent: helpers of a workload that failed, or was killed, must not stay behind.
pub fn run_and_exit(work: impl FnOnce() -> Result<i32>) -> ! {
    // SAFETY: no pointers.
    let tied = check("prctl(PR_SET_PDEATHSIG)", unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) });
    let code = tied.and_then(|_| work()).unwrap_or_else(|why| {
        eprintln!("ebrec-workload: helper process {}: {why}", getpid());
        HELPER_FAILED
    });
    exit_now(code)
}

/// Waits for the child and returns its raw wait status.
pub fn wait(pid: i32) -> Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` lives across the call.
        match check("waitpid", unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Ok(_) => return Ok(status),
            Err(_) if errno() == libc::EINTR => {}
            Err(why) => return Err(why),
        }
    }
}

/// Waits for a helper that must exit with 0.
pub fn wait_ok(pid: i32) -> Result<()> {
    match wait(pid)? {
        0 => Ok(()),
        status => fail(format!("helper process {pid} ended with wait status {status:#x}")),
    }
}

/// The wait status and its parts, as truth.
pub fn status_json(status: i32) -> Value {
    let exited = libc::WIFEXITED(status);
    json!({
        "wait_status": status,
        "exit_code": exited.then(|| libc::WEXITSTATUS(status)),
        "signal": (!exited).then(|| libc::WTERMSIG(status)),
        "core_dumped": !exited && libc::WCOREDUMP(status),
    })
}

/// A pipe whose ends are closed on exec.
pub fn pipe() -> Result<(PipeReader, PipeWriter)> {
    std::io::pipe().context("pipe")
}

/// Names the calling thread.
pub fn set_comm(comm: &std::ffi::CStr) -> Result<()> {
    // SAFETY: the kernel reads at most 16 bytes of a NUL-terminated string.
    check("prctl(PR_SET_NAME)", unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) })?;
    Ok(())
}

/// The name of the calling thread.
pub fn comm() -> Result<String> {
    let comm = std::fs::read("/proc/thread-self/comm").context("read /proc/thread-self/comm")?;
    Ok(String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned())
}

/// The time of a clock in ns.
pub fn clock_ns(clock: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives across the call.
    check("clock_gettime", unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Boot time now, in ns.
pub fn boot_ns() -> Result<u64> {
    clock_ns(libc::CLOCK_BOOTTIME)
}

/// This moment on the three clocks, as truth.
pub fn mark() -> Result<Value> {
    Ok(json!({
        "real_ns": clock_ns(libc::CLOCK_REALTIME)?,
        "boot_ns": boot_ns()?,
        "mono_ns": clock_ns(libc::CLOCK_MONOTONIC)?,
    }))
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as usize {
        return fail(format!("there is no CPU {cpu}"));
    }
    // SAFETY: `cpu` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` lives across the call and its size is given.
    let pinned = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    check(&format!("pin to CPU {cpu}"), pinned)?;
    Ok(())
}

/// The first CPU this process may run on.
pub fn first_cpu() -> Result<usize> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` lives across the call and its size is given.
    check("sched_getaffinity", unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) })?;
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: the index is below CPU_SETSIZE.
        .find(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .context("no CPU is allowed")
}

/// Start time of a process in clock ticks since boot, as field 22 of /proc/PID/stat has it.
pub fn start_ticks(pid: i32) -> Result<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).context(format!("read /proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    // The comm in parentheses may hold anything, so count the fields behind its end: state is the 3rd.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().nth(19).context(format!("/proc/{pid}/stat is short"))?;
    ticks.parse().context(format!("start time in /proc/{pid}/stat"))
}

/// Bytes as lower-case hexadecimal: JSON strings cannot hold what is not UTF-8.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a JSON value as one line, in one piece: several processes may write to one pipe.
pub fn send_line(to: &mut impl Write, value: &Value) -> Result<()> {
    to.write_all(format!("{value}\n").as_bytes()).context("write to a pipe")
}

/// Reads all lines of a pipe as JSON values, until its last writer is gone.
pub fn read_lines(mut from: impl Read) -> Result<Vec<Value>> {
    let mut text = String::new();
    from.read_to_string(&mut text).context("read from a pipe")?;
    text.lines().map(|line| serde_json::from_str(line).context("a line from a helper process")).collect()
}

/// Polls until `done`; fails with `what` after ten seconds.
pub fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(10);
    while !done()? {
        if Instant::now() > patience {
            return fail(format!("waited 10 s in vain until {what}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Opens a file for reading and writing.
pub fn open_rw(path: &Path) -> Result<File> {
    File::options().read(true).write(true).open(path).context(format!("open {}", path.display()))
}
