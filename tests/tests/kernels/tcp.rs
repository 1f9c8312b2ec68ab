//! The tcp tables against the truth of `tcp`, `tcp-hold` and `tcp-retransmit`.

use crate::capture::{Capture, Findings, list, sum};
use ebrec_tests::Result;
use serde_json::{Value, json};

const STATE: &str = "tcp state";
const ACCEPT: &str = "tcp accept";
const SEND: &str = "tcp send";
const RECV: &str = "tcp recv";
const RETRANSMIT: &str = "tcp retransmit";

/// The rows of `table` about this side of a connection.
pub fn rows_of(capture: &Capture, table: &str, side: &Value) -> Result<Vec<Value>> {
    let same = |row: &&Value| ["laddr", "lport", "raddr", "rport"].iter().all(|end| row[*end] == side[*end]);
    Ok(capture.table(table)?.iter().filter(same).cloned().collect())
}

fn sides(connection: &Value) -> [(&'static str, &Value); 2] {
    [("client", &connection["client"]), ("server", &connection["server"])]
}

/// Connections of every family, ended in every way, and refused ones.
pub fn tcp(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let connections = list(&truth["connections"]);
    for connection in connections {
        let name = |side: &str| {
            let part = |part: &str| connection[part].as_str().unwrap_or_default().to_owned();
            format!("connection {} ({}, {}) {side}", connection["index"], part("family"), part("closer"))
        };
        for (which, side) in sides(connection) {
            whole_life(capture, &name(which), side, found)?;
        }
        let latencies: Vec<_> = rows_of(capture, "tcp_connect", &connection["client"])?
            .iter()
            .map(|row| (row["errno"].clone(), row["latency_ns"].as_u64() > Some(0), row["pid"].clone()))
            .collect();
        found.equal(STATE, format!("{}: connects", name("client")), latencies, [(json!(0), true, connection["client"]["pid"].clone())]);
        let accepts = rows_of(capture, "tcp_accept", &connection["server"])?;
        let by: Vec<_> = accepts.iter().map(|row| (&row["pid"], &row["tid"], &row["comm"])).collect();
        let server = &connection["server"];
        found.equal(ACCEPT, format!("{}: accepts", name("server")), by, [(&server["pid"], &server["tid"], &server["comm"])]);
    }
    let refused = list(&truth["refused"]);
    if let Some(first) = connections.first() {
        let tried = capture.rows("tcp_connect", "pid", &first["client"]["pid"])?;
        found.equal(STATE, "connects in all", tried.len(), connections.len() + refused.len());
        let accepted = capture.rows("tcp_accept", "pid", &first["server"]["pid"])?;
        found.equal(ACCEPT, "accepts in all", accepted.len(), connections.len());
        for (index, refusal) in refused.iter().enumerate() {
            let same = |row: &&Value| row["rport"] == refusal["rport"] && row["raddr"] == refusal["raddr"];
            let rows: Vec<_> = tried.iter().filter(same).map(|row| (&row["errno"], &row["ip_version"])).collect();
            found.equal(STATE, format!("refused connection {index}"), rows, [(&refusal["errno"], &refusal["ip_version"])]);
        }
    }
    Ok(())
}

/// One side of a connection that was opened and closed within the window.
fn whole_life(capture: &Capture, name: &str, side: &Value, found: &mut Findings) -> Result<()> {
    let seen = rows_of(capture, "tcp_connection", side)?;
    let about: Vec<_> = seen.iter().map(|row| ["pid", "tid", "comm", "direction", "ip_version"].map(|column| &row[column])).collect();
    let expected = ["pid", "tid", "comm", "direction", "ip_version"].map(|column| &side[column]);
    found.equal(STATE, format!("{name}: connection"), about, [expected]);
    let closes = rows_of(capture, "tcp_close", side)?;
    let bytes: Vec<_> = closes.iter().map(|row| (&row["tx_bytes"], &row["rx_bytes"])).collect();
    found.equal(STATE, format!("{name}: bytes at the end"), bytes, [(&side["tx_bytes"], &side["rx_bytes"])]);
    let states = rows_of(capture, "tcp_state", side)?;
    let of_conn = |row: &&Value| seen.first().is_some_and(|conn| conn["conn_id"] == row["conn_id"]);
    let chain: Vec<&Value> = states.iter().filter(of_conn).collect();
    let unbroken = chain.windows(2).all(|two| two[0]["new_state"] == two[1]["old_state"]);
    let ended = chain.last().is_some_and(|row| row["new_state"] == "CLOSE");
    found.check(STATE, unbroken && ended, || format!("{name}: states {chain:?}"));
    if let Some(conn) = seen.first() {
        calls(capture, name, &conn["conn_id"], side, side, found)?;
    }
    Ok(())
}

/// The calls on one side that moved bytes, and who made them.
fn calls(capture: &Capture, name: &str, conn_id: &Value, side: &Value, counts: &Value, found: &mut Findings) -> Result<()> {
    let sends = capture.rows("tcp_send", "conn_id", conn_id)?;
    found.equal(SEND, format!("{name}: bytes sent"), Some(sum(&sends, "bytes")), counts["tx_bytes"].as_u64());
    let sendfiles = counts["sendfile_calls"].as_u64().unwrap_or(0);
    let least = counts["send_calls"].as_u64().unwrap_or(0) + sendfiles;
    // The kernel may send the bytes of one sendfile() in several pieces.
    let right = sends.len() as u64 == least || (sendfiles > 0 && sends.len() as u64 > least);
    found.check(SEND, right, || format!("{name}: {} sends instead of {least}", sends.len()));
    found.check(SEND, sends.iter().all(|row| row["pid"] == side["pid"] && row["comm"] == side["comm"]), || format!("{name}: who sent"));
    let recvs = capture.rows("tcp_recv", "conn_id", conn_id)?;
    found.equal(RECV, format!("{name}: bytes received"), Some(sum(&recvs, "bytes")), counts["rx_bytes"].as_u64());
    found.equal(RECV, format!("{name}: receives"), Some(recvs.len() as u64), counts["recv_calls"].as_u64());
    found.check(RECV, recvs.iter().all(|row| row["pid"] == side["pid"] && row["comm"] == side["comm"]), || format!("{name}: who received"));
    Ok(())
}

/// Connections opened before the window and closed after it, with one transfer before it and one within.
pub fn hold(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    for connection in list(&truth["connections"]) {
        for (which, side) in sides(connection) {
            let name = format!("held connection {} {which}", connection["index"]);
            let (before, within) = (&side["transfers"][0], &side["transfers"][1]);
            let sockets = rows_of(capture, "tcp_socket", side)?;
            let known: Vec<_> =
                sockets.iter().map(|row| ["state", "pid", "comm", "tx_bytes", "rx_bytes"].map(|column| &row[column])).collect();
            let established = json!("ESTABLISHED");
            let expected = [&established, &side["pid"], &side["comm"], &before["tx_bytes"], &before["rx_bytes"]];
            found.equal("tcp sockets", format!("{name}: socket at the start"), known, [expected]);
            let open = rows_of(capture, "tcp_connection", side)?;
            let known: Vec<_> = open.iter().map(|row| ["pid", "comm", "opened_ts", "closed_ts"].map(|column| &row[column])).collect();
            found.equal(
                "tcp open",
                format!("{name}: connection at the end"),
                known,
                [[&side["pid"], &side["comm"], &Value::Null, &Value::Null]],
            );
            if let Some(conn) = open.first() {
                calls(capture, &name, &conn["conn_id"], side, within, found)?;
            }
            let processes = capture.rows("process", "pid", &side["pid"])?;
            let names: Vec<_> = processes.iter().map(|row| &row["comm"]).collect();
            found.equal("process snapshot", format!("{name}: its process"), names, [&side["comm"]]);
        }
    }
    for port in list(&truth["server_ports"]) {
        let listening = capture.rows("tcp_socket", "lport", port)?.iter().filter(|row| row["state"] == "LISTEN").count();
        found.equal("tcp sockets", format!("listeners on port {port}"), listening, 1);
    }
    Ok(())
}

/// SYNs that nobody answered.
pub fn retransmit(capture: &Capture, truth: &Value, found: &mut Findings) -> Result<()> {
    let rows = capture.rows("tcp_retransmit", "lport", &truth["lport"])?;
    found.equal(RETRANSMIT, "SYNs sent again", Some(rows.len() as u64), truth["retransmits"].as_u64());
    found.check(RETRANSMIT, rows.iter().all(|row| row["state"] == "SYN_SENT" && row["pid"] == truth["pid"]), || format!("{rows:?}"));
    Ok(())
}

/// Connections under loss; `sent_again` is how many segments the kernel counted meanwhile (RetransSegs of /proc/net/snmp).
pub fn lossy(capture: &Capture, truth: &Value, sent_again: u64, found: &mut Findings) -> Result<()> {
    tcp(capture, truth, found)?;
    let (mut rows, mut at_close) = (0, 0);
    for (_, side) in list(&truth["connections"]).iter().flat_map(sides) {
        rows += rows_of(capture, "tcp_retransmit", side)?.len() as u64;
        at_close += sum(&rows_of(capture, "tcp_close", side)?, "retransmits");
    }
    found.check(RETRANSMIT, sent_again > 0, || "nothing was sent again under loss".to_owned());
    found.equal(RETRANSMIT, "segments sent again", rows, sent_again);
    found.equal(STATE, "segments sent again, at the end of the connections", at_close, sent_again);
    Ok(())
}
