/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What all probes share: knobs, filters, rings, the acting task.
 *
 * All *.bpf.c files are compiled as one unit, so there is one set of maps and of knobs. A program is named
 *
 *     PROBE__HOOK__MECHANISM[_Nargs][__PART]
 *
 * and that name is all the recorder knows of it. Per hook it takes the first mechanism, in the order of the file, whose target
 * the running kernel has, with N arguments if the name says so, and which loads and attaches. The programs that differ in PART
 * belong together; a part whose target the kernel lacks is left out, unless it is the first. The parts `first`, `spare` and
 * `spare_preempted` are those of ON_TP_TWICE. The mechanisms:
 * tp_btf, fexit, fentry, kprobe, sys_exit (a handler that is called at the end of some system calls, see syscalls.h; it costs all
 * calls of the host something, so it comes last), perf_event (perf's cpu-clock on each CPU,
 * --sample-hz times a second, or each time the software event that PART names), uprobe (PART is a function of C libraries, or
 * `return` for the return of each of them; the recorder finds the libraries while it records), uprobe_multi (the same with two
 * programs, PART is `entry` or `return`), and iterators, which are run at a moment: iter_before (before anything is attached, and
 * again after), iter_open (the window begins), iter_start (it has begun), iter_second (every second), iter_stop (the window ends),
 * iter_last (it has ended, the programs are still attached), iter_end (they are not). What iter_start, iter_second and iter_end
 * print are records like any other.
 */
#ifndef EBREC_H
#define EBREC_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include "core_fixes.h"
#include "events.h"

/* Names the tables that a hook feeds, separated by spaces, if it isn't all of its probe's: where the hook is missing, only answers
 * from these are touched. */
#define FEEDS(hook, tables) const volatile char hook##__feeds[] = tables

/* Names the hook of the same probe without which a hook is of no use. */
#define NEEDS(hook, other) const volatile char hook##__needs[] = other

/* The same number, of which the verifier knows nothing: it follows what comes behind once for each set of values that it knows, and
 * loading takes as long as that. */
#define opaque(number)                                    \
	({                                                \
		typeof(number) _number = (number);        \
		asm volatile("%0 &= -1" : "+r"(_number)); \
		_number;                                  \
	})

/* A pointer that the verifier knows, as a number of which it knows nothing: global functions take no others. To negate a pointer
 * gives a number (check_alu_op of kernel/bpf/verifier.c). */
static __always_inline __u64 number_of(const void *pointer)
{
	__u64 number = (__u64)pointer;

	asm volatile("%0 = -%0\n\t%0 = -%0" : "+r"(number));
	return number;
}

/* Knobs, set by the recorder before loading; it finds them by name. */

/* A task can be preempted in the midst of a program. */
const volatile __u32 preempts_programs = 0;
/* Rings in use minus one; their number is a power of two. */
const volatile __u32 ring_mask = 0;
/* Only processes in `wanted`: --pid and -- COMMAND, with descendants. */
const volatile __u32 filter_process = 0;
/* Only tasks whose name is in `wanted_comms`: --comm. */
const volatile __u32 filter_comm = 0;
/* How many of `cgroup_ids` are set: --cgroup, with the cgroups below. */
const volatile __u32 filter_cgroup = 0;
/* The wanted cgroups: id and depth below the root, or below the one that the recorder's cgroup namespace shows as its root. */
const volatile __u64 cgroup_ids[4] = {};
const volatile __u32 cgroup_levels[4] = {};
/* Their paths, filled up with NULs; empty if they are longer, or aren't what the kernel calls them (cgroup namespaces). */
#define CGROUP_PATH_MOST 256
const volatile char cgroup_paths[4][CGROUP_PATH_MOST] = {};
/* The ids under which they were made again, by a service's restart say; 0: they weren't. */
__u64 cgroup_again[4] = {};
/* The recorder's own cgroup: its depth as its namespace shows it. */
const volatile __u32 own_cgroup_depth = 0;
/* Record the recorder too. */
const volatile __u32 include_self = 0;

/* Bytes of a page. */
const volatile __u32 page_size = 4096;

/* The recorder's own process, as the kernel numbers it; set by core__self__iter_before. */
__u32 self_tgid = 0;

/* The depth of the root of its cgroup namespace; likewise. */
__u32 cgroup_root_level = 0;

/* The window, ns of CLOCK_BOOTTIME, 0 if it isn't there yet: from the instant at which all programs are attached and the rings are
 * read, to the one at which recording is stopped. Programs run before and after, and remember what they need all the time, but no
 * record says of anything that it happened outside. Set by core__window_from and core__window_until, to an instant that is still
 * ahead: so every program on every CPU knows it before it comes. */
__u64 window_from = 0;
__u64 window_until = 0;

static __always_inline bool in_window(__u64 ts)
{
	__u64 from = *(volatile __u64 *)&window_from, until = *(volatile __u64 *)&window_until;

	return from && ts >= from && (!until || ts <= until);
}

/* Whether the window has ended. Taking programs out takes its time: what happens meanwhile isn't in the window, so what was pending
 * at its end still is. */
static __always_inline bool window_is_over(void)
{
	__u64 until = *(volatile __u64 *)&window_until;

	return until && bpf_ktime_get_boot_ns() > until;
}

/* For rows that are made when the window is over. */
static __always_inline __u64 window_end(void)
{
	return window_until ?: bpf_ktime_get_boot_ns();
}

/* Where what began at THEN begins within the window; 0 stands for some time before. */
static __always_inline __u64 begin_in_window(__u64 then)
{
	return then > window_from ? then : window_from;
}

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* One ring for each CPU, up to 64; the recorder puts them in. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 64);
	__type(key, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/* Why a record was not recorded. */
enum drop_reason {
	DROP_RING_FULL,
	DROP_MAP_FULL,
	/* A child of a process that the filters follow, of which nothing is recorded. */
	DROP_NOT_FOLLOWED,
	/* No memory for what is remembered of a task: the row is there, but some of its times are null. */
	DROP_NO_STATE,
	/* A program whose libraries nobody looked at. */
	DROP_NOT_LOOKED_AT,
	DROP_REASONS,
};

/* Instead of a table: it concerns several. */
#define NO_TABLE EBREC_TABLES

struct drop_counts {
	__u64 count[EBREC_TABLES + 1][DROP_REASONS];
};

/* Records that were not recorded, by table and reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drop_counts);
} drops SEC(".maps");

struct identity {
	__u64 start; /* of the group leader */
	__u32 pid;
	__u32 pad;
};

/* Processes that --pid and -- COMMAND name, and their descendants; core__follow_end removes those that are no more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct identity);
	__type(value, __u8);
} wanted SEC(".maps");

/* The pids named on the command line, in the recorder's pid namespace, and as the kernel numbers them: 0 until they are found. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} seed_pids SEC(".maps");

/* The names given with --comm. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, char[16]);
	__type(value, __u8);
} wanted_comms SEC(".maps");

static __always_inline void count_drop(__u32 table, enum drop_reason reason)
{
	__u32 zero = 0;
	struct drop_counts *counts = bpf_map_lookup_elem(&drops, &zero);

	/* Atomic: an interrupt may count on the same CPU in between. */
	if (counts && table <= NO_TABLE)
		__sync_fetch_and_add(&counts->count[table][reason], 1);
}

/* A record is missing because there was no room to remember what it is about. What was lost before the window isn't missing. */
static __always_inline void count_full(__u32 table)
{
	if (window_from && !window_until)
		count_drop(table, DROP_MAP_FULL);
}

/* A count's next number, for those that count on the same CPU. An interrupt may do so in between, and kernels before 5.12 have no
 * atomic addition that tells the result. But who sees the count grow by one, and has added one meanwhile, made that number; who
 * doesn't tries again. 0: an interrupt came each time. */
static __always_inline __u64 next_number(__u64 *count)
{
	for (int i = 0; i < 4; i++) {
		__u64 before = *(volatile __u64 *)count, after;

		__sync_fetch_and_add(count, 1);
		after = *(volatile __u64 *)count;
		if (after == before + 1)
			return after;
	}
	return 0;
}

/* A record of SIZE bytes (a constant), its head's fixed fields filled in but for the task; NULL, and counted, if the ring is full.
 * For what stands behind a row, whenever that happened. */
static __always_inline void *reserve_any(__u32 table, __u32 size, __u64 now)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 shard = cpu & ring_mask;
	struct ebrec_head *head;
	void *ring;

	/* Nobody reads the rings yet. */
	if (!window_from)
		return NULL;
	ring = bpf_map_lookup_elem(&rings, &shard);
	head = ring ? bpf_ringbuf_reserve(ring, size, 0) : NULL;
	if (!head) {
		count_drop(table, DROP_RING_FULL);
		return NULL;
	}
	head->ts = now;
	head->size = size;
	head->cpu = cpu;
	head->table = table;
	return head;
}

/* The same for a row, whose `ts` is NOW; NULL if that isn't in the window. */
static __always_inline void *reserve(__u32 table, __u32 size, __u64 now)
{
	return in_window(now) ? reserve_any(table, size, now) : NULL;
}

/* No wake-up: the recorder looks at the rings by itself, so that the traced program doesn't pay for waking it. */
static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* The kernel doesn't run a program on a CPU on which it is being run (bpf_prog.active; __bpf_trace_run of
 * kernel/trace/bpf_trace.c): what an interrupt would tell it in between is missing or, since Linux 7, what other tasks would until
 * the one in the midst of it has the CPU again. Where that happens a hook has two programs: the second does what the first was not
 * run for. Between its first instruction and its last the first says that it is at work; an event that comes a few instructions
 * before or after is still lost, and counted. */
struct at_work {
	__u64 is;
	/* Events the second took. The recorder finds it by name: what the first missed beyond is lost. */
	__u64 taken;
};

#define TWICE(hook)                                      \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1);                  \
		__type(key, __u32);                      \
		__type(value, struct at_work);           \
	} hook##__at_work SEC(".maps")

static __always_inline struct at_work *at_work_of(void *map, bool matters)
{
	__u32 zero = 0;

	return matters ? bpf_map_lookup_elem(map, &zero) : NULL;
}

static __always_inline void at_work(struct at_work *at, bool is)
{
	/* clang would keep in mind whether it is NULL, apart from the pointer; the verifier doesn't know what has to do with which.
	 */
	barrier_var(at);
	if (at)
		*(volatile __u64 *)&at->is = is;
}

static __always_inline bool first_is_at_work(struct at_work *at)
{
	if (!at || !*(volatile __u64 *)&at->is)
		return false;
	__sync_fetch_and_add(&at->taken, 1);
	return true;
}

/* The two programs of a hook, which CALL. WHEN: `spare` if the tracepoint is reached by tasks and by interrupts, `spare_preempted`
 * if it is by tasks only, with preemption on: the second is then loaded where that matters. */
#define MATTERS_spare true
#define MATTERS_spare_preempted preempts_programs
#define ON_TP_TWICE(hook, mechanism, when, tracepoint, call, args...)               \
	SEC("?tp_btf/" tracepoint)                                                  \
	int BPF_PROG(hook##__##mechanism##__first, args)                            \
	{                                                                           \
		struct at_work *at = at_work_of(&hook##__at_work, MATTERS_##when);  \
                                                                                    \
		at_work(at, true);                                                  \
		call;                                                               \
		at_work(at, false);                                                 \
		return 0;                                                           \
	}                                                                           \
	SEC("?tp_btf/" tracepoint)                                                  \
	int BPF_PROG(hook##__##mechanism##__##when, args)                           \
	{                                                                           \
		if (first_is_at_work(at_work_of(&hook##__at_work, MATTERS_##when))) \
			call;                                                       \
		return 0;                                                           \
	}

#define RECORD(table, TABLE, now) ((struct ebrec_##table *)reserve(EBREC_##TABLE, sizeof(struct ebrec_##table), now))

/* What a task has of its own, without its process's start. */
static __always_inline void put_thread(struct ebrec_task *out, struct task_struct *task)
{
	out->pid = task->tgid;
	out->tid = task->pid;
	/* Two loads instead of sixteen. */
	((__u64 *)out->comm)[0] = ((__u64 *)task->comm)[0];
	((__u64 *)out->comm)[1] = ((__u64 *)task->comm)[1];
}

/* A task that the verifier knows as one (an argument of a tp_btf program): plain loads. */
static __always_inline void put_task(struct ebrec_task *out, struct task_struct *task)
{
	out->start = task->group_leader->start_boottime;
	put_thread(out, task);
}

/* When the current process began. A function of its own, verified once in each program, and without a pointer that is loaded from a
 * task: for each the kernel (6.18 is one) goes through the names of all its types up to four times (btf_nested_type_is_trusted of
 * kernel/bpf/btf.c), a millisecond each, in thirty programs. Most tasks are their process's first. */
__noinline __u64 current_start(void)
{
	struct task_struct *task;

	if (has_current_task_btf()) {
		task = bpf_get_current_task_btf();
		if (task->pid == task->tgid)
			return task->start_boottime;
	}
	return BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader, start_boottime);
}

static __always_inline void put_current(struct ebrec_task *out)
{
	__u64 id;

	out->start = current_start();
	if (has_current_task_btf()) {
		put_thread(out, bpf_get_current_task_btf());
		return;
	}
	id = bpf_get_current_pid_tgid();
	out->pid = id >> 32;
	out->tid = (__u32)id;
	bpf_get_current_comm(out->comm, sizeof(out->comm));
}

static __always_inline void put_unknown(struct ebrec_task *out)
{
	out->start = 0;
	out->pid = EBREC_NULL32;
	out->tid = EBREC_NULL32;
	((__u64 *)out->comm)[0] = 0;
	((__u64 *)out->comm)[1] = 0;
}

/* A task whose name the row may say, else nobody. */
static __always_inline void put_if(struct ebrec_task *out, const struct ebrec_task *task, bool shown)
{
	if (shown)
		*out = *task;
	else
		put_unknown(out);
}

static __always_inline bool in_wanted_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);

	for (__u32 i = 0; i < 4; i++) {
		if (i >= filter_cgroup)
			return false;
		__u32 level = cgroup_levels[i] + cgroup_root_level;
		__u64 id;

		if ((__u32)BPF_CORE_READ(cgroup, level) < level)
			continue;
		id = cgroup_ancestor_id(cgroup, level);
		if (id == cgroup_ids[i] || (id && id == *(volatile __u64 *)&cgroup_again[i]))
			return true;
	}
	return false;
}

static __always_inline bool is_self(__u32 pid)
{
	return pid == self_tgid && !include_self;
}

/* Eight bytes of a string, without those behind the first NUL; the first byte is the lowest. */
static __always_inline __u64 until_nul(__u64 bytes, __u64 *nul)
{
	/* The highest bit of each byte that is zero, and of some behind the first of them. */
	*nul = (bytes - 0x0101010101010101ULL) & ~bytes & 0x8080808080808080ULL;
	return bytes & ((*nul & -*nul) - 1);
}

/* Whether --comm names a task with this name. Before 5.17, when __set_task_comm of fs/exec.c began to pad it, the kernel leaves in
 * a name what stood behind its NUL before; a key of a map is compared whole. A function of its own, verified once. */
__noinline int is_wanted_comm(__u64 first, __u64 second)
{
	__u64 nul, name[2];

	name[0] = until_nul(first, &nul);
	if (nul)
		second = 0;
	name[1] = until_nul(second, &nul);
	return !!bpf_map_lookup_elem(&wanted_comms, name);
}

/* Whether the filters let a task through; its identity is filled in already. The idle task is nobody. */
static __always_inline bool is_wanted(const struct ebrec_task *id, struct task_struct *task)
{
	if (id->pid == 0 || is_self(id->pid))
		return false;
	if (filter_process) {
		struct identity key = {.start = id->start, .pid = id->pid};

		if (!bpf_map_lookup_elem(&wanted, &key))
			return false;
	}
	if (filter_comm && !is_wanted_comm(((__u64 *)id->comm)[0], ((__u64 *)id->comm)[1]))
		return false;
	if (filter_cgroup && !in_wanted_cgroup(task))
		return false;
	return true;
}

/* The task that runs now, if the filters let it through. */
static __always_inline bool wanted_current(struct ebrec_task *out)
{
	put_current(out);
	return is_wanted(out, filter_cgroup ? (struct task_struct *)bpf_get_current_task() : NULL);
}

static __always_inline void want(const struct ebrec_task *task)
{
	struct identity key = {.start = task->start, .pid = task->pid};
	__u8 yes = 1;

	if (bpf_map_update_elem(&wanted, &key, &yes, BPF_ANY))
		count_drop(NO_TABLE, DROP_NOT_FOLLOWED);
}

/* A state in which a task doesn't wait for a CPU. Beside those that ps has letters for, TASK_RTLOCK_WAIT and TASK_FROZEN, which
 * ps calls D (__task_state_index of include/linux/sched.h). */
static __always_inline bool is_blocked(__u32 state)
{
	return state & (0xff | 0x1000 | 0x8000);
}

static __always_inline bool is_filtered(void)
{
	return filter_process || filter_comm || filter_cgroup;
}

/* A row of an iterator. That there was no room for it needs no count: the kernel then takes back all that this call wrote, and
 * calls the program again for the same element, with room (bpf_seq_read of kernel/bpf/bpf_iter.c). But the program must not
 * remember that it told the element before it has: hence the result, 0 if there was room. */
static __always_inline long put_row(struct bpf_iter_meta *meta, const void *row, __u32 size)
{
	return bpf_seq_write(meta->seq, row, size);
}

#endif
