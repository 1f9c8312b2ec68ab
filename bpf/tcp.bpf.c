/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* TCP connections. */
#include "files.h"
#include "syscalls.h"
#include "tcp.h"

FEEDS(tcp__accept, "tcp_accept tcp_connection");

/* Payload bytes that the other end acknowledged. bytes_acked counts what sequence numbers do: our SYN, if we sent one
 * (tcp_rcv_synsent_state_process; an accepted socket starts behind it), and our FIN. */
static __always_inline __u64 acked_payload(struct sock *sk, struct conn *conn, int state)
{
	struct tcp_sock *tp = (void *)sk;
	__u64 bytes = BPF_CORE_READ(tp, bytes_acked);
	bool fin_sent = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK ||
			state == TCP_TIME_WAIT;

	if (conn->direction == DIRECTION_ACTIVE && bytes)
		bytes--;
	if (fin_sent && bytes && BPF_CORE_READ(tp, snd_una) == BPF_CORE_READ(tp, write_seq))
		bytes--;
	return bytes;
}

/* Payload bytes that arrived; bytes_received counts the other end's FIN as well (tcp_rcv_nxt_update). */
static __always_inline __u64 received_payload(struct sock *sk)
{
	__u64 bytes = BPF_CORE_READ((struct tcp_sock *)sk, bytes_received);

	if (bytes && BPF_CORE_READ(sk, __sk_common.skc_flags) & (1UL << SOCK_DONE))
		bytes--;
	return bytes;
}

/* Which end sent the SYN of a connection that was there before: bytes_acked counts ours, bytes_sent doesn't. The socket isn't
 * locked, so it may change meanwhile. */
static __always_inline __u32 direction_of(struct sock *sk, int state)
{
	struct tcp_sock *tp = (void *)sk;
	__u64 acked = BPF_CORE_READ(tp, bytes_acked);
	__u64 sent = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);

	sent -= (__u32)(BPF_CORE_READ(tp, snd_nxt) - BPF_CORE_READ(tp, snd_una));
	if ((state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT) || BPF_CORE_READ(tp, bytes_acked) != acked)
		return DIRECTION_UNKNOWN;
	return acked == sent + 1 ? DIRECTION_ACTIVE : acked == sent ? DIRECTION_PASSIVE : DIRECTION_UNKNOWN;
}

static __always_inline void emit_connection(struct conn *conn, __u64 now)
{
	struct ebrec_tcp_connection *event = RECORD(tcp_connection, TCP_CONNECTION, now);

	if (!event)
		return;
	put_conn_head(&event->head, conn);
	event->ends = conn->ends;
	event->opened_ts = conn->opened_at;
	event->closed_ts = now;
	event->direction = conn->direction;
	event->pad = 0;
	submit(event);
}

static __always_inline void emit_connect(struct conn *conn, __u64 now, enum outcome outcome, __u32 errno)
{
	struct ebrec_tcp_connect *event = RECORD(tcp_connect, TCP_CONNECT, now);

	if (!event)
		return;
	put_conn_head(&event->head, conn);
	event->ends = conn->ends;
	event->latency_ns = conn->tried_at ? now - conn->tried_at : EBREC_NULL64;
	event->errno = errno;
	event->outcome = outcome;
	submit(event);
}

/* An attempt is over without a connection. */
static __always_inline void on_failed_attempt(struct sock *sk, struct conn *conn, __u64 now)
{
	__u32 error = BPF_CORE_READ(sk, sk_err);

	if (error) {
		conn->failed_at = now;
		conn->failed_with = error;
		if (is_wanted_conn(conn))
			emit_connect(conn, now, OUTCOME_FAILED, error);
	} else if (syscall_in_progress() == NR_CONNECT) {
		/* No segment could be sent, for a reason that connect() returns. */
		conn->failing = 1;
	} else if (is_wanted_conn(conn)) {
		emit_connect(conn, now, OUTCOME_GIVEN_UP, EBREC_NULL32);
	}
}

static __always_inline void emit_close(struct sock *sk, struct conn *conn, __u64 now, int old_state)
{
	struct ebrec_tcp_close *event = RECORD(tcp_close, TCP_CLOSE, now);
	__u32 srtt;

	if (!event)
		return;
	put_conn_head(&event->head, conn);
	event->ends = conn->ends;
	event->duration_ns = conn->established && conn->opened_at != EBREC_NULL64 ? now - conn->opened_at : EBREC_NULL64;
	event->tx_bytes = acked_payload(sk, conn, old_state);
	event->rx_bytes = received_payload(sk);
	srtt = BPF_CORE_READ((struct tcp_sock *)sk, srtt_us);
	/* srtt_us is kept times eight (include/linux/tcp.h). */
	event->srtt_ns = srtt ? (__u64)srtt * 1000 / 8 : EBREC_NULL64;
	event->retransmits = BPF_CORE_READ((struct tcp_sock *)sk, total_retrans);
	event->old_state = old_state;
	submit(event);
}

static __always_inline void emit_state(struct conn *conn, __u64 now, int old_state, int new_state)
{
	struct ebrec_tcp_state *event = RECORD(tcp_state, TCP_STATE, now);

	if (!event)
		return;
	put_conn_head(&event->head, conn);
	event->ends = conn->ends;
	event->in_old_state_ns = conn->in_state_since ? now - conn->in_state_since : EBREC_NULL64;
	event->old_state = old_state;
	event->new_state = new_state;
	submit(event);
}

/* A global function, which the verifier looks at once for both programs. */
__noinline int on_state(__u64 key, int old_state, int new_state)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct sock *sk = (void *)key;
	struct conn *conn;
	bool is_trying;

	if (!is_tcp(sk))
		return 0;
	/* A socket that connects or listens again is another connection, with another number. */
	conn = bpf_map_lookup_elem(&conns, &key);
	if (conn && conn->closed)
		bpf_map_delete_elem(&conns, &key);
	conn = get_conn(sk, EBREC_TCP_STATE);
	if (!conn) {
		/* The rows that are missing besides that of the state. */
		if (old_state == TCP_SYN_SENT && (new_state == TCP_ESTABLISHED || new_state == TCP_CLOSE))
			count_full(EBREC_TCP_CONNECT);
		if (new_state == TCP_CLOSE && old_state != TCP_LISTEN) {
			count_full(EBREC_TCP_CLOSE);
			count_full(EBREC_TCP_CONNECTION);
		}
		return 0;
	}
	if (new_state == TCP_SYN_SENT) {
		/* connect() runs in the task that called it. */
		own(conn);
		conn->direction = DIRECTION_ACTIVE;
		conn->tried_at = now;
		conn->opened_at = now;
	} else if (new_state == TCP_LISTEN) {
		own(conn);
		conn->listening = 1;
	} else if (new_state == TCP_SYN_RECV && conn->direction == DIRECTION_UNKNOWN) {
		conn->direction = DIRECTION_PASSIVE;
		conn->opened_at = now;
	} else if (new_state == TCP_ESTABLISHED) {
		conn->opened_at = now;
		conn->established = 1;
	}
	/* Closing takes the port away before it tells, so the ends are those of the state before. Of a connection that was never
	 * established that was the state in which it had no port yet; what it got is still in the socket. */
	if (new_state != TCP_CLOSE)
		put_ends(&conn->ends, sk);
	else if (!conn->ends.lport && sport_of(sk) != conn->sport_before)
		conn->ends.lport = sport_of(sk);
	if (new_state == TCP_SYN_SENT) {
		conn->ends.lport = BPF_CORE_READ(sk, __sk_common.skc_num);
		conn->sport_before = sport_of(sk);
	}
	/* Both ends may try at the same time, or both be the same one: a SYN is then answered by a SYN. */
	is_trying = old_state == TCP_SYN_SENT || (old_state == TCP_SYN_RECV && conn->direction == DIRECTION_ACTIVE);
	if (is_trying && new_state == TCP_CLOSE)
		on_failed_attempt(sk, conn, now);
	if (is_wanted_conn(conn)) {
		emit_state(conn, now, old_state, new_state);
		if (is_trying && new_state == TCP_ESTABLISHED)
			emit_connect(conn, now, OUTCOME_SUCCEEDED, 0);
		if (new_state == TCP_CLOSE && !conn->listening) {
			emit_close(sk, conn, now, old_state);
			emit_connection(conn, now);
		}
	}
	conn->in_state_since = now;
	/* Kept as long as the socket: what arrived before the end, or a reset, is read after it. */
	conn->closed = new_state == TCP_CLOSE;
	return 0;
}

FEEDS(tcp__state, "tcp_state tcp_connect tcp_close tcp_connection");
TWICE(tcp__state);
ON_TP_TWICE(tcp__state, tp_btf, spare, "inet_sock_set_state", on_state(number_of(sk), old_state, new_state), struct sock *sk,
	    int old_state, int new_state)

static __always_inline int on_destroy(struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&conns, &key);
	return 0;
}

TWICE(tcp__destroy);
ON_TP_TWICE(tcp__destroy, tp_btf, spare, "tcp_destroy_sock", on_destroy(sk), struct sock *sk)

static __always_inline int on_accept(struct sock *sk)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct ebrec_tcp_accept *event;
	struct conn *conn;

	sk = sk ? tcp_of(sk) : NULL;
	if (!sk)
		return 0;
	conn = get_conn(sk, EBREC_TCP_ACCEPT);
	if (!conn)
		return 0;
	own(conn);
	/* It may be accepted a moment before it is told to be established, and was told of before it had addresses. */
	if (!conn->closed)
		put_ends(&conn->ends, sk);
	conn->direction = DIRECTION_PASSIVE;
	conn->established = 1;
	if (!is_wanted_conn(conn))
		return 0;
	event = RECORD(tcp_accept, TCP_ACCEPT, now);
	if (!event)
		return 0;
	put_conn_head(&event->head, conn);
	event->ends = conn->ends;
	event->queued_ns = conn->opened_at != EBREC_NULL64 ? now - conn->opened_at : EBREC_NULL64;
	submit(event);
	return 0;
}

/* inet_csk_accept(sk, arg) since 6.10 (92ef0fd55ac8 "net: change proto and proto_ops accept type"). */
SEC("?fexit/inet_csk_accept")
int BPF_PROG(tcp__accept__fexit_2args, struct sock *listener, void *arg, struct sock *sk)
{
	return on_accept(sk);
}

SEC("?fexit/inet_csk_accept")
int BPF_PROG(tcp__accept__fexit_4args, struct sock *listener, int flags, int *err, bool kern, struct sock *sk)
{
	return on_accept(sk);
}

SEC("?kretprobe/inet_csk_accept")
int BPF_KRETPROBE(tcp__accept__kprobe, struct sock *sk)
{
	return on_accept(sk);
}

static __always_inline struct sock *sock_of_file(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct socket *socket;

	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* Without a function to hook, the new connection is behind the file descriptor that accept returned.
 * An accept by io_uring isn't a system call: its connection gets its owner when it is first used. */
ON_SYS_EXIT(tcp__accept, UNTIMED, NR_ACCEPT, NR_ACCEPT4)
{
	struct file *file = ret >= 0 ? file_of_fd(ret) : NULL;

	return file ? on_accept(sock_of_file(file)) : 0;
}

/* The address that connect() was given, in user memory; struct sockaddr_in and sockaddr_in6 of include/uapi/linux. */
static __always_inline void put_peer(struct ebrec_endpoints *ends, const void *addr)
{
	struct {
		__u16 family;
		__be16 port;
		__be32 v4;
	} head = {};

	bpf_probe_read_user(&head, sizeof(head), addr);
	if (head.family != AF_INET && head.family != AF_INET6)
		return;
	ends->rport = bpf_ntohs(head.port);
	if (head.family == AF_INET6) {
		bpf_probe_read_user(&ends->raddr, sizeof(ends->raddr), addr + 8);
		return;
	}
	((__u64 *)ends->raddr)[0] = 0;
	((__u32 *)ends->raddr)[2] = bpf_htonl(0xffff);
	((__u32 *)ends->raddr)[3] = head.v4;
}

/* Errors that say nothing about an attempt: it goes on, or there was none. */
static __always_inline bool is_no_failure(__u32 errno)
{
	return errno == EINTR || errno == EFAULT || errno == EISCONN || errno == EALREADY || errno == EINPROGRESS;
}

FEEDS(tcp__connect, "tcp_connect");

/* An attempt that fails before a segment is sent (no route, no port left, a firewall's rule) changes no state, or leaves no error
 * in the socket: what connect() returns says why. */
ON_SYS_EXIT(tcp__connect, TIMED, NR_CONNECT)
{
	__u64 now = bpf_ktime_get_boot_ns(), key;
	__u32 errno = errno_of(ret);
	struct ebrec_task caller;
	struct file *file;
	struct conn *conn;
	struct sock *sk;

	if (ret >= 0 || is_no_failure(errno))
		return 0;
	file = file_of_fd(syscall_arg(regs, 1));
	sk = file ? sock_of_file(file) : NULL;
	sk = sk ? tcp_of(sk) : NULL;
	if (!sk)
		return 0;
	key = (__u64)sk;
	conn = bpf_map_lookup_elem(&conns, &key);
	if (conn && conn->failing) {
		conn->failing = 0;
		if (is_wanted_conn(conn))
			emit_connect(conn, now, OUTCOME_FAILED, errno);
		return 0;
	}
	if (conn && conn->failed_at) {
		/* Told already, by the socket. Or an earlier attempt's error: a program that didn't wait gets it by calling again,
		 * or ECONNABORTED if it has asked for it otherwise by then (__inet_stream_connect). */
		bool is_late = errno == conn->failed_with || errno == ECONNABORTED;

		if (conn->failed_at >= entered || is_late) {
			conn->failed_with = 0;
			return 0;
		}
	}
	if ((conn && !conn->closed) || !wanted_current(&caller))
		return 0;
	if (conn)
		bpf_map_delete_elem(&conns, &key);
	conn = get_conn(sk, EBREC_TCP_CONNECT);
	if (!conn)
		return 0;
	conn->owner = caller;
	conn->direction = DIRECTION_ACTIVE;
	conn->tried_at = entered > REFUSED ? entered : 0;
	conn->closed = 1;
	put_peer(&conn->ends, (void *)syscall_arg(regs, 2));
	emit_connect(conn, now, call_outcome(entered, ret), errno);
	return 0;
}

static __always_inline int on_retransmit(struct sock *sk)
{
	struct ebrec_tcp_retransmit *event;
	struct conn *conn;
	__u32 state, ca;

	if (!is_tcp(sk))
		return 0;
	conn = get_conn(sk, EBREC_TCP_RETRANSMIT);
	if (!conn || !is_wanted_conn(conn))
		return 0;
	know_port(conn, sk);
	event = RECORD(tcp_retransmit, TCP_RETRANSMIT, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	put_conn_head(&event->head, conn);
	event->ends = conn->ends;
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	ca = BPF_CORE_READ_BITFIELD_PROBED((struct inet_connection_sock *)sk, icsk_ca_state);
	event->state = state;
	/* Outside of loss and recovery only the tail loss probe sends again. */
	event->kind = ca == TCP_CA_LOSS || state == TCP_SYN_SENT ? 0 : ca == TCP_CA_RECOVERY ? 1 : 2;
	submit(event);
	return 0;
}

FEEDS(tcp__retransmit, "tcp_retransmit");
TWICE(tcp__retransmit);
/* Since 6.18 also for segments that could not be sent: err says so. */
ON_TP_TWICE(tcp__retransmit, tp_btf_3args, spare, "tcp_retransmit_skb", err ? 0 : on_retransmit(sk), struct sock *sk,
	    struct sk_buff *skb, int err)
ON_TP_TWICE(tcp__retransmit, tp_btf, spare, "tcp_retransmit_skb", on_retransmit(sk), struct sock *sk, struct sk_buff *skb)

FEEDS(tcp__synack, "tcp_retransmit");

/* A SYN is answered once more. There is no connection yet: the row is about the listener, with the ends that there will be. */
SEC("?tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp__synack__tp_btf, struct sock *sk, struct request_sock *req)
{
	struct ebrec_tcp_retransmit *event;
	struct conn *listener;

	if (!is_tcp(sk))
		return 0;
	listener = get_conn(sk, EBREC_TCP_RETRANSMIT);
	if (!listener || !is_wanted_conn(listener))
		return 0;
	event = RECORD(tcp_retransmit, TCP_RETRANSMIT, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	put_conn_head(&event->head, listener);
	put_ends(&event->ends, (struct sock *)req);
	event->state = TCP_NEW_SYN_RECV;
	event->kind = 0;
	submit(event);
	return 0;
}

/* The sockets that exist at the start, with a process that has them open. */
SEC("?iter/task_file")
int tcp__sockets__iter_start(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct ebrec_tcp_socket row = {};
	struct conn *conn;
	struct sock *sk;

	if (!task || !file)
		return 0;
	sk = sock_of_file(file);
	sk = sk ? tcp_of(sk) : NULL;
	if (!sk)
		return 0;
	row.state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (row.state == TCP_CLOSE)
		return 0;
	conn = get_conn(sk, EBREC_TCP_SOCKET);
	if (!conn || conn->in_snapshot)
		return 0;
	if (conn->owner.pid == EBREC_NULL32) {
		struct ebrec_task owner;

		put_task(&owner, task);
		/* Of one that isn't wanted; one that is may have it open as well. */
		if (is_filtered() && !is_wanted(&owner, task))
			return 0;
		conn->owner = owner;
	}
	know_port(conn, sk);
	conn->listening = row.state == TCP_LISTEN;
	conn->established = !conn->listening && row.state != TCP_SYN_SENT;
	if (conn->direction == DIRECTION_UNKNOWN)
		conn->direction = row.state == TCP_SYN_SENT ? DIRECTION_ACTIVE : direction_of(sk, row.state);
	if (!is_wanted_conn(conn))
		return 0;
	row.head.head.ts = bpf_ktime_get_boot_ns();
	row.head.head.size = sizeof(row);
	row.head.head.cpu = bpf_get_smp_processor_id();
	row.head.head.table = EBREC_TCP_SOCKET;
	put_conn_head(&row.head, conn);
	row.ends = conn->ends;
	row.tx_bytes = acked_payload(sk, conn, row.state);
	row.rx_bytes = received_payload(sk);
	conn->in_snapshot = !put_row(ctx->meta, &row, sizeof(row));
	return 0;
}

/* Of an iterator at the end, about a connection. */
static __always_inline void put_conn_at_end(struct ebrec_conn_head *head, struct conn *conn, __u32 table, __u32 size)
{
	put_conn_head(head, conn);
	head->head.ts = window_end();
	head->head.size = size;
	head->head.cpu = bpf_get_smp_processor_id();
	head->head.table = table;
}

/* The connections that are still open at the end, and the attempts that nobody has answered. */
SEC("?iter/bpf_map_elem")
int tcp__open__iter_end__conns(struct bpf_iter__bpf_map_elem *ctx)
{
	struct ebrec_tcp_connection row = {};
	struct ebrec_tcp_connect attempt = {};
	struct conn *conn = ctx->value;
	__u64 *sk = ctx->key;

	if (!conn || !sk || conn->listening || conn->closed)
		return 0;
	/* The socket is there as long as its entry is. */
	know_port(conn, (struct sock *)*sk);
	if (!is_wanted_conn(conn))
		return 0;
	put_conn_at_end(&row.head, conn, EBREC_TCP_CONNECTION, sizeof(row));
	row.ends = conn->ends;
	row.opened_ts = conn->opened_at;
	row.closed_ts = EBREC_NULL64;
	row.direction = conn->direction;
	put_row(ctx->meta, &row, sizeof(row));
	if (conn->direction != DIRECTION_ACTIVE || conn->established)
		return 0;
	put_conn_at_end(&attempt.head, conn, EBREC_TCP_CONNECT, sizeof(attempt));
	attempt.ends = conn->ends;
	attempt.latency_ns = conn->tried_at ? window_end() - conn->tried_at : EBREC_NULL64;
	attempt.errno = EBREC_NULL32;
	attempt.outcome = OUTCOME_PENDING;
	put_row(ctx->meta, &attempt, sizeof(attempt));
	return 0;
}
