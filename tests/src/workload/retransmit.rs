//! SYNs that nobody answers, so that the kernel sends them again.

use crate::args::Args;
use crate::net::{self, Unconnected};
use crate::sys;
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// `tcp-retransmit [ADDR:PORT] [--timeout-ms N] [--unbound]`: without an address, to a listener of its own whose backlog is full. The
/// local port is the kernel's choice when it is bound or, unbound, when it connects.
pub fn run(args: &Args) -> Result<Value> {
    let patience = Duration::from_millis(args.number_or("timeout-ms", 3500)?);
    let given = args.word(0).map(net::parse_address).transpose()?;
    // Kept until the end, so that the backlog stays full.
    let (to, _full) = match given {
        Some(to) => (to, None),
        None => full_listener().map(|(to, sockets)| (to, Some(sockets)))?,
    };
    let socket = Unconnected::new(to.is_ipv6())?;
    let unspecified: IpAddr = if to.is_ipv6() { to.ip() } else { Ipv4Addr::UNSPECIFIED.into() };
    if given.is_none() && !args.has("unbound") {
        socket.bind(unspecified)?;
    }
    let start = sys::boot_ns()?;
    let errno = socket.connect(to, Some(patience))?;
    let lport = socket.local_port()?;
    let retransmits = socket.retransmits()?;
    drop(socket);
    Ok(json!({
        "comm": sys::comm()?, "raddr": to.ip().to_canonical(), "rport": to.port(), "lport": lport,
        "errno": errno, "retransmits": retransmits, "elapsed_ns": sys::boot_ns()? - start,
    }))
}

/// A listener that answers no SYN any more, and the sockets that keep it so.
fn full_listener() -> Result<(SocketAddr, (OwnedFd, Unconnected))> {
    net::ensure_loopback()?;
    let listener: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0").context("listen")?.into();
    let local = std::net::TcpListener::from(listener.try_clone().context("dup")?).local_addr();
    let local = local.context("getsockname")?;
    // SAFETY: no pointers. A second listen() changes the backlog; the kernel accepts one more than asked for.
    sys::check("listen with an empty backlog", unsafe { libc::listen(listener.as_raw_fd(), 0) })?;
    let waiting = Unconnected::new(false)?;
    let errno = waiting.connect(local, None)?;
    if errno != 0 {
        return ebrec_tests::fail(format!("connection that fills the backlog: errno {errno}"));
    }
    Ok((local, (listener, waiting)))
}
