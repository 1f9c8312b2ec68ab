//! One kind of activity, as much of it as fits into a time, by one process per CPU with a name of its own; and how many rows of
//! each table that makes. `tests/soak` compares recorded and lost rows with it.
//!
//! The truth is exact for a recorder that filters by the name: a process has it only while it counts.

use crate::net::Side;
use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many rows of which tables a round makes.
type Rows = &'static [(&'static str, u64)];

/// What makes a round.
type Round = Box<dyn FnMut() -> Result<()>>;

/// A kind: its name, the rows of a round, and what makes the rounds of a process.
struct Kind {
    name: &'static str,
    rows: Rows,
    prepare: fn(usize) -> Result<Round>,
}

const KINDS: &[Kind] = &[
    Kind { name: "files", rows: &[("file_open", 1), ("file_io", 4), ("file_unlink", 1)], prepare: files },
    Kind { name: "calls", rows: &[("syscall", 16)], prepare: calls },
    Kind { name: "signals", rows: &[("signal", 4)], prepare: signals },
    Kind { name: "forks", rows: &[("process_fork", 1), ("process_exec", 1), ("process_exit", 1)], prepare: forks },
    Kind {
        name: "tcp",
        rows: &[("tcp_connect", 1), ("tcp_accept", 1), ("tcp_send", 2), ("tcp_recv", 2), ("tcp_close", 2), ("tcp_connection", 2)],
        prepare: tcp,
    },
    // Its rows are what the kernel counts.
    Kind { name: "switches", rows: &[], prepare: switches },
];

/// `flood KIND [--ms N] [--rate N]`: rounds of a kind on each CPU, at most so many a second on each.
pub fn run(args: &Args) -> Result<Value> {
    let name = args.word(0).context("flood: which kind?")?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
        return fail(format!("no kind '{name}': {}", KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ")));
    };
    let length = Duration::from_millis(args.number_or("ms", 1000)?);
    let rate = args.number_or("rate", u64::MAX)?;
    let comm = CString::new(format!("wl-{name}")).context("name")?;
    let (truth, mut report) = sys::pipe()?;
    let mut children = Vec::new();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    for cpu in 0..cpus {
        let (comm, mut report) = (comm.clone(), report.try_clone().context("a pipe")?);
        children.push(sys::fork(move || {
            sys::pin(cpu)?;
            let mut round = (kind.prepare)(cpu)?;
            let (rounds, switches) = rounds(&comm, length, rate, &mut round)?;
            let mut rows: BTreeMap<&str, u64> = kind.rows.iter().map(|(table, each)| (*table, each * rounds)).collect();
            if kind.rows.is_empty() {
                // A row as it leaves the CPU, and one as it comes back.
                rows.insert("sched_switch", 2 * switches);
            }
            sys::send_line(&mut report, &json!({ "rounds": rounds, "rows": rows }))?;
            Ok(0)
        })?);
    }
    report.flush().context("a pipe")?;
    drop(report);
    let lines = sys::read_lines(truth)?;
    for child in children {
        sys::wait_ok(child)?;
    }
    let mut rows: BTreeMap<String, u64> = BTreeMap::new();
    for (table, count) in lines.iter().filter_map(|line| line["rows"].as_object()).flatten() {
        *rows.entry(table.clone()).or_default() += count.as_u64().unwrap_or_default();
    }
    let rounds: u64 = lines.iter().filter_map(|line| line["rounds"].as_u64()).sum();
    Ok(json!({ "kind": name, "comm": format!("wl-{name}"), "processes": cpus, "rounds": rounds, "rows": rows }))
}

/// Makes rounds under the name; returns how many, and how often the process left its CPU meanwhile.
fn rounds(comm: &CString, length: Duration, rate: u64, round: &mut dyn FnMut() -> Result<()>) -> Result<(u64, u64)> {
    let mut done = 0_u64;
    let clock = Instant::now();
    // Between the two names nothing is done but the rounds: no output, no memory from the kernel.
    let before = named(comm)?;
    while clock.elapsed() < length {
        if (done as f64) < clock.elapsed().as_secs_f64() * rate as f64 {
            round()?;
            done += 1;
        } else {
            nap(200_000)?;
        }
    }
    let after = named(c"wl-done")?;
    Ok((done, after - before))
}

/// Takes a name; returns how often the process had left its CPU then. Fails if it did so in that very moment: which name it had is
/// not known then.
fn named(comm: &std::ffi::CStr) -> Result<u64> {
    let before = switches_so_far()?;
    sys::set_comm(comm)?;
    if switches_so_far()? == before { Ok(before) } else { fail("interrupted while taking a name; try again") }
}

fn switches_so_far() -> Result<u64> {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives across the call.
    sys::check("getrusage", unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) })?;
    Ok((usage.ru_nvcsw + usage.ru_nivcsw) as u64)
}

/// A file that is made, written, read, and removed.
fn files(cpu: usize) -> Result<Round> {
    let path: PathBuf = std::env::temp_dir().join(format!("ebrec-flood-{}-{cpu}", sys::getpid()));
    Ok(Box::new(move || {
        let file = std::fs::File::options().create(true).truncate(true).read(true).write(true).open(&path).context("open a file")?;
        file.write_all_at(b"x", 0).context("write")?;
        file.read_exact_at(&mut [0], 0).context("read")?;
        file.set_len(0).context("truncate")?;
        std::fs::remove_file(&path).context("remove the file")
    }))
}

/// The cheapest system call.
fn calls(_: usize) -> Result<Round> {
    Ok(Box::new(|| {
        for _ in 0..16 {
            // SAFETY: no arguments; cannot fail.
            unsafe { libc::getppid() };
        }
        Ok(())
    }))
}

/// Signals to itself, which it ignores.
fn signals(_: usize) -> Result<Round> {
    let me = sys::getpid();
    // SAFETY: no handler, so nothing of ours runs in one.
    unsafe { libc::signal(libc::SIGURG, libc::SIG_IGN) };
    Ok(Box::new(move || {
        for _ in 0..4 {
            // SAFETY: no pointers.
            sys::check("kill", unsafe { libc::kill(me, libc::SIGURG) })?;
        }
        Ok(())
    }))
}

/// Makes a child that shares everything and ends at once, and waits for its end.
fn short_child(stack: &mut [u64]) -> Result<()> {
    extern "C" fn ends(_: *mut libc::c_void) -> libc::c_int {
        sys::exit_now(0)
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, which outlives it: this process goes on when it has ended, and it does nothing else.
    let child = unsafe { libc::clone(ends, stack.as_mut_ptr_range().end.cast(), flags, std::ptr::null_mut()) };
    sys::wait_ok(sys::check("clone", child)?)
}

/// `forks [N] [--after N]`: short children of one process, while another waits, which then makes some itself.
pub fn forks_of_two(args: &Args) -> Result<Value> {
    let (children, after) = (args.number_at(0, 1000)?, args.number_or("after", 5)?);
    let (mut gate, open) = sys::pipe()?;
    let open_fd = std::os::fd::AsRawFd::as_raw_fd(&open);
    let waiter = sys::fork(move || {
        // SAFETY: the child's copy of a descriptor that nothing else in it uses; with it open, it would not see the parent close its own.
        unsafe { libc::close(open_fd) };
        sys::set_comm(c"wl-waiter")?;
        let mut stack = vec![0_u64; 8192];
        let _ = gate.read(&mut [0]).context("wait")?;
        for _ in 0..after {
            short_child(&mut stack)?;
        }
        Ok(0)
    })?;
    let mut stack = vec![0_u64; 8192];
    for _ in 0..children {
        short_child(&mut stack)?;
    }
    drop(open);
    sys::wait_ok(waiter)?;
    Ok(json!({ "children": children, "waiter": waiter, "after": after }))
}

/// A child that ends at once; and a program that isn't there.
fn forks(_: usize) -> Result<Round> {
    let mut stack = vec![0_u64; 8192];
    Ok(Box::new(move || {
        short_child(&mut stack)?;
        let nothing: [*const libc::c_char; 1] = [std::ptr::null()];
        // SAFETY: a text that ends with NUL and two lists that end with NULL; it fails, because there is no such file.
        unsafe { libc::execve(c"/there-is-nothing".as_ptr(), nothing.as_ptr(), nothing.as_ptr()) };
        Ok(())
    }))
}

/// A connection over loopback, a byte each way, and a reset.
fn tcp(_: usize) -> Result<Round> {
    crate::net::ensure_loopback()?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let to = listener.local_addr().context("the address")?;
    Ok(Box::new(move || {
        let mut near = std::net::TcpStream::connect(to).context("connect")?;
        let (mut far, _) = listener.accept().context("accept")?;
        near.write_all(b"x").context("send")?;
        far.read_exact(&mut [0]).context("receive")?;
        far.write_all(b"y").context("send")?;
        near.read_exact(&mut [0]).context("receive")?;
        // No port stays behind in TIME_WAIT.
        let near = Side::of(near)?;
        near.reset_on_close()?;
        drop(near);
        drop(far);
        Ok(())
    }))
}

/// A sleep that is long enough for the CPU to be left.
fn switches(_: usize) -> Result<Round> {
    // SAFETY: no pointers. Without it the kernel lets a sleep last 50 us longer.
    sys::check("prctl(PR_SET_TIMERSLACK)", unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })?;
    Ok(Box::new(|| nap(20_000)))
}

fn nap(ns: i64) -> Result<()> {
    let nap = libc::timespec { tv_sec: 0, tv_nsec: ns };
    // SAFETY: the timespec outlives the call; nothing is asked back.
    sys::check("nanosleep", unsafe { libc::nanosleep(&raw const nap, std::ptr::null_mut()) })?;
    Ok(())
}
