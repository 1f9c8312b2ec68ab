//! Lookups of names, and DNS messages.

use super::columns::{Interned, Numbers};
use super::info::STRINGS;
use super::{Build, Context, Encoding, Kind, KindInfo, Parts, WireKind};
use crate::dns::{self, Message};
use crate::text;
use arrow::array::{ArrayRef, BooleanBuilder, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use std::sync::Arc;

const fn word(name: &'static str) -> KindInfo {
    KindInfo { name, arrow: || DataType::Utf8, unit: None, nullable: true, encoding: Encoding::Dictionary }
}

const fn number(name: &'static str) -> KindInfo {
    KindInfo { name, arrow: || DataType::Int32, unit: None, nullable: true, encoding: Encoding::Dictionary }
}

/// A length in the wire that means that there is no text.
const NO_TEXT: u16 = u16::MAX;

/// Takes a 16-bit length off the front.
fn take_len(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_ne_bytes(*len), rest))
}

/// Tail of a lookup: length of the host, length of the service (both 16 bits, 0xffff: null), host, service. Columns `host, service`.
#[derive(Debug)]
pub struct LookupNames;

impl Kind for LookupNames {
    type Value = [u8];
    type Builder = LookupNamesBuilder;
    const PARTS: Parts = &[
        (
            "host",
            "What was looked up, as the caller gave it (the first 255 bytes). Null: no host was given, or it was unreadable.",
            &word("Text"),
        ),
        ("service", "Service or port that was asked for with it (the first 31 bytes), as getaddrinfo takes it. Null: none.", &word("Text")),
    ];
}

/// Builder of lookups' names.
#[derive(Default)]
pub struct LookupNamesBuilder {
    host: StringBuilder,
    service: StringBuilder,
}

impl Build<[u8]> for LookupNamesBuilder {
    fn append(&mut self, tail: &[u8], _: &mut Context<'_>) {
        let read = || {
            let (host_len, rest) = take_len(tail)?;
            let (service_len, rest) = take_len(rest)?;
            let host = if host_len == NO_TEXT { &[][..] } else { rest.get(..host_len.into())? };
            let service = rest.get(host.len()..)?;
            let service = if service_len == NO_TEXT { None } else { Some(service.get(..service_len.into())?) };
            Some(((host_len != NO_TEXT).then_some(host), service))
        };
        let (host, service) = read().unwrap_or_default();
        self.host.append_option(host.map(text::escape));
        self.service.append_option(service.map(text::escape));
    }

    fn bytes(&self) -> usize {
        self.host.values_slice().len() + self.service.values_slice().len()
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.host.finish()));
        out.push(Arc::new(self.service.finish()));
    }
}

/// On the wire, an outcome that the kernel can't tell.
const NO_RESULT: i32 = i32::MIN;

/// On the wire, h_errno NETDB_INTERNAL (-1), which is another error than EAI_BADFLAGS.
const NETDB_INTERNAL: i32 = 1000;

/// How a lookup ended: columns `ret, error`. On the wire what getaddrinfo returned, which is negative if it failed, or h_errno,
/// which is positive.
#[derive(Debug)]
pub struct LookupResult;

impl Kind for LookupResult {
    type Value = i32;
    type Builder = LookupResultBuilder;
    const PARTS: Parts = &[
        (
            "ret",
            "0: it found something. Else what getaddrinfo returned (EAI_…, negative) or, of the others, h_errno (positive; -1 if the call itself could not be carried out). Null: not known.",
            &number("Ret"),
        ),
        ("error", "Name of that error. Null: none, or not known.", &word("Text")),
    ];
}

impl WireKind for LookupResult {
    const C: (&'static str, &'static str) = ("__s32", "");
}

/// Builder of lookups' results.
#[derive(Default)]
pub struct LookupResultBuilder {
    ret: Numbers<Int32Type>,
    error: Interned<i32>,
}

impl Build<i32> for LookupResultBuilder {
    fn append(&mut self, value: &i32, _: &mut Context<'_>) {
        let ret = if *value == NETDB_INTERNAL { -1 } else { *value };
        self.ret.push_option((ret != NO_RESULT).then_some(ret));
        self.error.push(*value, || lookup_error(*value));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.ret.take()));
        out.push(Arc::new(self.error.take()));
    }
}

/// Names of the errors in netdb.h of glibc; musl has the same numbers.
fn lookup_error(code: i32) -> Option<String> {
    let name = match code {
        0 | NO_RESULT => return None,
        -1 => "EAI_BADFLAGS",
        -2 => "EAI_NONAME",
        -3 => "EAI_AGAIN",
        -4 => "EAI_FAIL",
        -5 => "EAI_NODATA",
        -6 => "EAI_FAMILY",
        -7 => "EAI_SOCKTYPE",
        -8 => "EAI_SERVICE",
        -9 => "EAI_ADDRFAMILY",
        -10 => "EAI_MEMORY",
        -11 => "EAI_SYSTEM",
        -12 => "EAI_OVERFLOW",
        1 => "HOST_NOT_FOUND",
        2 => "TRY_AGAIN",
        3 => "NO_RECOVERY",
        4 => "NO_DATA",
        // The caller's buffer is too small, for example; errno says.
        NETDB_INTERNAL => "NETDB_INTERNAL",
        other => return Some(other.to_string()),
    };
    Some(name.to_owned())
}

/// Tail of a DNS query: length of the question's message (16 bits), that message, and the answer's, if there was one. Either may be cut.
/// Columns `id, name, type, class, rcode, answers, addresses, truncated`.
#[derive(Debug)]
pub struct DnsMessages;

impl Kind for DnsMessages {
    type Value = [u8];
    type Builder = DnsMessagesBuilder;
    const PARTS: Parts = &[
        ("id", "Number of the message, which the answer repeats.", &number("DnsId")),
        (
            "name",
            "Name that was asked for, as zone files write it, without the last dot. Null: the message could not be read.",
            &word("Text"),
        ),
        ("type", "Type of record that was asked for: A, AAAA, …; TYPE123 if it has no name.", &word("DnsType")),
        ("class", "Class, nearly always IN.", &word("DnsClass")),
        ("rcode", "How the server answered: NOERROR, NXDOMAIN, SERVFAIL, …. Null: no answer.", &word("DnsRcode")),
        ("answers", "Records in the answer. Null: no answer.", &number("Count")),
        ("addresses", "The addresses among them, as far as they are in the answer's first 512 bytes. Null: no answer.", &STRINGS),
        (
            "truncated",
            "Whether the server cut its answer, so that the program should ask again by TCP. Null: no answer.",
            &super::info::FLAG,
        ),
    ];
}

/// Builder of DNS messages.
#[derive(Default)]
pub struct DnsMessagesBuilder {
    id: Numbers<Int32Type>,
    name: StringBuilder,
    kind: Interned<Option<u16>>,
    class: Interned<Option<u16>>,
    rcode: Interned<Option<u8>>,
    answers: Numbers<Int32Type>,
    addresses: ListBuilder<StringBuilder>,
    truncated: BooleanBuilder,
}

impl Build<[u8]> for DnsMessagesBuilder {
    fn append(&mut self, tail: &[u8], _: &mut Context<'_>) {
        let (query, response) = take_len(tail).and_then(|(len, rest)| rest.split_at_checked(len.into())).unwrap_or_default();
        let (query, response) = (Message::new(query), Message::new(response));
        // Some programs' questions can't be read at once, because they are sent in pieces; the answer repeats them.
        let question = query.and_then(|m| m.question()).or_else(|| response.and_then(|m| m.question()));
        self.id.push_option(query.or(response).map(|m| m.id().into()));
        self.name.append_option(question.as_ref().map(|q| q.name.as_str()));
        self.kind.push(question.as_ref().map(|q| q.kind), || question.as_ref().map(|q| dns::type_name(q.kind)));
        self.class.push(question.as_ref().map(|q| q.class), || question.as_ref().map(|q| dns::class_name(q.class)));
        self.rcode.push(response.map(|m| m.rcode()), || response.map(|m| dns::rcode_name(m.rcode())));
        self.answers.push_option(response.map(|m| m.answers().into()));
        for address in response.map(|m| m.addresses()).unwrap_or_default() {
            self.addresses.values().append_value(address);
        }
        self.addresses.append(response.is_some());
        self.truncated.append_option(response.map(|m| m.is_truncated()));
    }

    fn bytes(&self) -> usize {
        self.name.values_slice().len() + self.addresses.values_ref().values_slice().len()
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.id.take()));
        out.push(Arc::new(self.name.finish()));
        out.push(Arc::new(self.kind.take()));
        out.push(Arc::new(self.class.take()));
        out.push(Arc::new(self.rcode.take()));
        out.push(Arc::new(self.answers.take()));
        out.push(Arc::new(self.addresses.finish()));
        out.push(Arc::new(self.truncated.finish()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::NoResolver;
    use arrow::array::{Array, AsArray};

    /// Tails as no kernel writes them, random ones among them: every one is a row.
    #[test]
    fn any_tail_is_a_row() {
        let mut state = 1_u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as u8
        };
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut NoResolver };
        let (mut names, mut messages) = (LookupNamesBuilder::default(), DnsMessagesBuilder::default());
        let mut tails: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0xff; 4], vec![0xff; 8], vec![4, 0, 9, 0, b'h']];
        tails.extend((0..2000).map(|len| (0..len % 300).map(|_| random()).collect()));
        for tail in &tails {
            names.append(tail, &mut context);
            messages.append(tail, &mut context);
        }
        let mut out = Vec::new();
        names.finish(&mut context, &mut out);
        messages.finish(&mut context, &mut out);
        assert_eq!(out.len(), LookupNames::PARTS.len() + DnsMessages::PARTS.len());
        assert!(out.iter().all(|column| column.len() == tails.len()));
    }

    #[test]
    fn names_of_a_lookup_are_told_apart_from_none() {
        let mut context = Context { boot_to_utc_ns: 0, resolver: &mut NoResolver };
        let mut names = LookupNamesBuilder::default();
        let tail = |host: Option<&str>, service: Option<&str>| {
            let len = |text: Option<&str>| text.map_or(NO_TEXT, |t| t.len() as u16).to_ne_bytes();
            [&len(host)[..], &len(service)[..], host.unwrap_or("").as_bytes(), service.unwrap_or("").as_bytes()].concat()
        };
        let rows = [(Some("a.example"), Some("443")), (Some(""), None), (None, Some("80")), (None, None)];
        for (host, service) in rows {
            names.append(&tail(host, service), &mut context);
        }
        let mut out = Vec::new();
        names.finish(&mut context, &mut out);
        let read = |column: &ArrayRef| column.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(read(&out[0]), rows.map(|(host, _)| host.map(str::to_owned)));
        assert_eq!(read(&out[1]), rows.map(|(_, service)| service.map(str::to_owned)));
    }
}
