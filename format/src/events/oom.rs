//! The out-of-memory killer.

use crate::table::events;

events! {
    /// The kernel chose a process to kill because memory ran out. The acting task is the one whose allocation failed.
    OomKill = "oom_kill" {
        /// The task that needed memory.
        head: PairHead,
        /// The victim. Null: the recorder itself, or this kernel doesn't tell.
        victim as "victim_": Task,
        /// Virtual memory of the victim (VmSize).
        total_vm_bytes: Bytes,
        /// Its anonymous memory in RAM (RssAnon).
        anon_rss_bytes: Bytes,
        /// Its file pages in RAM (RssFile).
        file_rss_bytes: Bytes,
        /// Its shared memory in RAM (RssShmem).
        shmem_rss_bytes: Bytes,
        /// cgroup v2 of the victim.
        victim_cgroup_id: CgroupId,
        /// cgroup whose limit was hit; in the hierarchy of the memory controller, which on cgroup v1 is its own. Null: not a cgroup's limit, or not visible on this kernel.
        limit_cgroup_id: CgroupId,
        /// Memory that the search was about: the host's, the nodes', or the limit of the cgroup. Null: not visible on this kernel.
        allowed_bytes: Bytes,
        /// What ran out. Null: not visible on this kernel.
        oom_constraint: OomConstraint,
        /// oom_score_adj of the victim, -1000 to 1000.
        oom_score_adj: OomScore,
        /// Effective user of the victim.
        victim_uid: Uid,
        /// Padding.
        pad: Pad32,
    }
}
