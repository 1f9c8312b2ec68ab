//! Two processes on one CPU that wake each other over two pipes; the kernel counts their context switches.
//!
//! The truth per process is exact between its two marks: how often it was switched out, of its own will (it blocked)
//! or not (it was preempted). Both counters are the kernel's; a mark is taken at a moment at which they stood still.

use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::ffi::CStr;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::time::Instant;

/// `pingpong [N] [--cpu C]`.
pub fn run(args: &Args) -> Result<Value> {
    let rounds = args.number_at(0, 10_000)?;
    let cpu = args.number("cpu")?.map_or_else(sys::first_cpu, |cpu| Ok(cpu as usize))?;
    let (to_pong, from_ping) = sys::pipe()?;
    let (to_ping, from_pong) = sys::pipe()?;
    let (truth_of_ping, ping_reports) = sys::pipe()?;
    let (truth_of_pong, pong_reports) = sys::pipe()?;
    let ping = Player { comm: c"wl-ping", serves: true, rounds, cpu };
    let pong = Player { comm: c"wl-pong", serves: false, rounds, cpu };
    let pong_pid = sys::fork(move || pong.play(to_pong, from_pong, pong_reports))?;
    let ping_pid = sys::fork(move || ping.play(to_ping, from_ping, ping_reports))?;
    let mut players = sys::read_lines(truth_of_ping)?;
    players.extend(sys::read_lines(truth_of_pong)?);
    sys::wait_ok(ping_pid)?;
    sys::wait_ok(pong_pid)?;
    if players.len() != 2 {
        return fail("a player did not report");
    }
    let ns = players[0]["elapsed_ns"].as_u64().unwrap_or(0) as f64;
    Ok(json!({
        "rounds": rounds, "cpu": cpu, "ns_per_round": ns / rounds.max(1) as f64,
        "switches": players.iter().filter_map(|player| player["switches"].as_u64()).sum::<u64>(),
        "processes": players,
    }))
}

struct Player {
    comm: &'static CStr,
    serves: bool,
    rounds: u64,
    cpu: usize,
}

impl Player {
    fn play(&self, mut from: PipeReader, mut to: PipeWriter, mut report: PipeWriter) -> Result<i32> {
        sys::set_comm(self.comm)?;
        sys::pin(self.cpu)?;
        let mut ball = [7_u8];
        let (before, start) = mark()?;
        let clock = Instant::now();
        for _ in 0..self.rounds {
            if self.serves {
                to.write_all(&ball).context("write to the other player")?;
            }
            from.read_exact(&mut ball).context("read from the other player")?;
            if !self.serves {
                to.write_all(&ball).context("write to the other player")?;
            }
        }
        let elapsed_ns = clock.elapsed().as_nanos() as u64;
        let (after, end) = mark()?;
        let truth = json!({
            "pid": sys::getpid(), "tid": sys::gettid(), "comm": sys::comm()?, "cpu": self.cpu,
            "start": start, "end": end, "elapsed_ns": elapsed_ns,
            "voluntary": after.voluntary - before.voluntary,
            "involuntary": after.involuntary - before.involuntary,
            "switches": after.total() - before.total(),
            "status_agrees": status_agrees()?,
        });
        sys::send_line(&mut report, &truth)?;
        Ok(0)
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl Switches {
    fn now() -> Result<Self> {
        // SAFETY: all-zero is a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` lives across the call.
        sys::check("getrusage", unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) })?;
        Ok(Self { voluntary: usage.ru_nvcsw as u64, involuntary: usage.ru_nivcsw as u64 })
    }

    fn total(self) -> u64 {
        self.voluntary + self.involuntary
    }
}

/// A moment and the counters at that moment: taken again if a switch came in between.
fn mark() -> Result<(Switches, Value)> {
    loop {
        let before = Switches::now()?;
        let moment = sys::mark()?;
        if Switches::now()? == before {
            return Ok((before, moment));
        }
    }
}

/// Whether /proc/self/status tells the same numbers as getrusage does.
fn status_agrees() -> Result<bool> {
    let before = Switches::now()?;
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let after = Switches::now()?;
    let field = |name: &str| -> Option<u64> { status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()) };
    let voluntary = field("voluntary_ctxt_switches:").context("no voluntary_ctxt_switches")?;
    let involuntary = field("nonvoluntary_ctxt_switches:").context("no nonvoluntary_ctxt_switches")?;
    Ok((before.voluntary..=after.voluntary).contains(&voluntary) && (before.involuntary..=after.involuntary).contains(&involuntary))
}
