//! `dns`: known lookups against a resolver of its own, in network and mount namespaces of its own, so that neither the host's
//! network nor its `/etc/resolv.conf` is touched.

mod client;
mod message;
mod server;

use crate::args::Args;
use crate::sys;
use ebrec_tests::{Context, Result, fail};
use serde_json::{Value, json};
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

/// Where the resolver is.
const SERVERS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// What each name's first label makes the server do.
pub const DOMAIN: &str = "ebrec.test";

/// Raw queries over UDP and TCP, and whatever `--run` does in the same namespaces.
pub fn run(args: &Args) -> Result<Value> {
    let slow_ms = args.number_or("slow-ms", 150)?;
    let repeat = args.number_or("repeat", 1)?;
    enter_namespaces()?;
    let (server, stop) = server::start(&SERVERS, slow_ms)?;
    let mut queries = Vec::new();
    for _ in 0..repeat {
        client::all(&SERVERS, slow_ms, &mut queries)?;
    }
    let run = args.option("run").map(run_helper).transpose()?;
    drop(stop);
    sys::wait_ok(server)?;
    let netns = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/self/ns/net").context("network namespace")?);
    Ok(
        json!({ "queries": queries, "run": run, "netns": netns, "slow_ns": slow_ms * 1_000_000, "server_pid": server, "tid": sys::gettid() }),
    )
}

/// Runs a shell script; what it prints are lines of JSON.
fn run_helper(script: &str) -> Result<Value> {
    let output = Command::new("/bin/sh").arg("-c").arg(script).output().context("run /bin/sh")?;
    if !output.status.success() {
        return fail(format!("--run: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(sys::read_lines(output.stdout.as_slice())?.into())
}

fn enter_namespaces() -> Result<()> {
    // SAFETY: no pointers; the process has a single thread.
    sys::check("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) })?;
    mount("none", "/", libc::MS_REC | libc::MS_PRIVATE)?;
    loopback_up()?;
    // One try of one second, so that a silent server is soon given up.
    replace("/etc/resolv.conf", &format!("nameserver {}\noptions timeout:1 attempts:1\n", SERVERS[0]), true)?;
    replace("/etc/nsswitch.conf", "hosts: files dns\n", false)
}

fn mount(source: &str, target: &str, flags: libc::c_ulong) -> Result<()> {
    let (source, on) = (CString::new(source).context("path")?, CString::new(target).context("path")?);
    // SAFETY: both texts live across the call; the type and the options are not needed.
    let mounted = unsafe { libc::mount(source.as_ptr(), on.as_ptr(), std::ptr::null(), flags, std::ptr::null()) };
    sys::check(&format!("mount on {target}"), mounted)?;
    Ok(())
}

/// Puts a file over another one, in this mount namespace only.
fn replace(path: &str, text: &str, create: bool) -> Result<()> {
    let Ok(target) = Path::new(path).canonicalize() else {
        // Only small VMs have none.
        return if create { std::fs::write(path, text).context(path) } else { Ok(()) };
    };
    let own = std::env::temp_dir().join(format!("ebrec-dns-{}", sys::getpid()));
    std::fs::write(&own, text).context(own.display())?;
    let mounted = mount(&own.to_string_lossy(), &target.to_string_lossy(), libc::MS_BIND);
    // The mount keeps the file.
    std::fs::remove_file(&own).context(own.display())?;
    mounted
}

fn loopback_up() -> Result<()> {
    // SAFETY: creates a socket; no pointers.
    let socket = sys::check("socket", unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: `request` lives across the call.
    let up = sys::check("set lo up", unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) });
    // SAFETY: it is our descriptor, not used afterwards.
    unsafe { libc::close(socket) };
    up?;
    // The address ::1 is there a moment later.
    sys::wait_until("::1 can be used", || Ok(std::net::UdpSocket::bind("[::1]:0").is_ok()))
}
