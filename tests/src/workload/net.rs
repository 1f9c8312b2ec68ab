//! TCP sockets with exact counts: what every successful and unsuccessful call did. Knows no workload.

use crate::sys;
use ebrec_tests::{Context, Error, Result, fail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Brings the loopback interface up where nobody has (a small VM), which also gives it its addresses.
pub fn ensure_loopback() -> Result<()> {
    if TcpListener::bind("127.0.0.1:0").is_ok_and(|l| l.local_addr().is_ok_and(|to| TcpStream::connect(to).is_ok())) {
        return Ok(());
    }
    eprintln!("ebrec-workload: the loopback interface is down; bringing it up");
    let socket = stream_socket(false)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is an ifreq with a name and flags, and lives across the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    sys::check("bring up the loopback interface", set)?;
    Ok(())
}

fn stream_socket(v6: bool) -> Result<OwnedFd> {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: no pointers.
    let fd = sys::check("socket", unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A socket address as the kernel wants it, and its length.
fn sockaddr(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let place = &raw mut storage;
    let len = match addr {
        SocketAddr::V4(addr) => {
            let v4 = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: addr.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is large and aligned enough for every address.
            unsafe { place.cast::<libc::sockaddr_in>().write(v4) };
            size_of_val(&v4)
        }
        SocketAddr::V6(addr) => {
            let v6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                sin6_scope_id: addr.scope_id(),
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(v6) };
            size_of_val(&v6)
        }
    };
    (storage, len as libc::socklen_t)
}

/// A TCP socket that is not connected yet.
pub struct Unconnected(OwnedFd);

impl Unconnected {
    /// For this family of addresses.
    pub fn new(v6: bool) -> Result<Self> {
        stream_socket(v6).map(Self)
    }

    /// Binds to a port of the kernel's choice on `ip`, and returns the port.
    pub fn bind(&self, ip: IpAddr) -> Result<u16> {
        let (address, len) = sockaddr(SocketAddr::new(ip, 0));
        // SAFETY: `address` lives across the call, `len` is its length.
        let bound = unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), len) };
        sys::check("bind", bound)?;
        self.local_port()
    }

    /// Its port, which the kernel chooses at the latest when it connects; it stays known when that has failed.
    pub fn local_port(&self) -> Result<u16> {
        let stream = TcpListener::from(self.0.try_clone().context("dup")?);
        Ok(stream.local_addr().context("getsockname")?.port())
    }

    /// Connects; the outcome is an `errno`, 0 for success. With `patience`, the socket is non-blocking while it
    /// connects, and ETIMEDOUT is returned when that has passed.
    pub fn connect(&self, to: SocketAddr, patience: Option<Duration>) -> Result<i32> {
        let fd = self.0.as_raw_fd();
        let (address, len) = sockaddr(to);
        if patience.is_some() {
            self.set_nonblocking(true)?;
        }
        // SAFETY: `address` lives across the call, `len` is its length.
        let connected = unsafe { libc::connect(fd, (&raw const address).cast(), len) };
        let mut errno = if connected == 0 { 0 } else { sys::errno() };
        if let (libc::EINPROGRESS, Some(patience)) = (errno, patience) {
            let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one pollfd that lives across the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, patience.as_millis() as i32) };
            errno = if sys::check("poll", ready)? == 0 { libc::ETIMEDOUT } else { self.take_error()? };
        }
        if patience.is_some() {
            self.set_nonblocking(false)?;
        }
        Ok(errno)
    }

    fn set_nonblocking(&self, on: bool) -> Result<()> {
        let mut on = i32::from(on);
        // SAFETY: FIONBIO reads an int that lives across the call.
        sys::check("FIONBIO", unsafe { libc::ioctl(self.0.as_raw_fd(), libc::FIONBIO as _, &raw mut on) })?;
        Ok(())
    }

    fn take_error(&self) -> Result<i32> {
        let mut errno = 0_i32;
        let mut len = size_of_val(&errno) as libc::socklen_t;
        let fd = self.0.as_raw_fd();
        // SAFETY: the buffer is an int, `len` its size, both live across the call.
        let got = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut errno).cast(), &raw mut len) };
        sys::check("getsockopt(SO_ERROR)", got)?;
        Ok(errno)
    }

    /// How many segments the kernel has sent again on this socket.
    pub fn retransmits(&self) -> Result<u32> {
        // SAFETY: all-zero is a valid tcp_info.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&info) as libc::socklen_t;
        let fd = self.0.as_raw_fd();
        // SAFETY: the buffer is a tcp_info, `len` its size, both live across the call.
        let got = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len) };
        sys::check("getsockopt(TCP_INFO)", got)?;
        Ok(info.tcpi_total_retrans)
    }

    /// The connected socket, as one side of a connection.
    pub fn into_side(self, opened_after: u64) -> Result<Side> {
        Side::new(TcpStream::from(self.0), true, opened_after)
    }
}

/// One side of a connection, and what it has done.
pub struct Side {
    /// The socket; [`Side::close`] takes it.
    pub socket: Option<OwnedFd>,
    local: SocketAddr,
    remote: SocketAddr,
    active: bool,
    opened_after: u64,
    closed_before: Option<u64>,
    /// Counts so far.
    pub tally: Tally,
}

/// What successful calls did.
#[derive(Clone, Default)]
pub struct Tally {
    /// Bytes sent, by whatever call.
    pub tx_bytes: u64,
    /// Bytes received; peeked ones are not.
    pub rx_bytes: u64,
    /// Successful write(), send(), sendmsg().
    pub send_calls: u64,
    /// read(), recv(), recvmsg() that returned bytes.
    pub recv_calls: u64,
    /// Successful sendfile(): the kernel may send the bytes of one in several pieces.
    pub sendfile_calls: u64,
    /// Bytes of those, which are also in `tx_bytes`.
    pub sendfile_bytes: u64,
    /// recv(MSG_PEEK) that returned bytes.
    pub peek_calls: u64,
    /// Bytes they showed.
    pub peek_bytes: u64,
    /// Receiving calls that returned 0: the end of the stream.
    pub eof_calls: u64,
    /// Receiving calls that failed, by `errno`.
    pub recv_errors: BTreeMap<i32, u64>,
}

impl Side {
    fn new(stream: TcpStream, active: bool, opened_after: u64) -> Result<Self> {
        let local = stream.local_addr().context("getsockname")?;
        let remote = stream.peer_addr().context("getpeername")?;
        let tally = Tally::default();
        Ok(Self { socket: Some(stream.into()), local, remote, active, opened_after, closed_before: None, tally })
    }

    /// One that is connected already.
    pub fn of(stream: TcpStream) -> Result<Self> {
        Self::new(stream, true, 0)
    }

    /// Takes the next connection of a listener.
    pub fn accept(listener: &TcpListener) -> Result<Self> {
        let opened_after = sys::boot_ns()?;
        let (stream, _) = listener.accept().context("accept")?;
        Self::new(stream, false, opened_after)
    }

    /// Connects, and fails if that does.
    pub fn connect(to: SocketAddr) -> Result<Self> {
        let opened_after = sys::boot_ns()?;
        let socket = Unconnected::new(to.is_ipv6())?;
        match socket.connect(to, None)? {
            0 => socket.into_side(opened_after),
            errno => fail(format!("connect to {to}: {}", std::io::Error::from_raw_os_error(errno))),
        }
    }

    /// The open descriptor.
    pub fn fd(&self) -> Result<i32> {
        self.socket.as_ref().map(AsRawFd::as_raw_fd).context("the socket is closed")
    }

    /// Sets an integer option.
    pub fn set(&self, level: i32, option: i32, value: i32) -> Result<()> {
        self.set_raw(level, option, &value)
    }

    fn set_raw<T>(&self, level: i32, option: i32, value: &T) -> Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: `value` is a T of `len` bytes and lives across the call.
        let set = unsafe { libc::setsockopt(self.fd()?, level, option, std::ptr::from_ref(value).cast(), len) };
        sys::check("setsockopt", set)?;
        Ok(())
    }

    /// Bytes that were sent and have not arrived for certain.
    pub fn unacknowledged(&self) -> Result<i32> {
        let mut bytes = 0_i32;
        // SAFETY: SIOCOUTQ (which is TIOCOUTQ) writes an int that lives across the call.
        sys::check("SIOCOUTQ", unsafe { libc::ioctl(self.fd()?, libc::TIOCOUTQ as _, &raw mut bytes) })?;
        Ok(bytes)
    }

    /// Makes the close a reset.
    pub fn reset_on_close(&self) -> Result<()> {
        self.set_raw(libc::SOL_SOCKET, libc::SO_LINGER, &libc::linger { l_onoff: 1, l_linger: 0 })
    }

    /// Sends the acknowledgement that waits for more to acknowledge.
    pub fn acknowledge_now(&self) -> Result<()> {
        self.set_raw(libc::IPPROTO_TCP, libc::TCP_QUICKACK, &1i32)
    }

    /// Ends this side's stream; the other one goes on.
    pub fn shut_down_sending(&self) -> Result<()> {
        // SAFETY: no pointers.
        sys::check("shutdown", unsafe { libc::shutdown(self.fd()?, libc::SHUT_WR) })?;
        Ok(())
    }

    /// Closes the socket.
    pub fn close(&mut self) -> Result<()> {
        drop(self.socket.take().context("the socket is closed already")?);
        self.closed_before = Some(sys::boot_ns()?);
        Ok(())
    }

    /// The truth about this side.
    pub fn truth(&self) -> Result<Value> {
        let (laddr, raddr) = (self.local.ip().to_canonical(), self.remote.ip().to_canonical());
        let tally = &self.tally;
        Ok(json!({
            "pid": sys::getpid(), "tid": sys::gettid(), "comm": sys::comm()?,
            "direction": if self.active { "active" } else { "passive" },
            "socket_family": if self.local.is_ipv6() { "inet6" } else { "inet" },
            "ip_version": if laddr.is_ipv4() { 4 } else { 6 },
            "laddr": laddr, "lport": self.local.port(), "raddr": raddr, "rport": self.remote.port(),
            "tx_bytes": tally.tx_bytes, "rx_bytes": tally.rx_bytes,
            "send_calls": tally.send_calls, "recv_calls": tally.recv_calls,
            "sendfile_calls": tally.sendfile_calls, "sendfile_bytes": tally.sendfile_bytes,
            "peek_calls": tally.peek_calls, "peek_bytes": tally.peek_bytes,
            "eof_calls": tally.eof_calls,
            "recv_errors": tally.recv_errors.iter().map(|(errno, n)| (errno.to_string(), *n)).collect::<BTreeMap<_, _>>(),
            "opened_after_boot_ns": self.opened_after, "closed_before_boot_ns": self.closed_before,
        }))
    }
}

/// Waits until the kernel is through with every connection of these ports, apart from TIME_WAIT.
pub fn wait_until_settled(ports: &[u16]) -> Result<()> {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    sys::wait_until("all connections are closed", || {
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let Ok(text) = std::fs::read_to_string(table) else { continue };
            for line in text.lines().skip(1) {
                let mut fields = line.split_whitespace().skip(1);
                let (local, remote, state) = (fields.next(), fields.next(), fields.next());
                let ours = [local, remote].into_iter().flatten().any(|end| port_of(end).is_some_and(|p| ports.contains(&p)));
                if ours && !matches!(state, Some(TIME_WAIT | LISTEN)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
}

fn port_of(end: &str) -> Option<u16> {
    u16::from_str_radix(end.rsplit_once(':')?.1, 16).ok()
}

/// Parses an address with a port.
pub fn parse_address(text: &str) -> Result<SocketAddr> {
    text.parse().map_err(|_| Error::new(format!("'{text}' is not ADDR:PORT (IPv6 as [ADDR]:PORT)")))
}
