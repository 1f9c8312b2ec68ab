/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What recording itself needs: who the recorder is, and which processes the filters follow. */
#include "ebrec.h"

/* Runs before anything is attached. It tells the recorder's own pid as the kernel numbers it, whatever pid namespace the
 * recorder is in, and finds the processes that --pid names, with the descendants that they have by then. */
SEC("?iter/task")
int core__self__iter_before(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_struct *ancestor;
	struct ebrec_task id;

	self_tgid = bpf_get_current_pid_tgid() >> 32;
	if (!task || !filter_process)
		return 0;
	ancestor = task;
	for (int i = 0; i < 64; i++) {
		__u32 pid = BPF_CORE_READ(ancestor, tgid);

		if (pid == 0)
			break;
		if (bpf_map_lookup_elem(&seed_pids, &pid)) {
			put_task(&id, task);
			want(&id);
			break;
		}
		ancestor = BPF_CORE_READ(ancestor, group_leader, real_parent);
	}
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
