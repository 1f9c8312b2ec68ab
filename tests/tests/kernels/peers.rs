//! Debian's libbpf-tools beside the recorder: their rows against the capture's, for the connections of `tcp` and `pid-reuse`.
//!
//! Where they differ, the capture agrees with the workload's truth (see `tcp.rs`), and the difference has its rule here.

use crate::capture::{Capture, Findings, list, sum};
use crate::tcp::rows_of;
use ebrec_tests::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Local and remote end, each `address port`.
type Ends = (String, String);

/// One side of a connection in the truth.
struct Side<'a> {
    ends: Ends,
    truth: &'a Value,
}

/// Compares the peers' outputs in `dir`. Returns per peer what was equal, for the report.
pub fn compare(dir: &Path, capture: &Capture, truths: &[Value], found: &mut Findings) -> Result<BTreeMap<&'static str, String>> {
    let connections = truths.iter().flat_map(|truth| list(&truth["connections"]).iter().chain(list(&truth["instances"])));
    let sides: Vec<Side> = connections
        .flat_map(|connection| [&connection["client"], &connection["server"]])
        .map(|truth| Side { ends: ends_of(truth), truth })
        .collect();
    let output = |peer: &str| -> Result<Vec<Vec<String>>> {
        let path = dir.join(format!("{peer}.out"));
        let text = std::fs::read_to_string(&path).context(path.display())?;
        Ok(text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect())
    };
    let mut agreed = BTreeMap::new();
    agreed.insert("tcplife", tcplife(&output("tcplife")?, capture, &sides, found)?);
    agreed.insert("tcpconnect", tcpconnect(&output("tcpconnect")?, capture, truths, found)?);
    agreed.insert("tcptracer", tcptracer(&output("tcptracer")?, capture, &sides, found)?);
    agreed.insert("tcptop", tcptop(&output("tcptop")?, capture, &sides, found)?);
    Ok(agreed)
}

fn ends_of(row: &Value) -> Ends {
    let end = |addr: &str, port: &str| format!("{} {}", row[addr].as_str().unwrap_or("?"), row[port]);
    (end("laddr", "lport"), end("raddr", "rport"))
}

/// As the capture has it: a v4-mapped address is an IPv4 one.
fn end(addr: &str, port: &str) -> String {
    format!("{} {port}", addr.strip_prefix("::ffff:").unwrap_or(addr))
}

/// PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS. The bytes are those of the capture, to the hundredth of a KB that is printed,
/// but for SYN and FIN, which the kernel counts and tcplife leaves in. Now and then it misses
/// a side, mostly one that moved no byte and was closed at once (why was not looked into). The process of a passive connection is whoever ran when its state changed, often the client: there the capture knows better.
fn tcplife(rows: &[Vec<String>], capture: &Capture, sides: &[Side], found: &mut Findings) -> Result<String> {
    let (mut owners, mut wrong_owners, mut missing) = (0, 0, 0);
    for side in sides {
        // In a slow VM it may show the socket of a SYN that was sent again as well, which moved nothing.
        let same = |row: &&Vec<String>| matches!(row.as_slice(), [_, _, la, lp, ra, rp, ..] if (end(la, lp), end(ra, rp)) == side.ends);
        let row =
            rows.iter().filter(same).max_by_key(|row| row.get(6) != Some(&"0.00".to_owned()) || row.get(7) != Some(&"0.00".to_owned()));
        let close = rows_of(capture, "tcp_close", side.truth)?;
        if row.is_none() {
            missing += 1;
            continue;
        }
        let (Some(row), Some(close)) = (row, close.first()) else {
            found.check("tcplife", false, || format!("{:?}: {row:?}, {close:?}", side.ends));
            continue;
        };
        for (at, column) in [(6, "tx_bytes"), (7, "rx_bytes")] {
            let printed: f64 = row.get(at).and_then(|text| text.parse().ok()).context("a number of KB")?;
            let kb = close[column].as_u64().context("bytes")? as f64 / 1024.0;
            found.check("tcplife", (-0.0051..0.0051 + 2.0 / 1024.0).contains(&(printed - kb)), || {
                format!("{:?}: {column} {printed} KB, not {kb}", side.ends)
            });
        }
        let same = row[0].parse().ok() == close["pid"].as_i64();
        *(if same { &mut owners } else { &mut wrong_owners }) += 1;
        found.check("tcplife", same || side.truth["direction"] == "passive", || format!("{:?}: owner {}", side.ends, row[0]));
    }
    let n = sides.len();
    found.check("tcplife", missing * 10 <= n, || format!("it does not show {missing} of {n} sides"));
    Ok(format!(
        "{} of {n} sides, bytes equal but for SYN and FIN; owner equal for {owners}, for {wrong_owners} passive ones tcplife names another task",
        n - missing
    ))
}

/// PID COMM IP SADDR DADDR DPORT, one per SYN sent, refused ones as well: as many as rows of `tcp_connect`, per process and target.
fn tcpconnect(rows: &[Vec<String>], capture: &Capture, truths: &[Value], found: &mut Findings) -> Result<String> {
    let pids: BTreeSet<String> = truths
        .iter()
        .flat_map(|truth| list(&truth["connections"]).iter().chain(list(&truth["instances"])))
        .map(|connection| connection["client"]["pid"].to_string())
        .collect();
    let mut printed: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in rows {
        if let [pid, .., daddr, dport] = row.as_slice()
            && pids.contains(pid)
        {
            *printed.entry((pid.clone(), end(daddr, dport))).or_default() += 1;
        }
    }
    let mut captured: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in capture.table("tcp_connect")?.iter().filter(|row| pids.contains(&row["pid"].to_string())) {
        *captured.entry((row["pid"].to_string(), ends_of(row).1)).or_default() += 1;
    }
    let count = captured.values().sum::<usize>();
    found.equal("tcpconnect", "connects by process and target", &printed, &captured);
    Ok(format!("{count} of {count} connects"))
}

/// TIME T PID COMM IP SADDR DADDR SPORT DPORT; T is C, A or X for connect, accept and close.
/// It shows no C for an IPv6 socket that connects to an IPv4 address: tcp_v6_connect calls tcp_v4_connect, and it loses the former.
fn tcptracer(rows: &[Vec<String>], capture: &Capture, sides: &[Side], found: &mut Findings) -> Result<String> {
    let printed = |kind: &str, side: &Side| {
        let same = |row: &&Vec<String>| {
            matches!(row.as_slice(), [_, t, pid, .., sa, da, sp, dp] if t == kind
            && (end(sa, sp), end(da, dp)) == side.ends && pid.parse().ok() == side.truth["pid"].as_i64())
        };
        rows.iter().filter(same).count()
    };
    let (mut opened, mut closed, mut mapped) = (0, 0, 0);
    for side in sides {
        let active = side.truth["direction"] == "active";
        let (kind, table) = if active { ("C", "tcp_connect") } else { ("A", "tcp_accept") };
        let captured = rows_of(capture, table, side.truth)?.len();
        let lost = active && side.truth["socket_family"] == "inet6" && side.truth["ip_version"] == 4;
        found.equal("tcptracer", format!("{kind} of {:?}", side.ends), printed(kind, side), if lost { 0 } else { captured });
        *(if lost { &mut mapped } else { &mut opened }) += captured;
        let closes = rows_of(capture, "tcp_close", side.truth)?.len();
        found.equal("tcptracer", format!("X of {:?}", side.ends), printed("X", side), closes);
        closed += closes;
    }
    Ok(format!(
        "{opened} of {opened} connects and accepts, {closed} of {closed} closes; it shows no connect of the {mapped} v4-mapped clients"
    ))
}

/// PID COMM LADDR RADDR RX_KB TX_KB per interval, whole KB cut off. It counts the bytes of a peek as received, misses those of
/// sendfile(), shows what is read after the connection's end with port 0, and loses what moves between its reading and its clearing
/// of the counters. So it may show less than the capture, for a few sides, and never more.
fn tcptop(rows: &[Vec<String>], capture: &Capture, sides: &[Side], found: &mut Findings) -> Result<String> {
    let (mut equal, mut peeked, mut sendfiles, mut port_lost, mut lost) = (0, 0, 0, 0, 0);
    let split = |text: &str| text.rsplit_once(':').map(|(addr, port)| end(addr, port)).unwrap_or_default();
    for side in sides {
        let count = |column: &str| side.truth[column].as_u64().unwrap_or(0);
        let pid = side.truth["pid"].to_string();
        let of = |local: &str| -> Vec<&Vec<String>> {
            let same = |row: &&Vec<String>| matches!(row.as_slice(), [p, .., l, r, _, _] if split(l) == local && split(r) == side.ends.1 && *p == pid);
            rows.iter().filter(same).collect()
        };
        let intervals = of(&side.ends.0);
        let without_port = of(&side.ends.0.rsplit_once(' ').map(|(addr, _)| format!("{addr} 0")).unwrap_or_default());
        let kb = |from_end: usize| intervals.iter().filter_map(|row| row[row.len() - from_end].parse::<u64>().ok()).sum::<u64>();
        let (rx_kb, tx_kb) = (kb(2), kb(1));
        let conn = rows_of(capture, "tcp_connection", side.truth)?;
        let Some(conn) = conn.first() else { continue };
        let captured = |table: &str| -> Result<u64> { Ok(sum(&capture.rows(table, "conn_id", &conn["conn_id"])?, "bytes")) };
        let (rx, tx) = (captured("tcp_recv")? + count("peek_bytes"), captured("tcp_send")?);
        let more = rx_kb * 1024 > rx || tx_kb * 1024 > tx;
        found.check("tcptop", !more, || format!("{:?}: {rx_kb} and {tx_kb} KB, captured {rx} (peeked ones too) and {tx}", side.ends));
        peeked += u32::from(count("peek_bytes") > 0);
        // Each interval's row cuts off less than a KB.
        let fits = |kb: u64, bytes: u64| kb * 1024 <= bytes && bytes < (kb + intervals.len().max(1) as u64) * 1024;
        if fits(rx_kb, rx) && fits(tx_kb, tx) {
            equal += 1;
        } else if fits(rx_kb, rx) && fits(tx_kb, tx - count("sendfile_bytes")) {
            sendfiles += 1;
        } else if !without_port.is_empty() && !fits(rx_kb, rx) {
            port_lost += 1;
        } else {
            lost += 1;
        }
    }
    found.check("tcptop", lost * 10 <= sides.len(), || format!("it shows less than the capture for {lost} of {} sides", sides.len()));
    Ok(format!(
        "{equal} of {} sides, bytes equal within the KB it cuts off, with peeked bytes counted again ({peeked} sides); \
         less for others: sendfile ({sendfiles}), late reads shown under port 0 ({port_lost}), bytes lost while it clears its counters ({lost})",
        sides.len()
    ))
}
