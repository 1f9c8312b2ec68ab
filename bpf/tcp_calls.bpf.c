/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Calls that moved bytes through a TCP connection. */
#include "tcp.h"

/* A call that moved bytes; the caller is the acting task, and the owner if nobody knew better. */
#define ON_BYTES(table, TABLE)                                                   \
	static __always_inline int on_##table(struct sock *sk, long bytes)       \
	{                                                                        \
		struct ebrec_##table *event;                                     \
		struct ebrec_task caller;                                        \
		struct conn *conn;                                               \
                                                                                 \
		if (bytes <= 0)                                                  \
			return 0;                                                \
		if (!is_trusted_tcp(sk))                                         \
			sk = is_mptcp(sk->sk_protocol) ? first_below(sk) : NULL; \
		if (!sk || !wanted_current(&caller))                             \
			return 0;                                                \
		conn = get_conn(sk, EBREC_##TABLE);                              \
		if (!conn)                                                       \
			return 0;                                                \
		if (conn->owner.pid == EBREC_NULL32)                             \
			conn->owner = caller;                                    \
		event = RECORD(table, TABLE, bpf_ktime_get_boot_ns());           \
		if (!event)                                                      \
			return 0;                                                \
		event->head.head.task = caller;                                  \
		event->head.conn_id = conn->id;                                  \
		event->bytes = bytes;                                            \
		submit(event);                                                   \
		return 0;                                                        \
	}

ON_BYTES(tcp_send, TCP_SEND)
ON_BYTES(tcp_recv, TCP_RECV)

/* Since 6.3; sees every way into sock_sendmsg, sendfile and splice included. */
FEEDS(tcp__send, "tcp_send");
TWICE(tcp__send);
ON_TP_TWICE(tcp__send, tp_btf, spare_preempted, "sock_send_length", on_tcp_send(sk, ret), struct sock *sk, int ret, int flags)

SEC("?fexit/tcp_sendmsg")
int BPF_PROG(tcp__send__fexit_3args__sendmsg, struct sock *sk, struct msghdr *msg, unsigned long size, int ret)
{
	return on_tcp_send(sk, ret);
}

/* sendfile and splice before 6.5. */
SEC("?fexit/tcp_sendpage")
int BPF_PROG(tcp__send__fexit_3args__sendpage, struct sock *sk, void *page, int offset, unsigned long size, int flags, int ret)
{
	return on_tcp_send(sk, ret);
}

/* What such a call gives is still there for the next, or was never received: the error queue has what this end has sent. */
static __always_inline bool takes_nothing(int flags)
{
	return flags & (MSG_PEEK | MSG_ERRQUEUE);
}

FEEDS(tcp__recv, "tcp_recv");
TWICE(tcp__recv);
ON_TP_TWICE(tcp__recv, tp_btf, spare_preempted, "sock_recv_length", takes_nothing(flags) ? 0 : on_tcp_recv(sk, ret),
	    struct sock *sk, int ret, int flags)

/* tcp_recvmsg lost its argument addr_len after 6.18, as 7.2 has it. */
SEC("?fexit/tcp_recvmsg")
int BPF_PROG(tcp__recv__fexit_4args, struct sock *sk, struct msghdr *msg, unsigned long len, int flags, int ret)
{
	return takes_nothing(flags) ? 0 : on_tcp_recv(sk, ret);
}

/* tcp_recvmsg lost its argument nonblock in 5.19 (ec095263a965 "net: remove noblock parameter from recvmsg() entities"). */
SEC("?fexit/tcp_recvmsg")
int BPF_PROG(tcp__recv__fexit_5args, struct sock *sk, struct msghdr *msg, unsigned long len, int flags, int *addr_len, int ret)
{
	return takes_nothing(flags) ? 0 : on_tcp_recv(sk, ret);
}

SEC("?fexit/tcp_recvmsg")
int BPF_PROG(tcp__recv__fexit_6args, struct sock *sk, struct msghdr *msg, unsigned long len, int nonblock, int flags, int *addr_len,
	     int ret)
{
	return takes_nothing(flags) ? 0 : on_tcp_recv(sk, ret);
}

/* splice() out of a connection goes past recvmsg. */
FEEDS(tcp__splice, "tcp_recv");
SEC("?fexit/tcp_splice_read")
int BPF_PROG(tcp__splice__fexit, struct socket *sock, long long *ppos, void *pipe, unsigned long len, unsigned int flags, long ret)
{
	return on_tcp_recv(sock->sk, ret);
}
