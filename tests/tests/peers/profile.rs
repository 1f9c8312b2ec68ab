//! perf record and offcputime beside the tables `cpu_sample` and `off_cpu_sample`.

use crate::tool::{Tool, installed, number};
use ebrec_tests::{Capture, Context, Held, Program, Result, TempDir, fail, int, program, recorded, require_bpf};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// Samples by pid and by the function that was running.
type Samples = BTreeMap<(i64, String), i64>;

/// Runs perf, and returns what it printed.
fn perf(args: &[&str]) -> Result<String> {
    let out = Command::new("perf").args(args).env("DEBUGINFOD_URLS", "").output().context("run perf")?;
    if !out.status.success() {
        return fail(format!("perf {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// What `perf script -F pid,ip,sym` prints: for each sample the pid, the address and the function's name, which may have spaces.
fn samples_of_perf(script: &str) -> Result<Samples> {
    let mut samples = Samples::new();
    for line in script.lines() {
        let (pid, rest) = line.trim().split_once(' ').context(format!("not a sample: {line}"))?;
        let leaf = rest.trim().split_once(' ').map_or("", |(_, function)| function);
        *samples.entry((number(pid)?, leaf.to_owned())).or_default() += 1;
    }
    Ok(samples)
}

fn samples_of_capture(capture: &Capture) -> Result<Samples> {
    let rows = capture.sql(
        "SELECT s.pid, coalesce(k.frames[1], u.frames[1], '') AS leaf, count(*) AS n FROM cpu_sample s
         LEFT JOIN stack k ON k.stack_id = s.kernel_stack_id LEFT JOIN stack u ON u.stack_id = s.user_stack_id GROUP BY 1, 2",
    )?;
    rows.iter().map(|row| Ok(((int(&row["pid"])?, row["leaf"].as_str().unwrap_or_default().to_owned()), int(&row["n"])?))).collect()
}

/// Both sampled the same time, each at moments of its own. On a busy host a task has the CPU for less than a tick at a time, so whether one
/// falls into its turn is chance: counts deviate by the root of what is expected, their difference by that of both. Four times that, and a
/// few for rounding, is what one run in ten thousand exceeds.
fn assert_close(live: i64, captured: i64, what: &str) {
    let slack = 4.0 * ((live + captured) as f64).sqrt() + 6.0;
    assert!((live - captured).abs() as f64 <= slack, "{what}: perf has {live}, the capture {captured}");
}

#[test]
fn perf_record_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    if installed("perf")?.is_none() {
        return Ok(());
    }
    let dir = TempDir::new("perf")?;
    let data = dir.path().join("perf.data").to_string_lossy().into_owned();
    // Two processes: one in a function of its own, one in the kernel.
    let workload = program(Program::Workload)?;
    let script = format!("{0} burn 1 --ms 600 & {0} burn 1 --ms 600 --reads; wait", workload.display());
    // Only their threads: what else a busy host does at such a rate is more stacks than any of the two has to keep.
    let args = ["--probes", "profile", "--sample-hz", "997", "--comm", "wl-burn-0"];
    let (truths, capture) = recorded(&args, || {
        // The same clock on each CPU, not the processor's cycles, which virtual machines rarely have.
        perf(&["record", "-F", "997", "-e", "cpu-clock", "-a", "-B", "-N", "-o", &data, "--", "/bin/sh", "-c", &script])
    })?;
    let live = samples_of_perf(&perf(&["script", "-i", &data, "--comms", "wl-burn-0", "--no-inline", "-F", "pid,ip,sym"])?)?;
    let captured = samples_of_capture(&capture)?;
    let mut functions = Vec::new();
    for truth in truths.lines().filter(|line| line.starts_with('{')) {
        let truth: Value = serde_json::from_str(truth).context("truth")?;
        let pid = int(&truth["pid"])?;
        let of = |samples: &Samples| -> BTreeMap<String, i64> {
            samples.iter().filter(|((of, _), _)| *of == pid).map(|((_, leaf), n)| (leaf.clone(), *n)).collect()
        };
        let (live, captured) = (of(&live), of(&captured));
        assert_close(live.values().sum(), captured.values().sum(), &format!("samples of {truth}"));
        for leaf in live.keys().chain(captured.keys()) {
            let count = |of: &BTreeMap<String, i64>| of.get(leaf).copied().unwrap_or(0);
            assert_close(count(&live), count(&captured), &format!("{leaf}, of {live:?} and {captured:?}"));
        }
        functions.extend(captured.into_iter().max_by_key(|(_, n)| *n));
    }
    // There was something to compare: 600 ms of 997 Hz each, at least half of them in one function.
    assert!(functions.len() == 2 && functions.iter().all(|(_, n)| *n > 150), "{functions:?}");
    assert!(functions.iter().any(|(leaf, _)| leaf == "ebrec_burn_leaf"), "{functions:?}");
    Ok(())
}

/// What a task waited in: the kernel's functions from the scheduler's on, leaf first, and those of the workload. Farther out, and in libraries,
/// functions have several names of which each may choose another, and the tool doesn't decode Rust's.
type Stack = Vec<String>;

fn stack_of<'a>(frames: impl Iterator<Item = &'a str> + Clone) -> Stack {
    let kernel = frames.clone().skip_while(|name| *name != "__schedule").take(4);
    kernel.chain(frames.filter(|name| name.starts_with("ebrec_") && !name.contains(':'))).map(str::to_owned).collect()
}

/// Blocks of lines: the stack, with the tool's own program on top; `- NAME (TID)`; the time in us.
fn blocked_by_tool(printed: &[String]) -> Result<Vec<(Stack, f64)>> {
    let mut blocked = Vec::new();
    for block in printed.split(String::is_empty) {
        if let [stack @ .., task, time] = block
            && task.trim().starts_with("- ")
        {
            blocked.push((stack_of(stack.iter().map(|line| line.trim())), number(time.trim())? as f64));
        }
    }
    Ok(blocked)
}

#[test]
fn offcputime_agrees() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // It seeks names when it ends, so the process has to be there still.
    let mut held = Held::start(&["nap-hold"])?;
    let pid = held.pid();
    let Some(tool) = Tool::start("offcputime", &["-p", &pid.to_string()])? else { return Ok(()) };
    tool.wait_until_it_is_attached()?;
    let (_, capture) = recorded(&["--probes", "profile", "--off-cpu-stacks"], || {
        held.tell("nap 20 20")?;
        // It waits for the next order meanwhile.
        std::thread::sleep(Duration::from_millis(200));
        held.tell("nap 5 20")
    })?;
    let live = blocked_by_tool(&tool.stop()?)?;
    held.finish()?;
    let rows = capture.sql(&format!(
        "SELECT k.frames AS kernel, u.frames AS user, sum(o.duration_ns) AS ns FROM off_cpu_sample o
         JOIN stack k ON k.stack_id = o.kernel_stack_id LEFT JOIN stack u ON u.stack_id = o.user_stack_id
         WHERE o.pid = {pid} GROUP BY 1, 2"
    ))?;
    let mut captured = Vec::new();
    for row in &rows {
        let frames = [&row["kernel"], &row["user"]].into_iter().flat_map(|frames| frames.as_array().into_iter().flatten());
        captured.push((stack_of(frames.filter_map(Value::as_str)), int(&row["ns"])? as f64 / 1e3));
    }
    let sum = |of: &[(Stack, f64)], stack: &Stack| of.iter().filter(|(other, _)| other == stack).map(|(_, us)| us).sum::<f64>();
    // It counts preempted tasks too, and microseconds, cut; and each takes the time before or after the other, at the same switch.
    let alike = |live: f64, captured: f64| (live - captured).abs() <= 500.0 + captured * 0.05;
    for (stack, _) in &captured {
        let (live_us, captured_us) = (sum(&live, stack), sum(&captured, stack));
        assert!(alike(live_us, captured_us), "{stack:?}: {live_us} {captured_us}\n{live:#?}\n{captured:#?}");
    }
    let with = |of: &[(Stack, f64)], function: &str| {
        of.iter().filter(|(stack, _)| stack.iter().any(|name| name == function)).map(|(_, us)| us).sum::<f64>()
    };
    // The naps have names, and so has the wait.
    assert!(with(&captured, "ebrec_nap_leaf") >= 25.0 * 20_000.0 * 0.9, "{captured:#?}");
    assert!(with(&captured, "vfs_read") >= 200_000.0 * 0.9, "{captured:#?}");
    // Nothing that it shows is missing, but where the task was preempted.
    let is_preempted = |name: &String| ["exit_to_user", "irqentry", "preempt", "cond_resched"].iter().any(|part| name.contains(part));
    for (stack, us) in &live {
        assert!(stack.iter().any(is_preempted) || captured.iter().any(|(other, _)| other == stack), "{stack:?} {us}: {captured:#?}");
    }
    Ok(())
}
