//! Lookups and DNS messages in a capture are those that there were: `dns_lookup`, `dns_query`.

use ebrec_tests::{Capture, Context, DNS_ANSWER, DNS_QUESTION, Result, TempDir, fail, int, list, recorded, require_bpf, text, workload};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const DNS: &[&str] = &["--probes", "dns"];

/// A file beside the tests' sources.
fn helper(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).to_string_lossy().into_owned()
}

/// The rows of a table that has the column `name`, by it.
fn by<'a>(rows: &'a [Value], column: &str) -> BTreeMap<String, Vec<&'a Value>> {
    let mut by = BTreeMap::<String, Vec<&Value>>::new();
    for row in rows {
        by.entry(row[column].as_str().unwrap_or("").to_owned()).or_default().push(row);
    }
    by
}

/// Checks that rows are, one by one and in order, those of the truth: the columns that it has, and times within its bounds.
fn assert_rows(rows: &[Value], truth: &[Value], columns: &[&str]) -> Result<()> {
    for (row, fact) in rows.iter().zip(truth) {
        for column in columns {
            assert_eq!(row[column], fact[column], "{column}\n{row}\n{fact}");
        }
        // The workload's own clock stops after the answer has arrived and starts before the question leaves.
        match fact["took_ns"].as_i64() {
            Some(took) => {
                let latency = int(&row["latency_ns"]).context(row)?;
                assert!((fact["delay_ns"].as_i64().unwrap_or(1)..=took).contains(&latency), "{row}\n{fact}");
            }
            None => assert_eq!(row["latency_ns"], Value::Null, "{row}"),
        }
    }
    assert_eq!(rows.len(), truth.len(), "{rows:?}\n{truth:?}");
    Ok(())
}

#[test]
fn every_question_is_a_row_with_its_answer() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(DNS, || workload(&["dns"]))?;
    let rows = capture.table("dns_query")?;
    let own: Vec<Value> = rows.iter().filter(|row| row["netns"] == truth["netns"]).cloned().collect();
    let queries = list(&truth["queries"])?;
    assert_rows(&own, queries, &[&DNS_QUESTION[..], &DNS_ANSWER[..]].concat())?;
    // The clocks agree too.
    let boot_to_utc = capture.boot_to_utc_ns()?;
    let (start, end) = (int(&truth["start"]["boot_ns"])? + boot_to_utc, int(&truth["end"]["boot_ns"])? + boot_to_utc);
    assert!(own.iter().all(|row| row["ts_ns"].as_i64().is_some_and(|ts| (start..=end).contains(&ts))));
    // It used no library.
    assert_eq!(capture.number(&format!("SELECT count(*) FROM dns_lookup WHERE pid = {}", truth["pid"]))?, 0);
    Ok(())
}

const LOOKUP: [&str; 7] = ["pid", "tid", "comm", "function", "host", "service", "ret"];

/// What a lookup of a label must give, whatever the function: the workload's own word is not enough.
fn assert_expected(fact: &Value, slow_ns: i64) -> Result<()> {
    let host = fact["host"].as_str().unwrap_or("");
    let is_getaddrinfo = fact["function"] == "getaddrinfo";
    let expected = match host.split('.').next().unwrap_or("") {
        "nx" => [-2, 1],
        "fail" | "silent" => [-3, 2],
        "small" => [0, -1],
        label if label.len() == 300 => [-2, 1],
        _ => [0, 0],
    };
    assert_eq!(fact["ret"], expected[usize::from(!is_getaddrinfo)], "{fact}");
    if host.starts_with("slow.") {
        assert!(int(&fact["took_ns"])? >= slow_ns, "{fact}");
    }
    Ok(())
}

/// Rows of `dns_lookup` against what the callers say.
fn assert_lookups(capture: &Capture, truth: &Value, callers: &[Value]) -> Result<()> {
    let slow_ns = int(&truth["slow_ns"])?;
    let mut facts = callers.to_vec();
    for fact in &mut facts {
        assert_expected(fact, slow_ns)?;
        if text(&fact["host"]).is_ok_and(|host| host.starts_with("slow.")) {
            fact["delay_ns"] = slow_ns.into();
        }
        // A row keeps so much of a host's name.
        if let Some(host) = fact["host"].as_str().filter(|host| host.len() > 255) {
            fact["host"] = host[..255].into();
        }
    }
    let pid = &facts.first().context("no lookup")?["pid"];
    let rows: Vec<Value> = capture.table("dns_lookup")?.into_iter().filter(|row| row["pid"] == *pid).collect();
    assert_rows(&rows, &facts, &LOOKUP)?;
    let error = |row: &Value| row["error"].as_str().unwrap_or("").to_owned();
    for row in &rows {
        let expected = match (row["ret"].as_i64(), row["function"] == "getaddrinfo") {
            (Some(0), _) => "",
            (Some(-2), true) => "EAI_NONAME",
            (Some(-3), true) => "EAI_AGAIN",
            (Some(1), false) => "HOST_NOT_FOUND",
            (Some(2), false) => "TRY_AGAIN",
            (Some(-1), false) => "NETDB_INTERNAL",
            other => return fail(format!("{other:?}: {row}")),
        };
        assert_eq!(error(row), expected, "{row}");
    }
    Ok(())
}

#[test]
fn every_call_of_glibcs_resolver_is_a_row() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let script = format!("exec python3 {} ok nx fail slow silent", helper("lookups.py"));
    let (truth, capture) = recorded(DNS, || workload(&["dns", "--run", &script]))?;
    let calls = list(&truth["run"])?;
    assert_eq!(calls.len(), 6 * 5 + 5);
    assert_lookups(&capture, &truth, calls)?;
    // What the library asked is there as well, by the same process: A and, where any family will do, AAAA.
    let queries: Vec<Value> = capture.table("dns_query")?.into_iter().filter(|row| row["pid"] == calls[0]["pid"]).collect();
    let queries = by(&queries, "name");
    for call in calls.iter().filter(|call| call["host"].as_str().is_some_and(|host| host.ends_with(".ebrec.test."))) {
        let host = text(&call["host"])?;
        if host.starts_with("small.") {
            continue;
        }
        let rows = queries.get(host.trim_end_matches('.')).context(format!("no query for {host}"))?;
        let types: Vec<&Value> = rows.iter().map(|row| &row["type"]).collect();
        let expected = match host.split('.').next() {
            Some("nx") => json!("NXDOMAIN"),
            Some("fail") => json!("SERVFAIL"),
            Some("silent") => Value::Null,
            _ => json!("NOERROR"),
        };
        assert!(rows.iter().all(|row| row["rcode"] == expected && row["netns"] == truth["netns"]), "{rows:?}");
        match call["function"] == "getaddrinfo" {
            true => assert!(types.contains(&&json!("A")) && types.contains(&&json!("AAAA")), "{rows:?}"),
            false => assert!(!types.is_empty() && types.iter().all(|t| **t == "A"), "{rows:?}"),
        }
    }
    let libraries = capture.sql("SELECT path, functions, status FROM probe_library")?;
    assert!(libraries.iter().any(|row| row["functions"] == 5 && row["status"] == "active"), "{libraries:?}");
    Ok(())
}

#[test]
fn a_containers_own_library_that_comes_into_use_meanwhile_is_found() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // Its root directory: musl, a program, and which resolver to ask.
    let root = TempDir::new("musl")?;
    let made = Command::new("musl-gcc").args(["-O1", "-o"]).arg(root.path().join("lookups")).arg(helper("lookups.c")).output();
    let made = made.context("musl-gcc: install musl-tools (make test-deps)")?;
    if !made.status.success() {
        return fail(String::from_utf8_lossy(&made.stderr));
    }
    let loader = format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH);
    for directory in ["lib", "etc", "mnt"] {
        std::fs::create_dir(root.path().join(directory)).context(directory)?;
    }
    std::fs::copy(&loader, root.path().join(&loader[1..])).context(loader)?;
    std::fs::write(root.path().join("etc/resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").context("resolv.conf")?;
    // The copy that it uses is in a file system that nobody else has mounted.
    let root = root.path().display();
    let script = format!(
        "set -e; mount -t tmpfs none {root}/mnt; cp -r {root}/lib {root}/etc {root}/lookups {root}/mnt; exec chroot {root}/mnt /lookups ok nx fail slow"
    );
    let (truth, capture) = recorded(DNS, || workload(&["dns", "--run", &script]))?;
    let calls = list(&truth["run"])?;
    assert_eq!(calls.len(), 4 * 5);
    assert_lookups(&capture, &truth, calls)
}

#[test]
fn a_library_that_a_program_maps_late_is_found() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let root = TempDir::new("late")?;
    let made = Command::new("cc").args(["-O1", "-o"]).arg(root.path().join("lookups")).arg(helper("lookups.c")).output().context("cc")?;
    if !made.status.success() {
        return fail(String::from_utf8_lossy(&made.stderr));
    }
    // The loader opens what is to be preloaded before it maps the C library, which takes as long as nobody writes to the pipe.
    let root = root.path().display();
    let script = format!(
        "set -e; cp $(ldd {root}/lookups | sed -n 's/.*=> \\(.*libc.so.6\\) .*/\\1/p') {root}; mkfifo {root}/pipe; (sleep 0.8; : >{root}/pipe) &
         LD_LIBRARY_PATH={root} LD_PRELOAD={root}/pipe WAIT_MS=3500 exec {root}/lookups ok nx fail"
    );
    let (truth, capture) = recorded(DNS, || workload(&["dns", "--run", &script]))?;
    let calls = list(&truth["run"])?;
    assert_eq!(calls.len(), 3 * 5);
    assert_lookups(&capture, &truth, calls)
}

#[test]
fn a_lookup_that_does_not_return_is_a_row_without_latency() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // The one is killed in the middle of it, the other goes on when recording ends.
    let script = "getent ahosts silent.killed.ebrec.test. & sleep 0.3; kill $!; wait $! || true
                  getent ahosts silent.going-on.ebrec.test. >&2 & sleep 0.3; kill -INT $RECORDER";
    let capture = Capture::place("dns")?;
    let recorder = capture.start(DNS)?;
    let script = script.replace("$RECORDER", &recorder.pid().to_string());
    workload(&["dns", "--run", &script])?;
    let _ = recorder.wait()?.succeeded()?;
    for host in ["silent.killed.ebrec.test.", "silent.going-on.ebrec.test."] {
        let row = capture.row(&format!("SELECT comm, function, host, latency_ns, ret, error FROM dns_lookup WHERE host = '{host}'"))?;
        let expected = json!({"comm": "getent", "function": "getaddrinfo", "host": host, "latency_ns": null, "ret": null, "error": null});
        assert_eq!(row, expected);
        let name = host.trim_end_matches('.');
        let queries = capture.sql(&format!("SELECT comm, type, rcode, latency_ns FROM dns_query WHERE name = '{name}' ORDER BY type"))?;
        let query = |kind: &str| json!({"comm": "getent", "type": kind, "rcode": null, "latency_ns": null});
        assert_eq!(queries, [query("A"), query("AAAA")]);
    }
    Ok(())
}

#[test]
fn filters_hold_for_lookups_and_questions() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let script = "getent ahosts ok.filtered.ebrec.test. >&2";
    let (_, capture) = recorded(&["--probes", "dns", "--comm", "getent"], || workload(&["dns", "--run", script]))?;
    for table in ["dns_lookup", "dns_query"] {
        let row = capture.row(&format!("SELECT count(*) AS n, count(*) FILTER (WHERE comm <> 'getent') AS others FROM {table}"))?;
        assert_eq!(row["others"], 0, "{table} {row}");
        assert!(int(&row["n"])? >= 1, "{table} {row}");
    }
    Ok(())
}
