/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Life of processes and threads. */
#include "pid_ns.h"
#include "syscalls.h"

FEEDS(process__exec_failed, "process_exec");

static __always_inline int on_fork(struct task_struct *parent, struct task_struct *child)
{
	struct ebrec_process_fork *event;
	struct ebrec_task task;

	put_task(&task, parent);
	if (!is_wanted(&task, parent))
		return 0;
	event = RECORD(process_fork, PROCESS_FORK, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	event->head.task = task;
	put_task(&event->child, child);
	event->is_thread = child->pid != child->tgid;
	event->pad = 0;
	submit(event);
	return 0;
}

FEEDS(process__fork, "process_fork");
TWICE(process__fork);
ON_TP_TWICE(process__fork, tp_btf, spare_preempted, "sched_process_fork", on_fork(parent, child), struct task_struct *parent,
	    struct task_struct *child)

/* The effective user that called for the program FILE, whose credentials are in place by now. If it is a setuid program, they are
 * its owner's; the real user is still the caller's (execve(2)). */
static __always_inline __u32 caller_of(struct task_struct *task, struct file *file)
{
	__u32 user = BPF_CORE_READ(task, cred, euid.val);
	struct inode *inode;

	if (!file)
		return user;
	inode = BPF_CORE_READ(file, f_inode);
	if (BPF_CORE_READ(inode, i_mode) & S_ISUID && BPF_CORE_READ(inode, i_uid.val) == user)
		return BPF_CORE_READ(task, cred, uid.val);
	return user;
}

/* FILE is what was executed, NULL if that failed: then nothing has changed. */
static __always_inline void put_exec(struct ebrec_process_exec *event, struct ebrec_task *caller, struct file *file, int ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	event->head.task = *caller;
	event->cgroup_id = bpf_get_current_cgroup_id();
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->uid = caller_of(task, file);
	event->ret = ret;
	event->args_truncated = 0;
}

/* Long argument lists are recorded whole as long as they are few: a loop of execs, which anybody may run, could else fill the rings
 * and the recorder's time with them. Every CPU may record so many bytes of them at once, and so many more a second; of what is
 * beyond, the first ARGS_SHORT bytes are recorded. */
#define ARGS_SHORT 768
#define ARGS_AT_ONCE (2u << 20)
#define ARGS_PER_SECOND (1u << 20)

struct args_budget {
	__u64 left; /* bytes */
	__u64 at; /* when that was, ns; 0: not yet */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct args_budget);
} args_left SEC(".maps");

/* How much of LEN bytes of arguments to record. Only exec changes the budget, so no interrupt comes in between; if another task
 * does, a few bytes more or less are no harm. */
static __always_inline long args_allowed(long len, __u64 now)
{
	struct args_budget *budget;
	__u32 zero = 0;

	if (len <= ARGS_SHORT)
		return len;
	budget = bpf_map_lookup_elem(&args_left, &zero);
	if (!budget)
		return ARGS_SHORT;
	if (!budget->at || budget->left + (now - budget->at) / (1000000000 / ARGS_PER_SECOND) > ARGS_AT_ONCE)
		budget->left = ARGS_AT_ONCE;
	else
		budget->left += (now - budget->at) / (1000000000 / ARGS_PER_SECOND);
	budget->at = now;
	if (budget->left < (__u64)len)
		return ARGS_SHORT;
	budget->left -= len;
	return len;
}

/* A record with room for a name and ARGS bytes of arguments. The ring takes constant sizes only, so there are three. */
#define EXEC_RECORD(NAME_MAX, ARGS_MAX)                                                                  \
	do {                                                                                             \
		struct {                                                                                 \
			struct ebrec_process_exec exec;                                                  \
			char tail[(NAME_MAX) + (ARGS_MAX)];                                              \
		} *event = reserve(EBREC_PROCESS_EXEC, sizeof(*event), now);                             \
		long name_len, args_len = allowed;                                                       \
		if (!event)                                                                              \
			return 0;                                                                        \
		put_exec(&event->exec, &caller, file, 0);                                                \
		event->exec.args_truncated = allowed < len;                                              \
		name_len = bpf_probe_read_kernel_str(event->tail, NAME_MAX, filename);                   \
		if (name_len <= 0 || name_len > (NAME_MAX)) {                                            \
			event->tail[0] = 0;                                                              \
			name_len = 1;                                                                    \
		}                                                                                        \
		if (args_len > (ARGS_MAX)) {                                                             \
			args_len = ARGS_MAX;                                                             \
			event->exec.args_truncated = 1;                                                  \
		}                                                                                        \
		if (args_len < 0 || bpf_probe_read_user(event->tail + name_len, args_len, (void *)args)) \
			args_len = 0;                                                                    \
		event->exec.head.size = sizeof(event->exec) + name_len + args_len;                       \
		submit(event);                                                                           \
		return 0;                                                                                \
	} while (0)

/* The new program's memory has the arguments in one piece, and just written: they can't be missing. */
static __always_inline int on_exec(struct task_struct *task, struct linux_binprm *bprm)
{
	__u64 now = bpf_ktime_get_boot_ns();
	unsigned long args = BPF_CORE_READ(task, mm, arg_start);
	long len = BPF_CORE_READ(task, mm, arg_end) - args;
	const char *filename = BPF_CORE_READ(bprm, filename);
	struct file *file = BPF_CORE_READ(bprm, file);
	struct ebrec_task caller;
	long allowed;

	put_task(&caller, task);
	if (!is_wanted(&caller, task))
		return 0;
	allowed = args_allowed(len, now);
	/* A name is short if the byte at the end of a short buffer isn't needed. */
	char name[256];
	long name_len = bpf_probe_read_kernel_str(name, sizeof(name), filename);

	if (name_len < (long)sizeof(name) && allowed <= ARGS_SHORT)
		EXEC_RECORD(256, ARGS_SHORT);
	if (allowed <= 4096)
		EXEC_RECORD(4096, 4096);
	EXEC_RECORD(4096, 61440);
}

FEEDS(process__exec, "process_exec");
TWICE(process__exec);
ON_TP_TWICE(process__exec, tp_btf, spare_preempted, "sched_process_exec", on_exec(task, bprm), struct task_struct *task,
	    int old_pid, struct linux_binprm *bprm)

#define FAILED_ARGS_MAX 8192
#define FAILED_ARG_MAX 1024
#define FAILED_ARGS 64

/* A failed call left the caller's memory as it was, so its arguments can still be read where they are. */
static __always_inline int on_exec_failed(const char *user_filename, const char *const *user_argv, long ret)
{
	struct {
		struct ebrec_process_exec exec;
		char tail[FAILED_ARGS_MAX];
	} * event;
	struct ebrec_task caller;
	const char *arg = NULL;
	long len, at;
	int i;

	if (ret >= 0 || !wanted_current(&caller))
		return 0;
	event = reserve(EBREC_PROCESS_EXEC, sizeof(*event), bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	put_exec(&event->exec, &caller, NULL, ret);
	at = bpf_probe_read_user_str(event->tail, 4096, user_filename);
	if (at <= 0 || at > 4096) {
		event->tail[0] = 0;
		at = 1;
	}
	for (i = 0; i < FAILED_ARGS; i++) {
		if (bpf_probe_read_user(&arg, sizeof(arg), user_argv + i) || !arg)
			break;
		/* Room for one more; that there was no room is told below. */
		if (at > FAILED_ARGS_MAX - FAILED_ARG_MAX)
			break;
		len = bpf_probe_read_user_str(event->tail + at, FAILED_ARG_MAX, arg);
		if (len <= 0 || len > FAILED_ARG_MAX)
			break;
		/* One that fills its room was cut. Without a branch, which would double the verifier's work with every turn. */
		event->exec.args_truncated |= (__u64)len / FAILED_ARG_MAX;
		at += len;
		arg = NULL;
	}
	event->exec.args_truncated |= !!arg;
	event->exec.head.size = sizeof(event->exec) + at;
	submit(event);
	return 0;
}

#if defined(__TARGET_ARCH_x86)
#define SYSCALL(name) "__x64_sys_" name
#elif defined(__TARGET_ARCH_arm64)
#define SYSCALL(name) "__arm64_sys_" name
#endif

SEC("?fexit/" SYSCALL("execve"))
int BPF_PROG(process__exec_failed__fexit__execve, struct pt_regs *regs, long ret)
{
	return on_exec_failed((void *)PT_REGS_PARM1_CORE_SYSCALL(regs), (void *)PT_REGS_PARM2_CORE_SYSCALL(regs), ret);
}

SEC("?fexit/" SYSCALL("execveat"))
int BPF_PROG(process__exec_failed__fexit__execveat, struct pt_regs *regs, long ret)
{
	return on_exec_failed((void *)PT_REGS_PARM2_CORE_SYSCALL(regs), (void *)PT_REGS_PARM3_CORE_SYSCALL(regs), ret);
}

ON_SYS_EXIT(process__exec_failed, UNTIMED, NR_EXECVE, NR_EXECVEAT)
{
	bool at = nr == NR_EXECVEAT;
	unsigned long filename = at ? syscall_arg(regs, 2) : syscall_arg(regs, 1);
	unsigned long argv = at ? syscall_arg(regs, 3) : syscall_arg(regs, 2);

	return on_exec_failed((void *)filename, (void *)argv, ret);
}

/* Processes whose end was reported. Where the kernel doesn't tell which task is the last, two that end at the same time
 * may both see that no other is alive. It costs nothing to forget those before the last 4096 that ended: their threads are gone. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct identity);
	__type(value, __u8);
} ended SEC(".maps");

#define EEXIST 17

static __always_inline int on_exit(struct task_struct *task, bool last)
{
	struct ebrec_process_exit *event;
	__u64 now = bpf_ktime_get_boot_ns();
	struct ebrec_task id;
	__u32 code;

	put_task(&id, task);
	if (!is_wanted(&id, task))
		return 0;
	event = RECORD(process_exit, PROCESS_EXIT, now);
	if (!event)
		return 0;
	event->head.task = id;
	/* What wait() reports: the group's code if one was set (exit_group, a fatal signal; since 6.0 by the last task's exit too,
	 * d80f7d7b2c75 "signal: Guarantee that SIGNAL_GROUP_EXIT is set on process exit"), else the leader's. */
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		code = BPF_CORE_READ(task, signal, group_exit_code);
	else
		code = last ? BPF_CORE_READ(task, group_leader, exit_code) : task->exit_code;
	event->lifetime_ns = now - (last ? id.start : task->start_boottime);
	event->ppid = BPF_CORE_READ(task, real_parent, tgid);
	event->signal = code & 0x7f ? code & 0x7f : EBREC_NULL32;
	event->exit_code = code & 0x7f ? EBREC_NULL32 : (code >> 8) & 0xff;
	event->core_dumped = !!(code & 0x80);
	event->is_thread = !last;
	event->pad = 0;
	submit(event);
	return 0;
}

FEEDS(process__exit, "process_exit");
TWICE(process__exit);
/* Since 6.16 the tracepoint tells whether the whole process is dead. */
ON_TP_TWICE(process__exit, tp_btf_2args, spare_preempted, "sched_process_exit", on_exit(task, group_dead), struct task_struct *task,
	    bool group_dead)

SEC("?tp_btf/sched_process_exit")
int BPF_PROG(process__exit__tp_btf, struct task_struct *task)
{
	struct identity key = {.start = BPF_CORE_READ(task, group_leader, start_boottime), .pid = task->tgid};
	bool last = BPF_CORE_READ(task, signal, live.counter) == 0;
	__u8 yes = 1;

	if (last && bpf_map_update_elem(&ended, &key, &yes, BPF_NOEXIST) == -EEXIST)
		last = false;
	return on_exit(task, last);
}

/* The tasks that exist at the start. */
SEC("?iter/task")
int process__snapshot__iter_start(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct ebrec_process row = {};

	if (!task)
		return 0;
	put_task(&row.head.task, task);
	if (!is_wanted(&row.head.task, task))
		return 0;
	row.head.ts = bpf_ktime_get_boot_ns();
	row.head.size = sizeof(row);
	row.head.cpu = bpf_get_smp_processor_id();
	row.head.table = EBREC_PROCESS;
	row.started_ts = row.head.task.start;
	row.cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	row.ppid = BPF_CORE_READ(task, real_parent, tgid);
	row.uid = BPF_CORE_READ(task, cred, euid.val);
	row.is_thread = task->pid != task->tgid;
	row.is_kernel = !!(task->flags & PF_KTHREAD);
	row.proc = pid_in_proc(task);
	put_row(ctx->meta, &row, sizeof(row));
	return 0;
}

FEEDS(process__cgroups, "cgroup");

/* A record of a cgroup with room for a path of ROOM bytes; goes on behind if it may need more. */
#define CGROUP_RECORD(ROOM)                                                                             \
	do {                                                                                            \
		struct {                                                                                \
			struct ebrec_cgroup row;                                                        \
			char path[ROOM];                                                                \
		} *event = reserve(EBREC_CGROUP, sizeof(*event), bpf_ktime_get_boot_ns());              \
		long len;                                                                               \
                                                                                                        \
		if (!event)                                                                             \
			return 0;                                                                       \
		len = bpf_probe_read_kernel_str(event->path, ROOM, path);                               \
		if (len >= (ROOM) && (ROOM) < PATH_MAX) {                                               \
			bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);                                   \
			break;                                                                          \
		}                                                                                       \
		put_if(&event->row.head.task, &maker, is_shown);                                        \
		event->row.cgroup_id = BPF_CORE_READ(cgroup, kn, id);                                   \
		event->row.head.size = sizeof(event->row) + (len < 0 || len > (ROOM) ? 0 : (__u32)len); \
		submit(event);                                                                          \
		return 0;                                                                               \
	} while (0)

/* Whoever made it: its processes are what the filters are about. */
SEC("?tp_btf/cgroup_mkdir")
int BPF_PROG(process__cgroups__tp_btf, struct cgroup *cgroup, const char *path)
{
	struct ebrec_task maker;
	bool is_shown = wanted_current(&maker);

	/* Those of v1 have ids of their own. */
	if (BPF_CORE_READ(cgroup, root, hierarchy_id))
		return 0;
	CGROUP_RECORD(256);
	CGROUP_RECORD(PATH_MAX);
	return 0;
}
