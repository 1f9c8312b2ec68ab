//! Block devices.

use crate::table::events;

events! {
    /// A request that a block device has completed, after merging and splitting: what iostat counts. Of devices without requests
    /// (dm, md, zram, brd: those that pass on or handle what they get at once), a bio, as it was submitted. A disk's rows are all
    /// of one `layer`, so nothing counts twice on a disk; but what goes through a stack of disks (dm over sda, loop over vda) is I/O
    /// of each of them. Flushes: a flush is a row of its own (`op` flush); the request that it was made for is a row only if it
    /// has data. A request that was issued before the window has no times, and a task only if recording was being
    /// prepared by then; one that is not over at its end has neither `latency_ns` nor `error`.
    BlockIo = "block_io" {
        /// The task that made the request: of several merged ones, the first; of a flush, the one that waited for it longest.
        head: BlockHead,
        /// First sector, of the whole disk even if it was addressed to a partition. Null: flushes and driver commands.
        sector: Sector,
        /// Bytes of the whole request, whether they were done or failed.
        bytes: Bytes,
        /// Time in the queue: from insertion until it was issued to the driver, the last time if it was put back. Null: it never was inserted.
        queued_ns: Duration,
        /// Time at the device: from issue (the last one) to completion; for bios, from submission to completion.
        latency_ns: Duration,
        /// Name of the disk below /dev.
        disk: DiskName,
        /// major:minor of the partition that it was addressed to, else of the disk; joins `mount.dev`.
        dev: BlockDevice,
        /// Operation: read, write, flush, discard, write_zeroes, secure_erase, zone_…; drv_in and drv_out are commands passed through to the driver.
        op: BlockOp,
        /// Flags, joined by `|`, as the driver sees them: sync, meta, prio, fua, preflush, readahead, background, nowait, polled, swap, atomic.
        flags: BlockFlags,
        /// Error as errno, 0 is success; EIO also stands for statuses that this version doesn't know. Null: not over within the window.
        error: Errno,
        /// request or bio.
        layer: BlockLayer,
        /// Padding.
        pad: Pad32,
    }
}
