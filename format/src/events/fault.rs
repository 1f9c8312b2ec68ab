//! Page faults.

use crate::table::events;

events! {
    /// A major page fault: the page had to be read, from a file or from swap, while the task waited. As many as `ru_majflt` of getrusage(2) counts. `ts` is when it was over.
    MajorFault = "major_fault" {
        /// The task that touched the page.
        head: Head,
        /// What it touched.
        address: Address,
        /// The instruction; of the kernel, if it touched the page on behalf of the task.
        ip: Address,
    }
}
