/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is remembered of TCP connections, for all programs of the probe tcp. */
#ifndef EBREC_TCP_H
#define EBREC_TCP_H

#include "ebrec.h"

/* What is remembered of a connection: all that can't be asked of the socket later. */
struct conn {
	__u64 id;
	__u64 opened_at; /* established or, until then, tried; EBREC_NULL64: before the window */
	__u64 tried_at; /* SYN sent; 0: not by us or before the window */
	__u64 in_state_since; /* 0: before the window */
	struct ebrec_task owner;
	struct ebrec_endpoints ends;
	__u32 direction; /* kind Direction */
	__u32 established; /* whether it ever was */
	__u32 listening;
	__u32 in_snapshot;
	__u32 closed; /* over, but what arrived may still be read */
	__u32 sport_before; /* what was in the socket when its SYN was sent: a connection before it may have left it */
	__u64 rtt_at; /* last sample of its round-trip time */
	__u64 failed_at; /* when it was told that the attempt failed; 0: it wasn't */
	__u32 failed_with; /* the error that the program hasn't been given yet */
	__u32 failing; /* connect() has failed and will say why */
};

/* Connections by the address of their socket; tcp_destroy_sock removes them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, struct conn);
} conns SEC(".maps");

/* Connections numbered so far on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} conn_count SEC(".maps");

enum direction {
	DIRECTION_UNKNOWN,
	DIRECTION_ACTIVE,
	DIRECTION_PASSIVE,
};

static __always_inline bool is_tcp(struct sock *sk)
{
	__u16 family;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || BPF_CORE_READ(sk, sk_type) != SOCK_STREAM)
		return false;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6;
}

/* The same of a socket that the verifier knows as one: plain loads, for the calls that are made most. */
static __always_inline bool is_trusted_tcp(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return (family == AF_INET || family == AF_INET6) && sk->sk_protocol == IPPROTO_TCP && sk->sk_type == SOCK_STREAM;
}

/* Whether a program's socket is one of MPTCP, below which there are TCP connections (net/mptcp/protocol.h). */
static __always_inline bool is_mptcp(__u32 protocol)
{
	return protocol == IPPROTO_MPTCP && bpf_core_field_exists(struct mptcp_sock, first);
}

/* The first connection below an MPTCP socket; NULL if there is none (any more). */
static __always_inline struct sock *first_below(struct sock *sk)
{
	struct sock *first = BPF_CORE_READ((struct mptcp_sock *)sk, first);

	return first && is_tcp(first) ? first : NULL;
}

/* The TCP connection that a program's socket stands for; NULL: it is of another kind. */
static __always_inline struct sock *tcp_of(struct sock *sk)
{
	if (is_tcp(sk))
		return sk;
	return is_mptcp(BPF_CORE_READ(sk, sk_protocol)) ? first_below(sk) : NULL;
}

static __always_inline __u32 sport_of(struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

static __always_inline void put_ends(struct ebrec_endpoints *ends, struct sock *sk)
{
	struct sock_common *c = &sk->__sk_common;

	ends->netns = BPF_CORE_READ(c, skc_net.net, ns.inum);
	/* The two differ at the edges only: closing takes the first away, and leaves the second. */
	ends->lport = BPF_CORE_READ(c, skc_num) ?: sport_of(sk);
	ends->rport = bpf_ntohs(BPF_CORE_READ(c, skc_dport));
	if (BPF_CORE_READ(c, skc_family) == AF_INET6) {
		BPF_CORE_READ_INTO(&ends->laddr, c, skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&ends->raddr, c, skc_v6_daddr);
		return;
	}
	((__u64 *)ends->laddr)[0] = 0;
	((__u64 *)ends->raddr)[0] = 0;
	((__u32 *)ends->laddr)[2] = bpf_htonl(0xffff);
	((__u32 *)ends->raddr)[2] = bpf_htonl(0xffff);
	((__u32 *)ends->laddr)[3] = BPF_CORE_READ(c, skc_rcv_saddr);
	((__u32 *)ends->raddr)[3] = BPF_CORE_READ(c, skc_daddr);
}

/* The connection of a socket; a new one if it isn't known yet. TABLE is where a record is missing if there is no room. */
static __always_inline struct conn *get_conn(struct sock *sk, __u32 table)
{
	__u64 key = (__u64)sk, *count;
	struct conn *conn = bpf_map_lookup_elem(&conns, &key);
	struct conn fresh = {};
	__u32 zero = 0;

	if (conn)
		return conn;
	count = bpf_map_lookup_elem(&conn_count, &zero);
	if (!count)
		return NULL;
	/* 12 bits are enough for the kernel's largest CPU number. */
	fresh.id = next_number(count) << 12 | bpf_get_smp_processor_id();
	fresh.opened_at = EBREC_NULL64;
	put_unknown(&fresh.owner);
	put_ends(&fresh.ends, sk);
	bpf_map_update_elem(&conns, &key, &fresh, BPF_NOEXIST);
	conn = bpf_map_lookup_elem(&conns, &key);
	if (!conn)
		count_full(table);
	return conn;
}

/* connect() tells of the state first and chooses the port then: it is taken when the connection is next seen. */
static __always_inline void know_port(struct conn *conn, struct sock *sk)
{
	if (!conn->ends.lport)
		conn->ends.lport = BPF_CORE_READ(sk, __sk_common.skc_num);
}

/* Whether the filters let a connection through: it is its owner that counts, who was looked at when it became the owner, and may be
 * gone by now. Without an owner yet, only if nothing is filtered. */
static __always_inline bool is_wanted_conn(struct conn *conn)
{
	if (conn->owner.pid == EBREC_NULL32)
		return !is_filtered();
	return !is_self(conn->owner.pid);
}

static __always_inline void own(struct conn *conn)
{
	struct ebrec_task task;

	put_current(&task);
	if (is_filtered() && !is_wanted(&task, (struct task_struct *)bpf_get_current_task()))
		return;
	conn->owner = task;
}

static __always_inline void put_conn_head(struct ebrec_conn_head *head, struct conn *conn)
{
	head->head.task = conn->owner;
	head->conn_id = conn->id;
}

#endif
