//! What must be gone before the program ends, however it ends: unfinished files, spilled data, a terminal in raw mode.
//!
//! Temporary files and directories are listed here while they exist. They go when their [`Temporary`] is dropped, when [`finish`] is called, and
//! when a signal ends the program, which then dies of that signal as if nothing had been caught. What a SIGKILL leaves is removed by a later
//! run ([`crate::engine::spill`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static RESTORE: Mutex<Option<fn()>> = Mutex::new(None);
static INTERRUPT_IS_HANDLED: AtomicBool = AtomicBool::new(false);

/// A file or directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Lists `path`, which this process has made or is about to make.
    pub fn new(path: PathBuf) -> Temporary {
        lock(&TEMPORARY).push(path.clone());
        Temporary { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
        lock(&TEMPORARY).retain(|path| *path != self.path);
    }
}

/// A list of paths stays a list of paths, whatever thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(path: &Path) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
    // A query that still runs may add a file between the listing of the directory and its removal.
    for _ in 0..20 {
        let removed = if metadata.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        if removed.is_ok() || !path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// While a screen is drawn, how the terminal is given back.
pub fn restore_terminal_with(restore: Option<fn()>) {
    *lock(&RESTORE) = restore;
}

/// Whether the shell takes Ctrl-C for the end of a statement, not of the program.
pub fn interrupt_is_handled(handled: bool) {
    INTERRUPT_IS_HANDLED.store(handled, Ordering::Relaxed);
}

/// Gives the terminal back and removes what is temporary.
pub fn finish() {
    // A thread that was stopped at the memory limit may hold a lock for ever: what can't be had soon isn't waited for.
    if let Some(restore) = soon(&RESTORE).and_then(|mut restore| restore.take()) {
        restore();
    }
    let paths = soon(&TEMPORARY).map(|mut paths| std::mem::take(&mut *paths)).unwrap_or_default();
    for path in paths {
        remove(&path);
    }
}

fn soon<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    for _ in 0..50 {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    None
}

/// From now on a signal that ends the program removes what is temporary first. A signal that was ignored when the program was started stays ignored.
#[cfg(unix)]
pub fn watch_signals() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    let (mut read, write) = UnixStream::pair()?;
    let which = Arc::new(AtomicUsize::new(0));
    let ignored = ignored_signals();
    for signal in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0) {
        let number = usize::try_from(signal).unwrap_or_default();
        // In this order: the number is there when the byte is.
        signal_hook::flag::register_usize(signal, which.clone(), number)?;
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    std::thread::Builder::new().name("ebrec-signals".to_owned()).stack_size(1 << 20).spawn(move || {
        crate::memory::exempt_this_thread();
        let mut byte = [0];
        while let Ok(1) = read.read(&mut byte) {
            let signal = i32::try_from(which.load(Ordering::SeqCst)).unwrap_or(SIGTERM);
            if signal == SIGINT && INTERRUPT_IS_HANDLED.load(Ordering::Relaxed) {
                continue;
            }
            finish();
            // Ends the program. Should it fail, the signal's number says as much in the exit code.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

/// A bit for each signal that is ignored; none where the system doesn't say.
#[cfg(unix)]
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Elsewhere the system has no signals.
#[cfg(not(unix))]
pub fn watch_signals() -> std::io::Result<()> {
    Ok(())
}
