/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Signals. */
#include "ebrec.h"

/* What stands for a siginfo that isn't there: sent by kill() or by the kernel without details (include/linux/sched/signal.h). */
#define SEND_SIG_NOINFO 0
#define SEND_SIG_PRIV 1
#define SI_USER 0
#define SI_KERNEL 0x80

static __always_inline int signal_code_of(struct kernel_siginfo *info)
{
	if ((__u64)info == SEND_SIG_NOINFO)
		return SI_USER;
	if ((__u64)info == SEND_SIG_PRIV)
		return SI_KERNEL;
	return BPF_CORE_READ(info, si_code);
}

/* Fires in send_signal, for each signal that anyone sends, whatever becomes of it. */
SEC("?tp_btf/signal_generate")
int BPF_PROG(signal__generate__tp_btf, int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	struct ebrec_task sender, target;
	struct ebrec_signal *event;

	put_task(&target, task);
	if (!wanted_current(&sender) && !is_wanted(&target, task))
		return 0;
	event = RECORD(signal, SIGNAL, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	put_if(&event->head.task, &sender, !is_self(sender.pid));
	put_if(&event->target, &target, !is_self(target.pid));
	event->signal = sig;
	event->name = sig;
	/* What a code above zero means depends on the signal. */
	event->code = sig << 16 | (__u16)signal_code_of(info);
	event->result = result;
	event->is_group = group != 0;
	event->pad = 0;
	submit(event);
	return 0;
}
