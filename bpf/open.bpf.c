/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Files that are opened, or fail to be. */
#include "files.h"

#define RESOLVE_IN_ROOT 0x10 /* include/uapi/linux/openat2.h */

/* include/uapi/linux/openat2.h */
struct open_how {
	__u64 flags;
	__u64 mode;
	__u64 resolve;
};

/* A call to open a file, whichever of the four it is. */
struct open_call {
	const char *path;
	__u64 entered;
	__u64 base;
	__u32 flags;
	__u32 mode;
	long ret;
	struct ebrec_task task;
};

/* A record with room for a path of ROOM bytes; goes on behind if the path may need more. */
#define OPEN_RECORD(ROOM)                                                                                        \
	do {                                                                                                     \
		struct {                                                                                         \
			struct ebrec_file_open open;                                                             \
			__u64 base;                                                                              \
			char path[ROOM];                                                                         \
		} *event = reserve(EBREC_FILE_OPEN, sizeof(*event), call->entered ? call->entered : now);        \
		long len;                                                                                        \
                                                                                                                 \
		if (!event)                                                                                      \
			return 0;                                                                                \
		len = bpf_probe_read_user_str(event->path, ROOM, call->path);                                    \
		if (len >= (ROOM) && (ROOM) < PATH_MAX) {                                                        \
			bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);                                            \
			break;                                                                                   \
		}                                                                                                \
		if (len < 0 || len > (ROOM)) {                                                                   \
			len = 0;                                                                                 \
		} else if (!len) {                                                                               \
			/* Empty: older kernels don't count the NUL then (strncpy_from_user_nofault of 5.10). */ \
			event->path[0] = 0;                                                                      \
			len = 1;                                                                                 \
		}                                                                                                \
		event->open.head.task = call->task;                                                              \
		event->open.head.size = sizeof(event->open) + sizeof(event->base) + len;                         \
		event->open.latency_ns = call->entered ? now - call->entered : EBREC_NULL64;                     \
		event->open.uid = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), cred, euid.val);   \
		event->open.flags = call->flags;                                                                 \
		event->open.mode = call->mode;                                                                   \
		event->open.fd = call->ret >= 0 ? call->ret : EBREC_NULL32;                                      \
		event->open.errno = errno_of(call->ret);                                                         \
		event->open.pad = 0;                                                                             \
		event->base = call->base;                                                                        \
		submit(event);                                                                                   \
		return 0;                                                                                        \
	} while (0)

static __always_inline int emit_open(struct open_call *call, __u64 now)
{
	OPEN_RECORD(256);
	OPEN_RECORD(PATH_MAX);
	return 0;
}

ON_SYS_EXIT(open__calls, TIMED, OPEN_CALLS)
{
	struct open_call call = {.entered = entered, .ret = ret, .mode = EBREC_NULL32};
	struct open_how how = {};
	int dirfd = AT_FDCWD;
	__u64 now;

	if (!wanted_current(&call.task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (nr == NR_OPENAT || nr == NR_OPENAT2) {
		dirfd = syscall_arg(regs, 1);
		call.path = (void *)syscall_arg(regs, 2);
	} else {
		call.path = (void *)syscall_arg(regs, 1);
	}
	if (nr == NR_OPENAT) {
		how.flags = syscall_arg(regs, 3);
		how.mode = syscall_arg(regs, 4);
	} else if (nr == NR_OPENAT2) {
		if (bpf_probe_read_user(&how, sizeof(how), (void *)syscall_arg(regs, 3)))
			how = (struct open_how){.flags = EBREC_NULL32, .mode = EBREC_NULL32};
#if defined(__TARGET_ARCH_x86)
	} else if (nr == NR_OPEN) {
		how.flags = syscall_arg(regs, 2);
		how.mode = syscall_arg(regs, 3);
	} else {
		/* open(2): creat() is open() with these flags. */
		how.flags = O_CREAT | O_WRONLY | O_TRUNC;
		how.mode = syscall_arg(regs, 2);
#endif
	}
	call.flags = how.flags;
	/* Without a file to make, the mode is whatever was in the register. */
	if (how.flags != EBREC_NULL32 && how.flags & (O_CREAT | __O_TMPFILE))
		call.mode = how.mode & 07777;
	call.base = file_base(call.path, dirfd, how.resolve & RESOLVE_IN_ROOT, now);
	return emit_open(&call, now);
}
