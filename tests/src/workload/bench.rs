//! Loops whose cost per turn is measured with and without a recorder, and helpers that pass time.

use crate::args::Args;
use crate::net::{self, Side};
use crate::sys;
use crate::transfer::{self, RecvBy, SendBy};
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// `syscalls [N] [--cpu C]`: what `dd bs=1` does.
pub fn syscalls(args: &Args) -> Result<Value> {
    let turns = args.number_at(0, 1_000_000)?;
    pin_if_asked(args)?;
    let zero = std::fs::File::open("/dev/zero").context("open /dev/zero")?;
    let null = sys::open_rw(Path::new("/dev/null"))?;
    let (zero, null) = (zero.as_raw_fd(), null.as_raw_fd());
    let mut byte = 1_u8;
    let clock = Instant::now();
    for _ in 0..turns {
        // SAFETY: one byte that lives across both calls.
        let (got, put) = unsafe { (libc::read(zero, (&raw mut byte).cast(), 1), libc::write(null, (&raw const byte).cast(), 1)) };
        if got != 1 || put != 1 {
            return ebrec_tests::fail("a read or write of one byte failed");
        }
    }
    let ns = clock.elapsed().as_nanos() as u64;
    let calls = 2 * turns;
    Ok(json!({
        "calls": calls, "reads": turns, "writes": turns, "elapsed_ns": ns, "ns_per_call": ns as f64 / calls.max(1) as f64,
    }))
}

/// `tcp-rr [N] [--cpu C]`: one byte there and back, N times; both ends on CPU C if given.
pub fn tcp_rr(args: &Args) -> Result<Value> {
    net::ensure_loopback()?;
    let rounds = args.number_at(0, 100_000)?;
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let to = listener.local_addr().context("getsockname")?;
    let (truth_of_server, mut report) = sys::pipe()?;
    let server = sys::fork(move || {
        sys::set_comm(c"wl-rr-server")?;
        pin_if_asked(args)?;
        let mut side = Side::accept(&listener)?;
        side.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        let mut byte = Bounce::new(&mut side);
        for _ in 0..rounds {
            byte.take()?;
            byte.give()?;
        }
        transfer::recv_eof(&mut side, RecvBy::Recv)?;
        side.close()?;
        sys::send_line(&mut report, &side.truth()?)?;
        Ok(0)
    })?;
    sys::set_comm(c"wl-rr-client")?;
    pin_if_asked(args)?;
    let mut side = Side::connect(to)?;
    side.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    let clock = Instant::now();
    let mut byte = Bounce::new(&mut side);
    for _ in 0..rounds {
        byte.give()?;
        byte.take()?;
    }
    let ns = clock.elapsed().as_nanos() as u64;
    side.close()?;
    sys::wait_ok(server)?;
    net::wait_until_settled(&[to.port()])?;
    let server = sys::read_lines(truth_of_server)?.into_iter().next().context("the server did not report")?;
    Ok(json!({
        "rounds": rounds, "elapsed_ns": ns, "ns_per_round": ns as f64 / rounds.max(1) as f64,
        "client": side.truth()?, "server": server,
    }))
}

/// One byte, sent and received without allocating.
struct Bounce<'a> {
    side: &'a mut Side,
}

impl<'a> Bounce<'a> {
    fn new(side: &'a mut Side) -> Self {
        Self { side }
    }

    fn give(&mut self) -> Result<()> {
        transfer::send(self.side, 1, 1, SendBy::Send)
    }

    fn take(&mut self) -> Result<()> {
        transfer::recv(self.side, 1, 1, RecvBy::Recv, false)
    }
}

/// `spin [SECONDS]`: uses a CPU.
pub fn spin(args: &Args) -> Result<Value> {
    let clock = Instant::now();
    let time = seconds(args)?;
    let mut turns = 0_u64;
    while clock.elapsed() < time {
        turns += 1;
    }
    Ok(json!({ "turns": turns, "elapsed_ns": clock.elapsed().as_nanos() as u64 }))
}

/// `sleep [SECONDS]`: does nothing.
pub fn sleep(args: &Args) -> Result<Value> {
    std::thread::sleep(seconds(args)?);
    Ok(json!({}))
}

fn seconds(args: &Args) -> Result<Duration> {
    let text = args.word(0).unwrap_or("1");
    let seconds: f64 = text.parse().context(format!("seconds must be a number, not '{text}'"))?;
    Duration::try_from_secs_f64(seconds).context("seconds")
}

fn pin_if_asked(args: &Args) -> Result<()> {
    args.number("cpu")?.map_or(Ok(()), |cpu| sys::pin(cpu as usize))
}
