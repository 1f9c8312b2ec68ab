//! Reads DNS messages (RFC 1035) as they were on the wire. They come from anywhere: nothing in them is trusted, and no
//! message costs more than its length.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of a message before its first section.
const HEADER: usize = 12;
/// A name has at most 255 bytes (RFC 1035, 3.1), so at most this many labels.
const MOST_LABELS: usize = 128;
/// A name has at most this many bytes on the wire.
const MOST_NAME: usize = 255;
/// Answers that are looked at; a message of 512 bytes holds no more than 31 addresses.
const MOST_RECORDS: usize = 64;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A message, of which the end may be missing.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name in the form of zone files, without the dot at its end; the root is `.`.
    pub name: String,
    /// Type of record, as a number.
    pub kind: u16,
    /// Class, as a number.
    pub class: u16,
}

impl<'a> Message<'a> {
    /// A message. `None` if not even its header is there.
    pub fn new(bytes: &'a [u8]) -> Option<Message<'a>> {
        (bytes.len() >= HEADER).then_some(Message { bytes })
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes([*self.bytes.get(at)?, *self.bytes.get(at + 1)?]))
    }

    /// The number by which question and answer find each other.
    pub fn id(&self) -> u16 {
        self.u16_at(0).unwrap_or(0)
    }

    fn flags(&self) -> u16 {
        self.u16_at(2).unwrap_or(0)
    }

    /// Whether it is an answer.
    pub fn is_response(&self) -> bool {
        self.flags() & 0x8000 != 0
    }

    /// Whether the server cut it (TC): the program should ask again by TCP.
    pub fn is_truncated(&self) -> bool {
        self.flags() & 0x0200 != 0
    }

    /// How the server answered (the four bits of the header; EDNS has more bits, which are used for few errors of EDNS itself).
    pub fn rcode(&self) -> u8 {
        (self.flags() & 0x000f) as u8
    }

    /// Records in the answer section, as the header counts them.
    pub fn answers(&self) -> u16 {
        self.u16_at(6).unwrap_or(0)
    }

    /// The first question. `None` if there is none, or it isn't whole.
    pub fn question(&self) -> Option<Question> {
        if self.u16_at(4)? == 0 {
            return None;
        }
        let (name, at) = self.name(HEADER)?;
        Some(Question { name, kind: self.u16_at(at)?, class: self.u16_at(at + 2)? })
    }

    /// The addresses in the answer section, as far as the bytes go.
    pub fn addresses(&self) -> Vec<String> {
        let mut found = Vec::new();
        // A name of many pointers is walked at most once per record, so the work is bounded by the two limits.
        let mut read = || -> Option<()> {
            let mut at = HEADER;
            for _ in 0..self.u16_at(4)?.min(MOST_RECORDS as u16) {
                at = self.skip_name(at)? + 4;
            }
            for _ in 0..self.answers().min(MOST_RECORDS as u16) {
                at = self.skip_name(at)?;
                let (kind, len) = (self.u16_at(at)?, usize::from(self.u16_at(at + 8)?));
                let data = self.bytes.get(at + 10..at + 10 + len)?;
                if let (TYPE_A, Ok(address)) = (kind, <[u8; 4]>::try_from(data)) {
                    found.push(Ipv4Addr::from(address).to_string());
                } else if let (TYPE_AAAA, Ok(address)) = (kind, <[u8; 16]>::try_from(data)) {
                    found.push(Ipv6Addr::from(address).to_string());
                }
                at += 10 + len;
            }
            Some(())
        };
        let _ = read();
        found
    }

    /// Where a name ends that begins at `at`.
    fn skip_name(&self, mut at: usize) -> Option<usize> {
        for _ in 0..MOST_LABELS {
            match *self.bytes.get(at)? {
                0 => return Some(at + 1),
                len @ 1..=63 => at += 1 + usize::from(len),
                192.. => return Some(at + 2),
                _ => return None,
            }
        }
        None
    }

    /// A name, and where it ends. Pointers only lead back (RFC 1035, 4.1.4), so they can't go round.
    fn name(&self, start: usize) -> Option<(String, usize)> {
        let (mut at, mut limit, mut end) = (start, start, None);
        let (mut text, mut bytes) = (String::new(), 0);
        loop {
            match *self.bytes.get(at)? {
                0 => {
                    if text.is_empty() {
                        text.push('.');
                    }
                    return Some((text, end.unwrap_or(at + 1)));
                }
                len @ 1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(len))?;
                    bytes += 1 + label.len();
                    if bytes > MOST_NAME {
                        return None;
                    }
                    if !text.is_empty() {
                        text.push('.');
                    }
                    push_label(&mut text, label);
                    at += 1 + usize::from(len);
                }
                high @ 192.. => {
                    let target = usize::from(high & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    if target >= limit {
                        return None;
                    }
                    end = end.or(Some(at + 2));
                    (at, limit) = (target, target);
                }
                _ => return None,
            }
        }
    }
}

/// A label as zone files write it (RFC 1035, 5.1): what isn't plain is `\DDD`, a dot or backslash within has one before it.
fn push_label(text: &mut String, label: &[u8]) {
    for &byte in label {
        match byte {
            b'.' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:03}");
            }
        }
    }
}

/// Names of record types (https://www.iana.org/assignments/dns-parameters), the common ones.
const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (13, "HINFO"),
    (15, "MX"),
    (16, "TXT"),
    (17, "RP"),
    (18, "AFSDB"),
    (24, "SIG"),
    (25, "KEY"),
    (28, "AAAA"),
    (29, "LOC"),
    (33, "SRV"),
    (35, "NAPTR"),
    (36, "KX"),
    (37, "CERT"),
    (39, "DNAME"),
    (41, "OPT"),
    (42, "APL"),
    (43, "DS"),
    (44, "SSHFP"),
    (45, "IPSECKEY"),
    (46, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (49, "DHCID"),
    (50, "NSEC3"),
    (51, "NSEC3PARAM"),
    (52, "TLSA"),
    (53, "SMIMEA"),
    (55, "HIP"),
    (59, "CDS"),
    (60, "CDNSKEY"),
    (61, "OPENPGPKEY"),
    (62, "CSYNC"),
    (63, "ZONEMD"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (99, "SPF"),
    (108, "EUI48"),
    (109, "EUI64"),
    (249, "TKEY"),
    (250, "TSIG"),
    (251, "IXFR"),
    (252, "AXFR"),
    (255, "ANY"),
    (256, "URI"),
    (257, "CAA"),
];

/// The name of a record type; `TYPE123` if it has none here (RFC 3597).
pub fn type_name(kind: u16) -> String {
    let known = TYPES.iter().find(|(number, _)| *number == kind);
    known.map_or_else(|| format!("TYPE{kind}"), |(_, name)| (*name).to_owned())
}

/// The name of a class; `CLASS123` if it has none (RFC 3597).
pub fn class_name(class: u16) -> String {
    match class {
        1 => "IN".to_owned(),
        3 => "CH".to_owned(),
        4 => "HS".to_owned(),
        254 => "NONE".to_owned(),
        255 => "ANY".to_owned(),
        other => format!("CLASS{other}"),
    }
}

/// Names of the answers' codes, by number (RFC 1035, 2136, 8490).
const RCODES: [&str; 12] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "DSOTYPENI",
];

/// The name of an answer's code, as dig prints it; `RCODE13` if it has none.
pub fn rcode_name(rcode: u8) -> String {
    RCODES.get(usize::from(rcode)).map_or_else(|| format!("RCODE{rcode}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Message<'_> {
        Message { bytes }
    }

    fn header(flags: u16, questions: u16, answers: u16) -> Vec<u8> {
        [0x1234, flags, questions, answers, 0, 0].iter().flat_map(|word: &u16| word.to_be_bytes()).collect()
    }

    fn name(labels: &[&[u8]]) -> Vec<u8> {
        let mut out: Vec<u8> = labels.iter().flat_map(|label| [&[label.len() as u8], *label].concat()).collect();
        out.push(0);
        out
    }

    /// An answer as servers send it: the record's name is a pointer to the question's.
    fn answer() -> Vec<u8> {
        let mut m = header(0x8180, 1, 3);
        m.extend(name(&[b"www", b"example", b"com"]));
        m.extend([0, 1, 0, 1]);
        m.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, b'c', b'd', b'n', 0xc0, 16]);
        m.extend([0xc0, 45, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        m.extend([0xc0, 45, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        m
    }

    #[test]
    fn an_answer_is_read() {
        let bytes = answer();
        let message = of(&bytes);
        assert_eq!((message.id(), message.is_response(), message.is_truncated()), (0x1234, true, false));
        assert_eq!((rcode_name(message.rcode()).as_str(), message.answers()), ("NOERROR", 3));
        assert_eq!(message.question(), Some(Question { name: "www.example.com".to_owned(), kind: 1, class: 1 }));
        assert_eq!(message.addresses(), ["192.0.2.1", "2001:db8::1"]);
        // Of one that was cut, as far as it goes.
        assert_eq!(of(&bytes[..bytes.len() - 1]).addresses(), ["192.0.2.1"]);
    }

    #[test]
    fn names_are_written_as_in_zone_files() {
        let read = |labels: &[&[u8]]| {
            let bytes = [header(0, 1, 0), name(labels), vec![0, 255, 0, 1]].concat();
            of(&bytes).question().map(|q| q.name)
        };
        assert_eq!(read(&[]).as_deref(), Some("."));
        assert_eq!(read(&[b"a.b", b"c\\d", b"e f\xff\x00"]).as_deref(), Some("a\\.b.c\\\\d.e\\032f\\255\\000"));
        assert_eq!(read(&[b"_dns-sd", b"_udp"]).as_deref(), Some("_dns-sd._udp"));
        let label = [b'x'; 63];
        assert_eq!(read(&[&label, &label, &label, &label[..61]]).map(|n| n.len()), Some(253));
        assert_eq!(read(&[&label, &label, &label, &label, &label]), None, "longer than a name may be");
    }

    #[test]
    fn a_pointer_that_does_not_lead_back_is_no_name() {
        for pointer in [[0xc0, 12], [0xc0, 13], [0xff, 0xff], [0x80, 0], [0x40, 0]] {
            let bytes = [header(0, 1, 0), pointer.to_vec(), vec![0, 1, 0, 1]].concat();
            assert_eq!(of(&bytes).question(), None, "{pointer:?}");
        }
        assert!(Message::new(&[0; 11]).is_none());
        assert_eq!(of(&[0; 12]).question(), None);
    }

    /// Random and half-random bytes: no panic, and never more than a message can hold.
    #[test]
    fn any_bytes_are_survived() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let whole = answer();
        for turn in 0..200_000 {
            let mut bytes = if turn % 2 == 0 { whole.clone() } else { (0..random() % 513).map(|_| random() as u8).collect() };
            for _ in 0..random() % 8 {
                if !bytes.is_empty() {
                    let at = random() as usize % bytes.len();
                    // The interesting values: pointers, lengths of labels, extremes.
                    bytes[at] = [0, 0xc0, 0xff, 12, 63, 64, random() as u8][random() as usize % 7];
                }
            }
            bytes.truncate(random() as usize % (bytes.len() + 1));
            let Some(message) = Message::new(&bytes) else { continue };
            if let Some(question) = message.question() {
                assert!(question.name.len() <= 4 * MOST_NAME, "{bytes:?}");
            }
            assert!(message.addresses().len() <= bytes.len() / 12, "{bytes:?}");
            let _ = (message.id(), message.is_response(), message.is_truncated(), rcode_name(message.rcode()), message.answers());
        }
    }

    #[test]
    fn numbers_without_a_name_are_shown_as_numbers() {
        assert_eq!((type_name(28).as_str(), type_name(65280).as_str()), ("AAAA", "TYPE65280"));
        assert_eq!((class_name(1).as_str(), class_name(7).as_str()), ("IN", "CLASS7"));
        assert_eq!((rcode_name(3).as_str(), rcode_name(15).as_str()), ("NXDOMAIN", "RCODE15"));
        assert!(TYPES.is_sorted_by_key(|(number, _)| *number));
    }
}
