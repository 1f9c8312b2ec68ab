//! Writes and reads DNS messages, as far as the workload needs them. On purpose not the code of the recorder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const AAAA: u16 = 28;

/// A query for one name.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// Name, type, and where the question ends.
pub fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut name) = (12, String::new());
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        name.push_str(&String::from_utf8_lossy(message.get(at..at + len)?));
        name.push('.');
        at += len;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    Some((name.trim_end_matches('.').to_owned(), kind, at + 4))
}

/// What a server says.
#[derive(Debug, Default)]
pub struct Answer {
    pub rcode: u8,
    pub truncated: bool,
    pub addresses: Vec<IpAddr>,
}

/// What the server of this workload says to a question over `tcp` or not; `None`: nothing.
pub fn answer_to(name: &str, kind: u16, tcp: bool) -> Option<Answer> {
    let v4 = |n: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n));
    let v6 = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
    let label = name.split('.').next()?;
    Some(match (label, kind) {
        ("silent", _) => return None,
        ("nx", _) => Answer { rcode: 3, ..Answer::default() },
        ("fail", _) => Answer { rcode: 2, ..Answer::default() },
        ("big", _) if !tcp => Answer { truncated: true, ..Answer::default() },
        // 16 bytes each: more than the recorder keeps.
        ("big", A) => Answer { addresses: (1..=40).map(v4).collect(), ..Answer::default() },
        (_, A) => Answer { addresses: vec![v4(1), v4(2)], ..Answer::default() },
        (_, AAAA) => Answer { addresses: vec![v6(1)], ..Answer::default() },
        _ => Answer::default(),
    })
}

/// The message of an answer; the names of its records are pointers to the question's.
pub fn response(query: &[u8], answer: &Answer) -> Option<Vec<u8>> {
    let (_, _, end) = question(query)?;
    let mut out = query.get(..end)?.to_vec();
    out[2] = 0x81 | if answer.truncated { 2 } else { 0 };
    out[3] = 0x80 | answer.rcode;
    out[6..8].copy_from_slice(&(answer.addresses.len() as u16).to_be_bytes());
    for address in &answer.addresses {
        let (kind, data) = match address {
            IpAddr::V4(v4) => (A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
        };
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 60]);
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    Some(out)
}

/// The name of an answer's code.
pub fn rcode_name(rcode: u8) -> &'static str {
    match rcode {
        0 => "NOERROR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        _ => "?",
    }
}
