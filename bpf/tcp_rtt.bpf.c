/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Samples of what TCP knows of a connection's path. */
#include "tcp.h"

/* At most one sample of a connection in this time. */
#define RTT_INTERVAL_NS 100000000ULL

/* Fires for each segment that an established connection receives (tcp_rcv_established), before it is looked at. */
FEEDS(tcp__rtt, "tcp_rtt");
SEC("?tp_btf/tcp_probe")
int BPF_PROG(tcp__rtt__tp_btf, struct sock *sk, struct sk_buff *skb)
{
	__u64 now = bpf_ktime_get_boot_ns(), key = (__u64)sk;
	struct conn *conn = bpf_map_lookup_elem(&conns, &key);
	struct tcp_sock *tp = (void *)sk;
	struct ebrec_tcp_rtt *event;
	__u32 srtt, min_rtt;

	if (conn && now - conn->rtt_at < RTT_INTERVAL_NS)
		return 0;
	srtt = BPF_CORE_READ(tp, srtt_us);
	if (!srtt || !is_tcp(sk))
		return 0;
	conn = get_conn(sk, EBREC_TCP_RTT);
	if (!conn || !is_wanted_conn(conn))
		return 0;
	conn->rtt_at = now;
	event = RECORD(tcp_rtt, TCP_RTT, now);
	if (!event)
		return 0;
	put_conn_head(&event->head, conn);
	/* srtt_us is kept times eight, mdev_us times four (include/linux/tcp.h). */
	event->srtt_ns = (__u64)srtt * 1000 / 8;
	event->mdev_ns = (__u64)BPF_CORE_READ(tp, mdev_us) * 1000 / 4;
	/* All ones as long as there is none (tcp_init_sock). */
	min_rtt = BPF_CORE_READ(tp, rtt_min.s[0].v);
	event->min_rtt_ns = min_rtt == EBREC_NULL32 ? EBREC_NULL64 : (__u64)min_rtt * 1000;
	event->snd_cwnd = BPF_CORE_READ(tp, snd_cwnd);
	event->ssthresh = BPF_CORE_READ(tp, snd_ssthresh);
	/* tcp_packets_in_flight() */
	event->in_flight = BPF_CORE_READ(tp, packets_out) - BPF_CORE_READ(tp, sacked_out) - BPF_CORE_READ(tp, lost_out) +
			   BPF_CORE_READ(tp, retrans_out);
	event->unacked_bytes = BPF_CORE_READ(tp, snd_nxt) - BPF_CORE_READ(tp, snd_una);
	submit(event);
	return 0;
}
