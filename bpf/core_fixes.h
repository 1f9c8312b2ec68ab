/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Differences between kernels, one getter each: what changed, in which upstream commit. Decided by the running kernel's BTF. */
#ifndef EBREC_CORE_FIXES_H
#define EBREC_CORE_FIXES_H

/* task_struct.state became __state in 5.14 (2f064a59a11f "sched: Change task_struct::state"). */
struct task_struct___state {
	volatile long state;
} __attribute__((preserve_access_index));

struct task_struct___new_state {
	unsigned int __state;
} __attribute__((preserve_access_index));

static __always_inline __u32 task_state_of(struct task_struct *task)
{
	struct task_struct___new_state *now = (void *)task;

	if (bpf_core_field_exists(now->__state))
		return BPF_CORE_READ(now, __state);
	return (__u32)BPF_CORE_READ((struct task_struct___state *)task, state);
}

/* task_struct.cpu moved into thread_info in 5.16 (bcf9033e5449 "sched: move CPU field back into thread_info if
 * THREAD_INFO_IN_TASK=y"). */
struct task_struct___cpu {
	unsigned int cpu;
} __attribute__((preserve_access_index));

struct thread_info {
	__u32 cpu;
	__u32 status; /* x86 */
	unsigned long flags;
} __attribute__((preserve_access_index));

struct task_struct___thread_info {
	struct thread_info thread_info;
} __attribute__((preserve_access_index));

/* Of a task that the verifier knows as one: plain loads. */
static __always_inline __u32 task_cpu_of(struct task_struct *task)
{
	struct task_struct___thread_info *now = (void *)task;

	if (bpf_core_field_exists(now->thread_info.cpu))
		return now->thread_info.cpu;
	return ((struct task_struct___cpu *)task)->cpu;
}

/* Where the number of a system call is kept differs by architecture, not by kernel. */
#if defined(__TARGET_ARCH_arm64)
struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
} __attribute__((preserve_access_index));
#endif

/* Of the registers that a tp_btf program is handed: a plain load, because every system call of the host pays for it. */
static __always_inline long syscall_nr_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->orig_ax;
#elif defined(__TARGET_ARCH_arm64)
	return ((struct pt_regs___arm64 *)regs)->syscallno;
#endif
}

/* cgroup.ancestor_ids[] became ancestors[] in 6.1 (7f203bc89eb6 "cgroup: Replace cgroup->ancestor_ids[] with ->ancestors[]"). */
struct cgroup___ids {
	__u64 ancestor_ids[16];
} __attribute__((preserve_access_index));

struct cgroup___ancestors {
	struct cgroup *ancestors[16];
} __attribute__((preserve_access_index));

static __always_inline __u64 cgroup_ancestor_id(struct cgroup *cgroup, __u32 level)
{
	struct cgroup___ancestors *now = (void *)cgroup;
	struct cgroup___ids *old = (void *)cgroup;
	struct cgroup *ancestor = NULL;
	__u64 id = 0;

	void *at = cgroup;

	if (level > 15)
		return 0;
	/* The barriers keep the offset that this kernel lacks in its own branch; hoisted, it would be an invalid instruction on
	 * both. */
	if (bpf_core_field_exists(now->ancestors)) {
		barrier_var(at);
		at += bpf_core_field_offset(now->ancestors);
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), at + level * 8);
		return BPF_CORE_READ(ancestor, kn, id);
	}
	barrier_var(at);
	at += bpf_core_field_offset(old->ancestor_ids);
	bpf_probe_read_kernel(&id, sizeof(id), at + level * 8);
	return id;
}

/* mm_struct.rss_stat became an array of per-CPU counters in 6.2 (f1a7941243c1 "mm: convert mm's rss stats into percpu_counter").
 * Their central part is off by what the CPUs haven't added yet; what the kernel itself prints of a victim is that, too. */
typedef struct {
	__s64 counter;
} atomic64_t;

struct mm_rss_stat {
	atomic64_t count[4];
} __attribute__((preserve_access_index));

struct mm_struct___one_stat {
	struct mm_rss_stat rss_stat;
} __attribute__((preserve_access_index));

struct percpu_counter {
	__s64 count;
} __attribute__((preserve_access_index));

struct mm_struct___counters {
	struct percpu_counter rss_stat[4];
} __attribute__((preserve_access_index));

/* MEMBER is a number: CO-RE can't find a place in an array that is only known at run time. */
#define mm_pages(mm, MEMBER)                                                          \
	({                                                                            \
		struct mm_struct___counters *_now = (void *)(mm);                     \
		struct mm_struct___one_stat *_old = (void *)(mm);                     \
		__s64 _pages;                                                         \
                                                                                      \
		if (bpf_core_field_exists(_now->rss_stat[0].count)) {                 \
			barrier_var(_now);                                            \
			_pages = BPF_CORE_READ(_now, rss_stat[MEMBER].count);         \
		} else {                                                              \
			barrier_var(_old);                                            \
			_pages = BPF_CORE_READ(_old, rss_stat.count[MEMBER].counter); \
		}                                                                     \
		_pages > 0 ? (__u64)_pages : 0;                                       \
	})

/* Why a reset was sent is told since 6.10 (b533fb9cf4f7 "rstreason: make it work in trace world"). The numbers differ between
 * kernels; a reason is sent by its place in this list, which kind ResetReason of the format repeats. */
#define RESET_REASONS(X)            \
	X(NOT_SPECIFIED)            \
	X(NO_SOCKET)                \
	X(TCP_INVALID_ACK_SEQUENCE) \
	X(TCP_RFC7323_PAWS)         \
	X(TCP_TOO_OLD_ACK)          \
	X(TCP_ACK_UNSENT_DATA)      \
	X(TCP_FLAGS)                \
	X(TCP_OLD_ACK)              \
	X(TCP_ABORT_ON_DATA)        \
	X(TCP_TIMEWAIT_SOCKET)      \
	X(INVALID_SYN)              \
	X(TCP_ABORT_ON_CLOSE)       \
	X(TCP_ABORT_ON_LINGER)      \
	X(TCP_ABORT_ON_MEMORY)      \
	X(TCP_STATE)                \
	X(TCP_KEEPALIVE_TIMEOUT)    \
	X(TCP_DISCONNECT_WITH_DATA) \
	X(MPTCP_RST_EUNSPEC)        \
	X(MPTCP_RST_EMPTCP)         \
	X(MPTCP_RST_ERESOURCE)      \
	X(MPTCP_RST_EPROHIBIT)      \
	X(MPTCP_RST_EWQ2BIG)        \
	X(MPTCP_RST_EBADPERF)       \
	X(MPTCP_RST_EMIDDLEBOX)     \
	X(ERROR)

#define RESET_REASON(name) SK_RST_REASON_##name,
enum sk_rst_reason {
	RESET_REASONS(RESET_REASON) SK_RST_REASON_UNKNOWN_HERE,
};
#undef RESET_REASON

static __always_inline __u32 reset_reason(__u32 reason)
{
#define RESET_REASON(name)                                                           \
	if (bpf_core_enum_value_exists(enum sk_rst_reason, SK_RST_REASON_##name) &&  \
	    reason == bpf_core_enum_value(enum sk_rst_reason, SK_RST_REASON_##name)) \
		return SK_RST_REASON_##name;
	RESET_REASONS(RESET_REASON)
#undef RESET_REASON
	return SK_RST_REASON_UNKNOWN_HERE;
}

/* request.rq_disk gave way to request_queue.disk in 5.17 (d152c682f03c "block: add an explicit ->disk backpointer to the
 * request_queue", f3fa33acca9f "block: remove the ->rq_disk field in struct request"). */
struct request___rq_disk {
	struct gendisk *rq_disk;
} __attribute__((preserve_access_index));

struct request_queue___disk {
	struct gendisk *disk;
} __attribute__((preserve_access_index));

static __always_inline struct gendisk *request_disk(struct request *rq)
{
	struct request___rq_disk *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return BPF_CORE_READ(old, rq_disk);
	return BPF_CORE_READ((struct request_queue___disk *)rq->q, disk);
}

/* A partition was a struct hd_struct until 5.11 (0d02129e76ed "block: merge struct block_device and struct hd_struct"). */
struct device___hd {
	dev_t devt;
} __attribute__((preserve_access_index));

struct hd_struct {
	struct device___hd __dev;
} __attribute__((preserve_access_index));

struct request___hd_part {
	struct hd_struct *part;
} __attribute__((preserve_access_index));

struct request___bdev_part {
	struct block_device *part;
} __attribute__((preserve_access_index));

/* 0 if there is no disk. */
static __always_inline dev_t disk_dev(struct gendisk *disk)
{
	return (__u32)BPF_CORE_READ(disk, major) << 20 | (__u32)BPF_CORE_READ(disk, first_minor);
}

/* The partition that the request was addressed to; the whole disk where the kernel keeps no account of it. */
static __always_inline dev_t request_dev(struct request *rq, struct gendisk *disk)
{
	dev_t dev;

	if (bpf_core_type_exists(struct hd_struct))
		dev = BPF_CORE_READ((struct request___hd_part *)rq, part, __dev.devt);
	else
		dev = BPF_CORE_READ((struct request___bdev_part *)rq, part, bd_dev);
	return dev ? dev : disk_dev(disk);
}

/* bio.bi_disk gave way to bi_bdev in 5.12 (309dca309fc3 "block: store a block_device pointer in struct bio"). */
struct bio___disk {
	struct gendisk *bi_disk;
	__u8 bi_partno;
} __attribute__((preserve_access_index));

struct bio___bdev {
	struct block_device *bi_bdev;
} __attribute__((preserve_access_index));

/* Of a bio that the verifier knows as one: plain loads, because every bio of the host passes here. */
static __always_inline struct gendisk *bio_disk(struct bio *bio)
{
	struct bio___disk *old = (void *)bio;

	if (bpf_core_field_exists(old->bi_disk))
		return old->bi_disk;
	return ((struct bio___bdev *)bio)->bi_bdev->bd_disk;
}

static __always_inline dev_t bio_dev(struct bio *bio, struct gendisk *disk)
{
	struct bio___disk *old = (void *)bio;

	/* Where the partition is a number, the minors of a bio-based disk's partitions follow its own. */
	if (bpf_core_field_exists(old->bi_disk))
		return disk_dev(disk) + old->bi_partno;
	return ((struct bio___bdev *)bio)->bi_bdev->bd_dev;
}

/* Requests that wait for a flush are linked by queuelist since 6.6 (81ada09cc25e "blk-flush: reuse rq queuelist in flush state
 * machine"). */
struct request___flush_list {
	struct {
		struct list_head list;
	} flush;
} __attribute__((preserve_access_index));

static __always_inline __u64 request_in_flush_list(struct list_head *link)
{
	struct request___flush_list *old = NULL;

	if (bpf_core_field_exists(old->flush.list))
		return (__u64)link - bpf_core_field_offset(old->flush.list);
	return (__u64)link - bpf_core_field_offset(((struct request *)NULL)->queuelist);
}

/* Operations that changed their number; enum req_opf became req_op in 6.0 (ff07a02e9e8e "treewide: Rename enum req_opf into enum
 * req_op"). */
enum req_opf {
	REQ_OP_WRITE_SAME = 7,
	REQ_OP_ZONE_APPEND = 21,
};

enum {
	REQ_OP_WRITE = 1,
	REQ_OP_FLUSH = 2,
	BLOCK_OP_ZONE_APPEND = 7,
	BLOCK_OP_DRIVER = 32, /* from here on: commands that pass through to the driver, and have no sector */
	BLOCK_OP_WRITE_SAME = 21,
};

/* Kind BlockOp: the kernel's number as of 6.0. */
static __always_inline __u32 block_op_of(__u32 opf)
{
	__u32 op = opf & 0xff; /* REQ_OP_MASK */

	if (bpf_core_enum_value_exists(enum req_opf, REQ_OP_WRITE_SAME) &&
	    op == bpf_core_enum_value(enum req_opf, REQ_OP_WRITE_SAME))
		return BLOCK_OP_WRITE_SAME;
	if (bpf_core_enum_value_exists(enum req_opf, REQ_OP_ZONE_APPEND) &&
	    op == bpf_core_enum_value(enum req_opf, REQ_OP_ZONE_APPEND))
		return BLOCK_OP_ZONE_APPEND;
	return op;
}

/* The flags of a request change their places now and then. */
enum req_flag_bits {
	__REQ_SYNC = 11,
	__REQ_META = 12,
	__REQ_PRIO = 13,
	__REQ_FUA = 17,
	__REQ_PREFLUSH = 18,
	__REQ_RAHEAD = 19,
	__REQ_BACKGROUND = 20,
	__REQ_NOWAIT = 21,
	__REQ_POLLED = 22,
	__REQ_SWAP = 24,
	__REQ_ATOMIC = 27,
};

/* Kind BlockFlags. */
enum block_flags {
	BLOCK_SYNC = 1,
	BLOCK_META = 2,
	BLOCK_PRIO = 4,
	BLOCK_FUA = 8,
	BLOCK_PREFLUSH = 16,
	BLOCK_READAHEAD = 32,
	BLOCK_BACKGROUND = 64,
	BLOCK_NOWAIT = 128,
	BLOCK_POLLED = 256,
	BLOCK_SWAP = 512,
	BLOCK_ATOMIC = 1024,
};

#define BLOCK_FLAG(opf, kernel, flag)                                                                                           \
	(bpf_core_enum_value_exists(enum req_flag_bits, kernel) && (opf) >> bpf_core_enum_value(enum req_flag_bits, kernel) & 1 \
	     ? (flag)                                                                                                           \
	     : 0)

static __always_inline __u32 block_flags_of(__u32 opf)
{
	return BLOCK_FLAG(opf, __REQ_SYNC, BLOCK_SYNC) | BLOCK_FLAG(opf, __REQ_META, BLOCK_META) |
	       BLOCK_FLAG(opf, __REQ_PRIO, BLOCK_PRIO) | BLOCK_FLAG(opf, __REQ_FUA, BLOCK_FUA) |
	       BLOCK_FLAG(opf, __REQ_PREFLUSH, BLOCK_PREFLUSH) | BLOCK_FLAG(opf, __REQ_RAHEAD, BLOCK_READAHEAD) |
	       BLOCK_FLAG(opf, __REQ_BACKGROUND, BLOCK_BACKGROUND) | BLOCK_FLAG(opf, __REQ_NOWAIT, BLOCK_NOWAIT) |
	       BLOCK_FLAG(opf, __REQ_POLLED, BLOCK_POLLED) | BLOCK_FLAG(opf, __REQ_SWAP, BLOCK_SWAP) |
	       BLOCK_FLAG(opf, __REQ_ATOMIC, BLOCK_ATOMIC);
}

/* A block_rq_complete carries -errno until 5.15 and a blk_status_t since 5.16, which is never negative. The statuses are translated
 * as blk_status_to_errno() does; those that don't have the same number in all kernels are EIO, as all that are unknown there. */
const __u8 block_errnos[32] = {
    0,
    95 /* EOPNOTSUPP */,
    110 /* ETIMEDOUT */,
    28 /* ENOSPC */,
    67 /* ENOLINK */,
    121 /* EREMOTEIO */,
    52 /* EBADE */,
    61 /* ENODATA */,
    84 /* EILSEQ */,
    12 /* ENOMEM */,
    5 /* EIO */,
    78 /* EREMCHG */,
    11 /* EAGAIN */,
    16 /* EBUSY */,
    [19] = 22 /* EINVAL */,
};

static __always_inline __u32 block_errno_of(int error)
{
	__u32 errno;

	if (error <= 0)
		return -error;
	errno = error < 32 ? block_errnos[error & 31] : 0;
	return errno ? errno : 5;
}

/* A tracepoint of the page cache hands over a struct page until 5.16 or so, and a struct folio after; the fields have the same
 * names. */
struct page {
	struct address_space *mapping;
	unsigned long index;
	unsigned char compound_order; /* of the second page, until folios */
} __attribute__((preserve_access_index));

static __always_inline __u64 folio_mapping(struct folio *folio)
{
	if (bpf_core_type_exists(struct folio))
		return (__u64)BPF_CORE_READ(folio, mapping);
	return (__u64)BPF_CORE_READ((struct page *)folio, mapping);
}

static __always_inline __u64 folio_index(struct folio *folio)
{
	if (bpf_core_type_exists(struct folio))
		return BPF_CORE_READ(folio, index);
	return BPF_CORE_READ((struct page *)folio, index);
}

/* Where the order of a large folio is kept: in a field of its own (until 6.5), or in the lowest byte of flags (since 6.6,
 * ebc1baf5c9b4 "mm: free up a word in the first tail page"). */
struct folio___order {
	unsigned char _folio_order;
} __attribute__((preserve_access_index));

struct folio___flags {
	unsigned long _flags_1;
} __attribute__((preserve_access_index));

enum pageflags {
	PG_head = 6,
};

static __always_inline __u32 folio_pages(struct folio *folio)
{
	struct folio___order *old = (void *)folio;
	struct folio___flags *now = (void *)folio;
	unsigned long flags = 0;
	__u32 order;

	/* The flags come first, in whatever type. */
	bpf_probe_read_kernel(&flags, sizeof(flags), folio);
	if (!(flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1))
		return 1;
	if (!bpf_core_type_exists(struct folio))
		order = BPF_CORE_READ((struct page *)((void *)folio + bpf_core_type_size(struct page)), compound_order);
	else if (bpf_core_field_exists(old->_folio_order))
		order = BPF_CORE_READ(old, _folio_order);
	else
		order = BPF_CORE_READ(now, _flags_1) & 0xff;
	return 1U << (order & 31);
}

/* The registers with which the current task entered the kernel. Before 5.15 without a helper: they are at the top of the stack
 * (task_pt_regs), whose size is that of kernels without KASAN. */
enum bpf_func_id___task_pt_regs {
	BPF_FUNC_task_pt_regs___ebrec = 175,
};

static __always_inline struct pt_regs *current_regs(void)
{
	struct task_struct *task;

	if (bpf_core_enum_value_exists(enum bpf_func_id___task_pt_regs, BPF_FUNC_task_pt_regs___ebrec))
		return (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	task = (void *)bpf_get_current_task();
	return BPF_CORE_READ(task, stack) + 16384 - bpf_core_type_size(struct pt_regs);
}

/* bpf_get_current_task_btf() and task storage are of 5.11; the running kernel's own list of helpers and map types tells. */
enum bpf_func_id___ebrec {
	BPF_FUNC_get_current_task_btf___ebrec = 158,
};

enum bpf_map_type___ebrec {
	BPF_MAP_TYPE_TASK_STORAGE___ebrec = 29,
};

#define has_current_task_btf() bpf_core_enum_value_exists(enum bpf_func_id___ebrec, BPF_FUNC_get_current_task_btf___ebrec)
#define has_task_storage() bpf_core_enum_value_exists(enum bpf_map_type___ebrec, BPF_MAP_TYPE_TASK_STORAGE___ebrec)

/* A new slot of task storage comes from kmalloc until 6.4 (08a7ce384e33 "bpf: Use bpf_mem_cache_alloc/free in
 * bpf_local_storage_elem"). That may wake kswapd, for which it takes a run queue's lock: in the scheduler's own hooks, which hold
 * one, it would wait for ever. Later it comes from an allocator that may be called anywhere, which was first one of the map's own,
 * then kmalloc_nolock for some maps, then for all of them. Where none of these is seen, the hooks go without. */
struct bpf_mem_alloc {
	void *caches;
} __attribute__((preserve_access_index));

struct bpf_local_storage_map___own {
	struct bpf_mem_alloc selem_ma;
} __attribute__((preserve_access_index));

struct bpf_local_storage_map___some {
	bool use_kmalloc_nolock;
} __attribute__((preserve_access_index));

struct bpf_local_storage___all {
	__u32 mem_charge;
} __attribute__((preserve_access_index));

#define has_lock_free_task_storage()                                                                                     \
	(has_task_storage() && (bpf_core_field_exists(((struct bpf_local_storage_map___own *)0)->selem_ma) ||            \
				bpf_core_field_exists(((struct bpf_local_storage_map___some *)0)->use_kmalloc_nolock) || \
				bpf_core_field_exists(((struct bpf_local_storage___all *)0)->mem_charge)))

/* Whether the system call that ends is one of another ABI (32 bits on a 64-bit kernel), whose numbers mean other calls:
 * TS_COMPAT of arch/x86/include/asm/thread_info.h, TIF_32BIT of arch/arm64/include/asm/thread_info.h. */
static __always_inline bool is_compat_call(void)
{
	struct task_struct___thread_info *task;

	if (has_current_task_btf()) {
		task = (void *)bpf_get_current_task_btf();
#if defined(__TARGET_ARCH_x86)
		return task->thread_info.status & 2;
#elif defined(__TARGET_ARCH_arm64)
		return task->thread_info.flags & (1UL << 22);
#endif
	}
	task = (void *)bpf_get_current_task();
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread_info.status) & 2;
#elif defined(__TARGET_ARCH_arm64)
	return BPF_CORE_READ(task, thread_info.flags) & (1UL << 22);
#endif
}

#endif
