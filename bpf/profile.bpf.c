/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* CPU samples and, if asked for, off-CPU time; both with stacks.
 *
 * A sample carries the hash of its stacks; the frames are sent once, in a record of their own, the first time that a hash is seen.
 * User stacks are hashed with the identity of their address space (process and number of execs), because the same addresses mean
 * something else elsewhere. With the frames of a new user stack goes what the kernel knows of the files mapped there (build id and
 * offset), so that a process that is gone before anybody can look into /proc still gets its names. */
#include "pid_ns.h"

/* Frames of a stack: the default of kernel.perf_event_max_stack, which the kernel doesn't go beyond either. */
#define STACK_FRAMES 127
/* Where it is set lower, a stack of so many is a truncated one. */
const volatile __u32 stack_frames_most = STACK_FRAMES;
/* Off-CPU times below this are not recorded. */
const volatile __u64 off_cpu_min_ns = 1000;

FEEDS(profile__sample, "cpu_sample stack");
FEEDS(profile__off_cpu, "off_cpu_sample stack");

/* include/uapi/linux/bpf.h; BPF_STACK_BUILD_ID_VALID is 1, BPF_STACK_BUILD_ID_IP 2. */
struct stack_build_id {
	__s32 status;
	__u8 build_id[20];
	__u64 offset; /* or the address, if nothing more is known */
};

#define FRAMES_BYTES (STACK_FRAMES * sizeof(__u64))
#define PLACES_BYTES (STACK_FRAMES * sizeof(struct stack_build_id))

/* A stack's record: the addresses, then for a user stack their places. One longer than it gets, for the verifier's mask. */
struct stack_scratch {
	struct ebrec_stack stack;
	__u8 tail[1024 + PLACES_BYTES];
};

/* One for the sampler, which interrupts, and one for the scheduler's hook, which has interrupts off. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct stack_scratch);
} stack_scratches SEC(".maps");

/* Stacks whose frames were sent. One that falls out is sent again; the recorder knows it then. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, __u8);
} stacks_sent SEC(".maps");

static __always_inline __u64 mix(__u64 hash, __u64 value)
{
	hash = (hash ^ value) * 0x9fb21c651e98df25ULL;
	return hash ^ hash >> 29;
}

/* The number of the stack that the task has now, whose frames are sent if they are new. All ones if there is no such stack. */
static __always_inline __u64 stack_of(void *ctx, struct stack_scratch *scratch, const struct ebrec_task *task,
				      struct task_struct *current, bool user, __u64 now)
{
	__u32 exec = user ? (__u32)BPF_CORE_READ(current, self_exec_id) : 0;
	__u64 flags = user ? BPF_F_USER_STACK : 0, hash;
	__u64 *frames = (__u64 *)scratch->tail;
	void *ring;
	long bytes = bpf_get_stack(ctx, frames, FRAMES_BYTES, flags);
	__u32 shard, depth, size;
	__u8 yes = 1;

	if (bytes < (long)sizeof(__u64) || bytes > (long)FRAMES_BYTES)
		return EBREC_NULL64;
	depth = (__u32)bytes / sizeof(__u64);
	hash = mix(user ? mix(task->start, (__u64)exec << 32 | task->pid) : 0, depth);
	for (__u32 i = 0; i < STACK_FRAMES; i++) {
		if (i >= depth)
			break;
		hash = mix(hash, frames[i]);
	}
	/* A column of it has no sign. */
	hash >>= 1;
	if (bpf_map_lookup_elem(&stacks_sent, &hash))
		return hash;

	if (user)
		scratch->stack.head.task = *task;
	else
		put_unknown(&scratch->stack.head.task);
	scratch->stack.stack_id = hash;
	scratch->stack.kind = !user;
	scratch->stack.truncated = depth >= stack_frames_most;
	scratch->stack.depth = depth;
	scratch->stack.exec = exec;
	scratch->stack.proc = user ? pid_in_proc(current) : 0;
	scratch->stack.pad = 0;
	size = depth * sizeof(__u64);
	if (user) {
		__u32 at = size & 1023;

		barrier_var(at);
		bytes = bpf_get_stack(ctx, scratch->tail + at, PLACES_BYTES, flags | BPF_F_USER_BUILD_ID);
		if (bytes > 0 && bytes <= (long)PLACES_BYTES)
			size += bytes;
	}
	size += sizeof(scratch->stack);
	if (size > sizeof(*scratch))
		return hash;
	shard = bpf_get_smp_processor_id();
	scratch->stack.head.ts = now;
	scratch->stack.head.size = size;
	scratch->stack.head.cpu = shard;
	scratch->stack.head.table = EBREC_STACK;
	shard &= ring_mask;
	ring = bpf_map_lookup_elem(&rings, &shard);
	/* Not remembered as sent if it wasn't: the next sample tries again. */
	if (!ring || bpf_ringbuf_output(ring, scratch, size, BPF_RB_NO_WAKEUP))
		count_drop(EBREC_STACK, DROP_RING_FULL);
	else
		bpf_map_update_elem(&stacks_sent, &hash, &yes, BPF_ANY);
	return hash;
}

/* The timer of perf's cpu-clock, on each CPU. It is a hard interrupt, not an NMI: code that has interrupts off is sampled when it
 * has them on again. */
SEC("?perf_event")
int profile__sample__perf_event(void *ctx)
{
	struct task_struct *current = (void *)bpf_get_current_task();
	__u64 now = bpf_ktime_get_boot_ns(), user_stack, kernel_stack;
	struct ebrec_cpu_sample *event;
	struct stack_scratch *scratch;
	struct ebrec_task task;
	__u32 zero = 0;

	if (!wanted_current(&task))
		return 0;
	scratch = bpf_map_lookup_elem(&stack_scratches, &zero);
	if (!scratch)
		return 0;
	user_stack = stack_of(ctx, scratch, &task, current, true, now);
	kernel_stack = stack_of(ctx, scratch, &task, current, false, now);
	event = RECORD(cpu_sample, CPU_SAMPLE, now);
	if (!event)
		return 0;
	event->head.task = task;
	event->user_stack_id = user_stack;
	event->kernel_stack_id = kernel_stack;
	submit(event);
	return 0;
}

/* What a task left behind when it blocked. */
struct off_cpu_slot {
	__u64 left_at; /* 0: it didn't block, or nobody wants it */
	__u64 user_stack_id;
	__u64 kernel_stack_id;
	__u32 state;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct off_cpu_slot);
} off_cpu_tasks SEC(".maps");

/* Without task storage: by tid. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct off_cpu_slot);
} off_cpu_tids SEC(".maps");

static __always_inline struct off_cpu_slot *off_cpu_slot_of(struct task_struct *task, __u32 tid, bool create)
{
	struct off_cpu_slot *slot, fresh = {};

	if (has_lock_free_task_storage())
		return bpf_task_storage_get(&off_cpu_tasks, task, NULL, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	slot = bpf_map_lookup_elem(&off_cpu_tids, &tid);
	if (slot || !create)
		return slot;
	bpf_map_update_elem(&off_cpu_tids, &tid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&off_cpu_tids, &tid);
}

static __always_inline void on_blocking(void *ctx, struct task_struct *prev, __u32 state, __u64 now)
{
	struct stack_scratch *scratch;
	struct off_cpu_slot *slot;
	struct ebrec_task task;
	__u32 one = 1;

	put_task(&task, prev);
	if (!is_wanted(&task, prev))
		return;
	slot = off_cpu_slot_of(prev, task.tid, true);
	scratch = bpf_map_lookup_elem(&stack_scratches, &one);
	if (!slot || !scratch) {
		count_drop(EBREC_OFF_CPU_SAMPLE, DROP_MAP_FULL);
		return;
	}
	slot->user_stack_id = stack_of(ctx, scratch, &task, prev, true, now);
	slot->kernel_stack_id = stack_of(ctx, scratch, &task, prev, false, now);
	slot->state = state;
	slot->left_at = now;
}

static __always_inline void on_back(struct task_struct *next, __u64 now)
{
	struct off_cpu_slot *slot = off_cpu_slot_of(next, next->pid, false);
	struct ebrec_off_cpu_sample *event;
	__u64 left_at;

	if (!slot || !slot->left_at)
		return;
	left_at = slot->left_at;
	slot->left_at = 0;
	if (now - left_at < off_cpu_min_ns)
		return;
	event = RECORD(off_cpu_sample, OFF_CPU_SAMPLE, now);
	if (!event)
		return;
	put_task(&event->head.task, next);
	event->duration_ns = now - left_at;
	event->user_stack_id = slot->user_stack_id;
	event->kernel_stack_id = slot->kernel_stack_id;
	event->state = slot->state;
	event->pad = 0;
	submit(event);
}

/* The hook runs in the task that leaves, so its stacks are the current ones. */
static __always_inline int on_off_cpu(void *ctx, bool preempt, struct task_struct *prev, struct task_struct *next, __u32 state)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (!preempt && state & 0xff && prev->pid)
		on_blocking(ctx, prev, state, now);
	if (next->pid)
		on_back(next, now);
	return 0;
}

/* For the number of arguments see sched.bpf.c. */
SEC("?tp_btf/sched_switch")
int BPF_PROG(profile__off_cpu__tp_btf_4args, bool preempt, struct task_struct *prev, struct task_struct *next,
	     unsigned int prev_state)
{
	return on_off_cpu(ctx, preempt, prev, next, prev_state);
}

SEC("?tp_btf/sched_switch")
int BPF_PROG(profile__off_cpu__tp_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return on_off_cpu(ctx, preempt, prev, next, task_state_of(prev));
}
