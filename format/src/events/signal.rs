//! Signals.

use crate::table::events;

events! {
    /// A signal was sent, by a task or by the kernel on behalf of whichever task ran. The acting task is the sender; `code` tells whether it meant it: `SI_USER`, `SI_TKILL` and `SI_QUEUE` come from system calls of the sender, `SI_KERNEL` and the codes of faults, children and timers from the kernel. Filters let through what a wanted task sends or gets.
    Signal = "signal" {
        /// The sender; for signals of the kernel the task that ran, be it the target itself (a fault), the child that ended, or any that a timer interrupted.
        head: PairHead,
        /// The task that gets it; of a process, one of its threads. Null: the recorder itself.
        target as "target_": Task,
        /// Number of the signal.
        signal: Signal,
        /// Name of the signal.
        name: SignalName,
        /// Why it was sent (si_code in sigaction(2)).
        code: SignalCode,
        /// What became of it.
        result: SignalResult,
        /// Whether it is for the whole process, not one thread.
        is_group: Flag,
        /// Padding.
        pad: Pad32,
    }
}
