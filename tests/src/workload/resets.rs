//! TCP connections that end with a reset, each way a known number of times, in a network namespace of their own.

use crate::net::{self, Side, Unconnected};
use crate::{args::Args, sys};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// `tcp-resets [N]`: N connections for each way to be reset, over IPv4 and IPv6.
pub fn run(args: &Args) -> Result<Value> {
    let times = args.number_at(0, 3)?;
    // SAFETY: no pointers; this process has one thread.
    sys::check("unshare(CLONE_NEWNET)", unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    net::ensure_loopback()?;
    let before = sent_by_kernel()?;
    let mut connections = Vec::new();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        for _ in 0..times {
            connections.push(refused(ip)?);
            connections.push(lingering(ip)?);
            connections.push(unread(ip)?);
            connections.push(too_late(ip)?);
        }
    }
    Ok(json!({
        "connections": connections, "sent_by_kernel": sent_by_kernel()? - before,
        "netns": std::fs::read_link("/proc/self/ns/net").context("netns")?.to_string_lossy(),
    }))
}

/// Resets that the kernel counted as sent in this namespace: OutRsts of /proc/net/snmp.
fn sent_by_kernel() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/net/snmp").context("/proc/self/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().context("no Tcp")?, lines.next().context("no Tcp")?);
    let value = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "OutRsts").context("no OutRsts")?.1;
    value.parse().context("OutRsts")
}

/// One side's ends, and what it saw: `sent` and `received` are the states then, null where there was no socket.
fn side(local: SocketAddr, remote: SocketAddr) -> Value {
    json!({ "laddr": local.ip(), "lport": local.port(), "raddr": remote.ip(), "rport": remote.port() })
}

/// A SYN to a port that nobody listens on.
fn refused(ip: IpAddr) -> Result<Value> {
    let taken = Unconnected::new(ip.is_ipv6())?;
    let port = taken.bind(ip)?;
    let client = Unconnected::new(ip.is_ipv6())?;
    let own = client.bind(ip)?;
    match client.connect(SocketAddr::new(ip, port), None)? {
        libc::ECONNREFUSED => {}
        errno => return fail(format!("connect to a closed port: errno {errno}")),
    }
    let (client, server) = (SocketAddr::new(ip, own), SocketAddr::new(ip, port));
    Ok(json!({ "case": "refused",
        "sender": side(server, client), "sender_socket": false, "receiver": side(client, server), "reason": "no_socket" }))
}

fn pair(ip: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((ip, 0)).context("listen")?;
    let client = TcpStream::connect(listener.local_addr().context("getsockname")?).context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    Ok((client, server))
}

fn ends(socket: &TcpStream) -> Result<(SocketAddr, SocketAddr)> {
    Ok((socket.local_addr().context("getsockname")?, socket.peer_addr().context("getpeername")?))
}

fn expect_reset(mut socket: &TcpStream) -> Result<()> {
    match socket.read(&mut [0]) {
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => fail(format!("not a reset but {other:?}")),
    }
}

/// SO_LINGER with no time: close() is a reset.
fn lingering(ip: IpAddr) -> Result<Value> {
    let (client, server) = pair(ip)?;
    let (local, remote) = ends(&client)?;
    let mut client = Side::of(client)?;
    client.reset_on_close()?;
    client.close()?;
    expect_reset(&server)?;
    Ok(json!({ "case": "linger", "sender": side(local, remote), "sender_socket": true, "receiver": side(remote, local), "reason": null }))
}

/// A close with data unread is a reset.
fn unread(ip: IpAddr) -> Result<Value> {
    let (client, mut server) = pair(ip)?;
    let (local, remote) = ends(&client)?;
    server.write_all(&[1; 100]).context("write")?;
    client.peek(&mut [0]).context("peek")?;
    drop(client);
    expect_reset(&server)?;
    Ok(json!({ "case": "unread", "sender": side(local, remote), "sender_socket": true, "receiver": side(remote, local),
        "reason": "tcp_abort_on_close" }))
}

/// Data to a side that has closed: its socket is gone to TIME_WAIT, or about to.
fn too_late(ip: IpAddr) -> Result<Value> {
    let (client, mut server) = pair(ip)?;
    let (local, remote) = ends(&client)?;
    drop(client);
    if server.read(&mut [0]).context("read")? != 0 {
        return fail("data from nowhere");
    }
    // The acknowledgement of the FIN makes a TIME_WAIT socket of the client's.
    sys::wait_until("the closed side is in FIN_WAIT2", || in_fin_wait2(local.port()))?;
    server.write_all(&[1; 100]).context("write")?;
    std::thread::sleep(Duration::from_millis(1));
    sys::wait_until("the reset is there", || Ok(server.take_error().context("SO_ERROR")?.is_some()))?;
    Ok(json!({ "case": "too late", "sender": side(local, remote), "sender_socket": false, "receiver": side(remote, local),
        "reason": "tcp_timewait_socket" }))
}

fn in_fin_wait2(port: u16) -> Result<bool> {
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = std::fs::read_to_string(table).context(table)?;
        let found = text.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next(), fields.next(), fields.next());
            // TIME_WAIT stands for both of its states; FIN_WAIT2 is 05.
            local.is_some_and(|end| end.ends_with(&format!(":{port:04X}"))) && matches!(state, Some("05" | "06"))
        });
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
