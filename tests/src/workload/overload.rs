//! A host that has more to run than it can: hundreds of tasks that keep each other runnable, and one that calls the kernel in a loop.

use crate::args::Args;
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Passes a byte on until the other side is gone.
fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut byte = [0];
    while from.read_exact(&mut byte).is_ok() && to.write_all(&byte).is_ok() {}
}

/// `PAIRS` of threads, each of which passes a byte to and fro, and reads of one byte from /dev/zero, for so many seconds.
pub fn run(args: &Args) -> Result<Value> {
    let pairs = args.number_at(0, 200)?;
    let seconds = args.number_or("seconds", 10)?;
    let end = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let small = || std::thread::Builder::new().stack_size(64 << 10);
    for _ in 0..pairs {
        let (there, go) = std::io::pipe().context("pipe")?;
        let (back, come) = std::io::pipe().context("pipe")?;
        let stop = end.clone();
        // The first one ends when told to, and with its pipes the other.
        threads.push(small().spawn(move || {
            let (mut from, mut to, mut byte) = (back, go, [0]);
            while !stop.load(Ordering::Relaxed) && to.write_all(&byte).is_ok() && from.read_exact(&mut byte).is_ok() {}
        }));
        threads.push(small().spawn(move || pass_on(there, come)));
    }
    let mut zero = File::open("/dev/zero").context("/dev/zero")?;
    let (began, mut calls, mut byte) = (Instant::now(), 0u64, [0]);
    while began.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..1000 {
            zero.read_exact(&mut byte).context("/dev/zero")?;
        }
        calls += 1000;
    }
    end.store(true, Ordering::Relaxed);
    for thread in threads {
        let _ = thread.context("start a thread")?.join();
    }
    Ok(json!({ "pairs": pairs, "reads": calls }))
}

/// Touches `MB` of memory, page by page, again and again for so many seconds: more than there is makes a host swap.
pub fn hog(args: &Args) -> Result<Value> {
    let megabytes = args.number_at(0, 64)?;
    let seconds = args.number_or("seconds", 10)?;
    let mut memory = vec![0u8; usize::try_from(megabytes << 20).context("too much")?];
    let (began, mut rounds) = (Instant::now(), 0u64);
    while began.elapsed() < Duration::from_secs(seconds) {
        for page in memory.chunks_mut(4096) {
            page[0] = page[0].wrapping_add(1);
            if rounds > 0 && began.elapsed() >= Duration::from_secs(seconds) {
                break;
            }
        }
        rounds += 1;
    }
    Ok(json!({ "megabytes": megabytes, "rounds": rounds }))
}
