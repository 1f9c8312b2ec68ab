//! Life of processes and threads.

use crate::table::events;

events! {
    /// A task was created (fork, vfork, clone). The acting task is the parent.
    ProcessFork = "process_fork" {
        /// Parent.
        head: Head,
        /// The new task.
        child as "child_": Task,
        /// Whether the new task is a thread of its parent's process.
        is_thread: Flag,
        /// Padding.
        pad: Pad32,
    }

    /// A program was executed (execve, execveat), or the attempt failed. The acting task is the one that called; its name is the new one if it succeeded.
    ProcessExec = "process_exec" {
        /// Caller.
        head: Head,
        /// cgroup of the caller.
        cgroup_id: CgroupId,
        /// Parent of the process.
        ppid: Pid,
        /// Effective user of the caller.
        uid: Uid,
        /// What the call returned: 0, or `-errno`.
        ret: Ret,
        /// Whether there were more arguments than are recorded: 60 KiB of them, 7 KiB of a failed call; 768 bytes while programs with
        /// long ones are executed all the time (a CPU records 2 MiB of those at once, and 1 MiB a second).
        args_truncated: Flag,
    };
    /// File and arguments.
    tail exec: Exec

    /// A task ended. A process ended with the row whose `is_thread` is false.
    ProcessExit = "process_exit" {
        /// The task that ended.
        head: Head,
        /// How long it lived; of the process, in the row that ends it.
        lifetime_ns: Duration,
        /// Parent of the process.
        ppid: Pid,
        /// What `wait` reports: the exit status. Null if a signal killed it.
        exit_code: ExitCode,
        /// The signal that killed it. Null if it exited.
        signal: Signal,
        /// Whether it left a core dump.
        core_dumped: Flag,
        /// Whether other threads of the process live on.
        is_thread: Flag,
        /// Padding.
        pad: Pad32,
    }

    /// A task that existed at the start of the window.
    Process = "process" {
        /// The task.
        head: Head,
        /// When its process was started.
        started_ts: Timestamp,
        /// cgroup.
        cgroup_id: CgroupId,
        /// Parent of the process.
        ppid: Pid,
        /// Effective user.
        uid: Uid,
        /// Whether it is another thread than the process's first.
        is_thread: Flag,
        /// Whether it is a thread of the kernel.
        is_kernel: Flag,
        /// Further details from /proc.
        proc: ProcPid,
        /// Padding.
        pad: Pad32,
    }

    /// A cgroup of the v2 hierarchy: one that existed at the start of the window, or was made in it. What it is of is read from its path, which systemd and the runtimes of containers choose.
    Cgroup = "cgroup" {
        /// Who made it. Null: it existed at the start.
        head: PairHead,
        /// Its id, as other tables have it.
        cgroup_id: CgroupId,
    };
    /// Its path.
    tail path: CgroupPath
}
