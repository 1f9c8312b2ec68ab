/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Context switches and wake-ups. */
#include "ebrec.h"

/* What is remembered of a task between its switches, ns of CLOCK_BOOTTIME, 0 for unknown. */
struct sched_slot {
	__u64 queued_at; /* became runnable */
	__u64 left_at; /* left a CPU */
};

/* With task storage that can be had here, a slot is one or two loads away and goes with its task. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sched_slot);
} task_slots SEC(".maps");

/* Without: by tid. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct sched_slot);
} tid_slots SEC(".maps");

/* When the running task got this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} switched_at SEC(".maps");

static __always_inline struct sched_slot *slot_of(struct task_struct *task, __u32 tid)
{
	struct sched_slot *slot, fresh = {};

	if (has_lock_free_task_storage())
		return bpf_task_storage_get(&task_slots, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	slot = bpf_map_lookup_elem(&tid_slots, &tid);
	if (slot)
		return slot;
	bpf_map_update_elem(&tid_slots, &tid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&tid_slots, &tid);
}

static __always_inline int on_switch(bool preempt, struct task_struct *prev, struct task_struct *next, __u32 prev_state)
{
	__u64 now = bpf_ktime_get_boot_ns(), ran = EBREC_NULL64, waited = EBREC_NULL64, off_cpu = EBREC_NULL64;
	struct ebrec_sched_switch *event;
	struct sched_slot *slot;
	struct ebrec_task next_task;
	__u32 zero = 0;
	__u64 *since = bpf_map_lookup_elem(&switched_at, &zero);

	if (since) {
		if (*since)
			ran = now - *since;
		*since = now;
	}
	if (preempt)
		prev_state = 0;
	if (prev->pid) {
		slot = slot_of(prev, prev->pid);
		if (slot) {
			slot->left_at = now;
			/* A task that leaves in state R wants to go on: it waits from now. */
			slot->queued_at = prev_state & 0xff ? 0 : now;
		}
	}
	if (next->pid) {
		slot = slot_of(next, next->pid);
		if (slot) {
			if (slot->queued_at)
				waited = now - slot->queued_at;
			if (slot->left_at)
				off_cpu = now - slot->left_at;
			slot->queued_at = 0;
		}
	}
	put_task(&next_task, next);
	if (!is_wanted(&next_task, next)) {
		struct ebrec_task prev_task;

		put_task(&prev_task, prev);
		if (!is_wanted(&prev_task, prev))
			return 0;
	}
	event = RECORD(sched_switch, SCHED_SWITCH, now);
	if (!event)
		return 0;
	put_task(&event->head.task, prev);
	event->next = next_task;
	event->prev_ran_ns = ran;
	event->next_waited_ns = waited;
	event->next_off_cpu_ns = off_cpu;
	event->prev_state = prev_state;
	event->pad = 0;
	submit(event);
	return 0;
}

/* Since 5.18 the state is an argument, because a waker may change the task's own meanwhile
 * (fa2c3254d7cf "sched/tracing: Don't re-read p->state when emitting sched_switch event"). */
SEC("?tp_btf/sched_switch")
int BPF_PROG(sched__switch__tp_btf_4args, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	return on_switch(preempt, prev, next, prev_state);
}

SEC("?tp_btf/sched_switch")
int BPF_PROG(sched__switch__tp_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return on_switch(preempt, prev, next, task_state_of(prev));
}

/* The moment from which a task waits for a CPU. */
static __always_inline int on_runnable(struct task_struct *task)
{
	struct sched_slot *slot = task->pid ? slot_of(task, task->pid) : NULL;

	if (slot)
		slot->queued_at = bpf_ktime_get_boot_ns();
	return 0;
}

static __always_inline int on_waking(struct task_struct *wakee, bool is_new)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct ebrec_sched_wakeup *event;
	struct ebrec_task wakee_task, waker;

	put_task(&wakee_task, wakee);
	if (!wanted_current(&waker) && !is_wanted(&wakee_task, wakee))
		return 0;
	event = RECORD(sched_wakeup, SCHED_WAKEUP, now);
	if (!event)
		return 0;
	event->head.task = waker;
	event->wakee = wakee_task;
	event->target_cpu = task_cpu_of(wakee);
	event->is_new = is_new;
	submit(event);
	return 0;
}

/* sched_wakeup may run on the wakee's CPU, in whatever task that has, so it tells the moment but not the waker. */
SEC("?tp_btf/sched_wakeup")
int BPF_PROG(sched__runnable__tp_btf, struct task_struct *task)
{
	return on_runnable(task);
}

/* sched_waking runs in the waker. */
SEC("?tp_btf/sched_waking")
int BPF_PROG(sched__wakeup__tp_btf, struct task_struct *task)
{
	return on_waking(task, false);
}

SEC("?tp_btf/sched_wakeup_new")
int BPF_PROG(sched__wakeup_new__tp_btf, struct task_struct *task)
{
	on_runnable(task);
	return on_waking(task, true);
}
