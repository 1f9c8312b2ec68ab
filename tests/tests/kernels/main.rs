//! The recorder on every kernel of `tests/vm/kernels.list`, and on this host: are the captures equal to the truth?
//!
//! Needs qemu and minutes, so it runs only with `EBREC_TEST_KERNELS` set: `1` boots the kernels, `again` judges what the last run left
//! (for work on the comparison). `EBREC_BLESS=1` writes `docs/KERNELS.md`.

mod block;
mod capture;
mod dns;
mod files;
mod page_cache;
mod peers;
mod places;
mod process;
mod profile;
mod small;
mod syscall;
mod table;
mod tcp;
mod tools;

use capture::{Capture, Findings};
use ebrec_tests::{Context, Program, Result, fail, program, require_bpf, target_dir};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::Column;

/// What the kernel of this host is called in the output directory.
const HOST: &str = "host";

#[test]
fn captures_are_equal_to_the_truth_on_every_kernel() -> Result<()> {
    let asked = std::env::var("EBREC_TEST_KERNELS").unwrap_or_default();
    if asked.is_empty() || asked == "0" {
        let _ = writeln!(std::io::stderr(), "SKIPPED: the kernel matrix: it boots VMs; EBREC_TEST_KERNELS=1, or make test-kernels");
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests are nowhere")?;
    let work = target_dir().join("kernels");
    let out = work.join("out");
    if asked != "again" {
        let job = prepare_job(root, &work)?;
        std::fs::create_dir_all(&out).context(out.display())?;
        boot_all(root, &job, &out)?;
        run_on_host(&job, &out)?;
    }
    let names = std::fs::read_to_string(root.join("tests/vm/kernels.list")).context("kernels.list")?;
    let mut names: Vec<&str> =
        names.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| !name.starts_with('#')).collect();
    names.dedup();
    let mut columns = Vec::new();
    for name in names {
        columns.push(judge(name, &out.join(name)).context(name)?);
    }
    if out.join(HOST).join("release").exists() {
        columns.push(judge(HOST, &out.join(HOST)).context(HOST)?);
    }
    if std::env::var("EBREC_BLESS").is_ok_and(|value| value == "1") {
        let doc = root.join("docs/KERNELS.md");
        std::fs::create_dir_all(root.join("docs")).context("docs")?;
        std::fs::write(&doc, table::render(&columns)?).context(doc.display())?;
    }
    let differences: Vec<&str> = columns.iter().flat_map(|column| &column.differences).map(String::as_str).collect();
    if differences.is_empty() {
        return Ok(());
    }
    eprintln!("{}", differences.join("\n"));
    fail(format!("{} differences from the truth, listed above", differences.len()))
}

/// A directory with the job's script and the static programs.
fn prepare_job(root: &Path, work: &Path) -> Result<PathBuf> {
    let job = work.join("job");
    std::fs::create_dir_all(&job).context(job.display())?;
    std::fs::copy(root.join("tests/vm/jobs/ebrec/run.sh"), job.join("run.sh")).context("copy run.sh")?;
    if std::env::var_os("EBREC_TEST_PLACES").is_some() {
        std::fs::write(job.join("with-places"), "").context("with-places")?;
    }
    for (package, which) in [("ebrec-record", Program::Record), ("ebrec-tests", Program::Workload)] {
        let (name, variable) = which.names();
        let built = if std::env::var_os(variable).is_some() {
            program(which)?
        } else {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.current_dir(root).args(["rustc", "--quiet", "--release", "-p", package, "--bin", name]);
            run(cargo.args(["--", "-C", "target-feature=+crt-static"]))?;
            target_dir().join("release").join(name)
        };
        if !is_static(&built)? {
            return fail(format!("{} is not static, so it can't run in the VMs", built.display()));
        }
        let copy = job.join(name);
        std::fs::copy(&built, &copy).context(built.display())?;
        // It is packed into memory once per VM. The names of functions stay: samples are told by them.
        run(Command::new("strip").arg("-g").arg(&copy))?;
    }
    // The C library in the VMs is the one that is here.
    let mut compiler = Command::new("cc");
    run(compiler.args(["-O1", "-o"]).arg(job.join("lookups")).arg(root.join("tests/lookups.c")))?;
    Ok(job)
}

/// Whether a 64-bit ELF file asks for no dynamic loader.
fn is_static(path: &Path) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    let file = std::fs::read(path).context(path.display())?;
    let number = |at: usize, len: usize| -> Option<usize> {
        Some(file.get(at..at + len)?.iter().rev().fold(0, |number, &byte| number << 8 | usize::from(byte)))
    };
    let (table, size, count) = (|| Some((number(32, 8)?, number(54, 2)?, number(56, 2)?)))().context("not an ELF file")?;
    Ok((0..count).all(|index| number(table + index * size, 4) != Some(PT_INTERP as usize)))
}

fn run(command: &mut Command) -> Result<()> {
    let said = command.output().context(command.get_program().display())?;
    if said.status.success() {
        return Ok(());
    }
    let text = [said.stdout, said.stderr].concat();
    fail(format!("{} {}: {}", command.get_program().display(), said.status, String::from_utf8_lossy(&text).trim()))
}

fn boot_all(root: &Path, job: &Path, out: &Path) -> Result<()> {
    run(Command::new(root.join("tests/vm/matrix.sh")).arg(job).env("EBREC_VM_OUT", out))
}

/// The same job here, without what it needs a VM for: loss by nft, and the peers.
fn run_on_host(job: &Path, out: &Path) -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let out = out.join(HOST);
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).context(out.display())?;
    run(Command::new("sh").arg("run.sh").current_dir(job).env("OUT", &out))
}

fn judge(name: &str, dir: &Path) -> Result<Column> {
    let release = std::fs::read_to_string(dir.join("release")).context("the job did not end well")?;
    let mut column = Column { name: name.to_owned(), release: release.trim().to_owned(), ..Column::default() };
    for recording in ["default", "sys_exit", "kprobe", "fexit", "fentry", "uprobe", "syscall", "crowd", "places"] {
        let dir = dir.join(recording);
        if recording == "places" && !dir.exists() {
            continue; // the host's CPUs and clock are others', too
        }
        let capture = Capture::open(&dir.join("a.ebrec"));
        let mut found = Findings::default();
        compare(&dir, &capture, &mut found).context(recording)?;
        let peers = dir.with_file_name("peers");
        if recording == "default" && peers.exists() {
            let truths = [truth(&dir, "tcp")?, truth(&dir, "reuse")?];
            column.peers = peers::compare(&peers, &capture, &truths, &mut found).context("peers")?;
            column.peers.extend(tools::compare(name, &peers, &dir, &capture, &mut found).context("peers")?);
        }
        excuse(&capture, &format!("{name}, {recording}"), &mut found)?;
        if recording == "crowd" {
            let truths = (1..=4).map(|n| truth(&dir, &format!("crowd{n}"))).collect::<Result<Vec<_>>>()?;
            syscall::crowd(&capture, &truths, &mut found)?;
        }
        column.add(recording, &capture, found)?;
    }
    if name == HOST {
        // The rest of its release is nobody's business.
        let version: Vec<&str> = column.release.splitn(3, '.').take(2).collect();
        column.release = version.join(".");
        let functions = column.hooks.values().flatten().any(|(mechanism, _)| ["fexit", "kprobe"].contains(&mechanism.as_str()));
        column.name = if functions { "host" } else { "hardened: no kprobes, no trampolines" }.to_owned();
    }
    Ok(column)
}

/// The reason of losses that are the kernel's: it did not run programs.
const NOT_RUN: &str = "program not run";

/// In a busy VM a kernel whose tracepoints can be preempted leaves out runs of programs. The capture says so, and what such a recording lacks
/// is no fault; nor does it prove anything.
fn excuse(capture: &Capture, what: &str, found: &mut Findings) -> Result<()> {
    let not_run = capture.rows("loss", "reason", &NOT_RUN.into())?;
    if !not_run.is_empty() {
        for (hook, difference) in found.differences.drain(..) {
            eprintln!("{what}: {hook}: {difference} (excused: the kernel did not run programs {} times)", capture::sum(&not_run, "lost"));
            found.compared.remove(&hook);
        }
    }
    Ok(())
}

fn truth(dir: &Path, name: &str) -> Result<Value> {
    let path = dir.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).context(path.display())?;
    serde_json::from_str(&text).context(path.display())
}

/// Compares a capture with the truth of one workload.
type Compare = fn(&Capture, &Value, &mut Findings) -> Result<()>;

/// One recording against the truth of the workloads that ran in it.
fn compare(dir: &Path, capture: &Capture, found: &mut Findings) -> Result<()> {
    let lost: Vec<Value> = capture.table("loss")?.iter().filter(|row| row["reason"] != NOT_RUN).cloned().collect();
    found.equal("loss", "what was lost", lost, &[] as &[Value]);
    let known: &[(&str, Compare)] = &[
        ("exec", process::exec),
        ("threads", process::threads),
        ("reuse", process::reuse),
        ("pingpong", process::pingpong),
        ("files", files::files),
        ("tcp", tcp::tcp),
        ("hold", tcp::hold),
        ("retransmit", tcp::retransmit),
        ("signals", small::signals),
        ("oom", small::oom),
        ("resets", small::resets),
        ("rtt", small::rtt),
        ("rtt_slow", small::rtt_slow),
        ("interrupts", small::interrupts),
        ("calls", syscall::calls),
        ("calls_hold", syscall::hold),
        ("block", block::block),
        ("block_queued", block::block),
        ("block_errors", block::block),
        ("block_null", block::block),
        ("block_zram", block::block),
        ("page_cache", page_cache::page_cache),
        ("faults", page_cache::faults),
        ("dns", dns::dns),
        ("endless", dns::endless),
        ("burn", profile::burn),
        ("nap", profile::nap),
        ("cpu", places::cpu),
        ("cpu_again", places::cpu),
    ];
    for &(name, compare) in known {
        if dir.join(format!("{name}.json")).exists() {
            compare(capture, &truth(dir, name)?, found).context(name)?;
        }
    }
    if dir.ends_with("places") {
        places::clock(capture, found)?;
    }
    if dir.join("lossy.json").exists() {
        let counter = |when: &str| -> Result<u64> {
            let path = dir.join(format!("lossy.{when}"));
            std::fs::read_to_string(&path).context(path.display())?.trim().parse().context(path.display())
        };
        let sent_again = counter("after")?.checked_sub(counter("before")?).context("the counter went backwards")?;
        tcp::lossy(capture, &truth(dir, "lossy")?, sent_again, found).context("lossy")?;
    }
    Ok(())
}
