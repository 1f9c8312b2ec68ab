//! System calls.

use crate::table::events;

events! {
    /// A system call. `ts` is when it began. A call that began before the window has no `latency_ns`, and `ts` is when it returned; so is one that seccomp or a tracer refused before it began (the first of a thread that is seen in the window, if the thread is older, can't be told from the former); one that didn't return within the window, or never does (exit, exit_group), has neither `ret` nor `latency_ns`. Not in it: what was in progress during the whole window, calls of the 32-bit ABI, and a child's return from the call that made it.
    Syscall = "syscall" {
        /// Caller.
        head: Head,
        /// Which call.
        call: SyscallNr,
        /// What became of it: `succeeded` (exit and exit_group, too), `failed`, `pending` at the end of the window, or `refused`, with the error in `ret`. Null in captures of older recorders.
        outcome: Outcome,
        /// What it returned: negative is `-errno`; -512 to -516 are the kernel's own, for calls that a signal interrupts and that are then made again or fail with EINTR (include/linux/errno.h).
        ret: Ret64,
        /// From the call to its return. Null: it began before the window, was refused, or didn't return.
        latency_ns: Duration,
    }
}
