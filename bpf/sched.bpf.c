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

/* Without: by tid; core__follow_end removes those of threads that are no more. Of more tasks than there is room for, those that
 * have not run for longest are forgotten: their next switch has no times, as their first one has none; no row is missing for it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct sched_slot);
} tid_slots SEC(".maps");

/* What a CPU's end of the window is about. */
enum sched_last {
	LAST_UNKNOWN,
	LAST_SHOWN,
	LAST_NOT_SHOWN,
};

/* A CPU. Padded, so that CPUs don't share a line of the cache. */
struct sched_cpu {
	__u64 switched_at; /* when the running task got it; 0: before the programs were there */
	__u32 closed; /* the row about the window's end is written */
	__u32 has_last; /* enum sched_last */
	struct ebrec_task last; /* what ran when the window had just ended */
	struct ebrec_task idle; /* its idle task; no comm: not seen yet */
	__u64 pad[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct sched_cpu);
} sched_cpus SEC(".maps");

static __always_inline struct sched_slot *slot_of(struct task_struct *task, __u32 tid)
{
	struct sched_slot *slot, fresh = {};

	if (has_lock_free_task_storage()) {
		slot = bpf_task_storage_get(&task_slots, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	} else {
		slot = bpf_map_lookup_elem(&tid_slots, &tid);
		if (slot)
			return slot;
		bpf_map_update_elem(&tid_slots, &tid, &fresh, BPF_NOEXIST);
		slot = bpf_map_lookup_elem(&tid_slots, &tid);
	}
	if (!slot && window_from)
		count_drop(NO_TABLE, DROP_NO_STATE);
	return slot;
}

/* What a row says of its two tasks. */
struct sched_times {
	__u64 ran;
	__u64 waited;
	__u64 off_cpu;
};

static __always_inline void emit_switch(__u64 ts, const struct ebrec_task *prev, const struct ebrec_task *next,
					const struct sched_times *times, __u32 state, bool prev_is_wanted, bool next_is_wanted)
{
	struct ebrec_sched_switch *event = RECORD(sched_switch, SCHED_SWITCH, ts);

	if (!event)
		return;
	/* That the CPU was idle may be said; how long says nothing if filters leave out most of what runs. */
	put_if(&event->head.task, prev, prev_is_wanted || !prev->pid);
	put_if(&event->next, next, next_is_wanted || !next->pid);
	prev_is_wanted |= !prev->pid && !is_filtered();
	event->prev_ran_ns = prev_is_wanted ? times->ran : EBREC_NULL64;
	event->next_waited_ns = next_is_wanted ? times->waited : EBREC_NULL64;
	event->next_off_cpu_ns = next_is_wanted ? times->off_cpu : EBREC_NULL64;
	event->prev_state = prev_is_wanted ? state : EBREC_NULL32;
	event->pad = 0;
	submit(event);
}

/* The window has ended, and what ran on this CPU then is the task that leaves it now. */
static __always_inline void on_first_switch_after(struct sched_cpu *cpu, struct task_struct *prev, const struct ebrec_task *task)
{
	struct sched_times times = {.ran = window_until - begin_in_window(cpu->switched_at)};
	struct ebrec_task nobody;
	bool is_shown;

	if (cpu->closed)
		return;
	cpu->closed = 1;
	is_shown = is_wanted(task, prev);
	if (!is_shown && (task->pid || is_filtered()))
		return;
	put_unknown(&nobody);
	emit_switch(window_until, task, &nobody, &times, EBREC_NULL32, is_shown, false);
}

static __always_inline int on_switch(bool preempt, struct task_struct *prev, struct task_struct *next, __u32 prev_state)
{
	struct sched_times times = {.ran = EBREC_NULL64, .waited = EBREC_NULL64, .off_cpu = EBREC_NULL64};
	__u64 now = bpf_ktime_get_boot_ns();
	struct ebrec_task prev_task, next_task;
	bool prev_is_wanted, next_is_wanted;
	__u32 key = bpf_get_smp_processor_id();
	struct sched_cpu *cpu = bpf_map_lookup_elem(&sched_cpus, &key);
	struct sched_slot *slot;

	/* First, as there is one way here (see current_start). */
	put_task(&next_task, next);
	put_task(&prev_task, prev);
	if (window_until && now > window_until) {
		if (cpu)
			on_first_switch_after(cpu, prev, &prev_task);
		return 0;
	}
	if (cpu) {
		times.ran = now - begin_in_window(cpu->switched_at);
		cpu->switched_at = now;
	}
	if (preempt)
		prev_state = 0;
	if (prev->pid) {
		slot = slot_of(prev, prev->pid);
		if (slot) {
			slot->left_at = now;
			/* A task that leaves in state R wants to go on: it waits from now. */
			slot->queued_at = is_blocked(prev_state) ? 0 : now;
		}
	}
	if (next->pid) {
		slot = slot_of(next, next->pid);
		if (slot) {
			if (slot->queued_at)
				times.waited = now - slot->queued_at;
			if (slot->left_at)
				times.off_cpu = now - slot->left_at;
			slot->queued_at = 0;
		}
	}
	next_is_wanted = is_wanted(&next_task, next);
	prev_is_wanted = is_wanted(&prev_task, prev);
	if (cpu && !next_task.pid && !cpu->idle.comm[0])
		cpu->idle = next_task;
	if (prev_is_wanted || next_is_wanted)
		emit_switch(now, &prev_task, &next_task, &times, prev_state, prev_is_wanted, next_is_wanted);
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
	bool waker_is_wanted, wakee_is_wanted;

	put_task(&wakee_task, wakee);
	/* Nobody means to wake the recorder: its timers do, in whatever task runs. */
	if (is_self(wakee_task.pid))
		return 0;
	waker_is_wanted = wanted_current(&waker);
	wakee_is_wanted = is_wanted(&wakee_task, wakee);
	if (!waker_is_wanted && !wakee_is_wanted)
		return 0;
	event = RECORD(sched_wakeup, SCHED_WAKEUP, now);
	if (!event)
		return 0;
	put_if(&event->head.task, &waker, waker_is_wanted || !waker.pid);
	put_if(&event->wakee, &wakee_task, wakee_is_wanted);
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

/* An int, since 7.x a byte: libbpf makes a load of another length only of numbers without a sign. */
struct task_struct___on_cpu {
	unsigned int on_cpu;
} __attribute__((preserve_access_index));

/* What still runs at the end would have no time on its CPU, because it leaves it later or never. So for each CPU there is a row at
 * the window's end: written by the first switch after it, or, if there was none as long as the programs were attached, at the end
 * about the task that had the CPU meanwhile, which is looked for here. */
SEC("?iter/task")
int sched__still_running__iter_last(struct bpf_iter__task *ctx)
{
	struct task_struct___on_cpu *running = (void *)ctx->task;
	struct task_struct *task = ctx->task;
	struct sched_cpu *cpu;
	__u32 key;

	if (!task || !running->on_cpu)
		return 0;
	key = task_cpu_of(task);
	cpu = bpf_map_lookup_elem(&sched_cpus, &key);
	if (!cpu)
		return 0;
	put_task(&cpu->last, task);
	cpu->has_last = is_wanted(&cpu->last, task) ? LAST_SHOWN : LAST_NOT_SHOWN;
	return 0;
}

SEC("?iter/bpf_map_elem")
int sched__ran_to_the_end__iter_end__sched_cpus(struct bpf_iter__bpf_map_elem *ctx)
{
	struct ebrec_sched_switch row = {};
	struct sched_cpu *cpu = ctx->value;
	__u32 *key = ctx->key;

	if (!cpu || !key || cpu->closed || !window_until || cpu->has_last == LAST_NOT_SHOWN)
		return 0;
	if (cpu->has_last == LAST_UNKNOWN && (is_filtered() || !cpu->idle.comm[0]))
		return 0;
	row.head.ts = window_until;
	row.head.size = sizeof(row);
	row.head.cpu = *key;
	row.head.table = EBREC_SCHED_SWITCH;
	/* Nothing else runs there. */
	row.head.task = cpu->has_last == LAST_SHOWN ? cpu->last : cpu->idle;
	row.prev_ran_ns = window_until - begin_in_window(cpu->switched_at);
	row.prev_state = EBREC_NULL32;
	put_unknown(&row.next);
	row.next_waited_ns = EBREC_NULL64;
	row.next_off_cpu_ns = EBREC_NULL64;
	put_row(ctx->meta, &row, sizeof(row));
	return 0;
}
