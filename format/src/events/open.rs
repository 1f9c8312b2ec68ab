//! Files that are opened, and names of files that are removed.

use crate::table::events;

events! {
    /// A call to open a file (open, openat, openat2, creat), failed ones too. `ts` is when the call began, if that was in the window.
    FileOpen = "file_open" {
        /// Caller.
        head: Head,
        /// How long the call took. Null: it began before the window, or was refused.
        latency_ns: Duration,
        /// Effective user of the caller.
        uid: Uid,
        /// Flags, as open(2) names them; what has no name as octal number. Null: unreadable.
        flags: OpenFlags,
        /// Permissions of the file that is to be made, octal, before the umask. Null: none is to be made.
        mode: FileMode,
        /// The descriptor. Null: the call failed.
        fd: Fd,
        /// 0, or why it failed. A call that a signal interrupts is EINTR here, although the kernel may repeat it.
        errno: Errno,
        /// Whether the call made the file.
        is_new: Flag,
        /// What became of it. Null in captures of older recorders.
        outcome: Outcome,
        /// Padding.
        pad: Pad32,
    };
    /// The directory's number, then the path and its NUL, if it was readable.
    tail path: OpenPath

    /// A call to remove a file's name (unlink, unlinkat), failed ones too; not directories, and not files that another one is renamed to. `ts` is when the call began, if that was in the window.
    FileUnlink = "file_unlink" {
        /// Caller.
        head: Head,
        /// How long the call took. Null: it began before the window, or was refused.
        latency_ns: Duration,
        /// 0, or why it failed.
        errno: Errno,
        /// What became of it. Null in captures of older recorders.
        outcome: Outcome,
    };
    /// The same as of `file_open`.
    tail path: OpenPath
}
