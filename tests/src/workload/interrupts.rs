//! Traffic over loopback and a few timers, and the kernel's own counts of interrupts before and after.

use crate::{args::Args, net, sys};
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// `interrupts [SECONDS]`: what /proc/softirqs and /proc/interrupts say around it.
pub fn run(args: &Args) -> Result<Value> {
    net::ensure_loopback()?;
    let time = Duration::from_secs(args.number_at(0, 1)?);
    let before = counts()?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let mut client = TcpStream::connect(listener.local_addr().context("getsockname")?).context("connect")?;
    let (mut server, _) = listener.accept().context("accept")?;
    let clock = Instant::now();
    let mut rounds = 0_u64;
    while clock.elapsed() < time {
        client.write_all(&[1]).context("write")?;
        server.read_exact(&mut [0]).context("read")?;
        rounds += 1;
        if rounds.is_multiple_of(1000) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(json!({ "rounds": rounds, "before": before, "after": counts()? }))
}

/// Counts since boot, all CPUs together: soft interrupts by name, hardware ones by number.
fn counts() -> Result<Value> {
    let soft = table("/proc/softirqs", |name| Some(name.to_ascii_lowercase()))?;
    // The others have names (LOC, RES, ...) and no handlers.
    let hard = table("/proc/interrupts", |name| name.bytes().all(|b| b.is_ascii_digit()).then(|| name.to_owned()))?;
    Ok(json!({ "soft": soft, "hard": hard, "boot_ns": sys::boot_ns()? }))
}

fn table(path: &str, key: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, u64>> {
    let text = std::fs::read_to_string(path).context(path)?;
    let cpus = text.lines().next().map_or(0, |line| line.split_whitespace().count());
    let rows = text.lines().skip(1).filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        Some((key(name.trim())?, rest.split_whitespace().take(cpus).filter_map(|n| n.parse::<u64>().ok()).sum()))
    });
    Ok(rows.collect())
}
