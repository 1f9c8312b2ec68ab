-- TCP round-trip time
--
-- A row is the smoothed round-trip time of a connection when a segment arrived, at most one per connection in 100 ms: a connection counts
-- for its time, not for its segments.
--
-- group: network
-- needs: tcp_rtt
-- by: comm
-- metric: rtt = quantiles(srtt_ns) ns lower : Smoothed round-trip time.
SELECT ts, comm, srtt_ns
FROM tcp_rtt
