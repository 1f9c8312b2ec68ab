//! Resets and round-trip times in a capture are those of the connections: the tables `tcp_reset` and `tcp_rtt`.

use ebrec_tests::{Capture, Context, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::{Value, json};

const TCP: &[&str] = &["--probes", "tcp"];

/// The resets that one side of a connection sent or received.
fn resets(capture: &Capture, side: &Value, way: &str) -> Result<Vec<Value>> {
    let end = |key: &str| format!("{}", side[key]).replace('"', "'");
    capture.sql(&format!(
        "SELECT * FROM tcp_reset WHERE laddr = {} AND lport = {} AND raddr = {} AND rport = {} AND way = '{way}'",
        end("laddr"),
        end("lport"),
        end("raddr"),
        end("rport")
    ))
}

#[test]
fn every_reset_is_one_row_on_either_side() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp-resets", "5"]))?;
    let netns: i64 = text(&truth["netns"])?.trim_matches(|c: char| !c.is_ascii_digit()).parse().context("netns")?;
    // Before 6.10, and without trampolines, the kernel tells of those resets only that a socket sends.
    let tells_all = capture.number("SELECT count(*) FROM tcp_reset WHERE conn_id IS NULL")? > 0;
    let tells_reason = capture.number("SELECT count(*) FROM tcp_reset WHERE reason IS NOT NULL")? > 0;
    let mut sent_by_sockets = 0;
    for connection in list(&truth["connections"])? {
        let case = text(&connection["case"])?;
        let sent = resets(&capture, &connection["sender"], "sent")?;
        let has_socket = connection["sender_socket"] == true;
        if has_socket || tells_all {
            assert_eq!(sent.len(), 1, "{connection}");
            let row = &sent[0];
            assert_eq!(row["conn_id"].is_null(), !has_socket, "{row}");
            assert_eq!(row["pid"], if has_socket { truth["pid"].clone() } else { Value::Null }, "{row}");
            assert_eq!(row["netns"], netns, "{row}");
            if tells_reason && !connection["reason"].is_null() {
                assert_eq!(row["reason"], connection["reason"], "{case}");
            }
            sent_by_sockets += i64::from(has_socket);
        }
        let received = resets(&capture, &connection["receiver"], "received")?;
        assert_eq!(received.len(), 1, "{connection}");
        let state = match case {
            "refused" => "SYN_SENT",
            "too late" => "CLOSE_WAIT",
            _ => "ESTABLISHED",
        };
        assert_eq!((&received[0]["pid"], &received[0]["state"]), (&truth["pid"], &json!(state)), "{case}");
        assert!(received[0]["reason"].is_null() && !received[0]["conn_id"].is_null());
    }
    let count = |what: &str| capture.number(&format!("SELECT count(*) FROM tcp_reset WHERE netns = {netns} AND {what}"));
    assert_eq!(count("way = 'received'")?, list(&truth["connections"])?.len() as i64);
    assert_eq!(count("way = 'sent'")?, if tells_all { int(&truth["sent_by_kernel"])? } else { sent_by_sockets });
    Ok(())
}

#[test]
fn samples_of_round_trips_are_what_the_kernel_tells_the_program() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || workload(&["tcp-rtt", "5"]))?;
    let boot_to_utc = capture.boot_to_utc_ns()?;
    for (side, lport, rport) in [("client", "client_port", "server_port"), ("server", "server_port", "client_port")] {
        let ends = format!("lport = {} AND rport = {}", truth[lport], truth[rport]);
        let conn = capture.number(&format!("SELECT max(conn_id) FROM tcp_connection WHERE {ends}"))?;
        for round in list(&truth["rounds"])? {
            let (start, end) = (int(&round["start_boot_ns"])? + boot_to_utc, int(&round["end_boot_ns"])? + boot_to_utc);
            let rows = capture.sql(&format!(
                "SELECT * FROM tcp_rtt WHERE conn_id = {conn} AND CAST(ts AS BIGINT) BETWEEN {start} AND {end} ORDER BY ts"
            ))?;
            // The first segment after the pause: nothing has changed since the program asked the kernel.
            let first = rows.first().context(format!("no sample of the {side} in {round}"))?;
            assert_eq!(int(&first["srtt_ns"])? / 1000, int(&round[side]["rtt_us"])?, "{side} {first} {round}");
            assert_eq!(int(&first["mdev_ns"])? / 1000, int(&round[side]["rttvar_us"])?, "{side} {first} {round}");
            assert_eq!(first["pid"], truth["pid"]);
            assert!(int(&first["min_rtt_ns"])? <= int(&first["srtt_ns"])? && int(&first["snd_cwnd"])? > 0, "{first}");
        }
        // At most one sample in 100 ms.
        let close = capture.number(&format!(
            "SELECT count(*) FROM (SELECT CAST(ts AS BIGINT) - lag(CAST(ts AS BIGINT)) OVER (ORDER BY ts) AS gap
             FROM tcp_rtt WHERE conn_id = {conn}) WHERE gap < 100000000"
        ))?;
        assert_eq!(close, 0);
    }
    Ok(())
}
