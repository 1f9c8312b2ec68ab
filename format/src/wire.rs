//! The C structs that events are composed of, as the kernel side writes them.
//!
//! Rules of the wire: fixed-width integers and byte arrays, explicit padding, no bool, bit field, enum or pointer.
//! [`crate::header`] prints the same structs for C and asserts their sizes there.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A 32-bit value that means "the kernel can't tell".
pub const NULL32: u32 = u32::MAX;
/// A 64-bit value that means "the kernel can't tell".
pub const NULL64: u64 = u64::MAX;

/// A task as the kernel saw it at the time of the event. `pid` is [`NULL32`] where the task isn't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Task {
    /// When the process started (`group_leader->start_boottime`), ns of CLOCK_BOOTTIME.
    pub start: u64,
    /// Process id: the kernel's tgid.
    pub pid: u32,
    /// Thread id: the kernel's pid.
    pub tid: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
}

impl Task {
    /// The task that nobody knows.
    pub const UNKNOWN: Task = Task { start: 0, pid: NULL32, tid: NULL32, comm: [0; 16] };

    /// Whether the kernel could tell.
    pub fn is_known(&self) -> bool {
        self.pid != NULL32
    }

    /// The identity of the process: its start in units of 1024 ns above its pid.
    ///
    /// A pid that is used again gives another value, because it takes longer than a microsecond to end a process
    /// and start its namesake. The value is opaque, equal for all threads of a process, and never negative.
    pub fn process_id(&self) -> i64 {
        const PID_BITS: u32 = 22; // PID_MAX_LIMIT of include/linux/threads.h is 4 Mi
        let start = self.start >> 10;
        (((start << PID_BITS) | u64::from(self.pid) & ((1 << PID_BITS) - 1)) & i64::MAX as u64) as i64
    }
}

/// What every kernel record begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Head {
    /// When it happened, ns of CLOCK_BOOTTIME.
    pub ts: u64,
    /// Bytes of the whole record, tail included.
    pub size: u32,
    /// Processor it happened on.
    pub cpu: u16,
    /// Which table: its place in [`crate::events::tables`].
    pub table: u16,
    /// The acting task.
    pub task: Task,
}

/// The head of a record about a TCP connection. Its task is the connection's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ConnHead {
    /// The ordinary head; the task is unknown until the connection's owner is.
    pub head: Head,
    /// Number of the connection, unique within the capture.
    pub conn_id: u64,
}

/// Both ends of a connection, seen from the local one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Endpoints {
    /// Local address, network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub laddr: [u8; 16],
    /// Remote address, likewise.
    pub raddr: [u8; 16],
    /// Inode of the network namespace.
    pub netns: u32,
    /// Local port, host byte order.
    pub lport: u16,
    /// Remote port, host byte order; 0 means not known yet.
    pub rport: u16,
}

/// What a file's number stands for. Its names follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct File {
    /// The number.
    pub id: u64,
    /// 0: the names are those of the file and of the directories above it, each with its NUL, up to the root. Else they are a path
    /// that leads on from the directory with this number.
    pub base: u64,
    /// Inode, or [`NULL64`].
    pub inode: u64,
    /// Device of the file system, as the kernel packs it (20 bits of minor number), or [`NULL32`].
    pub dev: u32,
    /// 0: it has more names than could be told.
    pub has_names: u32,
    /// Type of the file system, NUL-padded.
    pub fs: [u8; 16],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_another_process() {
        let first = Task { start: 5_000_000_000, pid: 4242, tid: 4242, comm: [0; 16] };
        let second = Task { start: first.start + 2_000, ..first };
        assert_ne!(first.process_id(), second.process_id());
        assert_eq!(first.process_id(), Task { tid: 4243, ..first }.process_id());
    }
}
