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

    /// An outbound connection was established, the attempt failed or was given up; or, at the end of the window, is still pending.
    /// Also one that failed before anything was sent (no route, no port left, a firewall's rule): what connect(2) returned.
    TcpConnect = "tcp_connect" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// From the SYN to the answer; if it is pending, to the window's end. Null: it began before the window.
        latency_ns: Duration,
        /// 0, or why it failed. Null: given up or pending.
        errno: Errno,
        /// What became of it. Null in captures of older recorders.
        outcome: Outcome,
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

    /// A call that took bytes out of a connection; looks without taking (MSG_PEEK) and what comes out of the error queue are not counted. The task is the caller.
    TcpRecv = "tcp_recv" {
        /// Connection.
        head: ConnHead,
        /// Payload bytes that were returned.
        bytes: Bytes,
    }

    /// A segment was sent again. Several segments that leave as one (GSO) are one row.
    TcpRetransmit = "tcp_retransmit" {
        /// Connection. Of a SYN that is answered once more (state `NEW_SYN_RECV`), the listening socket.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// State of the connection.
        state: TcpState,
        /// What made it.
        kind: RetransmitKind,
    }

    /// A reset was sent or received. A reset that answers a segment without a socket has no connection: only the ends, seen from here. Of a reset that comes for a connection which isn't established yet on the listening side the kernel doesn't tell.
    TcpReset = "tcp_reset" {
        /// Connection.
        head: ConnHead,
        /// Both ends.
        ends: Endpoints,
        /// Whether it was sent or received.
        way: ResetWay,
        /// State of the connection. Null: there is none.
        state: TcpState,
        /// Why it was sent, as the kernel names it (include/net/rstreason.h). Null: received, or the kernel doesn't tell (before 6.10).
        reason: ResetReason,
        /// Padding.
        pad: Pad32,
    }

    /// What TCP knew of an established connection's path when a segment arrived; at most one sample per connection in 100 ms, where `tcprtt` counts every segment: its histogram weighs connections by their segments, this one by their time.
    TcpRtt = "tcp_rtt" {
        /// Connection.
        head: ConnHead,
        /// Smoothed round-trip time (RFC 6298).
        srtt_ns: Duration,
        /// Smoothed deviation from it.
        mdev_ns: Duration,
        /// Shortest round trip in the last minutes (net.ipv4.tcp_min_rtt_wlen). Null: none measured.
        min_rtt_ns: Duration,
        /// Congestion window, segments.
        snd_cwnd: Count32,
        /// Slow-start threshold, segments; 2147483647 as long as there was no congestion.
        ssthresh: Count32,
        /// Segments on their way.
        in_flight: Count32,
        /// Bytes that were sent and not acknowledged.
        unacked_bytes: Bytes32,
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
