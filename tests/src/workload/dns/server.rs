//! The resolver: answers as the first label of a name says.

use super::message::{answer_to, question, response};
use crate::sys;
use ebrec_tests::{Context, Result};
use std::io::{PipeWriter, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

const PORT: u16 = 53;

/// Starts it as a process of its own, which ends when the result is dropped. Returns when it listens.
pub fn start(addresses: &[IpAddr], slow_ms: u64) -> Result<(i32, PipeWriter)> {
    let (mut until, stop) = sys::pipe()?;
    let (mut is_ready, mut ready) = sys::pipe()?;
    let inherited = stop.as_raw_fd();
    let addresses = addresses.to_vec();
    let pid = sys::fork(move || {
        // Its own copy would keep the pipe open.
        // SAFETY: the descriptor belongs to a value that the child never uses or drops.
        unsafe { libc::close(inherited) };
        sys::set_comm(c"wl-resolver")?;
        for address in addresses {
            let udp = UdpSocket::bind((address, PORT)).context(format!("listen on {address}, UDP"))?;
            let tcp = TcpListener::bind((address, PORT)).context(format!("listen on {address}, TCP"))?;
            std::thread::spawn(move || serve_udp(&udp, slow_ms));
            std::thread::spawn(move || tcp.incoming().flatten().for_each(|stream| serve_tcp(stream, slow_ms)));
        }
        writeln!(ready, "ready").context("pipe")?;
        let _ = until.read(&mut [0]);
        Ok(0)
    })?;
    let mut word = [0; 5];
    is_ready.read_exact(&mut word).context("the resolver did not start")?;
    Ok((pid, stop))
}

fn is_slow(query: &[u8]) -> bool {
    question(query).is_some_and(|(name, ..)| name.starts_with("slow."))
}

fn answer(query: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let (name, kind, _) = question(query)?;
    response(query, &answer_to(&name, kind, tcp)?)
}

fn serve_udp(socket: &UdpSocket, slow_ms: u64) {
    let mut buffer = [0; 1500];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let query = buffer[..len].to_vec();
        let Some(message) = answer(&query, false) else { continue };
        if !is_slow(&query) {
            let _ = socket.send_to(&message, from);
        } else if let Ok(socket) = socket.try_clone() {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(slow_ms));
                let _ = socket.send_to(&message, from);
            });
        }
    }
}

fn serve_tcp(mut stream: TcpStream, slow_ms: u64) {
    let mut len = [0; 2];
    while stream.read_exact(&mut len).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let Some(message) = answer(&query, true) else { return };
        if is_slow(&query) {
            std::thread::sleep(Duration::from_millis(slow_ms));
        }
        let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}
