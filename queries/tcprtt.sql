-- Summarize TCP round-trip times as a histogram
--
-- The smoothed round-trip time of established connections. The live tool counts it at each segment that arrives; a capture has at most one
-- sample per connection in 100 ms, so that a connection counts for its time, not for its segments.
--
-- group: network
-- needs: tcp_rtt
-- uses: tcp_connection, tcp_connect, tcp_accept, tcp_socket
-- whole: tcp_connection, tcp_connect, tcp_accept, tcp_socket
-- param: interval seconds -i --interval : Seconds of each histogram; without, one for the whole window.
-- param: count int --count : How many intervals to print.
-- param: duration seconds -d --duration : Only so many seconds of the window.
-- histogram: srtt_ns ns
-- param: lport int --lport : Only this local port; -p is the process.
-- param: rport int -P --rport : Only this remote port.
-- param: laddr text -a --laddr : Only this local address.
-- param: raddr text -A --raddr : Only this remote address.
-- title: All Addresses = ****** unless byladdr unless byraddr unless by
-- by: laddr -b --byladdr "Local Address = {laddr}" : A histogram per local address.
-- by: raddr -B --byraddr "Remote Address = {raddr}" : A histogram per remote address.
-- conflicts: byladdr, byraddr
-- column: ts time : When a segment arrived.
-- column: srtt_ns us1 : Smoothed round-trip time.
-- column: laddr text : Local address.
-- column: lport int : Local port.
-- column: raddr text : Remote address.
-- column: rport int : Remote port.
-- column: conn_id int : Connection.
-- column: pid int : Process that owns it.
-- column: comm comm : Name of its thread.
-- column: process_id int : Process, even if its pid was used again.
-- example: tcprtt -i 1 -d 10 : Ten histograms of one second each.
-- example: tcprtt -m -B : In milliseconds, one per remote address.
-- example: tcprtt -P 443 --by comm : Of connections to web servers, by program.
WITH ends AS (
    @connection_ends()
)
SELECT ts, srtt_ns, laddr, lport, raddr, rport, r.conn_id, pid, comm, process_id
FROM tcp_rtt AS r LEFT JOIN ends AS e ON r.conn_id = e.conn_id
WHERE ($lport IS NULL OR lport = $lport)
    AND ($rport IS NULL OR rport = $rport)
    AND ($laddr IS NULL OR laddr = $laddr)
    AND ($raddr IS NULL OR raddr = $raddr)
    AND ($duration IS NULL OR date_part('epoch', CAST(ts AS TIMESTAMPTZ) - CAST($window_start AS TIMESTAMPTZ)) < $duration)
