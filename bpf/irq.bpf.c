/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Time in interrupt handlers, summed in the kernel: a row per interrupt would cost more than most of them take. */
#include "ebrec.h"

/* A row stands for so much time, or for as long as it takes until the next interrupt of its kind. */
#define IRQ_INTERVAL_NS 100000000ULL
/* Distinguished lengths of a handler's run: bucket N holds those from 2^N ns to below 2^(N+1). The last one, from 0.5 s on, is
 * open. */
#define IRQ_BUCKETS 30

struct irq_key {
	__u64 action; /* struct irqaction; 0: soft */
	__u32 nr; /* interrupt number, or soft interrupt's vector */
	__u32 cpu;
};

struct irq_bucket {
	__u64 total_ns;
	__u64 max_ns;
	__u64 count;
};

struct irq_sums {
	__u64 entered_at; /* 0: not running, or since before the window */
	__u64 since; /* 0: nothing summed yet */
	char name[32];
	struct irq_bucket buckets[IRQ_BUCKETS];
};

/* By handler and CPU: each is only changed by its own CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct irq_key);
	__type(value, struct irq_sums);
} irq_sums SEC(".maps");

/* Too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct irq_sums);
} irq_fresh SEC(".maps");

static __always_inline void irq_entered(__u64 action, __u32 nr, const char *name, __u32 table)
{
	struct irq_key key = {.action = action, .nr = nr, .cpu = bpf_get_smp_processor_id()};
	struct irq_sums *sums;

	/* Interrupts belong to no task. */
	if (is_filtered())
		return;
	sums = bpf_map_lookup_elem(&irq_sums, &key);
	if (!sums) {
		__u32 zero = 0;

		sums = bpf_map_lookup_elem(&irq_fresh, &zero);
		if (!sums)
			return;
		if (name)
			bpf_probe_read_kernel_str(sums->name, sizeof(sums->name), name);
		if (bpf_map_update_elem(&irq_sums, &key, sums, BPF_NOEXIST))
			count_full(table);
		sums = bpf_map_lookup_elem(&irq_sums, &key);
		if (!sums)
			return;
	}
	sums->entered_at = bpf_ktime_get_boot_ns();
}

/* The rows of one bucket each, into a record of the ring or of an iterator. */
#define PUT_IRQ(row, key, sums, bucket)                               \
	do {                                                          \
		put_unknown(&(row)->head.task);                       \
		(row)->since_ts = (sums)->since;                      \
		(row)->total_ns = (sums)->buckets[bucket].total_ns;   \
		(row)->max_ns = (sums)->buckets[bucket].max_ns;       \
		(row)->count = (sums)->buckets[bucket].count;         \
		(row)->at_least_ns = (bucket) ? 1ULL << (bucket) : 0; \
		(row)->pad = 0;                                       \
	} while (0)

static __always_inline __u32 irq_bucket_of(__u64 ns)
{
	__u32 bucket = 0;

	/* Floor of the binary logarithm, in five steps. */
	if (ns >> 32)
		return IRQ_BUCKETS - 1;
	if (ns >> 16) {
		bucket += 16;
		ns >>= 16;
	}
	if (ns >> 8) {
		bucket += 8;
		ns >>= 8;
	}
	if (ns >> 4) {
		bucket += 4;
		ns >>= 4;
	}
	if (ns >> 2) {
		bucket += 2;
		ns >>= 2;
	}
	if (ns >> 1)
		bucket += 1;
	return bucket < IRQ_BUCKETS ? bucket : IRQ_BUCKETS - 1;
}

/* A row of what one bucket of a handler holds on this CPU, which is empty then. NOW is in the window. A function of its own,
 * verified once and not for each bucket: its arguments are numbers, as kernels before 5.12 want it. */
__noinline int irq_emit(__u64 action, __u32 nr, __u32 bucket, __u64 now)
{
	struct irq_key key = {.action = action, .nr = nr, .cpu = bpf_get_smp_processor_id()};
	struct irq_sums *sums = bpf_map_lookup_elem(&irq_sums, &key);

	if (!sums || bucket >= IRQ_BUCKETS || !sums->buckets[bucket].count)
		return 0;
	if (!action) {
		struct ebrec_softirq *row = reserve_any(EBREC_SOFTIRQ, sizeof(*row), now);

		if (row) {
			PUT_IRQ(row, key, sums, bucket);
			row->vector = nr;
			submit(row);
		}
	} else {
		struct ebrec_hardirq *row = reserve_any(EBREC_HARDIRQ, sizeof(*row), now);

		if (row) {
			PUT_IRQ(row, key, sums, bucket);
			row->irq = nr;
			__builtin_memcpy(row->name, sums->name, sizeof(row->name));
			submit(row);
		}
	}
	sums->buckets[bucket].count = 0;
	sums->buckets[bucket].total_ns = 0;
	sums->buckets[bucket].max_ns = 0;
	return 0;
}

static __always_inline int irq_left(__u64 action, __u32 nr)
{
	struct irq_key key = {.action = action, .nr = nr, .cpu = bpf_get_smp_processor_id()};
	struct irq_sums *sums = is_filtered() ? NULL : bpf_map_lookup_elem(&irq_sums, &key);
	__u64 now, took;
	__u32 bucket;

	if (!sums || !sums->entered_at)
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (!in_window(sums->entered_at) || !in_window(now)) {
		sums->entered_at = 0;
		return 0;
	}
	took = now - sums->entered_at;
	if (!sums->since)
		sums->since = sums->entered_at;
	sums->entered_at = 0;
	bucket = irq_bucket_of(took);
	/* For the verifier. */
	if (bucket >= IRQ_BUCKETS)
		return 0;
	sums->buckets[bucket].count++;
	sums->buckets[bucket].total_ns += took;
	if (took > sums->buckets[bucket].max_ns)
		sums->buckets[bucket].max_ns = took;
	if (now - sums->since < IRQ_INTERVAL_NS)
		return 0;
	/* The address as a number, which is all that a function of its own may be given. */
	bpf_probe_read_kernel(&action, sizeof(action), &key.action);
	for (bucket = 0; bucket < IRQ_BUCKETS; bucket++)
		irq_emit(action, nr, bucket, now);
	sums->since = 0;
	return 0;
}

FEEDS(irq__hard_entry, "hardirq");
SEC("?tp_btf/irq_handler_entry")
int BPF_PROG(irq__hard_entry__tp_btf, int irq, struct irqaction *action)
{
	irq_entered((__u64)action, irq, action->name, EBREC_HARDIRQ);
	return 0;
}

FEEDS(irq__hard_exit, "hardirq");
SEC("?tp_btf/irq_handler_exit")
int BPF_PROG(irq__hard_exit__tp_btf, int irq, struct irqaction *action)
{
	return irq_left((__u64)action, irq);
}

FEEDS(irq__soft_entry, "softirq");
SEC("?tp_btf/softirq_entry")
int BPF_PROG(irq__soft_entry__tp_btf, unsigned int vector)
{
	irq_entered(0, vector, NULL, EBREC_SOFTIRQ);
	return 0;
}

FEEDS(irq__soft_exit, "softirq");
SEC("?tp_btf/softirq_exit")
int BPF_PROG(irq__soft_exit__tp_btf, unsigned int vector)
{
	return irq_left(0, vector);
}

/* What has been summed and not told yet; it ended before the window did. */
SEC("?iter/bpf_map_elem")
int irq__rest__iter_end__irq_sums(struct bpf_iter__bpf_map_elem *ctx)
{
	struct irq_sums *sums = ctx->value;
	struct irq_key *key = ctx->key;
	struct seq_file *seq = ctx->meta->seq;
	__u64 now = window_end();

	if (!sums || !key || !sums->since)
		return 0;
	for (__u32 i = 0; i < IRQ_BUCKETS; i++) {
		if (!sums->buckets[i].count)
			continue;
		if (key->action) {
			struct ebrec_hardirq row = {};

			row.head.ts = now;
			row.head.size = sizeof(row);
			row.head.cpu = key->cpu;
			row.head.table = EBREC_HARDIRQ;
			PUT_IRQ(&row, key, sums, i);
			row.irq = key->nr;
			__builtin_memcpy(row.name, sums->name, sizeof(row.name));
			bpf_seq_write(seq, &row, sizeof(row));
		} else {
			struct ebrec_softirq row = {};

			row.head.ts = now;
			row.head.size = sizeof(row);
			row.head.cpu = key->cpu;
			row.head.table = EBREC_SOFTIRQ;
			PUT_IRQ(&row, key, sums, i);
			row.vector = key->nr;
			bpf_seq_write(seq, &row, sizeof(row));
		}
	}
	return 0;
}
