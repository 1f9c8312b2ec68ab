/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Page faults that had to wait for a disk. */
#include "ebrec.h"

/* struct bpf_perf_event_data of include/uapi/linux/bpf_perf_event.h. Its offsets are fixed: the verifier knows this context, no
 * BTF. */
struct fault_event {
#if defined(__TARGET_ARCH_x86)
#define FAULT_IP 16
	unsigned long regs[21];
#elif defined(__TARGET_ARCH_arm64)
#define FAULT_IP 32
	unsigned long regs[34];
#endif
	__u64 sample_period;
	__u64 address;
};

/* PART names the software event: it is counted by mm_account_fault, like ru_majflt of getrusage(2), in the task that faulted. */
SEC("?perf_event")
int fault__major__perf_event__major_faults(struct fault_event *ctx)
{
	struct ebrec_major_fault *event;
	struct ebrec_task task;

	if (!wanted_current(&task))
		return 0;
	event = RECORD(major_fault, MAJOR_FAULT, bpf_ktime_get_boot_ns());
	if (!event)
		return 0;
	event->head.task = task;
	event->address = ctx->address;
	event->ip = ctx->regs[FAULT_IP];
	submit(event);
	return 0;
}
