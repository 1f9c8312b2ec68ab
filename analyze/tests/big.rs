//! Every report on ten million switches and ten million TCP calls: run it in release, it prints what each takes.
//!
//! `cargo test --release -p ebrec-analyze --test big -- --ignored --nocapture`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::{Builder, SECOND, conn, ends, head, switch, task};
use ebrec_analyze::query::Queries;
use ebrec_format::events::{host, process, session, tcp};
use ebrec_format::wire::{NULL32, NULL64, Task};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SWITCHES: u64 = 10_000_000;
const CALLS: u64 = 10_000_000;
const CONNECTIONS: u64 = 100_000;
const EXECS: u64 = 100_000;
const WINDOW: u64 = 60 * SECOND;
/// Rows of a segment, as the recorder makes them.
const SEGMENT: u64 = 1 << 20;

/// A generator that is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Many small values, few large ones.
    fn skewed(&mut self, limit: u64) -> u64 {
        let bits = self.below(63 - u64::from(limit.leading_zeros())) + 1;
        self.below(1 << bits)
    }
}

fn tasks() -> Vec<Task> {
    (0..400).map(|i| task(1000 + i / 4, 1000 + i, &format!("worker-{}", i / 8))).collect()
}

fn capture(path: &Path) {
    let mut random = Random(7);
    let tasks = tasks();
    let mut builder = Builder::default();
    builder.manifest.ended_ns = builder.manifest.started_ns + WINDOW as i64;
    let mut running = tasks[0];
    for first in (0..SWITCHES).step_by(SEGMENT as usize) {
        let rows: Vec<_> = (first..SWITCHES.min(first + SEGMENT))
            .map(|i| {
                let next = if i % 3 == 0 { task(0, 0, "swapper/0") } else { tasks[random.skewed(399) as usize] };
                let waited = if next.pid == 0 { NULL64 } else { random.skewed(100_000_000) };
                let row = switch(i * (WINDOW / SWITCHES), running, next, waited);
                running = next;
                row
            })
            .collect();
        builder = builder.rows(&rows);
    }
    for first in (0..CALLS / 2).step_by(SEGMENT as usize) {
        let range = first..(CALLS / 2).min(first + SEGMENT);
        let mut call = |i: u64| {
            let id = random.skewed(CONNECTIONS - 1);
            (conn(i * (WINDOW / CALLS * 2), id, tasks[id as usize % tasks.len()]), random.skewed(65_536))
        };
        let sent: Vec<_> = range.clone().map(&mut call).map(|(head, bytes)| tcp::TcpSend { head, bytes }).collect();
        let received: Vec<_> = range.map(call).map(|(head, bytes)| tcp::TcpRecv { head, bytes }).collect();
        builder = builder.rows(&sent).rows(&received);
    }
    let each = WINDOW / CONNECTIONS;
    let of = |id: u64| tasks[id as usize % tasks.len()];
    let ports = |id: u64| ends(10_000 + (id % 50_000) as u16, 80 + (id % 7) as u16);
    let connects: Vec<_> = (0..CONNECTIONS)
        .map(|id| tcp::TcpConnect { head: conn(id * each, id, of(id)), ends: ports(id), latency_ns: 1000, errno: 0, pad: 0 })
        .collect();
    let accepts: Vec<_> =
        (0..CONNECTIONS).map(|id| tcp::TcpAccept { head: conn(id * each, id, of(id)), ends: ports(id), queued_ns: 1000 }).collect();
    let closes: Vec<_> = (0..CONNECTIONS)
        .map(|id| tcp::TcpClose {
            head: conn(id * each + 5, id, of(id)),
            ends: ports(id),
            duration_ns: 1_000_000,
            tx_bytes: id,
            rx_bytes: id,
            srtt_ns: 1,
            retransmits: 0,
            old_state: 1,
        })
        .collect();
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|id| tcp::TcpConnection {
            head: conn(id * each + 6, id, of(id)),
            ends: ports(id),
            opened_ts: id * each,
            closed_ts: id * each + 5,
            direction: 1,
            pad: 0,
        })
        .collect();
    let states: Vec<_> = (0..CONNECTIONS * 7)
        .map(|i| tcp::TcpState {
            head: conn(i * (each / 7), i / 7, of(i / 7)),
            ends: ports(i / 7),
            in_old_state_ns: 5,
            old_state: 1 + (i % 7) as u32,
            new_state: 2 + (i % 7) as u32,
        })
        .collect();
    let retransmits: Vec<_> =
        (0..1000).map(|i| tcp::TcpRetransmit { head: conn(i * SECOND / 50, i, of(i)), ends: ports(i), state: 1, kind: 0 }).collect();
    let execs: Vec<_> = (0..EXECS)
        .map(|i| process::ProcessExec {
            head: head(i * (WINDOW / EXECS), of(i)),
            cgroup_id: 1,
            ppid: 1,
            uid: 1000,
            ret: 0,
            args_truncated: 0,
        })
        .collect();
    let exits: Vec<_> = (0..EXECS)
        .map(|i| process::ProcessExit {
            head: head(i * (WINDOW / EXECS), of(i)),
            lifetime_ns: 5,
            ppid: 1,
            exit_code: (i % 2) as u32,
            signal: NULL32,
            core_dumped: 0,
            is_thread: 0,
            pad: 0,
        })
        .collect();
    builder
        .rows(&connects)
        .rows(&accepts)
        .rows(&closes)
        .rows(&connections)
        .rows(&states)
        .rows(&retransmits)
        .rows(&execs)
        .rows(&exits)
        .rows::<host::SystemSample>(&[])
        .rows::<session::Loss>(&[])
        .write(path);
}

/// Wall time and largest resident set (KiB) of a run; `None` where the system can't tell.
fn measure(args: &[&str]) -> (Duration, Option<u64>) {
    let begin = Instant::now();
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = None;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let now = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = now.or(most);
        std::thread::sleep(Duration::from_millis(2));
    }
    (begin.elapsed(), most)
}

#[test]
#[ignore = "takes a minute and is about release builds"]
fn reports_on_ten_million_events() {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("big.ebrec");
    if !path.exists() {
        capture(&path);
    }
    let path = path.to_str().unwrap();
    println!("{} MiB, {SWITCHES} switches, {CALLS} calls", std::fs::metadata(path).unwrap().len() >> 20);
    let queries = Queries::builtin().unwrap();
    let mut lines: Vec<Vec<&str>> = vec![vec![], vec!["tables"]];
    lines.extend(queries.iter().map(|query| vec![query.name]));
    lines.extend([
        vec!["runqlat", "-P"],
        vec!["runqlat", "1"],
        vec!["runqlat", "-L", "5"],
        vec!["runqlat", "-p", "1000"],
        vec!["runqlat", "--from", "+30s", "--to", "+31s"],
        vec!["tcptop", "1"],
        vec!["tcptop", "5", "--from", "+10s", "--to", "+20s"],
        vec!["sql", "SELECT prev_comm, count(*), sum(prev_ran_ns) FROM sched_switch GROUP BY 1 ORDER BY 2 DESC"],
    ]);
    for line in lines {
        let args = [&[path], &line[..]].concat();
        let (time, memory) = (0..3).map(|_| measure(&args)).min().unwrap();
        println!("{:6.0} ms {:6} MiB  {}", time.as_secs_f64() * 1e3, memory.unwrap_or_default() >> 10, line.join(" "));
    }
}
