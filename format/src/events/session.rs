//! The recording itself: what was attached, what was lost, how the clocks ran.

use crate::table::rows;

rows! {
    /// A hook of a probe: how it was attached and what it did, or why it is missing.
    ProbeRow = "probe" {
        /// The probe.
        probe: Text,
        /// The hook.
        hook: Text,
        /// What it is attached with: tp_btf, fexit, …. Null: not attached.
        mechanism: Text,
        /// `active`, `off` (not asked for) or `failed`.
        status: Text,
        /// Why it isn't active.
        reason: Text,
        /// How often its program ran. Null: the kernel didn't count.
        runs: Count,
        /// Time its program took in all. Null: the kernel didn't count.
        run_time_ns: Duration,
    }

    /// A C library that was found in use, in which hooks with the mechanism uprobe are: whether they could be put there. `ts` is when it was found.
    LibraryRow = "probe_library" {
        /// When it was found, UTC.
        ts: SortedTimestamp,
        /// Its file, as the process in `pid` names it.
        path: Path,
        /// A process that has it mapped. Null: in another pid namespace, the recorder found it by a pid that isn't the kernel's.
        pid: Pid,
        /// How many of its functions have a probe.
        functions: Count32,
        /// `active`, `failed`, or `left out`.
        status: Text,
        /// Why it isn't active, or not all functions have a probe.
        reason: Text,
    }

    /// Records that are missing from a table: how many, when, where and why. No row: nothing is missing.
    Loss = "loss" {
        /// Beginning of the interval in which they were lost, UTC.
        ts: SortedTimestamp,
        /// End of the interval, UTC.
        end_ts: Timestamp,
        /// Processor on which they were lost.
        cpu: Cpu,
        /// Table that they are missing from. Null: several, or that isn't known.
        table_name: Text,
        /// Why: `ring full`; `map full` (no room to remember what is in progress); `not followed` (children of processes that the filters follow, of which no table has anything); `no state` (nothing is missing, but rows have null where they would have times); `not looked at` (programs whose resolver calls may be missing); `iterator failed` (rows that are asked for at the start or end, of which none or a part came); `malformed`; `shed: --max-cpu` (the table's probe was given up: as many rows as it had made in the second before); `program not run` (the kernel did not run the hook's program, because a task was preempted or interrupted within it, nor another in its place; counted for each table that the hook feeds); `never finished` (a record was begun by a task that didn't come to its end), ….
        reason: Text,
        /// How many.
        lost: Count,
    }

    /// The clocks, read at the same moment, once a second.
    Clock = "clock" {
        /// CLOCK_BOOTTIME plus the offset that this capture's timestamps were made with, UTC.
        ts: SortedTimestamp,
        /// CLOCK_BOOTTIME, ns.
        boot_ns: Count,
        /// CLOCK_MONOTONIC, ns.
        mono_ns: Count,
        /// CLOCK_REALTIME, ns since 1970.
        real_ns: Count,
    }

    /// The capture: one row.
    CaptureRow = "capture" {
        /// When the window began: all hooks are attached, and what they tell is read. No row of a probe has a `ts` before, UTC.
        ts: SortedTimestamp,
        /// When the window ended. No row of a probe has a `ts` after, UTC.
        end_ts: Timestamp,
        /// The host's name.
        host: Text,
        /// Kernel release.
        kernel: Text,
        /// Machine architecture.
        arch: Text,
        /// CPUs online.
        cpus: Count32,
        /// Version of the format.
        format_version: Count32,
        /// Version of the recorder.
        recorder: Text,
        /// How the recorder was called.
        command: Text,
        /// What ended it: `duration`, `SIGINT`, `max-size`, `command exited`, ….
        ended_by: Text,
    }
}
