/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What recording itself needs: who the recorder is, and which processes the filters follow. */
#include "pid_ns.h"
#include "syscalls.h"

/* Runs before anything is attached. It tells the recorder's own pid as the kernel numbers it, whatever pid namespace the
 * recorder is in, and finds the processes that --pid names, with the descendants that they have by then. And again when forks are
 * followed, for those that came in between. */
SEC("?iter/task")
int core__self__iter_before(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_struct *ancestor;
	struct ebrec_task id;

	if (!self_tgid) {
		struct task_struct *self = (void *)bpf_get_current_task();

		self_tgid = bpf_get_current_pid_tgid() >> 32;
		cgroup_root_level = (__u32)BPF_CORE_READ(self, cgroups, dfl_cgrp, level) - own_cgroup_depth;
		find_own_namespaces();
	}
	if (!task || !filter_process)
		return 0;
	ancestor = task;
	for (int i = 0; i < 64; i++) {
		__u32 tgid = BPF_CORE_READ(ancestor, tgid), pid = pid_in(&own_pid_ns, ancestor);
		__u32 *seed;

		if (tgid == 0)
			break;
		seed = pid ? bpf_map_lookup_elem(&seed_pids, &pid) : NULL;
		if (seed) {
			*seed = tgid;
			put_task(&id, task);
			want(&id);
			break;
		}
		ancestor = BPF_CORE_READ(ancestor, group_leader, real_parent);
	}
	return 0;
}

/* How far ahead an end of the window is set. */
#define WINDOW_AHEAD_NS 1000000ULL

/* An iterator over a map of one element runs its program for the element, and then once for the end. */
SEC("?iter/bpf_map_elem")
int core__window_from__iter_open__drops(struct bpf_iter__bpf_map_elem *ctx)
{
	if (!window_from)
		window_from = bpf_ktime_get_boot_ns() + WINDOW_AHEAD_NS;
	return 0;
}

SEC("?iter/bpf_map_elem")
int core__window_until__iter_stop__drops(struct bpf_iter__bpf_map_elem *ctx)
{
	if (!window_until)
		window_until = bpf_ktime_get_boot_ns() + WINDOW_AHEAD_NS;
	return 0;
}

/* Children of a process that the filters follow are followed too. */
SEC("?tp_btf/sched_process_fork")
int BPF_PROG(core__follow_fork__tp_btf, struct task_struct *parent, struct task_struct *child)
{
	struct ebrec_task task;

	if (!filter_process || child->pid != child->tgid)
		return 0;
	put_task(&task, parent);
	struct identity key = {.start = task.start, .pid = task.pid};

	if (bpf_map_lookup_elem(&wanted, &key)) {
		put_task(&task, child);
		want(&task);
	}
	return 0;
}

/* A task is forgotten when the kernel frees it: until then it may still leave a CPU, or be reported to have ended. A process's
 * first thread goes last. That there is nothing to delete is as good. */
SEC("?tp_btf/sched_process_free")
int BPF_PROG(core__follow_end__tp_btf, struct task_struct *task)
{
	struct identity key = {.start = task->start_boottime, .pid = task->tgid};

	__u32 tid = task->pid;

	if (filter_process && task->pid == task->tgid)
		bpf_map_delete_elem(&wanted, &key);
	if (!has_task_storage()) {
		bpf_map_delete_elem(&syscall_tid_slots, &tid);
		bpf_map_delete_elem(&tid_slots, &tid);
	}
	return 0;
}

static __always_inline bool is_wanted_path(const char *path, __u32 wanted)
{
	for (__u32 i = 0; i < CGROUP_PATH_MOST / sizeof(__u64); i++) {
		if (((const __u64 *)path)[i] != ((const volatile __u64 *)cgroup_paths[wanted])[i])
			return false;
	}
	return true;
}

/* A wanted cgroup that is removed and made again has another id. */
SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(core__cgroup_again__tp_btf, struct cgroup *cgroup, const char *path)
{
	char name[CGROUP_PATH_MOST] __attribute__((aligned(8))) = {};

	/* Those of v1 have ids of their own. */
	if (!filter_cgroup || BPF_CORE_READ(cgroup, root, hierarchy_id))
		return 0;
	if (bpf_probe_read_kernel_str(name, sizeof(name), path) >= (long)sizeof(name))
		return 0;
	for (__u32 i = 0; i < 4; i++) {
		if (i < filter_cgroup && cgroup_paths[i][0] && is_wanted_path(name, i))
			cgroup_again[i] = BPF_CORE_READ(cgroup, kn, id);
	}
	return 0;
}

/* The handlers of system calls that the probes declare with ON_SYS_EXIT. */
#define HANDLERS(X)             \
	X(file__calls)          \
	X(file__vectors)        \
	X(file__opens)          \
	X(file__syncs)          \
	X(file__copies)         \
	X(file__truncates)      \
	X(open__calls)          \
	X(open__unlinks)        \
	X(page_cache__accesses) \
	X(process__exec_failed) \
	X(syscall__calls)       \
	X(tcp__accept)          \
	X(tcp__connect)

/* The bits of handlers that are given up while recording (--max-cpu); a map of its own, which the recorder sets whole. */
__u32 shed_handlers SEC(".data.shed") = 0;

/* Every system call of the host pays for these two, whatever it is: look at the number first. The recorder loads the first if
 * some handler is wanted, the second if one of these wants to know when calls began. Handlers are given opaque numbers: what one
 * finds out about them would hold for the caller's, too, and the verifier would follow the handlers behind it for each way through
 * it, 250,000 instructions instead of 106,000 on 6.18. */
static __always_inline int on_call_end(struct pt_regs *regs, long ret)
{
	long nr = syscall_nr_of(regs);
	__u32 wanting;
	__u64 entered;

	/* rt_sigreturn restores registers that no longer tell which call it was. */
	if (nr == -1)
		nr = syscall_in_progress();
	wanting = syscall_handlers_of(nr);

	if (!wanting || is_compat_call())
		return 0;
	wanting &= ~*(volatile __u32 *)&shed_handlers;
	entered = wanting & SYSCALL_TIMED ? syscall_entered(nr) : 0;
	/* Or the other program wasn't run for its beginning. What is refused returns an error, as a rule. */
	if (preempts_programs && entered == REFUSED && ret >= 0)
		entered = 0;
	/* A call from before the window has no beginning in it, and one from after its end isn't in it. */
	if (entered < window_from && entered != REFUSED)
		entered = 0;
	if (window_until && call_began(entered, bpf_ktime_get_boot_ns()) > window_until)
		return 0;
#define CALL(name)                                        \
	if (name##__bit && opaque(wanting) & name##__bit) \
		name##__handle(regs, opaque(nr), opaque(ret), opaque(entered));
	HANDLERS(CALL)
#undef CALL
	return 0;
}

static __always_inline int on_call_begin(long nr)
{
	__u32 wanting = syscall_handlers_of(nr);

	if (!(wanting & SYSCALL_TIMED) || is_compat_call())
		return 0;
	if (nr != NR_EXIT && nr != NR_EXIT_GROUP)
		syscall_enter(nr);
	else if (wanting & ~*(volatile __u32 *)&shed_handlers & syscall__calls__bit)
		syscall_never_returns(nr);
	return 0;
}

SEC("?tp_btf/sys_exit")
int BPF_PROG(core__syscalls__tp_btf__exit, struct pt_regs *regs, long ret)
{
	return on_call_end(regs, ret);
}

SEC("?tp_btf/sys_enter")
int BPF_PROG(core__syscalls__tp_btf__enter, struct pt_regs *regs, long nr)
{
	return on_call_begin(nr);
}

/* Since Linux 7 a task can be preempted in the middle of a tracepoint's program, and the kernel doesn't run a program on a CPU on
 * which it is being run (bpf_prog.active; __bpf_trace_run of kernel/trace/bpf_trace.c): the calls of all others there would be
 * missing for as long as that task waits. So there the two above are replaced by several of each, all attached: who finds that
 * those of the levels below didn't run for its call, because other tasks are in there, does it. Two tasks would have to wait in
 * there, and then three, before one is missing. Each is a program of its own, down to the functions that it calls: a program that
 * several others called (by bpf_tail_call) would be in the midst of itself, and the kernel may give it one stack per CPU. */
#define CALL_LEVELS 3

enum call_end {
	CALL_ENDS,
	CALL_BEGINS,
	CALL_END_COUNT,
};

struct call_levels {
	/* Who ran last at each; as long as somebody is in the midst of a level, it is them. The last level empties it, so that who
	 * is just about to write isn't taken for who was there before. */
	__u64 holder[CALL_LEVELS];
	/* Calls made for the first level. The recorder finds it by name, and what the first level missed beyond is lost. */
	__u64 taken;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CALL_END_COUNT);
	__type(key, __u32);
	__type(value, struct call_levels);
} call_levels SEC(".maps");

/* Whether a level below has been there for the same end of a call after all, and the task was preempted since: others have
 * overwritten the holder. */
static __always_inline bool is_call_known(enum call_end end, long nr)
{
	struct syscall_slot *slot;

	if (!(syscall_handlers_of(nr) & SYSCALL_TIMED))
		return false;
	slot = bpf_task_storage_get(&syscall_slots, bpf_get_current_task_btf(), NULL, 0);
	if (!slot)
		return false;
	return end == CALL_BEGINS ? slot->entered && slot->nr == (__u32)nr : slot->is_over;
}

static __always_inline bool is_turn_of(__u32 level, __u32 end, long nr)
{
	struct call_levels *levels = bpf_map_lookup_elem(&call_levels, &end);
	__u64 task = bpf_get_current_task();

	if (!levels)
		return false;
	for (__u32 i = 0; i < level; i++) {
		if (levels->holder[i] != task)
			continue;
		if (level == CALL_LEVELS - 1)
			levels->holder[i] = 0;
		return false;
	}
	levels->holder[level] = task;
	if (level) {
		if (is_call_known(end, nr))
			return false;
		/* What nobody wants, too: the kernel counts it as missed by the first. */
		__sync_fetch_and_add(&levels->taken, 1);
	}
	/* -1: see the first of the two programs. */
	return nr == -1 || syscall_handlers_of(nr);
}

#define CALL_LEVEL(level)                                                                 \
	SEC("?tp_btf/sys_exit")                                                           \
	int BPF_PROG(core__syscalls__tp_btf__exit##level, struct pt_regs *regs, long ret) \
	{                                                                                 \
		if (is_turn_of(level, CALL_ENDS, syscall_nr_of(regs)))                    \
			on_call_end(regs, ret);                                           \
		return 0;                                                                 \
	}                                                                                 \
	SEC("?tp_btf/sys_enter")                                                          \
	int BPF_PROG(core__syscalls__tp_btf__enter##level, struct pt_regs *regs, long nr) \
	{                                                                                 \
		if (is_turn_of(level, CALL_BEGINS, nr))                                   \
			on_call_begin(nr);                                                \
		return 0;                                                                 \
	}

CALL_LEVEL(0)
CALL_LEVEL(1)
CALL_LEVEL(2)
