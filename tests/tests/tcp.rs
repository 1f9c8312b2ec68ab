//! TCP connections in a capture are those that there were, byte by byte and call by call: the `tcp_*` tables.

use ebrec_tests::{Capture, Context, Held, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

const TCP: &[&str] = &["--probes", "tcp"];

/// What tells one side of a connection from all others: local address and port, remote address and port.
type Ends = (String, i64, String, i64);

fn ends(of: &Value) -> Ends {
    let port = |key: &str| of[key].as_i64().unwrap_or(-1);
    let addr = |key: &str| of[key].as_str().unwrap_or("").to_owned();
    (addr("laddr"), port("lport"), addr("raddr"), port("rport"))
}

/// Both sides of all connections, with the connection that each is of.
fn sides(truth: &Value) -> Result<Vec<(&Value, &Value)>> {
    let connections = list(&truth["connections"])?;
    Ok(connections.iter().flat_map(|connection| [(connection, &connection["client"]), (connection, &connection["server"])]).collect())
}

/// The rows of a table by the ends of their connection; other programs' connections are in it too.
fn by_ends(capture: &Capture, table: &str) -> Result<BTreeMap<Ends, Vec<Value>>> {
    let mut rows = BTreeMap::<_, Vec<Value>>::new();
    let times =
        if table == "tcp_connection" { ", CAST(opened_ts AS BIGINT) AS opened_ns, CAST(closed_ts AS BIGINT) AS closed_ns" } else { "" };
    for row in capture.sql(&format!("SELECT *, CAST(ts AS BIGINT) AS ts_ns{times} FROM {table} ORDER BY ts"))? {
        rows.entry(ends(&row)).or_default().push(row);
    }
    Ok(rows)
}

fn only<'a, K: Ord>(rows: &'a BTreeMap<K, Vec<Value>>, key: &K) -> Result<&'a Value> {
    match rows.get(key).map(Vec::as_slice) {
        Some([row]) => Ok(row),
        other => ebrec_tests::fail(format!("not one row but {other:?}")),
    }
}

/// Number and sum of bytes of a table's rows per connection and process that called.
fn calls(capture: &Capture, table: &str) -> Result<BTreeMap<(i64, i64), (i64, i64)>> {
    let rows = capture.sql(&format!("SELECT conn_id, pid, count(*) AS calls, sum(bytes) AS bytes FROM {table} GROUP BY conn_id, pid"))?;
    rows.iter().map(|row| Ok(((int(&row["conn_id"])?, int(&row["pid"])?), (int(&row["calls"])?, int(&row["bytes"])?)))).collect()
}

fn assert_owner(row: &Value, side: &Value) {
    for column in ["pid", "tid", "comm", "ip_version", "laddr", "lport", "raddr", "rport"] {
        assert_eq!(row[column], side[column], "{column}\n{row}\n{side}");
    }
}

#[test]
fn both_sides_of_every_connection_are_one_row_with_their_owner() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp"]))?;
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let netns = std::fs::metadata("/proc/self/ns/net").context("/proc/self/ns/net")?.ino();
    let rows = by_ends(&capture, "tcp_connection")?;
    let mut ids = BTreeSet::new();
    for (connection, side) in sides(&truth)? {
        let row = only(&rows, &ends(side)).context(connection)?;
        assert_owner(row, side);
        assert_eq!((&row["direction"], &row["netns"]), (&side["direction"], &json!(netns)));
        let (opened, closed) = (int(&row["opened_ns"])? - boot_to_utc, int(&row["closed_ns"])? - boot_to_utc);
        // A connection is established before it is accepted; its end may come later than close().
        let client = &connection["client"];
        assert!(int(&client["opened_after_boot_ns"])? <= opened && opened <= int(&side["closed_before_boot_ns"])?, "{row}\n{side}");
        assert!(opened < closed, "{row}");
        ids.insert(int(&row["conn_id"])?);
    }
    assert_eq!(ids.len(), sides(&truth)?.len());
    Ok(())
}

#[test]
fn the_end_of_a_connection_tells_its_payload_bytes() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Time for the acknowledgements before a reset: tx_bytes counts what was acknowledged.
    let (truth, capture) = recorded(TCP, || workload(&["tcp", "--settle-ms", "100"]))?;
    let rows = by_ends(&capture, "tcp_close")?;
    let connections = by_ends(&capture, "tcp_connection")?;
    for (connection, side) in sides(&truth)? {
        let row = only(&rows, &ends(side)).context(connection)?;
        assert_owner(row, side);
        for count in ["tx_bytes", "rx_bytes"] {
            assert_eq!(row[count], side[count], "{count}\n{row}\n{connection}");
        }
        let whole = only(&connections, &ends(side))?;
        assert_eq!((&row["conn_id"], &row["ts_ns"]), (&whole["conn_id"], &whole["closed_ns"]));
        assert_eq!(int(&row["duration_ns"])?, int(&whole["closed_ns"])? - int(&whole["opened_ns"])?, "{row}\n{whole}");
        // A busy machine may let so much time go by that something is sent again.
        let again = capture.number(&format!("SELECT count(*) FROM tcp_retransmit WHERE conn_id = {}", row["conn_id"]))?;
        assert_eq!(int(&row["retransmits"])?, again, "{row}");
        assert!(int(&row["srtt_ns"])? > 0, "{row}");
    }
    Ok(())
}

#[test]
fn every_call_that_moved_bytes_is_recorded() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp"]))?;
    let connections = by_ends(&capture, "tcp_connection")?;
    let (sends, receives) = (calls(&capture, "tcp_send")?, calls(&capture, "tcp_recv")?);
    for (connection, side) in sides(&truth)? {
        let key = (int(&only(&connections, &ends(side))?["conn_id"])?, int(&side["pid"])?);
        let (sent, send_bytes) = sends.get(&key).copied().unwrap_or_default();
        let (received, recv_bytes) = receives.get(&key).copied().unwrap_or_default();
        assert_eq!((send_bytes, recv_bytes), (int(&side["tx_bytes"])?, int(&side["rx_bytes"])?), "{connection}");
        // Peeks are not in it. One sendfile() is a row for each piece that the kernel sends.
        assert_eq!(received, int(&side["recv_calls"])?, "{connection}");
        let (others, sendfiles) = (int(&side["send_calls"])?, int(&side["sendfile_calls"])?);
        assert!(if sendfiles == 0 { sent == others } else { sent >= others + sendfiles }, "{sent} rows: {connection}");
    }
    // Nobody else used these connections.
    let ids: Vec<String> =
        sides(&truth)?.iter().map(|(_, side)| Ok(only(&connections, &ends(side))?["conn_id"].to_string())).collect::<Result<_>>()?;
    for (table, total) in [("tcp_send", "tx_bytes"), ("tcp_recv", "rx_bytes")] {
        let bytes = capture.number(&format!("SELECT sum(bytes) FROM {table} WHERE conn_id IN ({})", ids.join(",")))?;
        assert_eq!(bytes, int(&truth["totals"][total])?);
    }
    Ok(())
}

#[test]
fn connects_and_accepts_are_recorded_with_outcome_and_time() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp", "--refused", "20"]))?;
    let (connects, accepts) = (by_ends(&capture, "tcp_connect")?, by_ends(&capture, "tcp_accept")?);
    for connection in list(&truth["connections"])? {
        let (client, server) = (&connection["client"], &connection["server"]);
        let row = only(&connects, &ends(client)).context(connection)?;
        assert_owner(row, client);
        assert_eq!(row["errno"], 0);
        let took = int(&client["closed_before_boot_ns"])? - int(&client["opened_after_boot_ns"])?;
        assert!((1..took).contains(&int(&row["latency_ns"])?), "{row}");
        let row = only(&accepts, &ends(server)).context(connection)?;
        assert_owner(row, server);
        let took = int(&server["closed_before_boot_ns"])? - int(&client["opened_after_boot_ns"])?;
        assert!((1..took).contains(&int(&row["queued_ns"])?), "{row}");
        // The other way round there is none.
        assert!(!connects.contains_key(&ends(server)) && !accepts.contains_key(&ends(client)));
    }
    let failed: Vec<_> = connects.values().flatten().filter(|row| row["comm"] == "wl-client" && row["errno"] != 0).collect();
    let refused = list(&truth["refused"])?;
    assert_eq!(failed.len(), refused.len());
    let ports = capture.sql(
        "SELECT conn_id, lport FROM tcp_connect UNION ALL SELECT conn_id, lport FROM tcp_close
         UNION ALL SELECT conn_id, lport FROM tcp_connection UNION ALL SELECT conn_id, lport FROM tcp_state WHERE new_state = 'CLOSE'",
    )?;
    let mut in_order = failed.clone();
    in_order.sort_by_key(|row| row["ts_ns"].as_i64());
    for (row, side) in in_order.into_iter().zip(refused) {
        for column in ["pid", "tid", "comm", "errno", "ip_version", "raddr", "rport"] {
            assert_eq!(row[column], side[column], "{column}\n{row}\n{side}");
        }
        assert!(side["lport"].is_null() || row["lport"] == side["lport"], "{row}\n{side}");
        // The kernel has chosen it before the SYN left, whatever came of that.
        let known: Vec<&Value> = ports.iter().filter(|port| port["conn_id"] == row["conn_id"]).map(|port| &port["lport"]).collect();
        assert_eq!(known, vec![&side["lport_chosen"]; 4], "{side}");
        let took = int(&side["closed_before_boot_ns"])? - int(&side["opened_after_boot_ns"])?;
        assert!((1..took).contains(&int(&row["latency_ns"])?), "{row}");
    }
    Ok(())
}

/// The states that can follow another one (RFC 9293, and Linux's shortcuts to CLOSE).
fn follows(old: &str, new: &str) -> bool {
    match old {
        "CLOSE" => matches!(new, "SYN_SENT" | "LISTEN"),
        // An accepted socket is a copy of the listening one.
        "LISTEN" => matches!(new, "SYN_RECV" | "CLOSE"),
        "SYN_SENT" => matches!(new, "ESTABLISHED" | "SYN_RECV" | "CLOSE"),
        "SYN_RECV" => matches!(new, "ESTABLISHED" | "FIN_WAIT1" | "CLOSE_WAIT" | "CLOSE"),
        "ESTABLISHED" => matches!(new, "FIN_WAIT1" | "CLOSE_WAIT" | "CLOSE"),
        "FIN_WAIT1" => matches!(new, "FIN_WAIT2" | "CLOSING" | "CLOSE"),
        "CLOSE_WAIT" => matches!(new, "LAST_ACK" | "CLOSE"),
        "FIN_WAIT2" | "CLOSING" | "LAST_ACK" => new == "CLOSE",
        _ => false,
    }
}

#[test]
fn states_follow_one_another_without_a_gap() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp", "--refused", "4"]))?;
    let connections = by_ends(&capture, "tcp_connection")?;
    let mut by_conn = BTreeMap::<i64, Vec<Value>>::new();
    for row in capture.table("tcp_state")? {
        by_conn.entry(int(&row["conn_id"])?).or_default().push(row);
    }
    let refused: BTreeSet<i64> = list(&truth["refused"])?.iter().map(|side| int(&side["rport"])).collect::<Result<_>>()?;
    let refusals = connections
        .values()
        .flatten()
        .filter(|row| row["comm"] == "wl-client" && row["rport"].as_i64().is_some_and(|p| refused.contains(&p)));
    let refusals: Vec<&Value> = refusals.collect();
    assert_eq!(refusals.len(), list(&truth["refused"])?.len());
    for row in refusals {
        let states: Vec<_> = by_conn[&int(&row["conn_id"])?].iter().map(|row| text(&row["new_state"]).unwrap_or("?")).collect();
        assert_eq!(states, ["SYN_SENT", "CLOSE"]);
    }
    for (connection, side) in sides(&truth)? {
        let id = int(&only(&connections, &ends(side))?["conn_id"])?;
        let rows = by_conn.get(&id).context("no states")?;
        let mut before: Option<&Value> = None;
        for row in rows {
            // connect() sends the SYN off before it has a port.
            if row["new_state"] == "SYN_SENT" {
                assert_eq!((&row["lport"], &row["pid"]), (&Value::Null, &side["pid"]), "{row}");
            } else {
                assert_owner(row, side);
            }
            assert!(follows(text(&row["old_state"])?, text(&row["new_state"])?), "{row}");
            if let Some(before) = before {
                assert_eq!(row["old_state"], before["new_state"], "{connection}");
                assert_eq!(int(&row["in_old_state_ns"])?, int(&row["ts_ns"])? - int(&before["ts_ns"])?);
            }
            before = Some(row);
        }
        let states: Vec<_> = rows.iter().map(|row| text(&row["new_state"]).unwrap_or("?")).collect();
        let active = side["direction"] == "active";
        assert_eq!(states[..2], [if active { "SYN_SENT" } else { "SYN_RECV" }, "ESTABLISHED"], "{connection}");
        assert_eq!(states.last(), Some(&"CLOSE"));
        // Who closes first, and how, decides the way.
        let closes_first = if active { ["client", "client-half"] } else { ["server", "server"] };
        let reset = connection["reset"] == true;
        let closer = text(&connection["closer"])?;
        let expected: &[&str] = if reset {
            &["CLOSE"]
        } else if closes_first.contains(&closer) {
            &["FIN_WAIT1", "FIN_WAIT2", "CLOSE"]
        } else {
            &["CLOSE_WAIT", "LAST_ACK", "CLOSE"]
        };
        assert_eq!(states[2..], *expected, "{connection}");
    }
    Ok(())
}

#[test]
fn connections_from_before_the_window_to_after_it_are_known() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut held = Held::start(&["tcp-hold", "--conns", "2"])?;
    held.tell("send 1000")?;
    let ((), capture) = recorded(TCP, || {
        held.tell("send 50000")?;
        held.tell("open")?;
        held.tell("send 3000")
    })?;
    let truth = held.finish()?;
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let (connections, sockets) = (by_ends(&capture, "tcp_connection")?, by_ends(&capture, "tcp_socket")?);
    let (sends, receives) = (calls(&capture, "tcp_send")?, calls(&capture, "tcp_recv")?);
    for (connection, side) in sides(&truth)? {
        let row = only(&connections, &ends(side)).context(side)?;
        for column in ["pid", "comm", "ip_version", "laddr", "lport", "raddr", "rport"] {
            assert_eq!(row[column], side[column], "{column}\n{row}\n{side}");
        }
        assert!(row["closed_ts"].is_null(), "{row}");
        let transfers = list(&side["transfers"])?;
        // The first two were opened before the window, the last two within.
        let in_window = if int(&connection["index"])? < 2 {
            assert!(row["opened_ts"].is_null(), "{row}");
            let socket = only(&sockets, &ends(side)).context(side)?;
            assert_eq!((&socket["conn_id"], &socket["pid"], &socket["comm"]), (&row["conn_id"], &side["pid"], &side["comm"]));
            assert_eq!((&socket["state"], &socket["process_id"]), (&json!("ESTABLISHED"), &row["process_id"]));
            assert_eq!((&socket["tx_bytes"], &socket["rx_bytes"]), (&transfers[0]["tx_bytes"], &transfers[0]["rx_bytes"]), "{side}");
            &transfers[1..]
        } else {
            let opened = int(&row["opened_ns"])? - boot_to_utc;
            assert!(int(&connection["client"]["opened_after_boot_ns"])? <= opened, "{row}");
            assert_eq!(row["direction"], side["direction"]);
            transfers
        };
        let total = |key: &str| in_window.iter().map(|transfer| int(&transfer[key])).sum::<Result<i64>>();
        let key = (int(&row["conn_id"])?, int(&side["pid"])?);
        assert_eq!(sends.get(&key), Some(&(total("send_calls")?, total("tx_bytes")?)), "{side}");
        assert_eq!(receives.get(&key), Some(&(total("recv_calls")?, total("rx_bytes")?)), "{side}");
    }
    // The listeners were there as well.
    for port in list(&truth["server_ports"])? {
        let listener = capture.row(&format!("SELECT * FROM tcp_socket WHERE state = 'LISTEN' AND lport = {port}"))?;
        assert_eq!(listener["comm"], "wl-server");
    }
    Ok(())
}

#[test]
fn a_connection_from_before_the_window_that_ends_in_it_tells_its_whole_life() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let mut held = Held::start(&["tcp-hold", "--conns", "2"])?;
    held.tell("send 1000")?;
    let ((), capture) = recorded(TCP, || {
        held.tell("send 234")?;
        held.tell("close")
    })?;
    let truth = held.finish()?;
    let (closes, connections) = (by_ends(&capture, "tcp_close")?, by_ends(&capture, "tcp_connection")?);
    for (connection, side) in sides(&truth)? {
        let row = only(&closes, &ends(side)).context(connection)?;
        assert_eq!((&row["pid"], &row["comm"]), (&side["pid"], &side["comm"]));
        assert_eq!((&row["tx_bytes"], &row["rx_bytes"]), (&side["tx_bytes"], &side["rx_bytes"]), "{side}");
        assert!(row["duration_ns"].is_null(), "{row}");
        let whole = only(&connections, &ends(side))?;
        assert!(whole["opened_ts"].is_null() && whole["closed_ts"].is_string(), "{whole}");
    }
    Ok(())
}

/// SYNs of a socket that nobody has bound: its port is known in every row, though the attempt isn't over when recording ends.
#[test]
fn a_connection_that_never_comes_about_has_its_port() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (handle, capture) = recorded(TCP, || {
        let handle = std::thread::spawn(|| workload(&["tcp-retransmit", "--unbound", "--timeout-ms", "3000"]));
        std::thread::sleep(std::time::Duration::from_millis(1800));
        Ok(handle)
    })?;
    let truth = handle.join().map_err(|_| ebrec_tests::Error::new("the workload's thread panicked"))??;
    let pid = &truth["pid"];
    let again = capture.sql(&format!("SELECT lport FROM tcp_retransmit WHERE pid = {pid} AND rport = {}", truth["rport"]))?;
    assert!(!again.is_empty() && again.iter().all(|row| row["lport"] == truth["lport"]), "{again:?} {truth}");
    let open = capture.row(&format!("SELECT lport, closed_ts FROM tcp_connection WHERE pid = {pid} AND lport = {}", truth["lport"]))?;
    assert!(open["closed_ts"].is_null(), "{open}");
    Ok(())
}

#[test]
fn every_segment_sent_again_is_recorded() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp-retransmit"]))?;
    let expected = int(&truth["retransmits"])?;
    assert!(expected > 0);
    let (lport, rport) = (&truth["lport"], &truth["rport"]);
    let rows = capture.sql(&format!("SELECT * FROM tcp_retransmit WHERE lport = {lport} AND rport = {rport}"))?;
    assert_eq!(rows.len() as i64, expected);
    for row in &rows {
        assert_eq!((&row["state"], &row["raddr"]), (&json!("SYN_SENT"), &truth["raddr"]));
        assert_eq!((&row["pid"], &row["comm"]), (&truth["pid"], &truth["comm"]));
    }
    // The program gave up: it isn't known how the attempt would have ended.
    let connect = capture.row(&format!("SELECT * FROM tcp_connect WHERE lport = {lport} AND rport = {rport}"))?;
    assert!(connect["errno"].is_null(), "{connect}");
    let close = capture.row(&format!("SELECT * FROM tcp_close WHERE lport = {lport} AND rport = {rport}"))?;
    assert_eq!((&close["retransmits"], &close["duration_ns"]), (&json!(expected), &Value::Null));
    assert_eq!((&close["tx_bytes"], &close["rx_bytes"]), (&json!(0), &json!(0)));
    Ok(())
}
