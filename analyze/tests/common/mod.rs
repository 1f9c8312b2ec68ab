//! A small synthetic capture whose contents are known, written as the recorder would write it.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't be set up has failed")]

mod files;
mod tasks;

use ebrec_format::events::{PROBES, host, process, sched, session, tcp};
use ebrec_format::kind::{Context, NoResolver};
use ebrec_format::manifest::{FORMAT_VERSION, HookState, MANIFEST, Manifest, ProbeState};
use ebrec_format::pack::PackWriter;
use ebrec_format::segment;
use ebrec_format::table::{Row, batch_of};
use ebrec_format::wire::{ConnHead, Endpoints, Head, NULL32, NULL64, Task};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// When the synthetic recording starts: 2023-11-14 22:13:20 UTC.
pub const START: i64 = 1_700_000_000_000_000_000;
/// A second.
pub const SECOND: u64 = 1_000_000_000;
/// How long it lasts.
pub const LENGTH: u64 = 10 * SECOND;

/// A capture in the making.
pub struct Builder {
    pub manifest: Manifest,
    segments: Vec<(String, Vec<u8>)>,
}

impl Default for Builder {
    fn default() -> Self {
        let mut manifest = Manifest {
            format_version: FORMAT_VERSION,
            recorder_version: "0.1.0".to_owned(),
            started_ns: START,
            ended_ns: START + LENGTH as i64,
            complete: true,
            ended_by: "duration".to_owned(),
            boot_to_utc_ns: START,
            ..Manifest::default()
        };
        manifest.host.name = "testhost".to_owned();
        manifest.host.kernel = "6.1.0".to_owned();
        manifest.host.cpus = 2;
        for probe in ebrec_format::events::PROBES {
            let hook = HookState { hook: format!("{}_hook", probe.name), mechanism: Some("tp_btf".to_owned()), ..HookState::default() };
            manifest.probes.insert(probe.name.to_owned(), ProbeState { requested: true, hooks: vec![hook] });
        }
        Builder { manifest, segments: Vec::new() }
    }
}

impl Builder {
    /// Adds a segment with these rows.
    pub fn rows<R: Row>(mut self, rows: &[R]) -> Builder {
        let mut context = Context { boot_to_utc_ns: START, resolver: &mut NoResolver };
        let table = R::table();
        let bytes = segment::encode(table, &[batch_of(rows, &mut context)]).unwrap();
        let state = self.manifest.tables.entry(table.name.to_owned()).or_default();
        state.rows += rows.len() as u64;
        state.bytes += bytes.len() as u64;
        let nth = self.segments.iter().filter(|(name, _)| name.starts_with(&format!("{}/", table.name))).count();
        self.segments.push((format!("{}/{nth}-{nth}.parquet", table.name), bytes));
        self
    }

    /// Adds a segment with these bytes.
    pub fn raw(mut self, name: &str, bytes: Vec<u8>) -> Builder {
        self.segments.push((name.to_owned(), bytes));
        self
    }

    /// A probe that was not recorded.
    pub fn without(mut self, probe: &str) -> Builder {
        self.manifest.probes.insert(probe.to_owned(), ProbeState::default());
        self
    }

    /// Writes the finished capture.
    pub fn write(mut self, path: &Path) -> PathBuf {
        // As a recorder does, it lists what was recorded without a row, too.
        for probe in PROBES {
            let hooks = self.manifest.probes.get(probe.name).map(|state| state.hooks.as_slice()).unwrap_or_default();
            for table in probe.tables.iter().map(|table| table().name) {
                let feeds = |hook: &HookState| hook.tables.is_empty() || hook.tables.iter().any(|fed| fed == table);
                if hooks.iter().any(|hook| hook.mechanism.is_some() && feeds(hook)) {
                    self.manifest.tables.entry(table.to_owned()).or_default();
                }
            }
        }
        let mut pack = PackWriter::new(File::create(path).unwrap());
        for (name, bytes) in &self.segments {
            pack.append(name, bytes).unwrap();
        }
        pack.append(MANIFEST, &serde_json::to_vec(&self.manifest).unwrap()).unwrap();
        pack.finish().unwrap();
        path.to_owned()
    }
}

/// A thread of a process.
pub fn task(pid: u32, tid: u32, comm: &str) -> Task {
    let mut name = [0; 16];
    name[..comm.len()].copy_from_slice(comm.as_bytes());
    Task { start: u64::from(pid) * SECOND, pid, tid, comm: name }
}

/// The head of an event.
pub fn head(ts: u64, task: Task) -> Head {
    Head { ts, size: 0, cpu: 0, table: 0, task }
}

/// The head of an event of a connection.
pub fn conn(ts: u64, conn_id: u64, task: Task) -> ConnHead {
    ConnHead { head: head(ts, task), conn_id }
}

/// An IPv4 connection on the loopback.
pub fn ends(lport: u16, rport: u16) -> Endpoints {
    let mut addr = [0; 16];
    addr[10] = 0xff;
    addr[11] = 0xff;
    addr[12..].copy_from_slice(&[127, 0, 0, 1]);
    Endpoints { laddr: addr, raddr: addr, netns: 4_026_531_840, lport, rport }
}

/// An IPv6 connection.
pub fn ends6(lport: u16, rport: u16) -> Endpoints {
    let addr = "fe80::1234:5678:9abc:def0".parse::<std::net::Ipv6Addr>().unwrap().octets();
    Endpoints { laddr: addr, raddr: addr, netns: 4_026_531_840, lport, rport }
}

/// A switch from `prev` to `next`, which had waited.
pub fn switch(ts: u64, prev: Task, next: Task, waited: u64) -> sched::SchedSwitch {
    sched::SchedSwitch {
        head: head(ts, prev),
        next,
        prev_ran_ns: 1_000_000,
        next_waited_ns: waited,
        next_off_cpu_ns: NULL64,
        prev_state: 1,
        pad: 0,
    }
}

/// A capture with a bit of everything in it.
pub fn sample(path: &Path) -> PathBuf {
    tasks::add(files::add(builder())).write(path)
}

/// The same, unfinished.
pub fn builder() -> Builder {
    let (sh, web, curl) = (task(100, 100, "sh"), task(200, 201, "web"), task(300, 300, "curl"));
    let idle = task(0, 0, "swapper/0");
    // Switches every millisecond: to web after 1.5 us, to sh after 100 us, to the idle task after nothing.
    let switches: Vec<_> = (0..10_000_u64)
        .map(|i| match i % 3 {
            0 => switch(i * 1_000_000, idle, web, 1_500),
            1 => switch(i * 1_000_000, web, sh, 100_000),
            _ => switch(i * 1_000_000, sh, idle, NULL64),
        })
        .collect();
    let exec = |ts, task, ret| process::ProcessExec { head: head(ts, task), cgroup_id: 1, ppid: 1, uid: 1000, ret, args_truncated: 0 };
    let exit = |ts, task, code, signal, core| process::ProcessExit {
        head: head(ts, task),
        lifetime_ns: 1_500_000_000,
        ppid: 1,
        exit_code: code,
        signal,
        core_dumped: core,
        is_thread: 0,
        pad: 0,
    };
    let close = |ts, id, task, ends, old| tcp::TcpClose {
        head: conn(ts, id, task),
        ends,
        duration_ns: 12_345_678,
        tx_bytes: 1536,
        rx_bytes: 1 << 20,
        srtt_ns: 50_000,
        retransmits: 1,
        old_state: old,
    };
    let connection = |ts, id, task, ends, direction| tcp::TcpConnection {
        head: conn(ts, id, task),
        ends,
        opened_ts: 2 * SECOND,
        closed_ts: NULL64,
        direction,
        pad: 0,
    };
    let send = |ts, id, task, bytes| tcp::TcpSend { head: conn(ts, id, task), bytes };
    let recv = |ts, id, task, bytes| tcp::TcpRecv { head: conn(ts, id, task), bytes };
    let connect = |ts, id, ends, latency_ns, errno| tcp::TcpConnect {
        head: conn(ts, id, curl),
        ends,
        latency_ns,
        errno,
        outcome: match errno {
            0 => 0,
            NULL32 => 2,
            _ => 1,
        },
    };
    let state = |ts, id, task, old_state, new_state| tcp::TcpState {
        head: conn(ts, id, task),
        ends: ends(40_000, 80),
        in_old_state_ns: 1_234_567,
        old_state,
        new_state,
    };
    let sample = |ts: u64| host::SystemSample {
        ts,
        load1: Some(0.5),
        load5: Some(0.25),
        load15: Some(0.1),
        running: 2,
        tasks: 345,
        cpu_user_ns: SECOND / 2,
        cpu_nice_ns: 0,
        cpu_system_ns: SECOND / 4,
        cpu_idle_ns: SECOND,
        cpu_iowait_ns: 0,
        cpu_irq_ns: 0,
        cpu_softirq_ns: 0,
        cpu_steal_ns: 0,
        mem_total_bytes: 1 << 34,
        mem_free_bytes: 1 << 33,
        mem_available_bytes: 1 << 33,
        mem_cached_bytes: 1 << 30,
        mem_buffers_bytes: 0,
        mem_dirty_bytes: 0,
        swap_used_bytes: 0,
        psi_cpu_some_ns: NULL64,
        psi_memory_some_ns: NULL64,
        psi_memory_full_ns: NULL64,
        psi_io_some_ns: NULL64,
        psi_io_full_ns: NULL64,
        mem_writeback_bytes: 0,
        disk_read_bytes: 0,
        disk_written_bytes: 0,
        major_faults: 0,
        dirtied_bytes: 0,
        refaulted_bytes: 0,
        swapped_in_bytes: 0,
        swapped_out_bytes: 0,
    };
    Builder::default()
        .rows(&switches[..5_000])
        .rows(&switches[5_000..])
        .rows(&[exec(SECOND, sh, 0), exec(4 * SECOND, curl, (-2_i32) as _)])
        .rows(&[exit(5 * SECOND, sh, 3, NULL32, 0), exit(6 * SECOND, web, NULL32, 11, 1), exit(7 * SECOND, curl, 0, NULL32, 0)])
        .rows(&[close(8 * SECOND, 1, curl, ends(40_000, 80), 1), close(9 * SECOND, 2, web, ends6(443, 50_000), 8)])
        .rows(&[connection(8 * SECOND, 1, curl, ends(40_000, 80), 1), connection(9 * SECOND, 2, web, ends6(443, 50_000), 2)])
        .rows(&[connect(2 * SECOND, 1, ends(40_000, 80), 250_000, 0), connect(3 * SECOND, 3, ends(40_001, 81), 90_000, 111)])
        .rows(&[tcp::TcpAccept { head: conn(2 * SECOND + 5, 2, web), ends: ends6(443, 50_000), queued_ns: 10_000 }])
        .rows(&[send(3 * SECOND, 1, curl, 1000), send(3 * SECOND + 1, 1, curl, 536), send(4 * SECOND, 2, web, 4096)])
        .rows(&[recv(3 * SECOND + 2, 1, curl, 1 << 20), recv(7 * SECOND, 2, web, 2048)])
        .rows(&[state(2 * SECOND, 1, curl, 7, 2), state(2 * SECOND + 250_000, 1, curl, 2, 1), state(8 * SECOND, 1, curl, 1, 4)])
        .rows(&[tcp::TcpRetransmit { head: conn(5 * SECOND, 1, curl), ends: ends(40_000, 80), state: 1, kind: 0 }])
        .rows(&(0..10).map(|i| sample(i * SECOND + SECOND / 2)).collect::<Vec<_>>())
        .rows::<session::Loss>(&[])
        .rows::<session::ProbeRow>(&[])
}

/// Runs the program.
pub fn ebrec(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ebrec-analyze")).args(args).output().unwrap()
}

/// Its stdout if it succeeds.
pub fn stdout(args: &[&str]) -> String {
    let output = ebrec(args);
    assert!(output.status.success(), "{args:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A fresh directory below the target directory.
pub fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}
