//! Threads created and joined.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Barrier};

/// `threads [N]`: all alive at once, then joined.
pub fn run(args: &Args) -> Result<Value> {
    let count = args.number_at(0, 8)? as usize;
    let all_alive = Arc::new(Barrier::new(count));
    let mut running = Vec::new();
    for index in 0..count {
        let all_alive = Arc::clone(&all_alive);
        let work = move || -> Result<Value> {
            let truth = json!({ "tid": sys::gettid(), "comm": sys::comm()?, "index": index });
            all_alive.wait();
            Ok(truth)
        };
        let thread = std::thread::Builder::new().name(format!("wl-thread-{index}"));
        running.push(thread.spawn(work).context(format!("create thread {index}"))?);
    }
    let mut threads = Vec::new();
    for thread in running {
        threads.push(thread.join().ok().context("a thread panicked")??);
    }
    // A join returns a little before the kernel is done with the thread: wait until its exit has really happened.
    for thread in &threads {
        let task = format!("/proc/self/task/{}", thread["tid"]);
        sys::wait_until("a joined thread is gone", || Ok(!Path::new(&task).exists()))?;
    }
    Ok(json!({ "count": threads.len(), "threads": threads }))
}
