/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Resets of TCP connections. */
#include "tcp.h"

enum reset_way {
	RESET_SENT,
	RESET_RECEIVED,
};

/* The ends as a received segment names them: its destination is here. */
static __always_inline bool put_ends_of_segment(struct ebrec_endpoints *ends, struct sk_buff *skb)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	unsigned char *ip = head + BPF_CORE_READ(skb, network_header);
	unsigned char *tcp = head + BPF_CORE_READ(skb, transport_header);
	__be16 ports[2];
	__u8 version;

	ends->netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum) ?: EBREC_NULL32;
	if (bpf_probe_read_kernel(&version, sizeof(version), ip) || bpf_probe_read_kernel(ports, sizeof(ports), tcp))
		return false;
	ends->lport = bpf_ntohs(ports[1]);
	ends->rport = bpf_ntohs(ports[0]);
	/* struct iphdr and struct ipv6hdr */
	if (version >> 4 == 6)
		return !bpf_probe_read_kernel(ends->raddr, 16, ip + 8) && !bpf_probe_read_kernel(ends->laddr, 16, ip + 24);
	((__u64 *)ends->laddr)[0] = 0;
	((__u64 *)ends->raddr)[0] = 0;
	((__u32 *)ends->laddr)[2] = bpf_htonl(0xffff);
	((__u32 *)ends->raddr)[2] = bpf_htonl(0xffff);
	return !bpf_probe_read_kernel(ends->raddr + 12, 4, ip + 12) && !bpf_probe_read_kernel(ends->laddr + 12, 4, ip + 16);
}

/* SKB is the segment that is answered; NULL if the reset answers none. */
static __always_inline int on_reset(struct sock *sk, struct sk_buff *skb, enum reset_way way, __u32 reason)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct ebrec_endpoints ends = {};
	struct ebrec_tcp_reset *event;
	struct conn *conn = NULL;
	__u32 state = EBREC_NULL32;

	if (sk)
		state = BPF_CORE_READ(sk, __sk_common.skc_state);
	/* The other ones aren't whole sockets (struct inet_timewait_sock, struct request_sock), or not of the connection. */
	if (sk && state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV && state != TCP_LISTEN) {
		if (!is_tcp(sk))
			return 0;
		conn = get_conn(sk, EBREC_TCP_RESET);
		if (!conn || !is_wanted_conn(conn))
			return 0;
		know_port(conn, sk);
	} else if (!skb || is_filtered() || !put_ends_of_segment(&ends, skb)) {
		return 0;
	}
	event = RECORD(tcp_reset, TCP_RESET, now);
	if (!event)
		return 0;
	if (conn) {
		put_conn_head(&event->head, conn);
		event->ends = conn->ends;
	} else {
		put_unknown(&event->head.head.task);
		event->head.conn_id = EBREC_NULL64;
		event->ends = ends;
	}
	event->state = state == TCP_LISTEN ? EBREC_NULL32 : state;
	event->way = way;
	event->reason = reason;
	event->pad = 0;
	submit(event);
	return 0;
}

/* Since 6.10 with a reason, and also for segments that no socket wants (19822a980e19 "trace: tcp: fully support
 * trace_tcp_send_reset"). */
FEEDS(tcp__send_reset, "tcp_reset");
TWICE(tcp__send_reset);
ON_TP_TWICE(tcp__send_reset, tp_btf_3args, spare, "tcp_send_reset", on_reset(sk, skb, RESET_SENT, reset_reason(reason)),
	    struct sock *sk, struct sk_buff *skb, unsigned int reason)

/* The functions are called for a reset as well, and send none then. */
static __always_inline bool is_reset(struct sk_buff *skb)
{
	unsigned char *tcp = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, transport_header);
	__u8 flags = 0;

	bpf_probe_read_kernel(&flags, sizeof(flags), tcp + 13);
	return flags & 4;
}

SEC("?fentry/tcp_v4_send_reset")
int BPF_PROG(tcp__send_reset__fentry_2args__v4, struct sock *sk, struct sk_buff *skb)
{
	return is_reset(skb) ? 0 : on_reset(sk, skb, RESET_SENT, EBREC_NULL32);
}

SEC("?fentry/tcp_v6_send_reset")
int BPF_PROG(tcp__send_reset__fentry_2args__v6, struct sock *sk, struct sk_buff *skb)
{
	return is_reset(skb) ? 0 : on_reset(sk, skb, RESET_SENT, EBREC_NULL32);
}

SEC("?fentry/tcp_send_active_reset")
int BPF_PROG(tcp__send_reset__fentry_2args__active, struct sock *sk)
{
	return on_reset(sk, NULL, RESET_SENT, EBREC_NULL32);
}

/* Tells only of resets that a socket sends. */
ON_TP_TWICE(tcp__send_reset, tp_btf, spare, "tcp_send_reset", on_reset(sk, skb, RESET_SENT, EBREC_NULL32), struct sock *sk,
	    struct sk_buff *skb)

FEEDS(tcp__receive_reset, "tcp_reset");
SEC("?tp_btf/tcp_receive_reset")
int BPF_PROG(tcp__receive_reset__tp_btf, struct sock *sk)
{
	return on_reset(sk, NULL, RESET_RECEIVED, EBREC_NULL32);
}
