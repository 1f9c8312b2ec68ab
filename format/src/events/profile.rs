//! The profiler: where CPU time goes, and where tasks wait.

use crate::table::events;

events! {
    /// A tick of the profiler (`--sample-hz` times a second on each CPU) that found a task running. Ticks that find a CPU idle leave no row.
    CpuSample = "cpu_sample" {
        /// The task that ran.
        head: Head,
        /// Its stack in user mode, a row of `stack`. Null: it has none (a kernel thread), or it can't be read.
        user_stack_id: StackId,
        /// Its stack in the kernel. Null: it ran in user mode.
        kernel_stack_id: StackId,
    }

    /// A task that had blocked is back on a CPU (only with `--off-cpu-stacks`). Tasks that were preempted aren't here.
    OffCpuSample = "off_cpu_sample" {
        /// The task.
        head: Head,
        /// Time since it left the CPU: what it waited for, and then for a CPU.
        duration_ns: Duration,
        /// The stack in user mode with which it blocked, a row of `stack`. Null: it has none, or it can't be read.
        user_stack_id: StackId,
        /// The stack in the kernel with which it blocked.
        kernel_stack_id: StackId,
        /// State in which it left: S, D, T, t, X, Z, P, I.
        state: TaskState,
        /// Padding.
        pad: Pad32,
    }

    /// A stack that `cpu_sample` or `off_cpu_sample` names. User stacks are found by frame pointers, so code that was built without has gaps.
    Stack = "stack" {
        /// Whose addresses they are.
        head: StackHead,
        /// Number of the stack, unique within the capture.
        stack_id: StackId,
        /// `user` or `kernel`.
        kind: StackKind,
        /// Whether it goes on beyond the frames that the kernel gives (kernel.perf_event_max_stack, 127 at most).
        truncated: Flag,
        /// Frames.
        depth: Unlisted32,
        /// Programs that the process has executed: each has other addresses.
        exec: Unlisted32,
        /// The process's pid in the recorder's /proc; 0: it isn't there.
        proc: Unlisted32,
        /// Padding.
        pad: Pad32,
    };
    /// Addresses, leaf first, 8 bytes each; then for user stacks a `struct bpf_stack_build_id` each, if the kernel gives them.
    tail frames: Frames
}
