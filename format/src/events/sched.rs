//! The scheduler.

use crate::table::events;

events! {
    /// A context switch: which task left the CPU and how, which one got it and how long it had waited. The acting task is the one that left.
    SchedSwitch = "sched_switch" {
        /// The task that left the CPU.
        head as "prev_": Head,
        /// The task that got the CPU.
        next as "next_": Task,
        /// Time that the task which left had been on the CPU.
        prev_ran_ns: Duration,
        /// Time that the next task had been runnable without running: run-queue latency.
        next_waited_ns: Duration,
        /// Time since the next task last left a CPU.
        next_off_cpu_ns: Duration,
        /// State in which the previous task left: R (preempted), S, D, T, t, X, Z, P, I.
        prev_state: TaskState,
        /// Padding.
        pad: Pad32,
    }

    /// A task was woken, or started for the first time. The acting task is the waker.
    SchedWakeup = "sched_wakeup" {
        /// The waker; the task that was interrupted, if an interrupt woke.
        head: Head,
        /// The task that was woken.
        wakee as "wakee_": Task,
        /// CPU it was put on.
        target_cpu: Cpu,
        /// Whether this is its first time (sched_wakeup_new).
        is_new: Flag,
    }
}
