//! The ends of a connection.

use super::columns::{Interned, Numbers};
use super::info::{IP_ADDRESS, IP_VERSION, NETNS, PORT};
use super::{Build, Context, Kind, Parts, WireKind};
use crate::wire::{self, NULL32};
use arrow::array::ArrayRef;
use arrow::datatypes::{Int32Type, Int64Type};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Both ends of a connection: `ip_version, laddr, lport, raddr, rport, netns`. A v4-mapped IPv6 address is IPv4.
#[derive(Debug)]
pub struct Endpoints;

impl Kind for Endpoints {
    type Value = wire::Endpoints;
    type Builder = EndpointsBuilder;
    const PARTS: Parts = &[
        ("ip_version", "4 or 6; an IPv6 socket that talks to an IPv4 address (v4-mapped) is 4.", &IP_VERSION),
        ("laddr", "Local address.", &IP_ADDRESS),
        ("lport", "Local port; null before the kernel has chosen it.", &PORT),
        ("raddr", "Remote address; null before the kernel has set it.", &IP_ADDRESS),
        ("rport", "Remote port; null before the kernel has set it.", &PORT),
        ("netns", "Inode of the network namespace, as `readlink /proc/PID/ns/net` prints it.", &NETNS),
    ];
}

impl WireKind for Endpoints {
    const C: (&'static str, &'static str) = ("struct ebrec_endpoints", "");
}

/// Builder of endpoints.
#[derive(Default)]
pub struct EndpointsBuilder {
    ip_version: Numbers<Int32Type>,
    laddr: Interned<[u8; 16]>,
    lport: Numbers<Int32Type>,
    raddr: Interned<([u8; 16], bool)>,
    rport: Numbers<Int32Type>,
    netns: Numbers<Int64Type>,
}

fn ip(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

impl Build<wire::Endpoints> for EndpointsBuilder {
    fn append(&mut self, value: &wire::Endpoints, _: &mut Context<'_>) {
        let has_remote = value.rport != 0;
        // An unconnected IPv6 listener has `::` on both sides; the local address decides then.
        let known = if has_remote { value.raddr } else { value.laddr };
        self.ip_version.push(if ip(known).is_ipv4() { 4 } else { 6 });
        self.laddr.push(value.laddr, || Some(ip(value.laddr).to_string()));
        // connect() tells its state before it has chosen a port.
        self.lport.push_option((value.lport != 0).then(|| i32::from(value.lport)));
        self.raddr.push((value.raddr, has_remote), || has_remote.then(|| ip(value.raddr).to_string()));
        self.rport.push_option(has_remote.then(|| i32::from(value.rport)));
        self.netns.push_option((value.netns != NULL32).then(|| i64::from(value.netns)));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.ip_version.take()));
        out.push(Arc::new(self.laddr.take()));
        out.push(Arc::new(self.lport.take()));
        out.push(Arc::new(self.raddr.take()));
        out.push(Arc::new(self.rport.take()));
        out.push(Arc::new(self.netns.take()));
    }
}
