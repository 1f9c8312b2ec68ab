-- Summarize time in soft interrupts
--
-- Time that the runs of each soft interrupt took, the hardware interrupts in between included, or with -d its distribution. The capture has sums
-- per 100 ms and power of two of nanoseconds, so a bucket in microseconds begins and ends 2.4 % higher than it says: 2 is 2.048. Totals are
-- exact, where the live tool cuts each run to whole microseconds before it adds them.
--
-- group: interrupt
-- needs: softirq
-- interval: Seconds of each block; without, one block for the whole window.
-- param: distributed flag -d --distributed : Show distributions as histograms.
-- param: events flag -C --count : Show how many there were, too.
-- param: nanoseconds flag -N --nanoseconds : Nanoseconds instead of microseconds.
-- param: timestamp flag -T --timestamp : Print the time at the end of each interval (HH:MM:SS, UTC).
-- conflicts: distributed, events
-- buckets: vector if distributed
-- column: interval_end time hidden : End of the interval.
-- column: vector AS "SOFTIRQ" text<16 : The soft interrupt.
-- column: unit text hidden : Unit of the bounds.
-- column: low int hidden : Smallest value of the bucket; null without -d.
-- column: high int hidden : Largest value of the bucket; null without -d.
-- column: total_ns AS "TOTAL_usecs" us>11 unless nanoseconds : Time that they took in all.
-- column: total_ns AS "TOTAL_nsecs" int>11 if nanoseconds : Time that they took in all.
-- column: count AS "TOTAL_count" int>12 if events : How many there were.
-- column: max_ns int hidden : Time that the longest took.
-- title: {interval_end} if timestamp
-- title: softirq = {vector} if distributed
-- blocks: interval_end
-- example: softirqs : Time of the whole window.
-- example: softirqs -d : As histograms.
-- example: softirqs -NT 1 10 : In nanoseconds, per second.
WITH runs AS (
    SELECT @nth(ts) AS nth, vector, count, total_ns, max_ns,
        CASE
            WHEN $distributed AND $nanoseconds THEN CAST(round(log2(greatest(at_least_ns, 1))) AS BIGINT)
            WHEN $distributed THEN greatest(CAST(round(log2(greatest(at_least_ns, 1))) AS BIGINT) - 10, 0)
        END AS slot
    FROM softirq
)
SELECT @interval_end(nth) AS interval_end, vector,
    CASE WHEN $nanoseconds THEN 'nsecs' ELSE 'usecs' END AS unit,
    CASE WHEN slot = 0 THEN 0 ELSE CAST(power(2, slot) AS BIGINT) END AS low,
    CAST(power(2, slot + 1) AS BIGINT) - 1 AS high,
    CAST(sum(total_ns) AS BIGINT) AS total_ns, CAST(sum(count) AS BIGINT) AS count, max(max_ns) AS max_ns
FROM runs
WHERE $count IS NULL OR nth < $count
GROUP BY nth, vector, slot
-- In the kernel's order.
ORDER BY interval_end, array_position(['hi', 'timer', 'net_tx', 'net_rx', 'block', 'irq_poll', 'tasklet', 'sched', 'hrtimer', 'rcu'], vector), vector, low
