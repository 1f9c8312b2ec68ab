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
struct mm_rss_stat {
	long count[4];
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
#define mm_pages(mm, MEMBER)                                                  \
	({                                                                    \
		struct mm_struct___counters *_now = (void *)(mm);             \
		struct mm_struct___one_stat *_old = (void *)(mm);             \
		__s64 _pages;                                                 \
                                                                              \
		if (bpf_core_field_exists(_now->rss_stat[0].count)) {         \
			barrier_var(_now);                                    \
			_pages = BPF_CORE_READ(_now, rss_stat[MEMBER].count); \
		} else {                                                      \
			barrier_var(_old);                                    \
			_pages = BPF_CORE_READ(_old, rss_stat.count[MEMBER]); \
		}                                                             \
		_pages > 0 ? (__u64)_pages : 0;                               \
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

/* bpf_get_current_task_btf() and task storage are of 5.11; the running kernel's own list of helpers and map types tells. */
enum bpf_func_id___ebrec {
	BPF_FUNC_get_current_task_btf___ebrec = 158,
};

enum bpf_map_type___ebrec {
	BPF_MAP_TYPE_TASK_STORAGE___ebrec = 29,
};

#define has_current_task_btf() bpf_core_enum_value_exists(enum bpf_func_id___ebrec, BPF_FUNC_get_current_task_btf___ebrec)
#define has_task_storage() bpf_core_enum_value_exists(enum bpf_map_type___ebrec, BPF_MAP_TYPE_TASK_STORAGE___ebrec)

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
