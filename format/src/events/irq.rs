//! Interrupts.

use crate::table::events;

events! {
    /// Handlers of a hardware interrupt on one CPU in 100 ms: one row for each power of two that their lengths fall into. What the kernel serves without a handler (local timer, IPIs) is not in it, as in `hardirqs`. Empty if filters are on: interrupts belong to no task.
    HardIrq = "hardirq" {
        /// When the last of them ended.
        head: CpuHead,
        /// When the first of the interval, of any length, began.
        since_ts: Timestamp,
        /// Time that these took in all.
        total_ns: Duration,
        /// Time that the longest of them took.
        max_ns: Duration,
        /// How many.
        count: Count,
        /// Each took at least this long, a power of two, and less than double; the largest, 2^29, is open.
        at_least_ns: Duration,
        /// Number of the interrupt, as in /proc/interrupts.
        irq: Irq,
        /// Padding.
        pad: Pad32,
        /// Name of the handler, as in /proc/interrupts.
        name: ShortName,
    }

    /// Runs of a soft interrupt on one CPU in 100 ms: one row for each power of two that their lengths fall into. Time includes the hardware interrupts that came in between. Empty if filters are on: interrupts belong to no task.
    SoftIrq = "softirq" {
        /// When the last of them ended.
        head: CpuHead,
        /// When the first of the interval, of any length, began.
        since_ts: Timestamp,
        /// Time that these took in all.
        total_ns: Duration,
        /// Time that the longest of them took.
        max_ns: Duration,
        /// How many.
        count: Count,
        /// Each took at least this long, a power of two, and less than double; the largest, 2^29, is open.
        at_least_ns: Duration,
        /// The soft interrupt, as `softirqs` names it.
        vector: SoftirqVector,
        /// Padding.
        pad: Pad32,
    }
}
