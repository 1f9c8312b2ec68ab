//! Round trips with pauses, and what the kernel says of the connection before each.

use crate::{args::Args, net, sys};
use ebrec_tests::{Context, Result};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// `tcp-rtt [N] [--pause-ms N]`: one connection over loopback, N round trips of a byte with a pause before each.
pub fn run(args: &Args) -> Result<Value> {
    net::ensure_loopback()?;
    let rounds = args.number_at(0, 5)?;
    let pause = Duration::from_millis(args.number_or("pause-ms", 250)?);
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    let client = TcpStream::connect(listener.local_addr().context("getsockname")?).context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    round(&client, &server)?;
    let (mut marks, mut infos) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // Longer than a sample's interval, a delayed acknowledgement and a round trip: nothing is on its way any more.
        std::thread::sleep(pause);
        infos.push((info(&client)?, info(&server)?));
        let start = sys::boot_ns()?;
        round(&client, &server)?;
        marks.push((start, sys::boot_ns()?));
    }
    let (local, remote) = (client.local_addr().context("getsockname")?, client.peer_addr().context("getpeername")?);
    let rounds: Vec<Value> = marks
        .into_iter()
        .zip(infos)
        .map(|((start, end), (client, server))| json!({ "start_boot_ns": start, "end_boot_ns": end, "client": client, "server": server }))
        .collect();
    Ok(json!({ "client_port": local.port(), "server_port": remote.port(), "rounds": rounds }))
}

/// A byte there and back.
fn round(mut client: &TcpStream, mut server: &TcpStream) -> Result<()> {
    client.write_all(&[1]).context("write")?;
    server.read_exact(&mut [0]).context("read")?;
    server.write_all(&[1]).context("write")?;
    client.read_exact(&mut [0]).context("read")
}

/// Smoothed round-trip time and its deviation as the kernel tells them, µs.
fn info(socket: &TcpStream) -> Result<Value> {
    // SAFETY: all-zero is a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the buffer is a tcp_info, `len` its size, both live across the call.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len) };
    sys::check("getsockopt(TCP_INFO)", got)?;
    Ok(json!({ "rtt_us": info.tcpi_rtt, "rttvar_us": info.tcpi_rttvar, "unacked": info.tcpi_unacked }))
}
