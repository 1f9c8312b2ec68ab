//! The scheduler.

use crate::table::events;

events! {
    /// A context switch: which task left the CPU and how, which one got it and how long it had waited. The acting task is the one that left. At the window's end there is a row for each CPU on which a task runs then: it has neither `prev_state` nor a next task, and makes `prev_ran_ns` complete. Of a switch between a task that is recorded and one that isn't (the recorder's own threads; what filters leave out), the columns about the latter are null, but for the idle task's identity.
    SchedSwitch = "sched_switch" {
        /// The task that left the CPU.
        head as "prev_": PairHead,
        /// The task that got the CPU. Null: none in the window, or it isn't recorded.
        next as "next_": Task,
        /// Time that the task which left had been on the CPU, as far as it is in the window: over all rows of a CPU, they make the window.
        prev_ran_ns: Duration,
        /// Time that the next task had been runnable without running: run-queue latency. It may have begun before the window.
        next_waited_ns: Duration,
        /// Time since the next task last left a CPU, which may be before the window.
        next_off_cpu_ns: Duration,
        /// State in which the previous task left: R (preempted), S, D, T, t, X, Z, P, I. Null: it still ran at the window's end.
        prev_state: TaskState,
        /// Padding.
        pad: Pad32,
    }

    /// A task was woken, or started for the first time. The acting task is the waker. With filters, what a wanted task does or undergoes: of the other task the columns are null, as of the recorder, if it wakes others; that it is woken itself is not in it.
    SchedWakeup = "sched_wakeup" {
        /// The waker; the task that was interrupted, if an interrupt woke.
        head: PairHead,
        /// The task that was woken. Null: the filters leave it out.
        wakee as "wakee_": Task,
        /// CPU it was put on.
        target_cpu: Cpu,
        /// Whether this is its first time (sched_wakeup_new).
        is_new: Flag,
    }
}
