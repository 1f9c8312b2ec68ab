//! `--memory` as a limit of the whole program.
//!
//! DataFusion counts what its operators gather (sorts, groups, joins) and makes them spill. What functions make of a batch, aggregates over text and
//! the decoding of Parquet is counted by nobody, and one expression can ask for gigabytes. So the allocator counts, too. Beyond `--memory` and
//! [`RESERVE`] the thread that asks is stopped for good, and a thread of its own says so, removes what is temporary, and ends the program with
//! an error. (An allocator can't fail a query: a null pointer aborts the process, and unwinding out of an allocator is undefined.) The shell
//! begins anew instead ([`restart_instead`]).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::Thread;
use std::time::Duration;

/// What the program may take beyond `--memory`: the batches between operators, Parquet pages, the plan, results on their way out.
pub const RESERVE: usize = 512 << 20;
/// Threads count for themselves, and add up from so many bytes on.
const STEP: i64 = 64 << 10;

static USED: AtomicI64 = AtomicI64::new(0);
static LIMIT: AtomicI64 = AtomicI64::new(i64::MAX);
static REACHED: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicBool = AtomicBool::new(false);
static RESTART: AtomicBool = AtomicBool::new(false);
static WATCHER: OnceLock<Thread> = OnceLock::new();

thread_local! {
    static PENDING: Cell<i64> = const { Cell::new(0) };
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// The allocator of the program: the system's, counted.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator with the arguments it came with; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's contract is the same.
        checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's contract is the same.
        checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            take(size - layout.size());
        } else {
            give(layout.size() - size);
        }
        // SAFETY: the caller's contract is the same.
        checked(unsafe { System.realloc(at, layout, size) })
    }
}

fn take(bytes: usize) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let pending = PENDING.with(Cell::get).saturating_add(bytes);
    if pending < STEP {
        PENDING.with(|cell| cell.set(pending));
        return;
    }
    PENDING.with(|cell| cell.set(0));
    let used = USED.fetch_add(pending, Ordering::Relaxed).saturating_add(pending);
    if used > LIMIT.load(Ordering::Relaxed) {
        stop();
    }
}

fn give(bytes: usize) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let pending = PENDING.with(Cell::get).saturating_sub(bytes);
    if pending > -STEP {
        PENDING.with(|cell| cell.set(pending));
        return;
    }
    PENDING.with(|cell| cell.set(0));
    USED.fetch_add(pending, Ordering::Relaxed);
}

/// Where the system itself has no more memory, a null pointer would end in an abort.
fn checked(at: *mut u8) -> *mut u8 {
    if at.is_null() {
        FAILED.store(true, Ordering::Relaxed);
        stop();
    }
    at
}

/// Stops this thread for good and wakes the one that ends the program. Nothing here allocates.
fn stop() {
    let Some(watcher) = WATCHER.get() else { return };
    if EXEMPT.with(Cell::get) {
        return;
    }
    REACHED.store(true, Ordering::SeqCst);
    watcher.unpark();
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// This thread ends the program: it is never stopped.
pub fn exempt_this_thread() {
    EXEMPT.with(|cell| cell.set(true));
}

/// Whether the program begins anew when the limit is reached, as a shell does, instead of ending.
pub fn restart_instead(restart: bool) {
    RESTART.store(restart, Ordering::Relaxed);
}

/// From now on the whole program may take `memory` bytes and [`RESERVE`].
pub fn limit(memory: usize) {
    LIMIT.store(i64::try_from(memory.saturating_add(RESERVE)).unwrap_or(i64::MAX), Ordering::Relaxed);
}

/// Starts the thread that ends the program when the limit is reached. `failed` is the exit code.
pub fn watch(failed: u8) -> std::io::Result<()> {
    let stderr = stderr();
    let thread = std::thread::Builder::new().name("ebrec-memory".to_owned()).stack_size(1 << 20).spawn(move || {
        exempt_this_thread();
        while !REACHED.load(Ordering::SeqCst) {
            std::thread::park();
        }
        let mib = |bytes: i64| bytes >> 20;
        let (reserve, limit) = (mib(RESERVE as i64), mib(LIMIT.load(Ordering::Relaxed)));
        let why = if FAILED.load(Ordering::Relaxed) {
            format!("the system has no more, after {} MiB", mib(USED.load(Ordering::Relaxed)))
        } else {
            format!("it needs more than {limit} MiB: --memory {}M and {reserve} MiB for batches on their way", limit - reserve)
        };
        let text = format!(
            "ebrec-analyze: memory: {why}\nebrec-analyze: give it more (--memory 2G), or a shorter window (--from, --to); repeat, lpad, string_agg and the like make large text\n"
        );
        // Not through std's stderr, whose lock a stopped thread may hold. Nobody can be told that stderr is closed.
        if let Some(mut stderr) = stderr {
            let _ = stderr.write_all(text.as_bytes());
        }
        crate::ending::finish();
        if RESTART.load(Ordering::Relaxed) {
            restart();
        }
        std::process::exit(i32::from(failed));
    })?;
    WATCHER.get_or_init(|| thread.thread().clone());
    Ok(())
}

/// A descriptor of its own.
#[cfg(unix)]
fn stderr() -> Option<std::fs::File> {
    std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned().ok().map(std::fs::File::from)
}

#[cfg(not(unix))]
fn stderr() -> Option<std::io::Stderr> {
    Some(std::io::stderr())
}

/// The same program with the same arguments; returns only if that fails.
#[cfg(unix)]
fn restart() {
    if let Ok(program) = std::env::current_exe() {
        let mut args = std::env::args_os();
        let mut command = std::process::Command::new(program);
        if let Some(name) = args.next() {
            std::os::unix::process::CommandExt::arg0(&mut command, name);
        }
        let _ = std::os::unix::process::CommandExt::exec(command.args(args));
    }
}

#[cfg(not(unix))]
fn restart() {}
