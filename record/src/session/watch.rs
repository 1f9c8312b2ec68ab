//! The supervisor: owns the clock, the signals, and when everything is detached. It never waits for a disk, a queue, or another thread without a
//! limit, and looks at the signals while it waits.

use crate::cli::Record;
use crate::drain::Counters;
use crate::report::Progress;
use crate::signals::{Command, Signals, Status};
use crate::store::Gauge;
use crate::talk::say;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks at what can't wake it up.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long what was recorded may take to get to the disk without the disk taking anything, before the recorder gives up.
const DISK_PATIENCE: Duration = Duration::from_secs(60);
/// After so long it says what it waits for.
const SAY_AFTER: Duration = Duration::from_secs(2);
/// How long everything may take that is still done after the second signal.
const FORCED_PATIENCE: Duration = Duration::from_millis(300);

/// Why a thread's result isn't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// The user wants to go at once.
    Forced,
    /// It has done nothing for too long.
    Stuck,
    /// It has panicked.
    Died,
}

/// The supervisor's state.
pub struct Supervisor {
    signals: Signals,
    gauge: Arc<Gauge>,
    /// Signals of the user so far.
    asked: u32,
    window_ended: bool,
    forced_at: Option<Instant>,
    /// Set when everything is to be done as fast as possible.
    hurry: Arc<AtomicBool>,
    /// How COMMAND ended.
    pub status: Option<Status>,
}

impl Supervisor {
    /// Takes over the signals. `hurry` is set when the user doesn't want to wait.
    pub fn new(signals: Signals, gauge: Arc<Gauge>, hurry: Arc<AtomicBool>) -> Supervisor {
        Supervisor { signals, gauge, asked: 0, window_ended: false, forced_at: None, hurry, status: None }
    }

    /// Waits for the end of the window; says what it was. `alive` is asked whether the threads that record are.
    pub fn watch(
        &mut self,
        args: &Record,
        began: Instant,
        command: Option<&Command>,
        counters: &Counters,
        alive: impl Fn() -> Result<(), &'static str>,
    ) -> String {
        let limit = args.duration.or(if command.is_some() { None } else { Some(Duration::from_secs(60)) });
        let mut progress = Progress::new(args, limit);
        let mut next = Duration::from_secs(1);
        let ended_by = loop {
            let elapsed = began.elapsed();
            if limit.is_some_and(|limit| elapsed >= limit) {
                break "duration".to_owned();
            }
            if self.gauge.failed.load(Ordering::Acquire) {
                break "write error".to_owned();
            }
            if self.gauge.full.load(Ordering::Acquire) {
                break "max-size".to_owned();
            }
            if let Err(thread) = alive() {
                break format!("thread {thread} failed");
            }
            if elapsed >= next {
                progress.show(elapsed, counters, &self.gauge);
                next = elapsed + Duration::from_secs(1);
            }
            let until = limit.map_or(next, |limit| limit.min(next)).saturating_sub(elapsed);
            match self.signals.wait(until.min(LOOK_EVERY).max(Duration::from_millis(1))) {
                Some(libc::SIGCHLD) => {
                    if let Some(status) = command.and_then(Command::ended) {
                        let how = status.to_string();
                        self.status = Some(status);
                        break how;
                    }
                }
                Some(signal) => {
                    self.asked += 1;
                    break match signal {
                        libc::SIGINT => "SIGINT".to_owned(),
                        libc::SIGTERM => "SIGTERM".to_owned(),
                        _ => "SIGHUP".to_owned(),
                    };
                }
                None => {}
            }
        };
        self.window_ended = true;
        progress.end();
        ended_by
    }

    /// Whether the user wants to go at once.
    pub fn forced(&mut self) -> bool {
        self.take_signals(Duration::ZERO);
        self.forced_at.is_some()
    }

    fn take_signals(&mut self, patience: Duration) {
        let mut patience = patience;
        while let Some(signal) = self.signals.wait(patience) {
            patience = Duration::ZERO;
            if signal == libc::SIGCHLD {
                continue;
            }
            self.asked += 1;
            if self.asked >= 2 && self.forced_at.is_none() {
                self.forced_at = Some(Instant::now());
                self.hurry.store(true, Ordering::Release);
            } else if self.asked == 1 {
                // The window had ended by itself: the user hardly wants to throw it away.
                say!("ebrec-record: the window has ended, the capture is being finished; once more stops at once");
            }
        }
    }

    /// Waits for a thread to end. What it does is done when the result is there.
    pub fn join<T>(&mut self, thread: JoinHandle<T>) -> Result<T, Unfinished> {
        let began = Instant::now();
        let (mut moved_at, mut moved) = (Instant::now(), self.gauge.moves.load(Ordering::Relaxed));
        let mut said = false;
        // A moment is enough for most, and nobody need look at the signals for it.
        let mut patience = Duration::from_micros(500);
        while !thread.is_finished() {
            if let Some(forced_at) = self.forced_at
                && forced_at.elapsed() >= FORCED_PATIENCE
            {
                self.gauge.abort.store(true, Ordering::Release);
                return Err(Unfinished::Forced);
            }
            let now_moved = self.gauge.moves.load(Ordering::Relaxed);
            if now_moved != moved {
                (moved_at, moved) = (Instant::now(), now_moved);
            }
            if moved_at.elapsed() >= DISK_PATIENCE {
                return Err(Unfinished::Stuck);
            }
            if !said && began.elapsed() >= SAY_AFTER {
                said = true;
                say!(
                    "ebrec-record: all hooks are detached; waiting for the disk to take what was recorded. Ctrl-C keeps what it has taken"
                );
                // Whoever was told what the first one does needn't press twice.
                self.asked = self.asked.max(1);
            }
            self.take_signals(patience);
            patience = (patience * 2).min(Duration::from_millis(10));
        }
        thread.join().map_err(|_| Unfinished::Died)
    }
}
