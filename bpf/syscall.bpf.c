/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* System calls. */
#include "syscalls.h"

#define SYSCALL_NOT_RETURNED ((__s64)(1ULL << 63)) /* null of the kind Ret64 */

static __always_inline void put_syscall(struct ebrec_syscall *event, long nr, __s64 ret, __u64 latency, enum outcome outcome)
{
	event->latency_ns = latency;
	event->ret = ret;
	event->call = nr;
	event->outcome = outcome;
}

static __always_inline int emit_syscall(__u64 ts, long nr, __s64 ret, __u64 latency, enum outcome outcome)
{
	struct ebrec_syscall *event;
	struct ebrec_task caller;

	if (!wanted_current(&caller))
		return 0;
	event = RECORD(syscall, SYSCALL, ts);
	if (!event)
		return 0;
	event->head.task = caller;
	put_syscall(event, nr, ret, latency, outcome);
	submit(event);
	return 0;
}

ON_SYS_EXIT(syscall__calls, TIMED, ALL_SYSCALLS)
{
	__u64 now;

	if (!window_from)
		return 0;
	/* The child's return from the call that made it: nobody called. */
	if (entered <= REFUSED && !ret && (nr == NR_CLONE || nr == NR_CLONE3 || nr == NR_FORK || nr == NR_VFORK))
		return 0;
	now = bpf_ktime_get_boot_ns();
	return emit_syscall(call_began(entered, now), nr, ret, call_took(entered, now), call_outcome(entered, ret));
}

/* A call that doesn't return; from the dispatcher's beginning of calls. */
static __noinline int syscall_never_returns(long nr)
{
	return emit_syscall(bpf_ktime_get_boot_ns(), nr, SYSCALL_NOT_RETURNED, EBREC_NULL64, OUTCOME_SUCCEEDED);
}

/* The calls that have not returned. */
SEC("?iter/task")
int syscall__unreturned__iter_end(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct ebrec_syscall row = {};
	struct syscall_slot *slot;

	if (!task || task->flags & PF_KTHREAD)
		return 0;
	if (has_task_storage()) {
		slot = bpf_task_storage_get(&syscall_slots, task, NULL, 0);
	} else {
		__u32 tid = task->pid;

		slot = bpf_map_lookup_elem(&syscall_tid_slots, &tid);
	}
	if (!slot || !in_window(slot->entered) || !(syscall_handlers_of(slot->nr) & syscall__calls__bit))
		return 0;
	put_task(&row.head.task, task);
	if (!is_wanted(&row.head.task, task))
		return 0;
	row.head.ts = slot->entered;
	row.head.size = sizeof(row);
	row.head.cpu = task_cpu_of(task);
	row.head.table = EBREC_SYSCALL;
	put_syscall(&row, slot->nr, SYSCALL_NOT_RETURNED, EBREC_NULL64, OUTCOME_PENDING);
	put_row(ctx->meta, &row, sizeof(row));
	return 0;
}
