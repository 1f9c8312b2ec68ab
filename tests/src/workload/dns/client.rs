//! Raw queries, as programs with a resolver of their own send them.

use super::DOMAIN;
use super::message::{self, A, AAAA, answer_to, query, rcode_name, response};
use crate::sys;
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long a silent server is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// All kinds of queries to all servers; adds what they were.
pub fn all(servers: &[IpAddr], slow_ms: u64, queries: &mut Vec<Value>) -> Result<()> {
    for &server in servers {
        let server = SocketAddr::new(server, 53);
        for (label, kind) in [("ok", A), ("ok", AAAA), ("nx", A), ("fail", AAAA), ("big", A), ("slow", A), ("ok", 16), ("ok", 65_280)] {
            for connected in [true, false] {
                queries.push(udp(server, label, kind, connected, 1, slow_ms, queries.len())?);
            }
        }
        queries.push(udp(server, "silent", A, true, 1, slow_ms, queries.len())?);
        queries.push(udp(server, "silent", A, true, 3, slow_ms, queries.len())?);
        for (label, kind, pieces) in [("ok", A, 1), ("big", A, 1), ("slow", AAAA, 1), ("nx", A, 1), ("ok", AAAA, 2)] {
            queries.push(tcp(server, label, kind, pieces, slow_ms, queries.len())?);
        }
    }
    Ok(())
}

/// A name that no other query has, so that a row can be found by it.
fn name_of(label: &str, number: usize) -> String {
    format!("{label}.q{number}.{DOMAIN}")
}

fn udp(server: SocketAddr, label: &str, kind: u16, connected: bool, attempts: u32, slow_ms: u64, number: usize) -> Result<Value> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).context("bind")?;
    socket.set_read_timeout(Some(PATIENCE + Duration::from_secs(10))).context("timeout")?;
    if connected {
        socket.connect(server).context("connect")?;
    }
    let (id, name) = (0x1000 + number as u16, name_of(label, number));
    let sent = query(id, &name, kind);
    let began = Instant::now();
    for _ in 0..attempts {
        if connected { socket.send(&sent) } else { socket.send_to(&sent, server) }.context("send")?;
    }
    let expected = expected(&sent, &name, kind, false)?;
    if expected.is_some() {
        let mut buffer = [0; 1500];
        let (len, _) = socket.recv_from(&mut buffer).context("receive")?;
        if Some(&buffer[..len]) != expected.as_deref() {
            return fail("the answer is not what the server says");
        }
    } else {
        std::thread::sleep(PATIENCE);
    }
    let took = began.elapsed();
    let lport = socket.local_addr().context("address")?.port();
    row("udp", server, lport, &sent, kind, attempts, expected.as_deref(), took, if label == "slow" { slow_ms } else { 0 })
}

fn tcp(server: SocketAddr, label: &str, kind: u16, pieces: usize, slow_ms: u64, number: usize) -> Result<Value> {
    let mut stream = TcpStream::connect(server).context("connect")?;
    stream.set_nodelay(true).context("nodelay")?;
    let (id, name) = (0x1000 + number as u16, name_of(label, number));
    let sent = query(id, &name, kind);
    let framed = [&(sent.len() as u16).to_be_bytes()[..], &sent].concat();
    let began = Instant::now();
    if pieces == 1 {
        stream.write_all(&framed).context("send")?;
    } else {
        stream.write_all(&framed[..2]).context("send")?;
        stream.write_all(&framed[2..]).context("send")?;
    }
    let expected = expected(&sent, &name, kind, true)?.context("no answer")?;
    let mut got = vec![0; expected.len() + 2];
    stream.read_exact(&mut got).context("receive")?;
    let took = began.elapsed();
    if got[2..] != expected {
        return fail("the answer is not what the server says");
    }
    let lport = stream.local_addr().context("address")?.port();
    row("tcp", server, lport, &sent, kind, 1, Some(&expected), took, if label == "slow" { slow_ms } else { 0 })
}

fn expected(sent: &[u8], name: &str, kind: u16, tcp: bool) -> Result<Option<Vec<u8>>> {
    let Some(answer) = answer_to(name, kind, tcp) else { return Ok(None) };
    Ok(Some(response(sent, &answer).context("a response")?))
}

fn type_name(kind: u16) -> String {
    match kind {
        A => "A".to_owned(),
        AAAA => "AAAA".to_owned(),
        16 => "TXT".to_owned(),
        other => format!("TYPE{other}"),
    }
}

#[allow(clippy::too_many_arguments)] // A row of truth has that many columns.
fn row(
    protocol: &str,
    server: SocketAddr,
    lport: u16,
    sent: &[u8],
    kind: u16,
    attempts: u32,
    received: Option<&[u8]>,
    took: Duration,
    slow_ms: u64,
) -> Result<Value> {
    let (name, _, _) = message::question(sent).context("a question")?;
    let answer = answer_to(&name, kind, protocol == "tcp");
    // Of a message of 512 bytes, the addresses that are whole in it.
    let room = received.map_or(0, |r| r.len().min(512) - message::question(r).map_or(0, |(_, _, end)| end));
    let addresses = answer.as_ref().map(|a| {
        let each = if kind == AAAA { 28 } else { 16 };
        a.addresses.iter().take(room / each).map(ToString::to_string).collect::<Vec<_>>()
    });
    Ok(json!({
        "protocol": protocol,
        "ip_version": if server.is_ipv4() { 4 } else { 6 },
        "laddr": server.ip().to_string(),
        "raddr": server.ip().to_string(),
        "lport": lport,
        "rport": 53,
        "id": u16::from_be_bytes([sent[0], sent[1]]),
        "name": name,
        "type": type_name(kind),
        "class": "IN",
        "attempts": attempts,
        "request_bytes": sent.len(),
        "response_bytes": received.map(<[u8]>::len),
        "rcode": answer.as_ref().map(|a| rcode_name(a.rcode)),
        "answers": answer.as_ref().map(|a| a.addresses.len()),
        "addresses": addresses,
        "truncated": answer.as_ref().map(|a| a.truncated),
        "took_ns": received.map(|_| took.as_nanos() as u64),
        "delay_ns": slow_ms * 1_000_000,
        "pid": sys::getpid(),
        "tid": sys::gettid(),
        "comm": sys::comm()?,
    }))
}
