//! The host: what existed on it, and its state second by second.

use crate::table::rows;

rows! {
    /// A block device that existed at the start of the window, or was there when it was looked for later, once a second.
    Disk = "disk" {
        /// Its name below /dev.
        name: Text,
        /// major:minor.
        dev: Text,
        /// Size.
        size_bytes: Bytes,
        /// Whether it turns.
        rotational: Flag,
        /// Queue scheduler in use.
        scheduler: Text,
        /// Model, as the device names itself.
        model: Text,
    }

    /// A file system that was mounted at the start of the window, or when it was looked for later, once a second (in the recorder's mount namespace).
    Mount = "mount" {
        /// Device, major:minor.
        dev: Text,
        /// File system type.
        fs: Text,
        /// Where it is mounted.
        path: Path,
        /// What is mounted.
        source: Path,
        /// Mount options.
        options: Text,
    }

    /// A network interface that existed at the start of the window, or when it was looked for later, once a second (in the recorder's network namespace).
    Netdev = "netdev" {
        /// Its name.
        name: Text,
        /// Its index.
        ifindex: Count32,
        /// Largest packet.
        mtu_bytes: Bytes,
        /// up, down, unknown, ….
        state: Text,
    }

    /// A container or a pod, as the files of the runtimes on the host name it: one that there was at the start of the window, running or not, or when it was looked for later, once a second. No runtime is asked. Of more than 10,000 some are missing. Nothing of those whose files the recorder can't see: of other users, or of the host when it runs in a container itself.
    Container = "container" {
        /// Its id, as `cgroup` has it. Null: a pod.
        container_id: Text,
        /// What made it: docker, containerd, cri-o, podman; of a pod, kubelet.
        runtime: Text,
        /// Its name; in a pod, what its specification calls it. Null: not told.
        name: Text,
        /// The image that it was made of, as it was asked for. Null: not told.
        image: Text,
        /// The Kubernetes pod that it is of. Null: none.
        pod: Text,
        /// The pod's namespace.
        namespace: Text,
        /// The pod's UID, as `cgroup` has it.
        pod_uid: Text,
    }

    /// The host once a second. Times and counts are since the sample before.
    SystemSample = "system_sample" {
        /// When it was taken, UTC.
        ts: SortedTimestamp,
        /// Load average over 1 minute.
        load1: Number,
        /// Load average over 5 minutes.
        load5: Number,
        /// Load average over 15 minutes.
        load15: Number,
        /// Tasks that run or want to.
        running: Count,
        /// Tasks that exist.
        tasks: Count,
        /// CPU time in user mode, all CPUs.
        cpu_user_ns: Duration,
        /// CPU time in user mode at low priority.
        cpu_nice_ns: Duration,
        /// CPU time in the kernel.
        cpu_system_ns: Duration,
        /// CPU time idle.
        cpu_idle_ns: Duration,
        /// CPU time idle while a task waits for a disk.
        cpu_iowait_ns: Duration,
        /// CPU time in hard interrupts.
        cpu_irq_ns: Duration,
        /// CPU time in soft interrupts.
        cpu_softirq_ns: Duration,
        /// CPU time that the hypervisor took.
        cpu_steal_ns: Duration,
        /// Memory of the host.
        mem_total_bytes: Bytes,
        /// Memory that nobody uses.
        mem_free_bytes: Bytes,
        /// Memory that programs could still get without swapping.
        mem_available_bytes: Bytes,
        /// Page cache.
        mem_cached_bytes: Bytes,
        /// Buffers.
        mem_buffers_bytes: Bytes,
        /// Pages that wait to be written.
        mem_dirty_bytes: Bytes,
        /// Pages that are being written.
        mem_writeback_bytes: Bytes,
        /// Swap in use.
        swap_used_bytes: Bytes,
        /// Read from block devices (pgpgin of /proc/vmstat); what goes through a stack of devices counts at each.
        disk_read_bytes: Bytes,
        /// Written to block devices, discards included (pgpgout).
        disk_written_bytes: Bytes,
        /// Page faults that had to wait for a disk (pgmajfault).
        major_faults: Count,
        /// Pages of files that became dirty (nr_dirtied).
        dirtied_bytes: Bytes,
        /// Pages of files that were read again although they had been in memory not long ago: the page cache is too small (workingset_refault_file).
        refaulted_bytes: Bytes,
        /// Read back from swap (pswpin).
        swapped_in_bytes: Bytes,
        /// Written to swap (pswpout).
        swapped_out_bytes: Bytes,
        /// Time that some task waited for a CPU (PSI). Null: the kernel has no PSI.
        psi_cpu_some_ns: Duration,
        /// Time that some task waited for memory.
        psi_memory_some_ns: Duration,
        /// Time that all tasks waited for memory.
        psi_memory_full_ns: Duration,
        /// Time that some task waited for a disk.
        psi_io_some_ns: Duration,
        /// Time that all tasks waited for a disk.
        psi_io_full_ns: Duration,
    }
}
