//! Takes values out of JSON, be it a workload's truth or rows of a capture.

use crate::{Context, Result};
use serde_json::Value;

/// What a question's message tells: columns of `dns_query`, and keys of the workload's truth.
pub const DNS_QUESTION: [&str; 15] = [
    "pid",
    "tid",
    "comm",
    "ip_version",
    "laddr",
    "lport",
    "raddr",
    "rport",
    "protocol",
    "attempts",
    "request_bytes",
    "id",
    "name",
    "type",
    "class",
];
/// What its answer does.
pub const DNS_ANSWER: [&str; 5] = ["response_bytes", "rcode", "answers", "addresses", "truncated"];

/// The elements of a list.
pub fn list(value: &Value) -> Result<&[Value]> {
    value.as_array().map(Vec::as_slice).context(format!("not a list: {value}"))
}

/// A whole number.
pub fn int(value: &Value) -> Result<i64> {
    value.as_i64().context(format!("not a whole number: {value}"))
}

/// A text.
pub fn text(value: &Value) -> Result<&str> {
    value.as_str().context(format!("not a text: {value}"))
}
