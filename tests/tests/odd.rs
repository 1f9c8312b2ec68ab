//! Sockets that aren't plain, names behind NAT, code that comes later: what a plain host hasn't got. `tests/odd.py` does it and tells the truth.

use ebrec_tests::{Capture, Context, Program, Result, int, list, program, recorded, require_bpf};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("odd.py")
}

/// `tests/odd.py WHAT…` in a network namespace of its own.
fn odd(what: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-n", "python3"]).arg(script()).args(what);
    command
}

/// What it says that it did.
fn done(what: &[&str]) -> Result<Value> {
    let output = odd(what).output().context("run unshare")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what:?}: {said}");
    serde_json::from_slice(&output.stdout).context(said)
}

const TCP: &[&str] = &["--probes", "tcp"];

/// The call's result is the row's, whether or not a segment was sent, and told once.
#[test]
fn a_connect_has_the_result_that_the_program_got() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || done(&["connects"]))?;
    let rows = capture.sql(&format!(
        "SELECT rport, errno, count(*) AS n, count(latency_ns) AS timed, min(outcome) AS outcome, max(outcome) AS also FROM tcp_connect
         WHERE pid = {} GROUP BY rport, errno ORDER BY rport, errno",
        truth["pid"]
    ))?;
    let connects = list(&truth["connects"])?;
    assert_eq!(rows.len(), connects.len(), "{rows:?} {truth}");
    for (row, fact) in rows.iter().zip(connects) {
        assert_eq!((&row["rport"], &row["errno"], &row["n"]), (&fact["rport"], &fact["errno"], &fact["n"]), "{rows:?} {truth}");
        let outcome = if fact["errno"] == 0 { "succeeded" } else { "failed" };
        assert_eq!((&row["outcome"], &row["also"], &row["timed"]), (&json!(outcome), &json!(outcome), &fact["n"]), "{row}");
    }
    Ok(())
}

#[test]
fn a_socket_that_connects_to_itself_is_a_connection() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || done(&["self-connects"]))?;
    let pid = &truth["pid"];
    let row = capture.row(&format!(
        "SELECT (SELECT count(*) FROM tcp_connect WHERE pid = {pid} AND errno = 0 AND outcome = 'succeeded') AS connects,
                (SELECT count(*) FROM tcp_connection WHERE pid = {pid} AND direction = 'active') AS connections,
                (SELECT sum(tx_bytes) FROM tcp_close WHERE pid = {pid}) AS tx, (SELECT sum(rx_bytes) FROM tcp_close WHERE pid = {pid}) AS rx"
    ))?;
    assert_eq!((&row["connects"], &row["connections"]), (&truth["connects"], &truth["connects"]), "{row}");
    assert_eq!((&row["tx"], &row["rx"]), (&truth["bytes"], &truth["bytes"]), "{row}");
    Ok(())
}

/// What a program reads of its error queue was not received: zero-copy and timestamps give back what was sent.
#[test]
fn what_comes_out_of_the_error_queue_is_not_received() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || done(&["error-queue"]))?;
    assert!(int(&truth["news"])? > 0, "{truth}");
    let received = capture.number(&format!("SELECT sum(bytes) FROM tcp_recv WHERE pid = {}", truth["pid"]))?;
    assert_eq!(received, int(&truth["received"])?, "{truth}");
    Ok(())
}

#[test]
fn attempts_that_nobody_answers_are_rows_with_their_outcome() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let ((mut child, pid), capture) = recorded(TCP, || {
        let mut child = odd(&["black-hole"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("run unshare")?;
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().context("no stdout")?);
        std::io::BufRead::read_line(&mut stdout, &mut line).context("no truth")?;
        let truth: Value = serde_json::from_str(&line).context(line)?;
        std::thread::sleep(std::time::Duration::from_millis(1100));
        Ok((child, int(&truth["pid"])?))
    })?;
    drop(child.stdin.take());
    child.wait().context("wait")?;
    let rows = capture.sql(&format!(
        "SELECT outcome, count(*) AS n, count(errno) AS errors, min(latency_ns) AS latency_ns, min(lport) AS lport FROM tcp_connect
         WHERE pid = {pid} AND raddr = '10.99.9.2' GROUP BY outcome ORDER BY outcome"
    ))?;
    let told: Vec<(&Value, &Value, &Value)> = rows.iter().map(|row| (&row["outcome"], &row["n"], &row["errors"])).collect();
    assert_eq!(told, [(&json!("given up"), &json!(3), &json!(0)), (&json!("pending"), &json!(2), &json!(0))], "{rows:?}");
    for (row, least) in rows.iter().zip([290_000_000, 1_100_000_000]) {
        assert!(int(&row["latency_ns"])? >= least && int(&row["lport"])? > 0, "{row}");
    }
    // Who is told of it doesn't have to know of outcomes.
    let summary = ebrec_tests::analyze(capture.path(), &[])?.succeeded()?.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(summary.contains("got no answer from 10.99.9.2:5432 to 5 attempts to connect; 3 were given up"), "{summary}");
    Ok(())
}

#[test]
fn a_syn_that_is_answered_again_is_a_retransmission_of_the_listener() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(TCP, || done(&["synack"]))?;
    assert!(int(&truth["retransmits"])? > 0, "{truth}");
    let rows = capture.sql(&format!("SELECT * FROM tcp_retransmit WHERE netns = {}", truth["netns"]))?;
    assert_eq!(rows.len() as i64, int(&truth["retransmits"])?, "{rows:?}");
    for row in &rows {
        assert_eq!((&row["state"], &row["kind"], &row["raddr"]), (&json!("NEW_SYN_RECV"), &json!("timeout"), &json!("10.99.9.2")), "{row}");
        assert_eq!((&row["pid"], &row["lport"], &row["rport"]), (&truth["pid"], &truth["lport"], &truth["rport"]), "{row}");
    }
    Ok(())
}

#[test]
fn connections_of_mptcp_have_owners_and_bytes() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    if !std::path::Path::new("/proc/sys/net/mptcp/enabled").exists() {
        eprintln!("SKIPPED: this kernel has no MPTCP");
        return Ok(());
    }
    for (client, server) in [("mptcp", "mptcp"), ("tcp", "mptcp"), ("mptcp", "tcp")] {
        let (truth, capture) = recorded(TCP, || done(&["mptcp", client, server]))?;
        for (pid, port, sent, received) in [("pid", "rport", "sent", "answered"), ("server", "lport", "answered", "sent")] {
            let (what, pid) = (format!("{client} to {server}, {pid}"), &truth[pid]);
            let row = capture.row(&format!(
                "SELECT (SELECT count(*) FROM tcp_connection WHERE pid = {pid} AND {port} = 8104) AS connections,
                        (SELECT count(*) FROM tcp_accept WHERE pid = {pid}) AS accepted,
                        (SELECT sum(bytes) FROM tcp_send WHERE pid = {pid}) AS sent, (SELECT sum(bytes) FROM tcp_recv WHERE pid = {pid}) AS received"
            ))?;
            assert_eq!(row["connections"], truth["connections"], "{what}: {row}");
            assert_eq!((&row["sent"], &row["received"]), (&truth[sent], &truth[received]), "{what}: {row}");
            assert_eq!(int(&row["accepted"])?, if port == "lport" { int(&truth["connections"])? } else { 0 }, "{what}: {row}");
        }
    }
    Ok(())
}

const DNS: &[&str] = &["--probes", "dns"];

#[test]
fn two_messages_of_one_segment_are_two_questions() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(DNS, || done(&["dns-pair"]))?;
    let rows = capture.sql("SELECT id, type, rcode, outcome, protocol, pid FROM dns_query WHERE name = 'pair.odd.test' ORDER BY id")?;
    let expected: Vec<Value> = [(1, "A"), (2, "AAAA")]
        .map(|(id, kind)| json!({"id": id, "type": kind, "rcode": "NOERROR", "outcome": "succeeded", "protocol": "tcp", "pid": truth["pid"]}))
        .to_vec();
    assert_eq!(rows, expected);
    Ok(())
}

/// Docker's own resolver: the question leaves for another port than the program addressed, and the answer comes from that one.
#[test]
fn a_question_whose_server_is_translated_has_its_answer() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(DNS, || done(&["dns-nat"]))?;
    for how in ["connected", "unconnected"] {
        let row = capture.row(&format!(
            "SELECT count(*) AS n, count(rcode) AS answered, count(latency_ns) AS timed, min(raddr) AS server, max(raddr) AS also, min(rport) AS port
             FROM dns_query WHERE name = '{how}.odd.test' AND pid = {} AND outcome = 'succeeded'",
            truth["pid"]
        ))?;
        assert_eq!((&row["n"], &row["answered"], &row["timed"]), (&truth["each"], &truth["each"], &truth["each"]), "{how}: {row}");
        assert_eq!((&row["server"], &row["also"], &row["port"]), (&truth["server"], &truth["server"], &json!(53)), "{how}: {row}");
    }
    Ok(())
}

/// Where cgroup v2 is mounted, if it is.
fn cgroups() -> Result<Option<String>> {
    let mounts = std::fs::read_to_string("/proc/mounts").context("mounts")?;
    let found = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&"cgroup2"));
    if found.is_none() {
        eprintln!("SKIPPED: cgroup v2 is not mounted");
    }
    Ok(found.map(|fields| fields[1].to_owned()))
}

/// A service that is restarted: its cgroup has the same path and another id.
#[test]
fn a_cgroup_that_is_made_again_is_still_recorded() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(mount) = cgroups()? else { return Ok(()) };
    let name = format!("ebrec{}.slice", std::process::id());
    let group = format!("{mount}/{name}/web.service");
    std::fs::create_dir_all(&group).context(&group)?;
    let run = |times: u32| format!("sh -c 'echo $$ >{group}/cgroup.procs; for i in $(seq {times}); do /bin/true; done'");
    let script = format!(
        "set -e; {}; sleep 0.3; rmdir {group}; mkdir {group}; {}; /bin/true; sleep 0.3; rmdir {group} {mount}/{name}",
        run(3),
        run(4)
    );
    let (output, capture) = recorded(&["--probes", "process", "--cgroup", &format!("/{name}/web.service")], || {
        Command::new("sh").args(["-c", &script]).output().context("run sh")
    })?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row = capture.row("SELECT count(*) AS n, count(DISTINCT cgroup_id) AS ids FROM process_exec WHERE comm = 'true'")?;
    assert_eq!((&row["n"], &row["ids"]), (&json!(7), &json!(2)), "{row}");
    Ok(())
}

#[test]
fn what_is_mounted_meanwhile_is_known() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let capture = Capture::place("mounted")?;
    let (place, later) = (capture.dir().join("here"), capture.dir().join("later"));
    let script = "set -e; mkdir $0 $1; mount -t tmpfs odd-early $0; sleep 1.3; umount $0; mount -t tmpfs odd-late $1";
    let recorder = capture.start(&["--probes", "process"])?;
    let output = Command::new("sh").args(["-c", script]).args([&place, &later]).output().context("run sh")?;
    let recording = recorder.stop();
    let _ = Command::new("umount").arg(&later).output();
    recording?.succeeded()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = capture.sql("SELECT source, fs, path FROM mount WHERE source LIKE 'odd-%' ORDER BY source")?;
    let row = |source: &str, path: &std::path::Path| json!({"source": source, "fs": "tmpfs", "path": path.display().to_string()});
    assert_eq!(rows, [row("odd-early", &place), row("odd-late", &later)]);
    assert_eq!(capture.number("SELECT count(*) - count(DISTINCT concat(dev, path, fs, source)) FROM mount")?, 0);
    Ok(())
}

/// Made, used and removed while recording: it has a name in the capture, with what the name says.
#[test]
fn a_cgroup_that_is_made_meanwhile_is_found_by_its_path() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(mount) = cgroups()? else { return Ok(()) };
    let id = "5f1b0c5d7e9a2b4c6d8e0f1a3b5c7d9e1f2a4b6c8d0e2f4a6b8c0d2e4f6a8b0c";
    let name = format!("ebrec{}.slice", std::process::id());
    let (group, inner) = (format!("{mount}/{name}"), format!("docker-{id}.scope"));
    let run = |group: &str, times: u32| format!("sh -c 'echo $$ >{group}/cgroup.procs; for i in $(seq {times}); do /bin/true; done'");
    let script = format!(
        "set -e; mkdir -p {group}/{inner}; stat -c %i {group}/{inner}; {}; {}; sleep 0.2; rmdir {group}/{inner} {group}",
        run(&group, 3),
        run(&format!("{group}/{inner}"), 4)
    );
    let (output, capture) = recorded(&["--probes", "process"], || Command::new("sh").args(["-c", &script]).output().context("run sh"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let number = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let row = capture.row(&format!("SELECT * FROM cgroup WHERE cgroup_id = {number}"))?;
    let path = format!("/{name}/{inner}");
    assert_eq!((&row["path"], &row["unit"]), (&json!(path), &json!(inner)), "{row}");
    assert_eq!((&row["runtime"], &row["container_id"], &row["comm"]), (&json!("docker"), &json!(id), &json!("mkdir")), "{row}");
    // Those that were there have nobody who made them.
    let root = capture.row("SELECT pid, path FROM cgroup WHERE path = '/'")?;
    assert!(root["pid"].is_null(), "{root}");
    for (asked, times) in [(format!("/{name}"), 7), (path.clone(), 4), (format!("{mount}{path}"), 4), (number, 4)] {
        let ran = ebrec_tests::analyze(capture.path(), &["--cgroup", &asked, "execsnoop"])?.succeeded()?;
        assert_eq!(ran.stdout.matches("/bin/true").count(), times, "{asked}: {}", ran.stdout);
    }
    for (option, asked) in [("--container", &id[..12]), ("--unit", &inner)] {
        let ran = ebrec_tests::analyze(capture.path(), &[option, asked, "execsnoop"])?.succeeded()?;
        assert_eq!(ran.stdout.matches("/bin/true").count(), 4, "{asked}: {}", ran.stdout);
    }
    let ran = ebrec_tests::analyze(capture.path(), &["--container", "ffff", "execsnoop"])?;
    assert!(ran.status.code() == Some(2) && ran.stderr.contains("no container ffff") && ran.stderr.contains(id), "{}", ran.stderr);
    let ran = ebrec_tests::analyze(capture.path(), &["--cgroup", "/no/such", "execsnoop"])?;
    assert!(ran.status.code() == Some(2) && ran.stderr.contains("there was no cgroup /no/such"), "{}", ran.stderr);
    Ok(())
}

/// What a runtime keeps in its files gives containers and pods their names, also those that start meanwhile.
#[test]
fn containers_and_pods_are_found_by_their_names() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let Some(mount) = cgroups()? else { return Ok(()) };
    const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
    let capture = Capture::place("containers")?;
    let slice = format!("{mount}/ebrecnames{}.slice", std::process::id());
    let (web, job) = ("a1".repeat(32), "b2".repeat(32));
    let described = |id: &str, name: &str, pod: &str, uid: &str| {
        let of = |key: &str, value: &str| format!("\"io.kubernetes.cri.{key}\":\"{value}\"");
        let annotations = [
            of("container-name", name),
            of("image-name", "example.org/shop:2"),
            of("sandbox-name", pod),
            of("sandbox-namespace", "prod"),
            of("sandbox-uid", uid),
        ];
        format!("mkdir -p {TASKS}/{id}; echo '{{\"annotations\":{{{}}}}}' >{TASKS}/{id}/config.json; ", annotations.join(","))
    };
    let runs = |id: &str, times: u32| {
        let group = format!("{slice}/cri-containerd-{id}.scope");
        format!(
            "mkdir -p {group}; (echo 0 >{group}/cgroup.procs; for i in $(seq {times}); do /bin/true; done; \
             sh -c 'kill -SEGV $$' || true); rmdir {group}; "
        )
    };
    let before = described(&web, "web", "shop-1", "0d1e2f3a-4b5c-6d7e-8f9a-0b1c2d3e4f5a");
    let meanwhile = described(&job, "job", "nightly", "1d1e2f3a-4b5c-6d7e-8f9a-0b1c2d3e4f5a");
    let script = capture.dir().join("script");
    let text = format!("set -e\nsleep 0.3; {meanwhile}{}{}sleep 1.5; rmdir {slice}\n", runs(&web, 3), runs(&job, 4));
    std::fs::write(&script, text).context("the script")?;
    // The host's own files are as they were.
    let inside = format!(
        "mount -t tmpfs none /run && {before} exec {} --probes process,sched -o {} -- sh {}",
        program(Program::Record)?.display(),
        capture.arg(),
        script.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &inside]).output().context("run unshare")?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row = capture.row(&format!("SELECT * FROM container WHERE container_id = '{job}'"))?;
    let told = ["runtime", "name", "image", "pod", "namespace"].map(|column| row[column].clone());
    assert_eq!(told, ["containerd", "job", "example.org/shop:2", "nightly", "prod"].map(|text| json!(text)));
    for (option, asked, times, called) in [
        ("--container", "web", 3, "container web (a1a1a1a1a1a1)"),
        ("--container", "job", 4, "container job (b2b2b2b2b2b2)"),
        ("--container", &job[..12], 4, &format!("container {job}")),
        ("--pod", "shop-1", 3, "pod prod/shop-1"),
        ("--pod", "prod/nightly", 4, "pod prod/nightly"),
    ] {
        let ran = ebrec_tests::analyze(capture.path(), &[option, asked, "execsnoop"])?.succeeded()?;
        assert_eq!(ran.stdout.matches("/bin/true").count(), times, "{asked}: {}", ran.stdout);
        let ran = ebrec_tests::analyze(capture.path(), &[option, asked])?.succeeded()?;
        assert!(ran.stdout.contains(called), "{}", ran.stdout);
    }
    let ran = ebrec_tests::analyze(capture.path(), &["--container", "wbe", "execsnoop"])?;
    assert!(ran.status.code() == Some(2) && ran.stderr.contains("there are: job, web"), "{}", ran.stderr);
    // Each of the processes, and everything that can be grouped by what they are in.
    let owners = |filter: &str| capture.sql(&format!("SELECT comm, container, pod, unit FROM owners WHERE {filter} ORDER BY process_id"));
    for (name, pod, id, times) in [("web", "prod/shop-1", &web, 3), ("job", "prod/nightly", &job, 4)] {
        let of = json!({"comm": "true", "container": name, "pod": pod, "unit": format!("cri-containerd-{id}.scope")});
        assert_eq!(owners(&format!("container = '{name}' AND comm = 'true'"))?, vec![of; times]);
        let ran = ebrec_tests::analyze(capture.path(), &["--container", name, "--output", "json", "owners"])?.succeeded()?;
        let rows: Vec<Value> = serde_json::from_str(&ran.stdout).context("rows")?;
        assert!(rows.len() > times && rows.iter().all(|row| row["container"] == name), "{}", ran.stdout);
        let ran = ebrec_tests::analyze(capture.path(), &["runqlat", "--by", "container,pod"])?.succeeded()?;
        assert!(ran.stdout.contains(&format!("container = {name}\npod = {pod}\n")), "{}", ran.stdout);
    }
    // The summary, and the findings: the first that crashed.
    let ran = ebrec_tests::analyze(capture.path(), &[])?.succeeded()?;
    assert!(ran.stdout.contains(", container web of pod prod/shop-1) crashed 2 times"), "{}", ran.stdout);
    Ok(())
}

/// Refused calls began in the window, and have no latency all the same.
#[test]
fn a_call_that_seccomp_refuses_is_told_from_one_of_before() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "syscall"], || done(&["refused"]))?;
    let rows = capture.sql(&format!(
        "SELECT outcome, count(*) AS n, count(latency_ns) AS timed FROM syscall WHERE pid = {} AND name IN ('mkdir', 'mkdirat')
         GROUP BY outcome ORDER BY outcome",
        truth["pid"]
    ))?;
    let told: Vec<Value> = rows.iter().map(|row| json!([row["outcome"], row["n"], row["timed"]])).collect();
    assert_eq!(told, [json!(["failed", truth["allowed"], truth["allowed"]]), json!(["refused", truth["refused"], 0])], "{truth}");
    Ok(())
}

/// As in a container with Docker's profile and without the capabilities that open it.
#[test]
fn who_denies_the_call_is_named() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let recorder = program(Program::Record)?;
    let capture = Capture::place("denied")?;
    for args in [&["-d", "1s", "-o", &capture.arg()][..], &["check"]] {
        let output = odd(&["without-bpf"]).arg(&recorder).args(args).output().context("run unshare")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success() && said.contains("seccomp") && said.contains("--security-opt"), "{said}");
        assert!(!said.contains("CONFIG_BPF_SYSCALL") && !capture.path().exists(), "{said}");
    }
    Ok(())
}
