/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The recorder's namespaces. The kernel numbers processes from the first pid namespace, and so do all tables; a recorder in another
 * one (a container) is given, and finds in its /proc, the pids of that. Likewise the depth of a cgroup. */
#ifndef EBREC_PID_NS_H
#define EBREC_PID_NS_H

#include "ebrec.h"

/* By how many pid namespaces /proc is above the recorder's own, 0 if it shows that one itself; NO_PROC if it doesn't show the
 * recorder, and so nobody that can be found there by a pid. */
#define NO_PROC 0xffffffff
const volatile __u32 proc_above = 0;

/* A pid namespace: its address, which is only compared, and its depth below the first. */
struct pid_ns_at {
	__u64 ns;
	__u32 level;
	__u32 pad;
};

/* The recorder's, and that of its /proc; set by core__self__iter_before. */
struct pid_ns_at own_pid_ns = {};
struct pid_ns_at proc_pid_ns = {};

static __always_inline bool read_upid(struct pid *pid, __u32 level, __u32 *nr, __u64 *ns)
{
	void *at = (void *)pid + bpf_core_field_offset(pid->numbers) + level * bpf_core_type_size(struct upid);
	struct upid *upid = at;

	return !bpf_probe_read_kernel(nr, sizeof(*nr), at + bpf_core_field_offset(upid->nr)) &&
	       !bpf_probe_read_kernel(ns, sizeof(*ns), at + bpf_core_field_offset(upid->ns));
}

/* What the process of TASK is called in a namespace; 0 if it isn't in it, or is gone. */
static __always_inline __u32 pid_in(const struct pid_ns_at *where, struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	__u32 level = where->level, nr = 0;
	__u64 ns = 0;

	if (!pid || BPF_CORE_READ(pid, level) < level || !read_upid(pid, level, &nr, &ns) || !ns || ns != where->ns)
		return 0;
	return nr;
}

/* Under which number /proc, as the recorder has it, shows the process of TASK; 0 if it doesn't. */
static __always_inline __u32 pid_in_proc(struct task_struct *task)
{
	if (proc_above == NO_PROC)
		return 0;
	if (!proc_pid_ns.level)
		return BPF_CORE_READ(task, tgid);
	return pid_in(&proc_pid_ns, task);
}

/* Finds the namespaces of the recorder, in whose context this runs. */
static __always_inline void find_own_namespaces(void)
{
	struct task_struct *self = (void *)bpf_get_current_task();
	struct pid *pid = BPF_CORE_READ(self, group_leader, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level), nr;

	own_pid_ns.level = level;
	read_upid(pid, level, &nr, &own_pid_ns.ns);
	if (proc_above > level)
		return;
	level -= proc_above;
	proc_pid_ns.level = level;
	read_upid(pid, level, &nr, &proc_pid_ns.ns);
}

#endif
