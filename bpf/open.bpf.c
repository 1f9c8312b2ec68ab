/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Files that are opened, or fail to be, and names that are removed. */
#include "files.h"

FEEDS(open__calls, "file_open");
FEEDS(open__unlinks, "file_unlink");

#if defined(__TARGET_ARCH_x86)
#define UNLINK_CALLS NR_UNLINK, NR_UNLINKAT
#else
#define UNLINK_CALLS NR_UNLINKAT
#endif

#define RESOLVE_IN_ROOT 0x10 /* include/uapi/linux/openat2.h */

/* include/uapi/linux/openat2.h */
struct open_how {
	__u64 flags;
	__u64 mode;
	__u64 resolve;
};

/* A call that names a file, as its record tells it. */
struct path_call {
	const char *path;
	__u64 entered;
	__u64 base;
	long ret;
	struct ebrec_task task;
};

/* A record KIND of TABLE with room for a path of ROOM bytes, whose own columns FILL sets; goes on behind if the path may need more.
 */
#define PATH_RECORD(kind, TABLE, ROOM, FILL...)                                                                  \
	do {                                                                                                     \
		struct {                                                                                         \
			struct ebrec_##kind row;                                                                 \
			__u64 base;                                                                              \
			char path[ROOM];                                                                         \
		} *event = reserve(EBREC_##TABLE, sizeof(*event), call_began(call->entered, now));               \
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
		event->row.head.task = call->task;                                                               \
		event->row.head.size = sizeof(event->row) + sizeof(event->base) + len;                           \
		event->row.latency_ns = call_took(call->entered, now);                                           \
		event->row.outcome = call_outcome(call->entered, call->ret);                                     \
		event->row.errno = errno_of(call->ret);                                                          \
		event->base = call->base;                                                                        \
		FILL;                                                                                            \
		submit(event);                                                                                   \
		return 0;                                                                                        \
	} while (0)

/* What a call to open a file says besides, whichever of the four it is. */
struct open_call {
	struct path_call call;
	__u32 flags;
	__u32 mode;
	__u32 is_new;
};

#define OPEN_RECORD(ROOM)                                                                                           \
	PATH_RECORD(file_open, FILE_OPEN, ROOM,                                                                     \
		    event->row.uid = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), cred, euid.val);   \
		    event->row.flags = open->flags; event->row.mode = open->mode; event->row.is_new = open->is_new; \
		    event->row.pad = 0; event->row.fd = call->ret >= 0 ? call->ret : EBREC_NULL32)

static __always_inline int emit_open(struct open_call *open, __u64 now)
{
	struct path_call *call = &open->call;

	OPEN_RECORD(256);
	OPEN_RECORD(PATH_MAX);
	return 0;
}

static __always_inline int emit_unlink(struct path_call *call, __u64 now)
{
	PATH_RECORD(file_unlink, FILE_UNLINK, 256);
	PATH_RECORD(file_unlink, FILE_UNLINK, PATH_MAX);
	return 0;
}

/* Whether the call that opened a file made it: file systems say so since 4.19, for whoever audits. */
static __always_inline bool made_file(long fd)
{
	struct file *file = fd >= 0 ? file_of_fd(fd) : NULL;

	return file && BPF_CORE_READ(file, f_mode) & FMODE_CREATED;
}

ON_SYS_EXIT(open__calls, TIMED, OPEN_CALLS)
{
	struct open_call open = {.call = {.entered = entered, .ret = ret}, .mode = EBREC_NULL32};
	struct open_how how = {};
	int dirfd = AT_FDCWD;
	__u64 now;

	if (!wanted_current(&open.call.task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (nr == NR_OPENAT || nr == NR_OPENAT2) {
		dirfd = syscall_arg(regs, 1);
		open.call.path = (void *)syscall_arg(regs, 2);
	} else {
		open.call.path = (void *)syscall_arg(regs, 1);
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
	open.flags = how.flags;
	/* Without a file to make, the mode is whatever was in the register. */
	if (how.flags != EBREC_NULL32 && how.flags & (O_CREAT | __O_TMPFILE))
		open.mode = how.mode & 07777;
	open.is_new = made_file(ret);
	open.call.base = file_base(open.call.path, dirfd, how.resolve & RESOLVE_IN_ROOT, now);
	return emit_open(&open, now);
}

ON_SYS_EXIT(open__unlinks, TIMED, UNLINK_CALLS)
{
	struct path_call call = {.entered = entered, .ret = ret};
	int dirfd = AT_FDCWD;
	__u64 now;

	if (nr == NR_UNLINKAT && syscall_arg(regs, 3) & AT_REMOVEDIR)
		return 0;
	if (!wanted_current(&call.task))
		return 0;
	now = bpf_ktime_get_boot_ns();
	if (nr == NR_UNLINKAT) {
		dirfd = syscall_arg(regs, 1);
		call.path = (void *)syscall_arg(regs, 2);
	} else {
		call.path = (void *)syscall_arg(regs, 1);
	}
	call.base = file_base(call.path, dirfd, false, now);
	return emit_unlink(&call, now);
}
