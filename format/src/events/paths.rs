//! Files and directories that other tables name.

use crate::table::events;

events! {
    /// A file or directory that a row of another table names, when it is first used, and again every 30 s as long as it is. The path is that from the root of its mount namespace, as it was then.
    FilePath = "file_path" {
        /// Task that used it.
        head: Head,
    };
    /// Number, device and inode, then its names up to the root, each with its NUL.
    tail file: FileDescription
}
