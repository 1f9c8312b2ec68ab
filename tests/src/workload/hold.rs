//! Connections whose life is driven from outside, line by line: for those opened before a recording and closed
//! after it.
//!
//! The coordinator passes each line to a client and a server process, waits for both, and acknowledges on stderr.

use crate::args::Args;
use crate::net::{self, Side};
use crate::sys;
use crate::transfer::{self, RecvBy, SendBy};
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// One call moves as much as this.
const CHUNK: usize = 16 * 1024;

/// `tcp-hold [--conns K]`, then lines on stdin: `open`, `send N`, `close`, `quit`.
pub fn run(args: &Args) -> Result<Value> {
    net::ensure_loopback()?;
    let conns = args.number_or("conns", 2)?;
    let mut server = Peer::start(None)?;
    let ports: Vec<u16> = serde_json::from_value(server.answer()?).context("the server's ports")?;
    let mut client = Peer::start(Some(ports.clone()))?;
    let mut peers = [&mut server, &mut client];
    let mut tell = |line: &str| -> Result<()> {
        for peer in &mut peers {
            writeln!(peer.orders, "{line}").context("give an order")?;
        }
        for peer in &mut peers {
            peer.answer()?;
        }
        Ok(())
    };
    tell(&format!("open {conns}"))?;
    eprintln!("ready");
    for line in std::io::stdin().lines() {
        let line = line.context("read stdin")?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["open"] => tell(&format!("open {conns}"))?,
            ["send", bytes] => tell(&format!("send {}", bytes.parse::<u64>().context(format!("send {bytes}"))?))?,
            ["close"] => {
                tell("close")?;
                net::wait_until_settled(&ports)?;
            }
            ["quit"] => break,
            [] => continue,
            _ => return fail(format!("not understood: '{line}'; known: open, send N, close, quit")),
        }
        eprintln!("done {}", line.trim());
    }
    tell("quit")?;
    net::wait_until_settled(&ports)?;
    let (servers, clients) = (server.finish()?, client.finish()?);
    eprintln!("done quit");
    let connections: Vec<Value> = clients
        .iter()
        .zip(&servers)
        .enumerate()
        .map(|(index, (client, server))| json!({ "index": index, "client": client, "server": server }))
        .collect();
    Ok(json!({ "server_ports": ports, "connections": connections }))
}

/// A helper process that takes orders.
struct Peer {
    pid: i32,
    orders: PipeWriter,
    answers: BufReader<PipeReader>,
}

impl Peer {
    /// The server, or the client of these ports.
    fn start(ports: Option<Vec<u16>>) -> Result<Self> {
        let (read_orders, orders) = sys::pipe()?;
        let (answers, answer) = sys::pipe()?;
        let pid = sys::fork(move || match ports {
            None => serve(read_orders, answer),
            Some(ports) => Holder::client(&ports)?.obey(read_orders, answer),
        })?;
        Ok(Self { pid, orders, answers: BufReader::new(answers) })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("read an answer")?;
        serde_json::from_str(&line).context("a helper process gave up")
    }

    /// The truth it tells at its end.
    fn finish(self) -> Result<Vec<Value>> {
        let truth = sys::read_lines(self.answers)?;
        sys::wait_ok(self.pid)?;
        Ok(truth)
    }
}

fn serve(orders: PipeReader, mut answers: PipeWriter) -> Result<i32> {
    sys::set_comm(c"wl-server")?;
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on 127.0.0.1")?;
    let mut listeners = vec![v4];
    // A kernel without IPv6 still has the other half.
    listeners.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok());
    let mut ports = Vec::new();
    for listener in &listeners {
        ports.push(listener.local_addr().context("getsockname")?.port());
    }
    sys::send_line(&mut answers, &json!(ports))?;
    let next = move |index: usize| Side::accept(&listeners[index % listeners.len()]);
    Holder { next: Box::new(next), held: Vec::new(), serves: true }.obey(orders, answers)
}

/// One side of all connections.
struct Holder {
    /// Opens the connection of this index.
    next: Box<dyn Fn(usize) -> Result<Side>>,
    held: Vec<Held>,
    serves: bool,
}

struct Held {
    side: Side,
    transfers: Vec<Value>,
}

impl Holder {
    /// Even connections are IPv4, odd ones IPv6.
    fn client(ports: &[u16]) -> Result<Self> {
        sys::set_comm(c"wl-client")?;
        let mut targets = Vec::new();
        for (index, &port) in ports.iter().enumerate() {
            targets.push(if index == 0 {
                SocketAddr::from((Ipv4Addr::LOCALHOST, port))
            } else {
                SocketAddr::from((Ipv6Addr::LOCALHOST, port))
            });
        }
        let next = move |index: usize| Side::connect(targets[index % targets.len()]);
        Ok(Self { next: Box::new(next), held: Vec::new(), serves: false })
    }

    fn obey(mut self, orders: PipeReader, mut answers: PipeWriter) -> Result<i32> {
        for order in BufReader::new(orders).lines() {
            let order = order.context("read an order")?;
            let (verb, number) = order.split_once(' ').unwrap_or((&order, "0"));
            let number: u64 = number.parse().context("an order's number")?;
            match verb {
                "open" => self.open(number)?,
                "send" => self.transfer(number)?,
                "close" => self.close()?,
                "quit" => {
                    self.close()?;
                    sys::send_line(&mut answers, &json!("quit"))?;
                    break;
                }
                _ => return fail(format!("unknown order '{order}'")),
            }
            sys::send_line(&mut answers, &json!(verb))?;
        }
        for held in &self.held {
            let mut truth = held.side.truth()?;
            truth["transfers"] = json!(held.transfers);
            sys::send_line(&mut answers, &truth)?;
        }
        Ok(0)
    }

    fn open(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            let side = (self.next)(self.held.len())?;
            self.held.push(Held { side, transfers: Vec::new() });
        }
        Ok(())
    }

    /// On each open connection: `bytes` from client to server, then twice as many back.
    fn transfer(&mut self, bytes: u64) -> Result<()> {
        for held in self.held.iter_mut().filter(|held| held.side.socket.is_some()) {
            let (before, start) = (held.side.tally.clone(), sys::boot_ns()?);
            if self.serves {
                transfer::recv(&mut held.side, bytes, CHUNK, RecvBy::Recv, false)?;
                transfer::send(&mut held.side, 2 * bytes, CHUNK, SendBy::Send)?;
            } else {
                transfer::send(&mut held.side, bytes, CHUNK, SendBy::Send)?;
                transfer::recv(&mut held.side, 2 * bytes, CHUNK, RecvBy::Recv, false)?;
            }
            let now = &held.side.tally;
            held.transfers.push(json!({
                "start_boot_ns": start, "end_boot_ns": sys::boot_ns()?,
                "tx_bytes": now.tx_bytes - before.tx_bytes, "rx_bytes": now.rx_bytes - before.rx_bytes,
                "send_calls": now.send_calls - before.send_calls, "recv_calls": now.recv_calls - before.recv_calls,
            }));
        }
        Ok(())
    }

    /// The client closes first.
    fn close(&mut self) -> Result<()> {
        for held in self.held.iter_mut().filter(|held| held.side.socket.is_some()) {
            if self.serves {
                transfer::recv_eof(&mut held.side, RecvBy::Recv)?;
            }
            held.side.close()?;
        }
        Ok(())
    }
}
