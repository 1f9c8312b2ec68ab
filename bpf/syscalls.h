/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* System calls, seen from their end.
 *
 * A tracepoint sees all system calls of the host, so one program per probe would make each of them pay several times. Instead there
 * is one pair of programs (core.bpf.c), which calls the handlers that want a call, by a table. A probe declares a handler:
 *
 *     ON_SYS_EXIT(open__calls, TIMED, NR_OPENAT, NR_OPENAT2)
 *     {
 *             ... regs, nr, ret, entered ...
 *             return 0;
 *     }
 *
 * `entered` is when the call began, ns of CLOCK_BOOTTIME; 0: before the window, or UNTIMED; REFUSED: seccomp or a tracer answered
 * it before its beginning was told of (call_began, call_took, call_outcome know). The arguments still stand in the registers,
 * syscall_arg(regs, 1) to (regs, 6); what they point to has been faulted in by the kernel's own use of it. The macro also makes the
 * program PROBE__HOOK__sys_exit (see ebrec.h). The recorder chooses by it like by any other, but never attaches it: it loads it
 * alone if the common program is refused, to learn whether this handler is the reason. Handlers stand in HANDLERS of core.bpf.c.
 */
#ifndef EBREC_SYSCALLS_H
#define EBREC_SYSCALLS_H

#include "ebrec.h"

#if defined(__TARGET_ARCH_x86)
#define NR_READ 0
#define NR_WRITE 1
#define NR_OPEN 2
#define NR_PREAD64 17
#define NR_PWRITE64 18
#define NR_READV 19
#define NR_WRITEV 20
#define NR_MADVISE 28
#define NR_SENDFILE 40
#define NR_CONNECT 42
#define NR_ACCEPT 43
#define NR_CLONE 56
#define NR_FORK 57
#define NR_VFORK 58
#define NR_EXECVE 59
#define NR_EXIT 60
#define NR_FSYNC 74
#define NR_FDATASYNC 75
#define NR_TRUNCATE 76
#define NR_FTRUNCATE 77
#define NR_CREAT 85
#define NR_UNLINK 87
#define NR_EXIT_GROUP 231
#define NR_READAHEAD 187
#define NR_FADVISE64 221
#define NR_OPENAT 257
#define NR_UNLINKAT 263
#define NR_SPLICE 275
#define NR_SYNC_FILE_RANGE 277
#define NR_ACCEPT4 288
#define NR_PREADV 295
#define NR_PWRITEV 296
#define NR_EXECVEAT 322
#define NR_COPY_FILE_RANGE 326
#define NR_PREADV2 327
#define NR_PWRITEV2 328
#define NR_CLONE3 435
#define NR_OPENAT2 437
#elif defined(__TARGET_ARCH_arm64)
#define NR_UNLINKAT 35
#define NR_TRUNCATE 45
#define NR_FTRUNCATE 46
#define NR_OPENAT 56
#define NR_READ 63
#define NR_WRITE 64
#define NR_READV 65
#define NR_WRITEV 66
#define NR_PREAD64 67
#define NR_PWRITE64 68
#define NR_PREADV 69
#define NR_PWRITEV 70
#define NR_SENDFILE 71
#define NR_SPLICE 76
#define NR_FSYNC 82
#define NR_FDATASYNC 83
#define NR_SYNC_FILE_RANGE 84
#define NR_EXIT 93
#define NR_EXIT_GROUP 94
#define NR_ACCEPT 202
#define NR_CONNECT 203
#define NR_CLONE 220
#define NR_READAHEAD 213
#define NR_EXECVE 221
#define NR_FADVISE64 223
#define NR_MADVISE 233
#define NR_ACCEPT4 242
#define NR_EXECVEAT 281
#define NR_COPY_FILE_RANGE 285
#define NR_PREADV2 286
#define NR_PWRITEV2 287
#define NR_CLONE3 435
#define NR_OPENAT2 437
/* There are none; numbers that no call has. */
#define NR_FORK -2
#define NR_VFORK -2
#endif

/* Instead of numbers: all calls, or those that --syscalls names. */
#define ALL_SYSCALLS 0xffffffff

#define SYSCALLS_MAX 512 /* above the highest number of any 64-bit architecture */
#define SYSCALL_TIMED 0x80000000
/* Calls with higher numbers, which no kernel knows, that can be named. */
#define BEYOND_MOST 16

/* Knob: by number, the bits of the handlers that want a call, and SYSCALL_TIMED if one of them wants its beginning. */
const volatile __u32 syscall_handlers[SYSCALLS_MAX] = {};

/* Knob: the same for all numbers from SYSCALLS_MAX on; or only for those that are named, if any are. */
const volatile __u32 syscall_handlers_beyond = 0;
const volatile __u32 syscalls_beyond_named = 0;
const volatile __u32 syscalls_beyond[BEYOND_MOST] = {};

/* The call that a task is in, if it is one that is timed. */
struct syscall_slot {
	__u64 entered; /* ns of CLOCK_BOOTTIME, 0: in none */
	__u32 nr;
	__u16 is_known; /* a call of it began or ended in the window */
	__u16 is_over; /* its last call has been told of (see call_levels of core.bpf.c) */
};

/* Instead of an instant: the call has no beginning, because it was refused before (syscall_trace_enter of kernel/entry/common.c
 * asks seccomp and tracers first). */
#define REFUSED 1

/* With task storage, a slot is one or two loads away and goes with its task. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct syscall_slot);
} syscall_slots SEC(".maps");

/* Without: by tid; core__follow_end removes those of threads that are no more. Of more threads than there is room for, those whose
 * call began first are forgotten: it then has no beginning, as one from before the window or, of a process that began in it, as one
 * that was refused. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct syscall_slot);
} syscall_tid_slots SEC(".maps");

/* Rare: a program that tries what its kernel may know. Negative numbers are no calls. */
static __noinline __u32 handlers_beyond(long nr)
{
	if (nr < 0 || !syscalls_beyond_named)
		return nr < 0 ? 0 : syscall_handlers_beyond;
	for (__u32 i = 0; i < BEYOND_MOST; i++) {
		if (i < syscalls_beyond_named && syscalls_beyond[i] == (__u32)nr)
			return syscall_handlers_beyond;
	}
	return 0;
}

static __always_inline __u32 syscall_handlers_of(long nr)
{
	__u64 at = nr;

	if (at >= SYSCALLS_MAX)
		return handlers_beyond(nr);
	/* clang would leave out the mask, which it knows to be of no effect; the verifier of 5.10 doesn't. */
	barrier_var(at);
	at &= SYSCALLS_MAX - 1;
	return syscall_handlers[at];
}

static __always_inline void syscall_enter(long nr)
{
	struct syscall_slot *slot, fresh;
	__u32 tid;

	if (has_task_storage()) {
		slot = bpf_task_storage_get(&syscall_slots, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (slot) {
			slot->nr = nr;
			slot->entered = bpf_ktime_get_boot_ns();
			slot->is_known = window_from != 0;
			slot->is_over = 0;
		} else if (window_from) {
			count_drop(NO_TABLE, DROP_NO_STATE);
		}
		return;
	}
	tid = bpf_get_current_pid_tgid();
	fresh = (struct syscall_slot){.entered = bpf_ktime_get_boot_ns(), .nr = nr, .is_known = window_from != 0};
	if (bpf_map_update_elem(&syscall_tid_slots, &tid, &fresh, BPF_ANY) && window_from)
		count_drop(NO_TABLE, DROP_NO_STATE);
}

/* A call ends that has not begun. It began before the window, if nothing is known of this thread since; else it was refused. */
static __always_inline __u64 syscall_unknown(struct syscall_slot *slot)
{
	bool is_known = slot && slot->is_known;

	if (!window_from)
		return 0;
	if (slot) {
		slot->is_known = 1;
		slot->is_over = 1;
	}
	return is_known || current_start() > window_from ? REFUSED : 0;
}

/* When the call that ends now began; the slot is free afterwards. */
static __always_inline __u64 syscall_entered(long nr)
{
	struct syscall_slot *slot;
	__u64 entered;

	if (has_task_storage()) {
		slot = bpf_task_storage_get(&syscall_slots, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	} else {
		__u32 tid = bpf_get_current_pid_tgid();

		slot = bpf_map_lookup_elem(&syscall_tid_slots, &tid);
	}
	if (!slot || !slot->entered || slot->nr != (__u32)nr)
		return syscall_unknown(slot);
	entered = slot->entered;
	slot->entered = 0;
	slot->is_known = window_from != 0;
	slot->is_over = 1;
	return entered;
}

/* What a row says of when a call began and how long it took; NOW is its end. */
static __always_inline __u64 call_began(__u64 entered, __u64 now)
{
	return entered > REFUSED ? entered : now;
}

static __always_inline __u64 call_took(__u64 entered, __u64 now)
{
	return entered > REFUSED ? now - entered : EBREC_NULL64;
}

/* What became of an attempt (kind Outcome). */
enum outcome {
	OUTCOME_SUCCEEDED,
	OUTCOME_FAILED,
	OUTCOME_GIVEN_UP,
	OUTCOME_PENDING,
	OUTCOME_REFUSED,
};

static __always_inline enum outcome call_outcome(__u64 entered, long ret)
{
	return entered == REFUSED ? OUTCOME_REFUSED : ret < 0 && ret >= -4095 ? OUTCOME_FAILED : OUTCOME_SUCCEEDED;
}

/* The call that a task is in, if it is one that is timed; negative: in none. */
static __always_inline long syscall_in_progress(void)
{
	struct syscall_slot *slot;

	if (has_task_storage()) {
		slot = bpf_task_storage_get(&syscall_slots, bpf_get_current_task_btf(), NULL, 0);
	} else {
		__u32 tid = bpf_get_current_pid_tgid();

		slot = bpf_map_lookup_elem(&syscall_tid_slots, &tid);
	}
	return slot && slot->entered ? slot->nr : -1;
}

/* Argument N of the call; N is a constant, 1 to 6. */
static __always_inline unsigned long syscall_arg(struct pt_regs *regs, int n)
{
#if defined(__TARGET_ARCH_x86)
	return n == 1 ? regs->di : n == 2 ? regs->si : n == 3 ? regs->dx : n == 4 ? regs->r10 : n == 5 ? regs->r8 : regs->r9;
#elif defined(__TARGET_ARCH_arm64)
	struct pt_regs___arm64 *now = (void *)regs;

	/* The first one's register has the result by now. */
	return n == 1 ? now->orig_x0 : now->regs[n - 1];
#endif
}

/* The same of registers that the verifier doesn't know as such (current_regs), and the number of the call. */
#if defined(__TARGET_ARCH_x86)
#define PROBED_NR(regs) BPF_CORE_READ(regs, orig_ax)
#define PROBED_ARG(regs, n)                   \
	((n) == 1   ? BPF_CORE_READ(regs, di) \
	 : (n) == 2 ? BPF_CORE_READ(regs, si) \
	 : (n) == 3 ? BPF_CORE_READ(regs, dx) \
		    : BPF_CORE_READ(regs, r10))
#elif defined(__TARGET_ARCH_arm64)
#define PROBED_NR(regs) BPF_CORE_READ((struct pt_regs___arm64 *)(regs), syscallno)
#define PROBED_ARG(at, n)                                                  \
	((n) == 1 ? BPF_CORE_READ((struct pt_regs___arm64 *)(at), orig_x0) \
		  : BPF_CORE_READ((struct pt_regs___arm64 *)(at), regs[(n)-1]))
#endif

#define TIMED 1
#define UNTIMED 0

#define ON_SYS_EXIT(name, timed, calls...)                                                            \
	const volatile __u32 name##__calls[] = {calls};                                               \
	const volatile __u32 name##__timed = timed;                                                   \
	/* Knob: the handler's bit, 0 if it isn't wanted. */                                          \
	const volatile __u32 name##__bit = 0;                                                         \
	static __noinline int name##__handle(struct pt_regs *regs, long nr, long ret, __u64 entered); \
	SEC("?tp_btf/sys_exit")                                                                       \
	int BPF_PROG(name##__sys_exit, struct pt_regs *regs, long ret)                                \
	{                                                                                             \
		return name##__handle(regs, syscall_nr_of(regs), ret, 0);                             \
	}                                                                                             \
	static __noinline int name##__handle(struct pt_regs *regs, long nr, long ret, __u64 entered)

#endif
