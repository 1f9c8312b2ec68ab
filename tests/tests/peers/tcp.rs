//! tcplife and tcpstates beside the tables `tcp_close` and `tcp_state`.

use crate::tool::{Tool, number};
use ebrec_tests::{Capture, Context, Held, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::Value;
use std::collections::BTreeMap;

/// The connections of a workload in the capture: local port, remote port -> row.
fn connections(capture: &Capture, query: &str) -> Result<BTreeMap<(i64, i64), Value>> {
    let rows = capture.sql(query)?;
    rows.into_iter().map(|row| Ok(((int(&row["lport"])?, int(&row["rport"])?), row))).collect()
}

fn a_connection() -> Result<()> {
    let mut held = Held::start(&["tcp-hold", "--conns", "1"])?;
    held.tell("send 1")?;
    held.tell("close")?;
    held.finish().map(|_| ())
}

#[test]
fn tcplife_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("tcplife", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("wl-", a_connection)?;
    let (truth, capture) =
        recorded(&["--probes", "tcp"], || workload(&["tcp", "--refused", "0", "--tx", "30000", "--rx", "90000", "--settle-ms", "60"]))?;
    let printed = tool.stop()?;
    let closes = connections(&capture, "SELECT * FROM tcp_close WHERE comm IN ('wl-client', 'wl-server')")?;
    // PID COMM LADDR LPORT RADDR RPORT TX_KB RX_KB MS
    let mut live = BTreeMap::new();
    for line in &printed {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [pid, comm, _, lport, _, rport, tx, rx, ms] = words[..]
            && let (Ok(lport), Ok(rport)) = (number(lport), number(rport))
        {
            let decimal = |word: &str| word.parse::<f64>().context(format!("not a number: {word}"));
            live.insert((lport, rport), (number(pid)?, comm.to_owned(), decimal(tx)?, decimal(rx)?, decimal(ms)?));
        }
    }
    let mut owners_differ = 0;
    let mut times_differ = Vec::new();
    let mut sides = 0;
    for connection in list(&truth["connections"])? {
        for side in [&connection["client"], &connection["server"]] {
            let key = (int(&side["lport"])?, int(&side["rport"])?);
            let row = closes.get(&key).context("not in the capture")?;
            let (pid, comm, tx, rx, ms) = live.get(&key).context(format!("tcplife did not print {key:?}"))?;
            // It counts the SYN and the FIN as bytes, and prints KiB with two digits.
            for (live, captured) in [(tx, &row["tx_bytes"]), (rx, &row["rx_bytes"])] {
                let more = live * 1024.0 - int(captured)? as f64;
                assert!((-6.0..=8.0).contains(&more), "{live} {row}");
            }
            // Its clock starts with the SYN, ours with the established connection; on loopback that is the same moment. Each of the
            // two programs at a tracepoint reads the clock, and a virtual CPU may be taken away between them.
            let took = int(&row["duration_ns"])? as f64 / 1e6;
            if (took - ms).abs() >= 2.0 {
                times_differ.push((took, *ms));
            }
            // It takes the task that a state change happens in for the owner; on loopback that may be the other end's.
            if (*pid, comm.as_str()) != (int(&side["pid"])?, text(&side["comm"])?) {
                owners_differ += 1;
            }
            assert_eq!((&row["pid"], &row["comm"]), (&side["pid"], &side["comm"]));
            sides += 1;
        }
    }
    assert!(times_differ.len() * 20 <= sides, "{times_differ:?} of {sides}");
    eprintln!("tcplife names another owner than the truth for {owners_differ} of {sides} sides");
    Ok(())
}

#[test]
fn tcpstates_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(tool) = Tool::start("tcpstates", &[])? else { return Ok(()) };
    tool.wait_until_it_traces("wl-", a_connection)?;
    let (truth, capture) = recorded(&["--probes", "tcp"], || workload(&["tcp", "--refused", "5"]))?;
    let printed = tool.stop()?;
    let ports: Vec<String> = list(&truth["server_ports"])?.iter().map(ToString::to_string).collect();
    let of_workload = |lport: &str, rport: &str| ports.iter().any(|port| port == lport || port == rport);
    // SKADDR PID COMM LADDR LPORT RADDR RPORT OLDSTATE -> NEWSTATE MS; an interrupt's task may have a name with spaces, so from
    // the end.
    let mut live = BTreeMap::<(String, String, String, String), i64>::new();
    for line in &printed {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [.., lport, _, rport, old, "->", new, _] = words[..]
            && of_workload(lport, rport)
        {
            *live.entry((lport.into(), rport.into(), old.into(), new.into())).or_default() += 1;
        }
    }
    let rows = capture.sql(&format!(
        "SELECT coalesce(lport, 0) AS lport, coalesce(rport, 0) AS rport, old_state, new_state, count(*) AS n FROM tcp_state
         WHERE lport IN ({0}) OR rport IN ({0}) GROUP BY 1, 2, 3, 4",
        ports.join(",")
    ))?;
    let mut captured = BTreeMap::new();
    for row in rows {
        let key =
            (row["lport"].to_string(), row["rport"].to_string(), text(&row["old_state"])?.to_owned(), text(&row["new_state"])?.to_owned());
        captured.insert(key, int(&row["n"])?);
    }
    // The end of a connection has lost its local port in the tool's line (0) if nobody had bound it; the capture keeps it.
    let without_port = |of: &BTreeMap<(String, String, String, String), i64>| {
        let mut sum = BTreeMap::<(String, String, String), i64>::new();
        for ((lport, rport, old, new), n) in of {
            let port = if ports.contains(lport) { lport } else { rport };
            *sum.entry((port.clone(), old.clone(), new.clone())).or_default() += n;
        }
        sum
    };
    assert_eq!(without_port(&captured), without_port(&live));
    assert!(captured.len() > 50);
    Ok(())
}
