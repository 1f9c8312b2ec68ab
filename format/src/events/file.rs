//! What is done with regular files.

use crate::table::events;

events! {
    /// A system call, or request of io_uring, that read, wrote, synced, truncated or opened a regular file; a call between two files
    /// (sendfile, copy_file_range, splice) is a read of the one and a write of the other. `ts` is when the call began, if that was in the
    /// window. What io_uring did is missing where the hook `uring` is. Not in it, on any kernel: what is read and written through mapped
    /// memory, opened or truncated by io_uring, or done by aio(7) and by the kernel itself (loop devices, NFS server, execve).
    FileIo = "file_io" {
        /// Caller.
        head: Head,
        /// What was done.
        op: FileOp,
        /// 0, or why it failed.
        errno: Errno,
        /// The file.
        file: FileRef,
        /// Where in the file it began; the new length, for a truncate. Null: it has no place, or the file was appended to by a call that names another.
        offset: Offset,
        /// Bytes that were asked for.
        requested_bytes: Bytes,
        /// Bytes that were read or written; 0 if it failed.
        bytes: Bytes,
        /// How long the call took. Null: it began before the window, or seccomp or a tracer refused it before it began.
        latency_ns: Duration,
    }
}
