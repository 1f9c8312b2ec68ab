/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Kills by the out-of-memory killer. */
#include "ebrec.h"

#define OOM_SIGKILL 9
#define OOM_NO_SCORE ((__s32)0x80000000) /* null of the kind OomScore */
#define OOM_SEND_SIG_PRIV 1 /* include/linux/sched/signal.h */

/* A victim, as far as a record is about it. */
struct oom_victim {
	struct ebrec_task task;
	__u64 total_vm_bytes;
	__u64 rss_bytes[4]; /* by enum of include/linux/mm_types_task.h: file, anonymous, swap, shmem */
	__u64 cgroup_id;
	__u32 uid;
	__s32 oom_score_adj;
};

/* The search that a task in need makes. */
struct oom_search {
	__u64 allowed_bytes;
	__u64 limit_cgroup_id;
	__u32 constraint;
	__u32 pad;
};

/* Searches by the tid of the task in need. The kernel makes one search at a time (oom_lock), and this remembers the last of 256
 * tasks: what is forgotten is long over. The same holds for those below. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct oom_search);
} oom_searches SEC(".maps");

/* Tasks that the kernel killed last, by the tid of the task that was running. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct oom_victim);
} oom_killed SEC(".maps");

static __always_inline void put_victim(struct oom_victim *out, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);

	put_task(&out->task, task);
	out->total_vm_bytes = BPF_CORE_READ(mm, total_vm) * page_size;
	out->rss_bytes[0] = mm_pages(mm, 0) * page_size;
	out->rss_bytes[1] = mm_pages(mm, 1) * page_size;
	out->rss_bytes[3] = mm_pages(mm, 3) * page_size;
	out->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	out->uid = BPF_CORE_READ(task, cred, euid.val);
	out->oom_score_adj = BPF_CORE_READ(task, signal, oom_score_adj);
}

static __always_inline int on_victim(struct oom_victim *victim)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct oom_search *search = bpf_map_lookup_elem(&oom_searches, &tid);
	struct ebrec_oom_kill *event;
	struct ebrec_task needy;

	/* Which cgroup the victim is in is only looked at if it acts itself. */
	if (!wanted_current(&needy) && (filter_cgroup || !victim || !is_wanted(&victim->task, NULL)))
		return 0;
	/* The recorder is nobody, even if it is the one that is killed. */
	if (victim && is_self(victim->task.pid))
		victim = NULL;
	event = RECORD(oom_kill, OOM_KILL, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	put_if(&event->head.task, &needy, !is_self(needy.pid));
	if (victim) {
		event->victim = victim->task;
		event->total_vm_bytes = victim->total_vm_bytes;
		event->anon_rss_bytes = victim->rss_bytes[1];
		event->file_rss_bytes = victim->rss_bytes[0];
		event->shmem_rss_bytes = victim->rss_bytes[3];
		event->victim_cgroup_id = victim->cgroup_id;
		event->victim_uid = victim->uid;
		event->oom_score_adj = victim->oom_score_adj;
	} else {
		put_unknown(&event->victim);
		event->total_vm_bytes = EBREC_NULL64;
		event->anon_rss_bytes = EBREC_NULL64;
		event->file_rss_bytes = EBREC_NULL64;
		event->shmem_rss_bytes = EBREC_NULL64;
		event->victim_cgroup_id = EBREC_NULL64;
		event->victim_uid = EBREC_NULL32;
		event->oom_score_adj = OOM_NO_SCORE;
	}
	event->allowed_bytes = search ? search->allowed_bytes : EBREC_NULL64;
	event->limit_cgroup_id = search ? search->limit_cgroup_id : EBREC_NULL64;
	event->oom_constraint = search ? search->constraint : EBREC_NULL32;
	event->pad = 0;
	submit(event);
	return 0;
}

/* mark_victim tells the task since 6.9 and in later stable kernels (72ba14deb40a "mm: update mark_victim tracepoints fields"). */
SEC("?tp_btf/mark_victim")
int BPF_PROG(oom__kill__tp_btf_2args, struct task_struct *task, unsigned int uid)
{
	struct oom_victim victim = {};

	put_victim(&victim, task);
	return on_victim(&victim);
}

/* Before, it told a pid. The victim is then the task that the kernel has just killed, in the same task (__oom_kill_process), or the
 * task itself, if it was about to end anyway. */
SEC("?tp_btf/mark_victim")
int BPF_PROG(oom__kill__tp_btf_1args__mark, int pid)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct oom_victim *killed = bpf_map_lookup_elem(&oom_killed, &tid);

	return on_victim(killed && killed->task.tid == (__u32)pid ? killed : NULL);
}

SEC("?tp_btf/signal_generate")
int BPF_PROG(oom__kill__tp_btf_1args__killed, int sig, struct kernel_siginfo *info, struct task_struct *task)
{
	struct oom_victim victim = {};
	__u32 tid = bpf_get_current_pid_tgid();

	if (sig != OOM_SIGKILL || (__u64)info != OOM_SEND_SIG_PRIV)
		return 0;
	put_victim(&victim, task);
	bpf_map_update_elem(&oom_killed, &tid, &victim, BPF_ANY);
	return 0;
}

/* Why memory ran out is in the arguments of a function only. */
SEC("?fentry/oom_kill_process")
int BPF_PROG(oom__search__fentry, struct oom_control *control)
{
	struct mem_cgroup *memcg = BPF_CORE_READ(control, memcg);
	__u32 tid = bpf_get_current_pid_tgid();
	struct oom_search search = {
	    .allowed_bytes = BPF_CORE_READ(control, totalpages) * page_size,
	    .limit_cgroup_id = memcg ? BPF_CORE_READ(memcg, css.cgroup, kn, id) : EBREC_NULL64,
	    .constraint = BPF_CORE_READ(control, constraint),
	};

	bpf_map_update_elem(&oom_searches, &tid, &search, BPF_ANY);
	return 0;
}
