//! What the sample has of tasks and the kernel: signals, interrupts, stacks, system calls, kills, waits.

use super::{Builder, SECOND, START, conn, head, switch, task};
use ebrec_format::events::{irq, oom, process, profile, sched, signal, syscall, tcp};
use ebrec_format::kind::{Context, Frame, Resolver, StackFrames};
use ebrec_format::segment;
use ebrec_format::syscalls::Arch;
use ebrec_format::table::Row;
use ebrec_format::wire::{Head, NULL32, NULL64, Task};
use zerocopy::IntoBytes;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Stacks by number: mode and frames, innermost first.
const STACKS: [(u64, u32, &[&str]); 4] = [
    (1, 0, &["parse;line", "main", "_start"]),
    (2, 1, &["copy_to_user", "vfs_read", "do_syscall_64"]),
    (3, 1, &["schedule", "io_schedule", "do_syscall_64"]),
    (4, 1, &["schedule", "worker_thread", "kthread"]),
];

/// Adds the rows.
pub fn add(builder: Builder) -> Builder {
    let builder = waits(builder);
    let builder = kernel(builder);
    let builder = calls(builder);
    stacks(builder)
}

fn names() -> [Task; 5] {
    [task(100, 100, "sh"), task(200, 201, "web"), task(400, 400, "db"), task(400, 401, "db writer"), task(7, 7, "kworker/0:1")]
}

/// Long and short waits, with who ended them.
fn waits(builder: Builder) -> Builder {
    let [sh, web, db, writer, kworker] = names();
    let idle = task(0, 0, "swapper/0");
    let at = |ms: u64| 9 * SECOND + ms * MS + 500 * US;
    let back = |ts, prev, next, waited, off, state| sched::SchedSwitch {
        next_off_cpu_ns: off,
        prev_ran_ns: 2 * MS,
        prev_state: state,
        ..switch(ts, prev, next, waited)
    };
    let woke = |ts, waker, wakee| sched::SchedWakeup { head: head(ts, waker), wakee, target_cpu: 0, is_new: 0 };
    let known = |task, is_kernel| process::Process {
        head: head(0, task),
        started_ts: 0,
        cgroup_id: 1,
        ppid: 2,
        uid: 0,
        is_thread: 0,
        is_kernel,
        proc: task.pid,
        pad: 0,
    };
    let rtt = |ts, id, task, srtt_ns| tcp::TcpRtt {
        head: conn(ts, id, task),
        srtt_ns,
        mdev_ns: 10_000,
        min_rtt_ns: 20_000,
        snd_cwnd: 10,
        ssthresh: i32::MAX as u32,
        in_flight: 1,
        unacked_bytes: 100,
    };
    let curl = task(300, 300, "curl");
    builder
        .rows(&[
            // Preempted, and as long without a CPU as it wanted one.
            back(at(100), sh, db, 15 * MS, 15 * MS, 0),
            // Blocked for 25 ms before it waited for a CPU.
            back(at(150), db, db, 10_001 * US, 35_001 * US, 1),
            back(at(200), db, writer, 20 * US, 5_020 * US, 1),
            back(at(210), idle, kworker, 3 * US, 2_003 * US, 0),
            // Exactly as long as runqslower ignores by default.
            back(at(220), writer, web, 10 * MS, NULL64, 2),
        ])
        .rows(&[woke(at(139), web, db), woke(at(199) + 900 * US, db, writer), woke(at(209) + 990 * US, idle, kworker)])
        .rows(&[known(sh, 0), known(kworker, 1)])
        .rows(&[rtt(3 * SECOND, 1, curl, 50_000), rtt(7 * SECOND, 1, curl, 71_000), rtt(8 * SECOND, 2, web, 2_100_000)])
}

/// What the kernel did: signals, kills, interrupts.
fn kernel(builder: Builder) -> Builder {
    let [sh, web, db, writer, _] = names();
    let curl = task(300, 300, "curl");
    let sent = |ts, from, target: Task, signal: u32, code: i16, result, is_group| signal::Signal {
        head: head(ts, from),
        target,
        signal,
        name: signal,
        code: signal << 16 | u32::from(code as u16),
        result,
        is_group,
        pad: 0,
    };
    let killed = |ts, victim, allowed_bytes| oom::OomKill {
        head: head(ts, sh),
        victim,
        total_vm_bytes: 1 << 30,
        anon_rss_bytes: 512 << 20,
        file_rss_bytes: 4096,
        shmem_rss_bytes: 0,
        victim_cgroup_id: 1,
        limit_cgroup_id: NULL64,
        allowed_bytes,
        oom_constraint: 0,
        oom_score_adj: 500,
        victim_uid: 1000,
        pad: 0,
    };
    let at = |ts, cpu| Head { cpu, ..head(ts, Task::UNKNOWN) };
    let hard = |ts, cpu, irq, text: &str, at_least_ns, count, total_ns| {
        let mut name = [0; 32];
        name[..text.len()].copy_from_slice(text.as_bytes());
        irq::HardIrq {
            head: at(ts, cpu),
            since_ts: ts - 100 * MS,
            total_ns,
            max_ns: at_least_ns + 1,
            count,
            at_least_ns,
            irq,
            pad: 0,
            name,
        }
    };
    let soft = |ts, vector, at_least_ns, count, total_ns| irq::SoftIrq {
        head: at(ts, 0),
        since_ts: ts - 100 * MS,
        total_ns,
        max_ns: at_least_ns + 1,
        count,
        at_least_ns,
        vector,
        pad: 0,
    };
    builder
        .rows(&[
            sent(SECOND, sh, curl, 15, 0, 0, 1),
            sent(2 * SECOND, curl, sh, 17, 1, 0, 1),
            // Writing to a closed pipe: the kernel names the writer, and says SI_USER.
            sent(3 * SECOND, web, web, 13, 0, 0, 0),
            sent(4 * SECOND, writer, db, 10, -6, 0, 0),
            sent(5 * SECOND, db, web, 34, -1, 3, 1),
        ])
        // The first comes before the load average is known.
        .rows(&[killed(SECOND / 5, curl, NULL64), killed(32 * SECOND / 10, db, 2 << 30)])
        .rows(&[
            hard(2 * SECOND, 0, 30, "eth0-rx-0", 512, 3, 2_400),
            hard(2 * SECOND, 0, 30, "eth0-rx-0", 2_048, 2, 5_500),
            hard(7 * SECOND, 1, 30, "eth0-rx-0", 2_048, 1, 3_000),
            hard(7 * SECOND, 1, 31, "nvme0q1", 16_384, 4, 80_000),
        ])
        .rows(&[soft(2 * SECOND, 9, 1_024, 10, 15_000), soft(2 * SECOND, 1, 4_096, 2, 10_000), soft(7 * SECOND, 3, 65_536, 1, 70_000)])
}

/// System calls: most succeed, one began before the recording, one never returned.
fn calls(builder: Builder) -> Builder {
    let [sh, web, db, writer, _] = names();
    let arch = Arch::own();
    let call = |ts, task, name: &str, ret: i64, latency_ns| syscall::Syscall {
        head: head(ts, task),
        call: arch.number(name).unwrap(),
        outcome: if ret == i64::MIN { 3 } else { u32::from(ret < 0) },
        ret,
        latency_ns,
    };
    builder.rows(&[
        call(SECOND, web, "read", 4096, 2 * US),
        call(2 * SECOND, web, "read", 0, 3_500),
        call(3 * SECOND, web, "openat", -2, 7 * US),
        call(3 * SECOND + 1, db, "openat", 5, 8 * US),
        call(3 * SECOND + 2, sh, "kill", -3, US),
        call(4 * SECOND, writer, "fsync", 0, 1_500 * MS),
        call(5 * SECOND, db, "futex", -110, NULL64),
        call(9 * SECOND, db, "exit_group", i64::MIN, NULL64),
    ])
}

/// Names frames by [`STACKS`].
struct Named(u64);

impl Resolver for Named {
    fn frames(&mut self, _: &[u8]) -> Option<StackFrames> {
        let (_, _, names) = STACKS.iter().find(|(id, ..)| *id == self.0)?;
        let frames = names.iter().map(|name| Frame { function: (*name).to_owned(), ..Frame::default() }).collect();
        Some(StackFrames { frames, unresolved: None })
    }
}

fn stacks(builder: Builder) -> Builder {
    let [_, web, db, writer, kworker] = names();
    let ran = |ms: u64, task, user_stack_id, kernel_stack_id| profile::CpuSample {
        head: head(SECOND + ms * MS, task),
        user_stack_id,
        kernel_stack_id,
    };
    let waited = |ms: u64, task, duration_ns, user_stack_id, kernel_stack_id, state| profile::OffCpuSample {
        head: head(SECOND + ms * MS, task),
        duration_ns,
        user_stack_id,
        kernel_stack_id,
        state,
        pad: 0,
    };
    let table = profile::Stack::table();
    let mut sink = (table.builder)();
    for (stack_id, kind, _) in STACKS {
        let row = profile::Stack {
            head: head(0, if kind == 0 { web } else { Task::UNKNOWN }),
            stack_id,
            kind,
            truncated: 0,
            depth: 3,
            exec: 0,
            proc: 0,
            pad: 0,
        };
        let mut context = Context { boot_to_utc_ns: START, resolver: &mut Named(stack_id) };
        assert!(sink.append_record(row.as_bytes(), &mut context));
    }
    let mut context = Context { boot_to_utc_ns: START, resolver: &mut Named(0) };
    let bytes = segment::encode(table, &[sink.finish(&mut context)]).unwrap();
    builder
        .raw("stack/0-0.parquet", bytes)
        .rows(&[
            ran(10, web, 1, NULL64),
            ran(20, web, 1, 2),
            ran(30, web, 1, 2),
            ran(40, kworker, NULL64, 4),
            // A stack that was lost.
            ran(50, db, 9, NULL64),
        ])
        .rows(&[
            waited(10, web, 1_500 * US, 1, 3, 2),
            waited(20, web, 2_500 * US, 1, 3, 2),
            waited(30, writer, 900, 1, 3, 1),
            waited(40, kworker, 40 * MS, NULL64, 4, 0x402),
        ])
        .rows(&[process::ProcessFork {
            head: head(SECOND, task(2, 2, "kthreadd")),
            child: task(8, 8, "kworker/1:2"),
            is_thread: 0,
            pad: NULL32,
        }])
}
