//! The page cache.

use crate::table::events;

events! {
    /// What a process did with the page cache on one CPU in an interval of 100 ms; `ts` is the interval's start, but not before the window's, and there is no row where it did nothing. Counts are pages, of 4 KiB on most hosts. Files on tmpfs, direct I/O and DAX are not in it. The acting task is the process's first thread that did something in the interval; kernel threads have rows as well.
    PageCache = "page_cache" {
        /// A thread of the process.
        head: Head,
        /// Length of the interval.
        interval_ns: Duration,
        /// Pages that reads looked up: each call counts each page that it touches. Since Linux 6.10 any read of a file's pages, up to the end of the file (hook accesses by tp_btf); before, what read, pread64, readv, preadv, preadv2 and sendfile have read (by sys_exit). Null: reads are not seen on this kernel (hook accesses).
        accesses: Count32,
        /// Pages that reads asked for and that had to be added: 1 - misses / accesses is the hit ratio. Calls as listed above: others (io_uring, splice, exec) count in `added` alone.
        misses: Count32,
        /// Pages that the kernel added beyond those that a read or fault asked for, or because of readahead, posix_fadvise, madvise.
        readahead: Count32,
        /// Pages that page faults asked for and that had to be added. Null: no page fault was seen on this kernel (hook faults).
        fault_misses: Count32,
        /// Pages added in all; beyond misses, readahead and fault_misses: to be written, or in ways that don't tell what they ask for.
        added: Count32,
        /// Pages that became dirty, metadata of file systems included; of a large folio all.
        dirtied: Count32,
    }
}
