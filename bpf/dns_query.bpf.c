/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* DNS messages, as they leave for a server's port 53 and come back. */
#include "ebrec.h"

FEEDS(dns__sent, "dns_query");
FEEDS(dns__received, "dns_query");

#define DNS_PORT 53
#define DNS_HEADER 12
/* Header, the longest name (255), type and class. */
#define DNS_QUERY_MAX 288
#define DNS_RESPONSE_MAX 512
/* An answer that comes later is no answer to anybody: resolvers give up after 5 s, and try a few times. */
#define DNS_PATIENCE_NS 30000000000ULL

/* What an answer has in common with its question. */
struct dns_key {
	__u8 laddr[16];
	__u8 raddr[16];
	__u32 netns;
	__u16 lport;
	__u16 rport;
	__u16 id;
	__u16 protocol;
};

/* A question that waits for its answer. */
struct dns_waiting {
	struct ebrec_task task;
	__u64 sent_at;
	__u64 device; /* the first it left by */
	struct ebrec_endpoints ends;
	__u32 protocol;
	__u32 attempts;
	__u32 bytes;
	/* From here on as in the record: kind DnsMessages. */
	__u16 query_len;
	__u8 query[DNS_QUERY_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct dns_key);
	__type(value, struct dns_waiting);
} dns_waiting SEC(".maps");

/* How many there are: as long as it is 0, nobody looks at what arrives. */
__u32 dns_waiting_count = 0;

/* A packet's questions and addresses in the making, too large for the stack. Sending and receiving have bottom halves off, so they
 * don't disturb each other. */
struct dns_scratch {
	struct dns_waiting waiting;
	__u8 payload[DNS_QUERY_MAX + 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_scratch);
} dns_scratch SEC(".maps");

/* Reads all of a packet, whatever pieces it is in. Tracing programs may call it since about 6.12 ("bpf: Allow bpf_dynptr_from_skb()
 * for tp_btf"); before, what isn't in the first piece is not read, which is nearly all of TCP. */
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;

/* A packet as far as its headers tell. */
struct dns_packet {
	struct dns_key key; /* local is the sender, as long as nobody says otherwise */
	__u32 offset; /* of the payload from the network header */
	__u32 len; /* of the payload */
};

static __always_inline __u32 be16_at(const __u8 *at)
{
	return at[0] << 8 | at[1];
}

static __always_inline void put_ipv4(__u8 *to, const __u8 *from)
{
	((__u32 *)to)[0] = 0;
	((__u32 *)to)[1] = 0;
	((__u32 *)to)[2] = bpf_htonl(0xffff);
	__builtin_memcpy(to + 12, from, 4);
}

/* Reads the headers of an IP packet with UDP or TCP in it. */
static __always_inline bool parse_packet(struct dns_packet *packet, const void *ip, __u16 ethertype)
{
	__u32 at, total, protocol;
	__u8 h[40], t[16];

	if (ethertype == bpf_htons(ETH_P_IP)) {
		if (bpf_probe_read_kernel(h, 20, ip))
			return false;
		protocol = h[9];
		if (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP)
			return false;
		/* A later fragment has no ports. */
		if (be16_at(h + 6) & 0x1fff)
			return false;
		at = (h[0] & 15) * 4;
		total = be16_at(h + 2);
		put_ipv4(packet->key.laddr, h + 12);
		put_ipv4(packet->key.raddr, h + 16);
	} else if (ethertype == bpf_htons(ETH_P_IPV6)) {
		if (bpf_probe_read_kernel(h, 40, ip))
			return false;
		protocol = h[6];
		at = 40;
		total = 40 + be16_at(h + 4);
		if (protocol == IPPROTO_FRAGMENT) {
			if (bpf_probe_read_kernel(t, 8, ip + 40) || be16_at(t + 2) & 0xfff8)
				return false;
			protocol = t[0];
			at = 48;
		}
		if (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP)
			return false;
		__builtin_memcpy(packet->key.laddr, h + 8, 16);
		__builtin_memcpy(packet->key.raddr, h + 24, 16);
	} else {
		return false;
	}
	if (bpf_probe_read_kernel(t, 16, ip + at))
		return false;
	packet->key.protocol = protocol;
	packet->key.lport = be16_at(t);
	packet->key.rport = be16_at(t + 2);
	at += protocol == IPPROTO_UDP ? 8 : (t[12] >> 4) * 4;
	packet->offset = at;
	packet->len = total > at ? total - at : 0;
	return true;
}

/* Reads LEN bytes of a packet from AT bytes behind skb->data; returns how many it got. WHOLE: the kernel reads them in whatever
 * pieces they are; else only those in the first piece, or the first page behind it. */
static __always_inline __u32 read_packet(void *to, __u32 max, struct sk_buff *skb, __u32 at, __u32 wanted, bool whole)
{
	__u64 len = wanted; /* in 64 bits, whose bounds all kernels keep track of */
	__u32 linear;

	if (at >= skb->len)
		return 0;
	if (len > skb->len - at)
		len = skb->len - at;
	if (len > max)
		len = max;
	/* Not together with a test for 0: clang makes one comparison of the two, of another value, from which older kernels don't
	 * learn this one's bounds. */
	barrier_var(len);
	if (len > max)
		return 0;
	linear = skb->len - skb->data_len;
	if (at + len <= linear)
		return bpf_probe_read_kernel(to, len, (void *)skb->data + at) ? 0 : len;
	if (whole && bpf_dynptr_from_skb) {
		struct bpf_dynptr ptr;

		if (bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &ptr))
			return 0;
		return bpf_dynptr_read(to, len, &ptr, at, 0) ? 0 : len;
	}
	if (at >= linear)
		return 0;
	len = linear - at;
	barrier_var(len);
	if (len > max)
		return 0;
	return bpf_probe_read_kernel(to, len, (void *)skb->data + at) ? 0 : len;
}

static __always_inline struct dns_scratch *scratch_of_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&dns_scratch, &zero);
}

static __always_inline int on_sent(struct sk_buff *skb, bool whole)
{
	struct dns_packet packet = {};
	struct dns_waiting *waiting, *before;
	struct dns_scratch *scratch;
	struct sock *sk = skb->sk;
	__u32 got, start = 0, len;
	__u64 ip, headroom, device;
	__u8 *message;
	__u16 port;

	/* Cheapest first: nearly all that leaves is TCP to another port, or has no sender here. */
	if (!sk)
		return 0;
	port = sk->__sk_common.skc_dport;
	if (port && port != bpf_htons(DNS_PORT))
		return 0;
	/* On its way through, from another device: it was seen when it was sent. */
	if (skb->skb_iif)
		return 0;
	ip = (__u64)skb->head + skb->network_header;
	barrier_var(ip);
	if (!parse_packet(&packet, (void *)ip, skb->protocol))
		return 0;
	/* Docker's own resolver is addressed at port 53, but the packet that leaves has another. */
	if (packet.key.rport != DNS_PORT && port != bpf_htons(DNS_PORT))
		return 0;
	scratch = scratch_of_cpu();
	if (!scratch || packet.len < DNS_HEADER)
		return 0;
	/* Before the message is read: what is read with takes room on the stack that the verifier lets nobody else write to. */
	packet.key.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	device = (__u64)BPF_CORE_READ(skb, dev);
	/* The barriers keep the subtraction of two pointers in 64 bits, as the verifier wants it. */
	headroom = ip - (__u64)skb->data;
	barrier_var(headroom);
	got = read_packet(scratch->payload, sizeof(scratch->payload), skb, headroom + packet.offset, packet.len, whole);
	if (got < DNS_HEADER)
		return 0;
	waiting = &scratch->waiting;
	len = packet.len;
	if (packet.key.protocol == IPPROTO_TCP) {
		/* The message's length goes before it (RFC 1035, 4.2.2); most programs send both at once. */
		__u32 stated = be16_at(scratch->payload);

		if (stated >= DNS_HEADER && stated + 2 <= packet.len) {
			start = 2;
			len = stated;
			got -= 2;
		} else if (be16_at(scratch->payload + 4) != 1) {
			/* Not a message's beginning: one question is what a query has. */
			return 0;
		}
	}
	message = scratch->payload + start;
	if (message[2] & 0x80 || !wanted_current(&waiting->task))
		return 0;
	packet.key.id = be16_at(message);
	before = bpf_map_lookup_elem(&dns_waiting, &packet.key);
	if (before) {
		/* By another device it is the same packet: a VLAN's, a bond's, a tunnel's. */
		if (before->device == device)
			before->attempts++;
		return 0;
	}
	waiting->sent_at = bpf_ktime_get_boot_ns();
	waiting->device = device;
	__builtin_memcpy(waiting->ends.laddr, packet.key.laddr, 16);
	__builtin_memcpy(waiting->ends.raddr, packet.key.raddr, 16);
	waiting->ends.netns = packet.key.netns;
	waiting->ends.lport = packet.key.lport;
	waiting->ends.rport = port ? DNS_PORT : packet.key.rport;
	waiting->protocol = packet.key.protocol;
	waiting->attempts = 1;
	waiting->bytes = len;
	if (got > DNS_QUERY_MAX)
		got = DNS_QUERY_MAX;
	waiting->query_len = got;
	/* All of it: what is behind the message's end isn't shown. */
	bpf_probe_read_kernel(waiting->query, DNS_QUERY_MAX, message);
	if (bpf_map_update_elem(&dns_waiting, &packet.key, waiting, BPF_NOEXIST)) {
		count_full(EBREC_DNS_QUERY);
		return 0;
	}
	__sync_fetch_and_add(&dns_waiting_count, 1);
	return 0;
}

/* With the kernel's own way to read packets; where only other types of program may use it (from 6.4 to about 6.11), this is
 * refused. */
SEC("?tp_btf/net_dev_queue")
int BPF_PROG(dns__sent__tp_btf_1args, struct sk_buff *skb)
{
	return on_sent(skb, true);
}

SEC("?tp_btf/net_dev_queue")
int BPF_PROG(dns__sent__tp_btf, struct sk_buff *skb)
{
	return on_sent(skb, false);
}

struct dns_record {
	struct ebrec_dns_query query;
	__u8 tail[sizeof(__u16) + DNS_QUERY_MAX + DNS_RESPONSE_MAX];
};

static __always_inline void put_query(struct ebrec_dns_query *query, const struct dns_waiting *waiting)
{
	query->head.task = waiting->task;
	query->ends = waiting->ends;
	query->protocol = waiting->protocol;
	query->attempts = waiting->attempts;
	query->request_bytes = waiting->bytes;
}

static __always_inline int on_received(struct sk_buff *skb, bool whole)
{
	struct dns_packet packet = {};
	struct dns_waiting *waiting = NULL;
	const void *ip = skb->data;
	__u16 ethertype = skb->protocol, port;
	struct dns_record *record;
	__u32 vlan = 0, start = 0, bytes, len;
	__u8 address[16], head[16];
	long deleted;

	if (!dns_waiting_count)
		return 0;
	/* A VLAN's tag that the device left in. */
	if (ethertype == bpf_htons(ETH_P_8021Q)) {
		if (bpf_probe_read_kernel(&ethertype, sizeof(ethertype), ip + 2))
			return 0;
		vlan = 4;
	}
	if (!parse_packet(&packet, ip + vlan, ethertype) || packet.len < DNS_HEADER)
		return 0;
	packet.offset += vlan;
	packet.key.netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	if (read_packet(head, sizeof(head), skb, packet.offset, packet.len, whole) < DNS_HEADER)
		return 0;
	/* To us, it is the other end that is local. */
	__builtin_memcpy(address, packet.key.laddr, 16);
	__builtin_memcpy(packet.key.laddr, packet.key.raddr, 16);
	__builtin_memcpy(packet.key.raddr, address, 16);
	port = packet.key.lport;
	packet.key.lport = packet.key.rport;
	packet.key.rport = port;
	bytes = packet.len;
	if (packet.key.protocol == IPPROTO_TCP && head[4] & 0x80) {
		packet.key.id = be16_at(head + 2);
		waiting = bpf_map_lookup_elem(&dns_waiting, &packet.key);
		if (waiting) {
			start = 2;
			bytes = be16_at(head);
		}
	}
	/* Some servers send the length of a message on its own before it. */
	if (!waiting && head[2] & 0x80) {
		packet.key.id = be16_at(head);
		waiting = bpf_map_lookup_elem(&dns_waiting, &packet.key);
	}
	if (!waiting)
		return 0;
	record = reserve(EBREC_DNS_QUERY, sizeof(*record), waiting->sent_at);
	if (record) {
		put_query(&record->query, waiting);
		record->query.latency_ns = bpf_ktime_get_boot_ns() - waiting->sent_at;
		record->query.response_bytes = bytes;
		__builtin_memcpy(record->tail, &waiting->query_len, sizeof(__u16));
		__builtin_memcpy(record->tail + sizeof(__u16), waiting->query, DNS_QUERY_MAX);
		len = waiting->query_len;
		if (len > DNS_QUERY_MAX)
			len = DNS_QUERY_MAX;
		barrier_var(len);
		if (len > DNS_QUERY_MAX)
			len = 0;
		record->query.head.size =
		    sizeof(record->query) + sizeof(__u16) + len +
		    read_packet(record->tail + sizeof(__u16) + len, DNS_RESPONSE_MAX, skb, packet.offset + start, bytes, whole);
		submit(record);
	}
	deleted = bpf_map_delete_elem(&dns_waiting, &packet.key);
	if (!deleted)
		__sync_fetch_and_add(&dns_waiting_count, -1);
	return 0;
}

SEC("?tp_btf/netif_receive_skb")
int BPF_PROG(dns__received__tp_btf_1args, struct sk_buff *skb)
{
	return on_received(skb, true);
}

SEC("?tp_btf/netif_receive_skb")
int BPF_PROG(dns__received__tp_btf, struct sk_buff *skb)
{
	return on_received(skb, false);
}

/* A row for a question that has no answer; 0 if there was room, else all of it is taken back. */
static __always_inline long write_unanswered(struct bpf_iter_meta *meta, struct dns_waiting *waiting)
{
	__u32 tail = sizeof(waiting->query_len) + waiting->query_len;
	struct ebrec_dns_query row = {};

	/* A question from before the window isn't in it, nor is its answer. */
	if (!in_window(waiting->sent_at))
		return 0;
	if (tail > sizeof(waiting->query_len) + DNS_QUERY_MAX)
		return 0;
	put_query(&row, waiting);
	row.latency_ns = EBREC_NULL64;
	row.response_bytes = EBREC_NULL32;
	row.head.ts = waiting->sent_at;
	row.head.cpu = bpf_get_smp_processor_id();
	row.head.table = EBREC_DNS_QUERY;
	row.head.size = sizeof(row) + tail;
	return put_row(meta, &row, sizeof(row)) ?: put_row(meta, &waiting->query_len, tail);
}

/* Questions for whose answer nobody waits any more. */
SEC("?iter/bpf_map_elem")
int dns__given_up__iter_second__dns_waiting(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dns_waiting *waiting = ctx->value;
	struct dns_key *at = ctx->key, key;

	if (!waiting || !at || bpf_ktime_get_boot_ns() - waiting->sent_at < DNS_PATIENCE_NS)
		return 0;
	if (write_unanswered(ctx->meta, waiting))
		return 0;
	__builtin_memcpy(&key, at, sizeof(key));
	if (!bpf_map_delete_elem(&dns_waiting, &key))
		__sync_fetch_and_add(&dns_waiting_count, -1);
	return 0;
}

/* Those that are left at the end. */
SEC("?iter/bpf_map_elem")
int dns__unanswered__iter_end__dns_waiting(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dns_waiting *waiting = ctx->value;

	if (waiting)
		write_unanswered(ctx->meta, waiting);
	return 0;
}
