/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What all probes share: knobs, filters, rings, the acting task.
 *
 * All *.bpf.c files are compiled as one unit, so there is one set of maps and of knobs. A program is named
 *
 *     PROBE__HOOK__MECHANISM[_Nargs][__PART]
 *
 * and that name is all the recorder knows of it. Per hook it takes the first mechanism, in the order of the file, whose target
 * the running kernel has, with N arguments if the name says so, and which loads and attaches. The programs that differ in PART
 * belong together; a part whose target the kernel lacks is left out, unless it is the first. The mechanisms:
 * tp_btf, fexit, fentry, kprobe, sys_exit (a handler that is called at the end of some system calls, see syscalls.h; it costs all
 * calls of the host something, so it comes last), perf_event (perf's cpu-clock on each CPU,
 * --sample-hz times a second, or each time the software event that PART names), uprobe (PART is a function of C libraries, or
 * `return` for the return of each of them; the recorder finds the libraries while it records), uprobe_multi (the same with two
 * programs, PART is `entry` or `return`), and iter_before, iter_start, iter_second, iter_stop, iter_end: iterators that are run
 * once before anything is attached, when all is attached, every second, before all is detached, and after; what they print, but for
 * iter_stop, are records like any other.
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

/* Knobs, set by the recorder before loading; it finds them by name. */

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

/* The window, ns of CLOCK_BOOTTIME, 0 if it isn't there yet: from all programs being attached to the first being detached. For what
 * goes on at its edges; a program runs a little longer. Set by core__window_from and core__window_until. */
__u64 window_from = 0;
__u64 window_until = 0;

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
	DROP_REASONS,
};

struct drop_counts {
	__u64 count[EBREC_TABLES][DROP_REASONS];
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

/* Processes that --pid and -- COMMAND name, and their descendants. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
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

	if (counts && table < EBREC_TABLES)
		counts->count[table][reason]++;
}

/* A record of SIZE bytes (a constant), its head's fixed fields filled in but for the task; NULL, and counted, if the ring is full.
 */
static __always_inline void *reserve(__u32 table, __u32 size, __u64 now)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 shard = cpu & ring_mask;
	struct ebrec_head *head;
	void *ring;

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

/* No wake-up: the recorder looks at the rings by itself, so that the traced program doesn't pay for waking it. */
static __always_inline void submit(void *record)
{
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

#define RECORD(table, TABLE, now) ((struct ebrec_##table *)reserve(EBREC_##TABLE, sizeof(struct ebrec_##table), now))

/* A task that the verifier knows as one (an argument of a tp_btf program): plain loads. */
static __always_inline void put_task(struct ebrec_task *out, struct task_struct *task)
{
	out->start = task->group_leader->start_boottime;
	out->pid = task->tgid;
	out->tid = task->pid;
	/* Two loads instead of sixteen. */
	((__u64 *)out->comm)[0] = ((__u64 *)task->comm)[0];
	((__u64 *)out->comm)[1] = ((__u64 *)task->comm)[1];
}

static __always_inline void put_current(struct ebrec_task *out)
{
	if (has_current_task_btf()) {
		put_task(out, bpf_get_current_task_btf());
		return;
	}
	__u64 id = bpf_get_current_pid_tgid();
	struct task_struct *task = (void *)bpf_get_current_task();

	out->start = BPF_CORE_READ(task, group_leader, start_boottime);
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

static __always_inline bool in_wanted_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);

	for (__u32 i = 0; i < 4; i++) {
		if (i >= filter_cgroup)
			return false;
		__u32 level = cgroup_levels[i] + cgroup_root_level;

		if ((__u32)BPF_CORE_READ(cgroup, level) >= level && cgroup_ancestor_id(cgroup, level) == cgroup_ids[i])
			return true;
	}
	return false;
}

/* Whether the filters let a task through; its identity is filled in already. The idle task is nobody. */
static __always_inline bool is_wanted(const struct ebrec_task *id, struct task_struct *task)
{
	if (id->pid == 0 || (id->pid == self_tgid && !include_self))
		return false;
	if (filter_process) {
		struct identity key = {.start = id->start, .pid = id->pid};

		if (!bpf_map_lookup_elem(&wanted, &key))
			return false;
	}
	if (filter_comm && !bpf_map_lookup_elem(&wanted_comms, id->comm))
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

	bpf_map_update_elem(&wanted, &key, &yes, BPF_ANY);
}

static __always_inline bool is_filtered(void)
{
	return filter_process || filter_comm || filter_cgroup;
}

#endif
