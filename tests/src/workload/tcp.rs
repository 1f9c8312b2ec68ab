//! TCP connections over loopback with known bytes, calls and ends, between two processes.
//!
//! Client and server go through the same list of scenarios, one connection after the other; the steps of each side
//! are those that make its counts certain (it reads all bytes before anybody closes).

use crate::args::Args;
use crate::net::{self, Side, Unconnected};
use crate::sys;
use crate::transfer::{self, RecvBy, SendBy};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, PipeWriter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// A pair of socket families: name, where the server listens, what the client connects to.
type Family = (&'static str, IpAddr, IpAddr);

const MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const DUAL: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

const FAMILIES: [Family; 5] =
    [("v4", V4, V4), ("v6", V6, V6), ("mapped", DUAL, MAPPED), ("mapped-client", V4, MAPPED), ("mapped-server", DUAL, V4)];

/// Who ends the connection, and how.
#[derive(Clone, Copy, PartialEq)]
enum Closer {
    Client,
    Server,
    /// The client's close is a reset.
    ClientReset,
    ServerReset,
    /// The client ends its stream first, receives the answer, and closes after the server.
    ClientHalf,
}

impl Closer {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Client, "client"),
        (Self::Server, "server"),
        (Self::ClientReset, "client-reset"),
        (Self::ServerReset, "server-reset"),
        (Self::ClientHalf, "client-half"),
    ];
}

struct Scenario {
    family: Family,
    closer: (Closer, &'static str),
    send_by: (SendBy, &'static str),
    recv_by: (RecvBy, &'static str),
    peek: bool,
    nonblocking: bool,
    tx: u64,
    rx: u64,
    chunk: usize,
    settle: Duration,
}

/// `tcp [--repeat N] [--tx BYTES] [--rx BYTES] [--chunk BYTES] [--refused N] [--families LIST] [--settle-ms N]`.
pub fn run(args: &Args) -> Result<Value> {
    net::ensure_loopback()?;
    let families = families(args.option("families"))?;
    let scenarios = scenarios(args, &families)?;
    let refused = args.number_or("refused", 6)?;
    let (from_server, server_writes) = sys::pipe()?;
    let server = sys::fork(|| serve(&families, &scenarios, server_writes))?;
    let mut from_server = BufReader::new(from_server);
    let mut ports = String::new();
    from_server.read_line(&mut ports).context("read the server's ports")?;
    let ports: Vec<u16> = serde_json::from_str(&ports).context("the server's ports")?;
    let port_of = |family: &str| families.iter().position(|known| known.0 == family).and_then(|at| ports.get(at).copied());
    // Made now, so that the server doesn't hold its writing end until its own report is read.
    let (from_client, client_writes) = sys::pipe()?;
    let client = sys::fork(|| connect(&families, &scenarios, &port_of, refused, client_writes))?;
    // The client first: if it fails, so do we, and the server, which still waits for it, goes with us.
    let mut clients = sys::read_lines(from_client)?;
    sys::wait_ok(client)?;
    let servers = sys::read_lines(from_server)?;
    sys::wait_ok(server)?;
    net::wait_until_settled(&ports)?;
    if servers.len() != scenarios.len() || clients.len() != scenarios.len() + refused as usize {
        return fail("a side did not report every connection");
    }
    let refusals = clients.split_off(scenarios.len());
    let connections: Vec<Value> = scenarios.iter().zip(clients.iter().zip(&servers)).enumerate().map(connection).collect();
    Ok(json!({ "server_ports": ports, "connections": connections, "refused": refusals, "totals": totals(&connections) }))
}

fn connection((index, (scenario, (client, server))): (usize, (&Scenario, (&Value, &Value)))) -> Value {
    json!({
        "index": index, "family": scenario.family.0, "closer": scenario.closer.1,
        "reset": matches!(scenario.closer.0, Closer::ClientReset | Closer::ServerReset),
        "send_by": scenario.send_by.1, "recv_by": scenario.recv_by.1, "peek": scenario.peek,
        "nonblocking_connect": scenario.nonblocking, "client": client, "server": server,
    })
}

fn totals(connections: &[Value]) -> Value {
    let mut totals = json!({ "connections": connections.len() });
    for count in ["tx_bytes", "rx_bytes", "send_calls", "recv_calls", "sendfile_calls", "sendfile_bytes", "peek_calls"] {
        let sides = connections.iter().flat_map(|connection| [&connection["client"], &connection["server"]]);
        totals[count] = sides.filter_map(|side| side[count].as_u64()).sum::<u64>().into();
    }
    totals
}

fn families(names: Option<&str>) -> Result<Vec<Family>> {
    let Some(names) = names else { return Ok(FAMILIES.to_vec()) };
    let known = |name: &str| FAMILIES.into_iter().find(|family| family.0 == name);
    names.split(',').map(|name| known(name).context(format!("unknown family '{name}'"))).collect()
}

/// Every family with every way to close, and for each family one connection without a byte. The calls rotate, and no
/// two connections move the same number of bytes.
fn scenarios(args: &Args, families: &[Family]) -> Result<Vec<Scenario>> {
    let (tx, rx) = (args.number_or("tx", 10_000)?, args.number_or("rx", 25_000)?);
    let chunk = args.number_or("chunk", 4096)?.max(2) as usize;
    let settle = Duration::from_millis(args.number_or("settle-ms", 0)?);
    let mut scenarios = Vec::new();
    for _ in 0..args.number_or("repeat", 1)? {
        for &family in families {
            for closer in Closer::ALL {
                let index = scenarios.len() as u64;
                scenarios.push(Scenario {
                    family,
                    closer,
                    chunk,
                    settle,
                    send_by: SendBy::ALL[index as usize % SendBy::ALL.len()],
                    recv_by: RecvBy::ALL[index as usize % RecvBy::ALL.len()],
                    peek: index % 5 == 3,
                    nonblocking: index % 7 == 2,
                    tx: tx + index,
                    rx: rx + 7 * index,
                });
            }
            let empty = Scenario {
                family,
                chunk,
                settle,
                closer: Closer::ALL[0],
                send_by: SendBy::ALL[0],
                recv_by: RecvBy::ALL[0],
                peek: false,
                nonblocking: false,
                tx: 0,
                rx: 0,
            };
            scenarios.push(empty);
        }
    }
    Ok(scenarios)
}

fn serve(families: &[Family], scenarios: &[Scenario], mut report: PipeWriter) -> Result<i32> {
    sys::set_comm(c"wl-server")?;
    let mut listeners = Vec::new();
    for family in families {
        listeners.push((family.0, TcpListener::bind((family.1, 0)).context(format!("listen on {}", family.1))?));
    }
    let mut ports = Vec::new();
    for (_, listener) in &listeners {
        ports.push(listener.local_addr().context("getsockname")?.port());
    }
    sys::send_line(&mut report, &json!(ports))?;
    // Told at the end, because nobody listens before.
    let mut truths = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let listener = listeners.iter().find(|(name, _)| *name == scenario.family.0);
        let (_, listener) = listener.context("no listener for this family")?;
        truths.push(scenario.serve(listener).context(format!("server, connection {index}"))?);
    }
    for truth in &truths {
        sys::send_line(&mut report, truth)?;
    }
    Ok(0)
}

fn connect(
    families: &[Family],
    scenarios: &[Scenario],
    port_of: &impl Fn(&str) -> Option<u16>,
    refused: u64,
    mut report: PipeWriter,
) -> Result<i32> {
    sys::set_comm(c"wl-client")?;
    for (index, scenario) in scenarios.iter().enumerate() {
        let port = port_of(scenario.family.0).context("no port for this family")?;
        let to = SocketAddr::new(scenario.family.2, port);
        let truth = scenario.connect(to).context(format!("client, connection {index}"))?;
        sys::send_line(&mut report, &truth)?;
    }
    for index in 0..refused {
        let family = families[index as usize % families.len()];
        sys::send_line(&mut report, &refuse(family.2, index % 2 == 1, index % 3 == 2)?)?;
    }
    Ok(0)
}

impl Scenario {
    fn connect(&self, to: SocketAddr) -> Result<Value> {
        let opened_after = sys::boot_ns()?;
        let socket = Unconnected::new(to.is_ipv6())?;
        match socket.connect(to, self.nonblocking.then_some(Duration::from_secs(10)))? {
            0 => {}
            errno => return fail(format!("connect: {}", std::io::Error::from_raw_os_error(errno))),
        }
        let mut side = socket.into_side(opened_after)?;
        let by = self.recv_by.0;
        transfer::send(&mut side, self.tx, self.chunk, self.send_by.0)?;
        if self.closer.0 == Closer::ClientHalf {
            side.shut_down_sending()?;
        }
        transfer::recv(&mut side, self.rx, self.chunk, by, self.peek)?;
        match self.closer.0 {
            Closer::Client => {}
            Closer::Server | Closer::ClientHalf => transfer::recv_eof(&mut side, by)?,
            Closer::ClientReset => self.prepare_reset(&side)?,
            Closer::ServerReset => transfer::recv_reset(&mut side, by)?,
        }
        side.close()?;
        side.truth()
    }

    fn serve(&self, listener: &TcpListener) -> Result<Value> {
        let mut side = Side::accept(listener)?;
        let by = self.recv_by.0;
        transfer::recv(&mut side, self.tx, self.chunk, by, self.peek)?;
        if self.closer.0 == Closer::ClientHalf {
            transfer::recv_eof(&mut side, by)?;
        }
        transfer::send(&mut side, self.rx, self.chunk, self.send_by.0)?;
        match self.closer.0 {
            Closer::Client => transfer::recv_eof(&mut side, by)?,
            Closer::Server | Closer::ClientHalf => {}
            Closer::ClientReset => transfer::recv_reset(&mut side, by)?,
            Closer::ServerReset => self.prepare_reset(&side)?,
        }
        side.close()?;
        side.truth()
    }

    /// A reset throws away what this side has not sent yet, so all of it must have arrived. What the other side has
    /// sent has been received, but perhaps not acknowledged: that is done now, and has time if asked for.
    fn prepare_reset(&self, side: &Side) -> Result<()> {
        sys::wait_until("all bytes are acknowledged", || Ok(side.unacknowledged()? == 0))?;
        side.acknowledge_now()?;
        std::thread::sleep(self.settle);
        side.reset_on_close()
    }
}

/// A connection to a port that is taken but not listening.
fn refuse(ip: IpAddr, bound: bool, nonblocking: bool) -> Result<Value> {
    let closed = Unconnected::new(ip.is_ipv6())?;
    let port = closed.bind(ip)?;
    let socket = Unconnected::new(ip.is_ipv6())?;
    let lport = if bound { Some(socket.bind(ip)?) } else { None };
    let opened_after = sys::boot_ns()?;
    let errno = socket.connect(SocketAddr::new(ip, port), nonblocking.then_some(Duration::from_secs(10)))?;
    let closed_before = sys::boot_ns()?;
    if errno != libc::ECONNREFUSED {
        return fail(format!("a closed port answered with errno {errno}"));
    }
    Ok(json!({
        "pid": sys::getpid(), "tid": sys::gettid(), "comm": sys::comm()?, "errno": errno,
        "socket_family": if ip.is_ipv6() { "inet6" } else { "inet" },
        "ip_version": if ip.to_canonical().is_ipv4() { 4 } else { 6 },
        "raddr": ip.to_canonical(), "rport": port, "lport": lport, "lport_chosen": socket.local_port()?, "nonblocking_connect": nonblocking,
        "opened_after_boot_ns": opened_after, "closed_before_boot_ns": closed_before,
    }))
}
