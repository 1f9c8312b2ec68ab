//! TCP connections. The task of each row is the connection's owner: who connected, who accepted, or who first used it.

use crate::table::events;

events! {
    /// A connection that was seen: one row each, written when it ends or when the window does.
    TcpConnection = "tcp_connection" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// When it was established or, if it never was, when it was tried. Null: before the window.
        opened_ts: Timestamp,
        /// When it ended. Null: after the window.
        closed_ts: Timestamp,
        /// Who opened it.
        direction: Direction,
        /// Padding.
        pad: Pad32,
    }

    /// An outbound connection was established, or the attempt failed.
    TcpConnect = "tcp_connect" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// From the SYN to the answer. Null: it began before the window.
        latency_ns: Duration,
        /// 0, or why it failed. Null: given up by the program.
        errno: Errno,
        /// Padding.
        pad: Pad32,
    }

    /// An inbound connection was accepted by a program.
    TcpAccept = "tcp_accept" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// From established to accepted: how long it waited in the listener's queue. Null: established before the window.
        queued_ns: Duration,
    }

    /// A connection ended.
    TcpClose = "tcp_close" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// Since it was established. Null: established before the window, or never.
        duration_ns: Duration,
        /// Payload bytes that were sent and acknowledged, over its whole life.
        tx_bytes: Bytes,
        /// Payload bytes that were received, over its whole life.
        rx_bytes: Bytes,
        /// Smoothed round-trip time at the end. Null: never measured.
        srtt_ns: Duration,
        /// Segments that were sent again, over its whole life.
        retransmits: Count32,
        /// State that it ended from.
        old_state: TcpState,
    }

    /// A connection changed its state.
    TcpState = "tcp_state" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// Time spent in the old state. Null: entered before the window.
        in_old_state_ns: Duration,
        /// State before.
        old_state: TcpState,
        /// State after.
        new_state: TcpState,
    }

    /// A call that put bytes into a connection. The task is the caller.
    TcpSend = "tcp_send" {
        /// Connection.
        head: ConnHead,
        /// Payload bytes that were accepted.
        bytes: Bytes,
    }

    /// A call that took bytes out of a connection; looks without taking (MSG_PEEK) are not counted. The task is the caller.
    TcpRecv = "tcp_recv" {
        /// Connection.
        head: ConnHead,
        /// Payload bytes that were returned.
        bytes: Bytes,
    }

    /// A segment was sent again. Several segments that leave as one (GSO) are one row.
    TcpRetransmit = "tcp_retransmit" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// State of the connection.
        state: TcpState,
        /// What made it.
        kind: RetransmitKind,
    }

    /// A TCP socket that existed at the start of the window, listening ones included.
    TcpSocket = "tcp_socket" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// Payload bytes sent and acknowledged before the window.
        tx_bytes: Bytes,
        /// Payload bytes received before the window.
        rx_bytes: Bytes,
        /// State of the connection.
        state: TcpState,
        /// Padding.
        pad: Pad32,
    }
}
