//! System calls.

use crate::table::events;

events! {
    /// A system call. `ts` is when it began. A call that began before the window has no `latency_ns`, and `ts` is when it returned; one that didn't return within the window, or never does (exit, exit_group), has neither `ret` nor `latency_ns`. Not in it: what was in progress during the whole window, calls of the 32-bit ABI, and a child's return from the call that made it.
    Syscall = "syscall" {
        /// Caller.
        head: Head,
        /// Which call.
        call: SyscallNr,
        /// Padding.
        pad: Pad32,
        /// What it returned: negative is `-errno`; -512 to -516 are the kernel's own, for calls that a signal interrupts and that are then made again or fail with EINTR (include/linux/errno.h).
        ret: Ret64,
        /// From the call to its return.
        latency_ns: Duration,
    }
}
