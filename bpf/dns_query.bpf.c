/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* DNS messages, as they leave for a server's port 53 and come back. */
#include "syscalls.h"

FEEDS(dns__sent, "dns_query");
FEEDS(dns__received, "dns_query");

#define DNS_PORT 53
#define DNS_HEADER 12
/* Header, the longest name (255), type and class. */
#define DNS_QUERY_MAX 288
#define DNS_RESPONSE_MAX 512
/* Messages that are looked for in a segment of TCP: glibc sends its questions for both kinds of address together. */
#define DNS_MESSAGES_MOST 2
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
	/* Where addresses are translated, the question is here twice: as it left, which has all that is told of it, and as the
	 * program addressed it. Which of the two the answer has depends on where it is looked at. */
	__u32 is_alias;
	__u32 has_other;
	struct dns_key other;
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

/* A packet as far as its headers tell. */
struct dns_packet {
	struct dns_key key; /* local is the sender, as long as nobody says otherwise */
	__u32 offset; /* of the payload from the network header */
	__u32 len; /* of the payload */
};

/* A packet's questions and addresses in the making, too large for the stack. Sending and receiving have bottom halves off, so they
 * don't disturb each other. */
struct dns_scratch {
	struct dns_packet packet;
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

static __always_inline struct dns_scratch *scratch_of_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&dns_scratch, &zero);
}

/* Reads the headers of an IP packet with UDP or TCP in it, into the scratch memory; 0 if it is none. A function of its own, so
 * that the verifier doesn't follow what comes behind once for each kind of packet. */
__noinline int parse_packet(__u64 ip_at, __u32 ethertype)
{
	struct dns_scratch *scratch = scratch_of_cpu();
	const void *ip = (const void *)ip_at;
	__u32 at, total, protocol;
	struct dns_packet *packet;
	__u8 h[40], t[16];

	if (!scratch)
		return false;
	packet = &scratch->packet;
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

/* Bits of sk_buff._nfct that aren't the pointer, and from which value on a packet is an answer (enum ip_conntrack_info). */
#define NFCT_INFO_MASK 7UL
#define NFCT_IS_REPLY 3
/* Docker's own resolver, which is asked at port 53 of this address and listens on another (127.0.0.11). */
#define DOCKER_RESOLVER bpf_htonl(0x7f00000b)

static __always_inline void put_address(__u8 *to, const __u32 *from, bool is_ipv4)
{
	__u32 address[4];

	bpf_probe_read_kernel(address, sizeof(address), from);
	if (is_ipv4)
		put_ipv4(to, (const __u8 *)address);
	else
		__builtin_memcpy(to, address, 16);
}

/* The ends of a packet as the program knows them, if they have been translated on the way: the socket says so, or what
 * the kernel's tracking of connections knows (net/netfilter/nf_nat_core.c). */
static __always_inline void see_through_nat(struct dns_key *key, struct sk_buff *skb, struct sock *sk)
{
	struct sock_common *c = &sk->__sk_common;
	bool is_ipv4 = ((__u32 *)key->raddr)[2] == bpf_htonl(0xffff) && !((__u64 *)key->raddr)[0];

	if (BPF_CORE_READ(c, skc_dport)) {
		key->rport = bpf_ntohs(BPF_CORE_READ(c, skc_dport));
		if (is_ipv4)
			put_address(key->raddr, (__u32 *)&c->skc_daddr, true);
		else
			put_address(key->raddr, (__u32 *)&c->skc_v6_daddr, false);
		return;
	}
	if (bpf_core_type_exists(struct nf_conn) && bpf_core_field_exists(struct sk_buff, _nfct)) {
		__u64 tracked = BPF_CORE_READ(skb, _nfct);
		struct nf_conn *ct = (void *)(tracked & ~NFCT_INFO_MASK);
		struct nf_conntrack_tuple *as_sent;

		if (!ct)
			return;
		as_sent = (tracked & NFCT_INFO_MASK) >= NFCT_IS_REPLY ? &ct->tuplehash[1].tuple : &ct->tuplehash[0].tuple;
		key->rport = bpf_ntohs(BPF_CORE_READ(as_sent, dst.u.all));
		put_address(key->raddr, (__u32 *)&as_sent->dst.u3, is_ipv4);
	} else if (is_ipv4 && ((__u32 *)key->raddr)[3] == DOCKER_RESOLVER) {
		key->rport = DNS_PORT;
	}
}

/* A message that leaves. GOT bytes of it, of LEN, are in the scratch memory from START. KEY: as it leaves, TOLD: as the program
 * addressed it. */
static __always_inline void on_question(struct dns_scratch *scratch, struct dns_key *key, struct dns_key *told, __u64 device,
					__u32 start, __u32 got, __u32 len)
{
	__u8 *message = scratch->payload + start;
	struct dns_waiting *waiting = &scratch->waiting, *before;

	if (message[2] & 0x80)
		return;
	told->id = key->id = be16_at(message);
	before = bpf_map_lookup_elem(&dns_waiting, key);
	if (before && !before->is_alias) {
		/* By another device it is the same packet: a VLAN's, a bond's, a tunnel's. */
		if (before->device == device)
			before->attempts++;
		return;
	}
	waiting->sent_at = bpf_ktime_get_boot_ns();
	waiting->device = device;
	__builtin_memcpy(waiting->ends.laddr, told->laddr, 16);
	__builtin_memcpy(waiting->ends.raddr, told->raddr, 16);
	waiting->ends.netns = told->netns;
	waiting->ends.lport = told->lport;
	waiting->ends.rport = told->rport;
	waiting->protocol = told->protocol;
	waiting->attempts = 1;
	waiting->bytes = len;
	waiting->query_len = got > DNS_QUERY_MAX ? DNS_QUERY_MAX : got;
	/* All of it: what is behind the message's end isn't shown. */
	bpf_probe_read_kernel(waiting->query, DNS_QUERY_MAX, message);
	waiting->is_alias = 0;
	waiting->has_other = told->rport != key->rport || ((__u64 *)told->raddr)[0] != ((__u64 *)key->raddr)[0] ||
			     ((__u64 *)told->raddr)[1] != ((__u64 *)key->raddr)[1];
	waiting->other = *told;
	if (bpf_map_update_elem(&dns_waiting, key, waiting, BPF_ANY)) {
		count_full(EBREC_DNS_QUERY);
		return;
	}
	__sync_fetch_and_add(&dns_waiting_count, 1);
	if (!waiting->has_other)
		return;
	waiting->is_alias = 1;
	waiting->other = *key;
	/* Without it, the answer is found if it comes as it was sent. */
	if (bpf_map_update_elem(&dns_waiting, told, waiting, BPF_NOEXIST))
		count_full(EBREC_DNS_QUERY);
}

static __always_inline int on_sent(struct sk_buff *skb, bool whole)
{
	struct dns_packet packet;
	struct dns_scratch *scratch;
	struct sock *sk = skb->sk;
	struct dns_key told;
	__u32 got, at, left;
	__u64 ip, headroom, device;
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
	/* Read as numbers: newer kernels (7.3 is one) know a pointer to plain bytes as such, and hand none to a function of its
	 * own. */
	ip = (__u64)BPF_CORE_READ(skb, head) + skb->network_header;
	barrier_var(ip);
	scratch = scratch_of_cpu();
	if (!scratch || !parse_packet(ip, skb->protocol))
		return 0;
	packet = scratch->packet;
	if (packet.len < DNS_HEADER)
		return 0;
	packet.key.id = 0;
	packet.key.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	told = packet.key;
	see_through_nat(&told, skb, sk);
	if (told.rport != DNS_PORT)
		return 0;
	/* Before the message is read: what is read with takes room on the stack that the verifier lets nobody else write to. */
	if (!wanted_current(&scratch->waiting.task))
		return 0;
	device = (__u64)BPF_CORE_READ(skb, dev);
	headroom = ip - (__u64)BPF_CORE_READ(skb, data);
	barrier_var(headroom);
	at = headroom + packet.offset;
	left = packet.len;
	for (int i = 0; i < DNS_MESSAGES_MOST; i++) {
		__u32 start = 0, stated = 0, len = left;

		got = read_packet(scratch->payload, sizeof(scratch->payload), skb, at, left, whole);
		if (got < DNS_HEADER)
			return 0;
		if (packet.key.protocol == IPPROTO_TCP) {
			/* The message's length goes before it (RFC 1035, 4.2.2); most programs send both at once. */
			stated = be16_at(scratch->payload);
			if (stated >= DNS_HEADER && stated + 2 <= left) {
				start = 2;
				len = stated;
				got -= 2;
				if (got > len)
					got = len;
			} else if (be16_at(scratch->payload + 4) != 1) {
				/* Not a message's beginning: one question is what a query has. */
				return 0;
			}
		}
		on_question(scratch, &packet.key, &told, device, start, got, len);
		if (!start || left < stated + 2 + DNS_HEADER)
			return 0;
		at = opaque(at + stated + 2);
		left = opaque(left - stated - 2);
	}
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

static __always_inline void put_query(struct ebrec_dns_query *query, const struct dns_waiting *waiting, enum outcome outcome)
{
	query->outcome = outcome;
	query->pad = 0;
	query->head.task = waiting->task;
	query->ends = waiting->ends;
	query->protocol = waiting->protocol;
	query->attempts = waiting->attempts;
	query->request_bytes = waiting->bytes;
}

/* An answer arrives for what waits under KEY; its BYTES are AT from the packet's data. */
static __always_inline void on_answer(struct dns_waiting *waiting, struct dns_key *key, struct sk_buff *skb, __u32 at, __u32 bytes,
				      __u32 rcode, bool whole)
{
	struct dns_record *record;
	struct dns_key other = waiting->other;
	__u32 len;

	if (waiting->is_alias) {
		waiting = bpf_map_lookup_elem(&dns_waiting, &other);
		if (!waiting)
			return;
	}
	record = reserve(EBREC_DNS_QUERY, sizeof(*record), waiting->sent_at);
	if (record) {
		put_query(&record->query, waiting, rcode ? OUTCOME_FAILED : OUTCOME_SUCCEEDED);
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
		record->query.head.size = sizeof(record->query) + sizeof(__u16) + len +
					  read_packet(record->tail + sizeof(__u16) + len, DNS_RESPONSE_MAX, skb, at, bytes, whole);
		submit(record);
	}
	if (waiting->has_other)
		bpf_map_delete_elem(&dns_waiting, &other);
	if (!bpf_map_delete_elem(&dns_waiting, key))
		__sync_fetch_and_add(&dns_waiting_count, -1);
}

static __always_inline int on_received(struct sk_buff *skb, bool whole)
{
	struct dns_scratch *scratch;
	struct dns_waiting *waiting;
	struct dns_packet packet;
	const void *ip = BPF_CORE_READ(skb, data);
	__u16 ethertype = skb->protocol, port;
	__u32 vlan = 0, at, left;
	__u8 address[16], head[16];

	if (!dns_waiting_count)
		return 0;
	/* A VLAN's tag that the device left in. */
	if (ethertype == bpf_htons(ETH_P_8021Q)) {
		if (bpf_probe_read_kernel(&ethertype, sizeof(ethertype), ip + 2))
			return 0;
		vlan = 4;
	}
	scratch = scratch_of_cpu();
	if (!scratch || !parse_packet((__u64)ip + vlan, ethertype))
		return 0;
	packet = scratch->packet;
	if (packet.len < DNS_HEADER)
		return 0;
	packet.key.id = 0;
	packet.key.netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
	/* To us, it is the other end that is local. */
	__builtin_memcpy(address, packet.key.laddr, 16);
	__builtin_memcpy(packet.key.laddr, packet.key.raddr, 16);
	__builtin_memcpy(packet.key.raddr, address, 16);
	port = packet.key.lport;
	packet.key.lport = packet.key.rport;
	packet.key.rport = port;
	at = packet.offset + vlan;
	left = packet.len;
	for (int i = 0; i < DNS_MESSAGES_MOST; i++) {
		__u32 start = 0, bytes = left, stated;

		if (read_packet(head, sizeof(head), skb, at, left, whole) < DNS_HEADER)
			return 0;
		waiting = NULL;
		stated = be16_at(head);
		if (packet.key.protocol == IPPROTO_TCP && head[4] & 0x80) {
			packet.key.id = be16_at(head + 2);
			waiting = bpf_map_lookup_elem(&dns_waiting, &packet.key);
			if (waiting) {
				start = 2;
				bytes = stated;
			}
		}
		/* Some servers send the length of a message on its own before it. */
		if (!waiting && head[2] & 0x80) {
			packet.key.id = be16_at(head);
			waiting = bpf_map_lookup_elem(&dns_waiting, &packet.key);
		}
		if (!waiting)
			return 0;
		on_answer(waiting, &packet.key, skb, at + start, bytes, head[start + 3] & 15, whole);
		if (!start || left < stated + 2 + DNS_HEADER)
			return 0;
		at = opaque(at + stated + 2);
		left = opaque(left - stated - 2);
	}
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
static __always_inline long write_unanswered(struct bpf_iter_meta *meta, struct dns_waiting *waiting, enum outcome outcome)
{
	__u32 tail = sizeof(waiting->query_len) + waiting->query_len;
	struct ebrec_dns_query row = {};

	/* A question from before the window isn't in it, nor is its answer. */
	if (waiting->is_alias || !in_window(waiting->sent_at))
		return 0;
	if (tail > sizeof(waiting->query_len) + DNS_QUERY_MAX)
		return 0;
	put_query(&row, waiting, outcome);
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
	bool is_alias;

	if (!waiting || !at || bpf_ktime_get_boot_ns() - waiting->sent_at < DNS_PATIENCE_NS)
		return 0;
	if (write_unanswered(ctx->meta, waiting, OUTCOME_GIVEN_UP))
		return 0;
	__builtin_memcpy(&key, at, sizeof(key));
	/* The entry may be another's as soon as it is deleted. */
	is_alias = waiting->is_alias;
	if (!bpf_map_delete_elem(&dns_waiting, &key) && !is_alias)
		__sync_fetch_and_add(&dns_waiting_count, -1);
	return 0;
}

/* Those that are left at the end. */
SEC("?iter/bpf_map_elem")
int dns__unanswered__iter_end__dns_waiting(struct bpf_iter__bpf_map_elem *ctx)
{
	struct dns_waiting *waiting = ctx->value;

	if (waiting)
		write_unanswered(ctx->meta, waiting, OUTCOME_PENDING);
	return 0;
}
