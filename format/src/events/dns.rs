//! Names that programs look up: the calls of their resolver library, and the messages on port 53.

use crate::table::events;

events! {
    /// A call of the C library's resolver (getaddrinfo, gethostbyname…), glibc's or musl's, a container's own included. `ts` is when it was called, and one that was called before the window has no row; calls of it within it are part of the same row. Programs that bring their own resolver (Go, static ones, dig) are in `dns_query` only.
    DnsLookup = "dns_lookup" {
        /// Caller.
        head: Head,
        /// From call to return. Null: it had not returned when the window or its thread ended.
        latency_ns: Duration,
        /// Outcome.
        result: LookupResult,
        /// The function that was called.
        function: LookupFunction,
    };
    /// What was looked up.
    tail names: LookupNames

    /// A question to a DNS server over UDP or TCP port 53 and its answer, whatever program asked it. `ts` is when it was sent, and one that was sent before the window has no row. The same message on its way through several interfaces is one row, and so is one that was sent again. Where addresses are translated on the way (Docker's own resolver), the server is the one that the program asked. Not seen: encrypted DNS, other ports, of one segment of TCP the messages after the second, and messages that an older kernel keeps in pages of its own (nearly all by TCP).
    DnsQuery = "dns_query" {
        /// Who sent the question.
        head: Head,
        /// Both ends; the remote one is the server, as the program addressed it.
        ends: Endpoints,
        /// From the first time it was sent to the arrival of the answer. Null: no answer came in 30 s, or before the window's end.
        latency_ns: Duration,
        /// `udp` or `tcp`.
        protocol: DnsProtocol,
        /// How often it was sent: more than once if the program, or TCP, sent the same message again.
        attempts: Count32,
        /// Size of the question's message.
        request_bytes: Bytes32,
        /// Size of the answer's message. Null: there was none.
        response_bytes: Bytes32,
        /// What became of it: `succeeded` with NOERROR, `failed` with another answer, `given up` after 30 s, or `pending` at the window's end. Null in captures of older recorders.
        outcome: Outcome,
        /// Padding.
        pad: Pad32,
    };
    /// The messages.
    tail message: DnsMessages
}
