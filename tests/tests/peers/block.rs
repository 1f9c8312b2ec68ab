//! biolatency and bitesize beside the table `block_io`.

use crate::tool::{Histogram, Tool, assert_alike, histograms};
use ebrec_tests::{Capture, Context, Result, TempDir, fail, int, recorded, require_bpf, text, workload};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// A loop device of the test's own, so that the tools can be told of it before the workload uses it.
struct LoopDevice {
    path: String,
    _dir: TempDir,
}

impl LoopDevice {
    fn new() -> Result<Self> {
        let dir = TempDir::new("loop")?;
        let image = dir.path().join("image");
        std::fs::File::create_new(&image).and_then(|file| file.set_len(64 << 20)).context("make the image")?;
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().context("losetup")?;
        if !made.status.success() {
            return fail(format!("losetup: {}", String::from_utf8_lossy(&made.stderr)));
        }
        Ok(Self { path: String::from_utf8_lossy(&made.stdout).trim().to_owned(), _dir: dir })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.path]).status();
    }
}

/// Operation and flags, as the table names them: `write sync meta`.
type Kind = String;

fn kind<'a>(op: &str, flags: impl Iterator<Item = &'a str>) -> Kind {
    let flags: BTreeSet<&str> = flags.filter(|flag| !flag.is_empty()).collect();
    std::iter::once(op).chain(flags).collect::<Vec<_>>().join(" ")
}

/// What biolatency -F names `Metadata-Sync-Write`. Its NoMerge, Idle and Integrity are the block layer's own marks, which the table
/// leaves out.
fn kind_of_live(heading: &str) -> Kind {
    let mut words: Vec<String> = heading.split('-').map(str::to_ascii_lowercase).collect();
    let op = words.pop().unwrap_or_default();
    let named = words.iter().map(|flag| match flag.as_str() {
        "metadata" => "meta",
        "priority" => "prio",
        "nomerge" | "idle" | "integrity" => "",
        other => other,
    });
    kind(&op, named)
}

/// Histograms in powers of two of UNIT of an expression over what the workload did to the disk.
fn captured(capture: &Capture, truth: &Value, of: &str, unit: i64) -> Result<BTreeMap<Kind, Histogram>> {
    let rows = capture.sql(&format!(
        "SELECT op, flags, CAST(CASE WHEN {of} < 2 * {unit} THEN 0 ELSE power(2, floor(log2(({of}) / {unit}))) END AS BIGINT) AS low, count(*) AS n
         FROM block_io WHERE pid = {} AND disk = '{}' AND {of} IS NOT NULL GROUP BY 1, 2, 3",
        truth["pid"],
        text(&truth["disk"])?
    ))?;
    let mut all = BTreeMap::<Kind, Histogram>::new();
    for row in rows {
        let kind = kind(text(&row["op"])?, row["flags"].as_str().unwrap_or_default().split('|'));
        *all.entry(kind).or_default().entry(int(&row["low"])?).or_default() += int(&row["n"])?;
    }
    Ok(all)
}

/// Of each kind as many, and their times alike.
fn assert_same(live: &[String], captured: &BTreeMap<Kind, Histogram>, what: &str) -> Result<()> {
    let mut by_kind = BTreeMap::<Kind, Histogram>::new();
    for (heading, histogram) in histograms(live)? {
        let kind = kind_of_live(&heading);
        // Where there is an udev, it reads a device that has changed, with buffered reads; the workload's are direct ones.
        if kind.starts_with("read") && !kind.contains("sync") {
            continue;
        }
        for (low, n) in histogram {
            *by_kind.entry(kind.clone()).or_default().entry(low).or_default() += n;
        }
    }
    let counts = |of: &BTreeMap<Kind, Histogram>| -> BTreeMap<Kind, i64> {
        of.iter().map(|(kind, histogram)| (kind.clone(), histogram.values().sum())).collect()
    };
    assert_eq!(counts(&by_kind), counts(captured), "{what}: {live:#?}");
    for (kind, histogram) in &by_kind {
        assert_alike(histogram, &captured[kind], 16, 2, &format!("{what} {kind}"));
    }
    Ok(())
}

#[test]
fn biolatency_and_bitesize_agree() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let device = LoopDevice::new()?;
    let disk = device.path.rsplit('/').next().unwrap_or_default().to_owned();
    // Time at the device, the same with that in the queue, and sizes.
    let Some(at_device) = Tool::start_summary("biolatency", &["-d", &disk, "-F"])? else { return Ok(()) };
    let Some(in_queue_too) = Tool::start_summary("biolatency", &["-d", &disk, "-F", "-Q"])? else { return Ok(()) };
    let Some(sizes) = Tool::start_summary("bitesize", &["-d", &disk])? else { return Ok(()) };
    let (truth, capture) =
        recorded(&["--probes", "block"], || workload(&["block", "--device", &device.path, "--scheduler", "mq-deadline", "--repeat", "4"]))?;
    assert_same(&at_device.stop()?, &captured(&capture, &truth, "latency_ns", 1000)?, "latency")?;
    // Where there is a scheduler, -Q counts what was inserted only.
    assert_same(&in_queue_too.stop()?, &captured(&capture, &truth, "queued_ns + latency_ns", 1000)?, "queue and latency")?;
    // It names who issued a request to the driver, which for one that waited for a flush is a worker of the kernel.
    let mut live = Histogram::new();
    for (comm, histogram) in histograms(&sizes.stop()?)? {
        if comm == "ebrec-workload" || comm.starts_with("kworker") {
            histogram.into_iter().for_each(|(low, n)| *live.entry(low).or_default() += n);
        }
    }
    let mut of_capture = Histogram::new();
    for histogram in captured(&capture, &truth, "bytes", 1024)?.into_values() {
        histogram.into_iter().for_each(|(low, n)| *of_capture.entry(low).or_default() += n);
    }
    live.retain(|_, n| *n > 0);
    assert_eq!(live, of_capture);
    assert!(of_capture.values().sum::<i64>() >= 100, "{of_capture:?}");
    Ok(())
}
