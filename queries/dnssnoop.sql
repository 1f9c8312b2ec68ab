-- Trace DNS queries: what was asked, of whom, and the answer
--
-- One row per question that was sent to port 53, over UDP or TCP, by whatever program, and its answer. RCODE, ANSWERS and LAT(ms) are
-- `-` if none came. TRIES says how often the same message was sent.
--
-- group: network
-- needs: dns_query
-- param: name text -n --name : Only names that contain this.
-- param: type text -t --type : Only this type of record (A, AAAA, PTR, …).
-- param: failed flag -x --failed : Only queries without answer, or with another than NOERROR.
-- param: min int = 0 -m --min : Only answers that took at least this long, in ms, and queries without.
-- param: extended flag -e --extended-fields : Include the protocol, how often it was sent and the addresses in the answer.
-- column: ts AS "TIME" time<8 : When it was sent.
-- column: pid AS "PID" int<7 : Process that sent it.
-- column: comm AS "COMM" comm<16 : Name of its thread.
-- column: type AS "TYPE" text<6 : Type of record.
-- column: name AS "NAME" text<32 : Name that was asked for.
-- column: raddr AS "SERVER" text<16 : The server.
-- column: protocol AS "PROT" text<4 if extended : `udp` or `tcp`.
-- column: attempts AS "TRIES" int>5 if extended : How often it was sent.
-- column: rcode AS "RCODE" text<9 : How the server answered.
-- column: answers AS "ANSWERS" int>7 : Records in the answer.
-- column: latency_ns AS "LAT(ms)" ms3>9 : From question to answer.
-- column: addresses AS "ADDRESSES" args if extended : Addresses in the answer.
-- example: dnssnoop -x : Questions that went wrong.
-- example: dnssnoop -m 100 : Answers that took 100 ms and more, and those that never came.
SELECT ts, pid, comm, type, name, raddr, protocol, attempts, rcode, answers, latency_ns, addresses
FROM dns_query
WHERE ($name IS NULL OR strpos(name, $name) > 0)
    AND ($type IS NULL OR type = $type)
    AND (NOT $failed OR rcode IS NULL OR rcode <> 'NOERROR')
    AND (latency_ns IS NULL OR latency_ns >= $min * 1000000)
ORDER BY ts, pid, id, type, name, raddr
