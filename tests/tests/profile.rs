//! Samples are as many as the CPU time says, and name the functions in which it was spent; so does off-CPU time.

use ebrec_tests::{Capture, Context, Result, int, list, recorded, require_bpf, text, workload};
use serde_json::Value;
use std::io::Write;
use std::path::Path;

const PROFILE: &[&str] = &["--probes", "profile"];
/// The functions of the burner, leaf first.
const BURNERS: [&str; 3] = ["ebrec_burn_leaf", "ebrec_burn_middle", "ebrec_burn_outer"];

/// Samples with their user stacks' frames.
const SAMPLES: &str = "SELECT s.tid, k.frames, k.locations, k.process_id = s.process_id AS own, k.unresolved
    FROM cpu_sample s LEFT JOIN stack k ON k.stack_id = s.user_stack_id";

/// On a busy host a thread has the CPU for less than a tick at a time, so whether one falls into its turn is chance: counts deviate
/// by the root of what is expected. Four times that, and a few for rounding, is what one run in ten thousand exceeds.
fn assert_count(samples: i64, hz: f64, cpu_ns: i64, what: &Value) {
    let expected = cpu_ns as f64 / 1e9 * hz;
    let slack = 4.0 * expected.sqrt() + 6.0;
    assert!((samples as f64 - expected).abs() <= slack, "{samples} samples, not {expected:.0}: {what}");
}

fn names(frames: &Value) -> Vec<&str> {
    frames.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The samples of a process, of which nearly all (others hit its start, the loop around it, or the kernel) are in the named functions: all
/// but one in twenty. Of a program that is gone after twenty samples, one of them may be its start.
fn assert_named(capture: &Capture, pid: &Value, functions: &[&str]) -> Result<Vec<Value>> {
    let rows = capture.sql(&format!("{SAMPLES} WHERE s.pid = {pid}"))?;
    let named = rows.iter().filter(|row| names(&row["frames"]).starts_with(functions)).count();
    assert!(
        named > 0 && rows.len() - named <= rows.len().div_ceil(20),
        "{named} of {} samples are in {functions:?}: {:?}",
        rows.len(),
        rows.first()
    );
    assert!(rows.iter().all(|row| row["own"] != false), "a stack of another process");
    Ok(rows)
}

#[test]
fn samples_are_as_many_as_the_cpu_time_and_name_the_function() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROFILE, || workload(&["burn", "2", "--ms", "1500"]))?;
    let rows = assert_named(&capture, &truth["pid"], &BURNERS)?;
    for thread in list(&truth["threads"])? {
        let samples = rows.iter().filter(|row| row["tid"] == thread["tid"]).count();
        assert_count(samples as i64, 99.0, int(&thread["cpu_ns"])?, thread);
        let comms = capture.sql(&format!("SELECT DISTINCT comm FROM cpu_sample WHERE tid = {}", thread["tid"]))?;
        assert!(comms.iter().any(|row| row["comm"] == thread["comm"]), "{comms:?}");
    }
    // The same frames as places: the program's file, its build id and an offset that lies in it.
    let program = ebrec_tests::program(ebrec_tests::Program::Workload)?;
    let size = program.metadata().map_or(0, |metadata| metadata.len()) as i64;
    let named = rows.iter().filter(|row| names(&row["frames"]).starts_with(&BURNERS));
    for place in named.flat_map(|row| list(&row["locations"]).unwrap_or_default().iter().take(BURNERS.len())) {
        assert_eq!(text(&place["module"])?, program.canonicalize().unwrap_or_default().to_string_lossy(), "{place}");
        assert!(int(&place["offset"])? > 0 && int(&place["offset"])? < size && int(&place["address"])? > 0, "{place}");
        assert!(text(&place["build_id"])?.len() >= 16, "{place}");
    }
    Ok(())
}

#[test]
fn a_program_is_named_that_was_gone_before_the_end() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    for ms in ["200", "1000"] {
        let (truth, capture) = recorded(PROFILE, || {
            let truth = workload(&["burn", "1", "--ms", ms, "--unlinked"])?;
            assert!(!Path::new(text(&truth["path"])?).exists());
            Ok(truth)
        })?;
        let rows = assert_named(&capture, &truth["burner_pid"], &BURNERS)?;
        assert_count(rows.len() as i64, 99.0, int(&truth["cpu_ns"])?, &truth);
        let named = rows.iter().filter(|row| names(&row["frames"]).starts_with(&BURNERS));
        assert!(named.clone().all(|row| row["locations"][0]["module"] == truth["path"]), "{:?}", named.clone().next_back());
    }
    Ok(())
}

#[test]
fn the_rate_is_as_asked() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&[PROFILE, &["--sample-hz", "997"]].concat(), || workload(&["burn", "1", "--ms", "1000"]))?;
    let rows = assert_named(&capture, &truth["pid"], &BURNERS)?;
    assert_count(rows.len() as i64, 997.0, int(&truth["cpu_ns"])?, &truth);
    // Stacks are told once, however often they are seen.
    let row = capture.row("SELECT count(*) AS n, count(DISTINCT stack_id) AS ids FROM stack")?;
    assert_eq!(row["n"], row["ids"]);
    let missing = "SELECT count(*) FROM cpu_sample s LEFT JOIN stack u ON u.stack_id = s.user_stack_id LEFT JOIN stack k ON k.stack_id = s.kernel_stack_id
        WHERE s.user_stack_id IS NOT NULL AND u.stack_id IS NULL OR s.kernel_stack_id IS NOT NULL AND k.stack_id IS NULL";
    assert_eq!(capture.number(missing)?, 0);
    Ok(())
}

#[test]
fn jitted_code_is_named_by_its_perf_map() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    if !cfg!(target_arch = "x86_64") {
        let _ = writeln!(std::io::stderr(), "SKIPPED: jitted code: the machine code at hand is for x86-64");
        return Ok(());
    }
    let (truth, capture) = recorded(PROFILE, || workload(&["burn", "1", "--ms", "800", "--jit"]))?;
    assert!(!Path::new(&format!("/tmp/perf-{}.map", truth["pid"])).exists());
    let rows = assert_named(&capture, &truth["pid"], &["ebrec_jit_loop"])?;
    let of_jit = rows.iter().filter(|row| names(&row["frames"]).starts_with(&["ebrec_jit_loop"]));
    assert!(of_jit.clone().all(|row| row["locations"][0]["module"].is_null()), "{:?}", of_jit.clone().next_back());
    Ok(())
}

/// Code in a file of memory, which is mapped twice: once to be written and once to run.
#[test]
fn jitted_code_in_a_file_is_named_by_its_perf_map() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    if !cfg!(target_arch = "x86_64") {
        let _ = writeln!(std::io::stderr(), "SKIPPED: jitted code: the machine code at hand is for x86-64");
        return Ok(());
    }
    let (truth, capture) = recorded(PROFILE, || workload(&["burn", "1", "--ms", "800", "--jit-in-file"]))?;
    let rows = assert_named(&capture, &truth["pid"], &["ebrec_jit_loop"])?;
    let mut of_jit = rows.iter().filter(|row| names(&row["frames"]).starts_with(&["ebrec_jit_loop"]));
    assert!(of_jit.all(|row| row["locations"][0]["module"].as_str().is_some_and(|module| module.contains("doublemapper"))), "{rows:?}");
    Ok(())
}

/// Code that is mapped after its process was first looked at: each piece is in few stacks, which may come at the wrong moment.
#[test]
fn jitted_code_that_comes_later_is_named() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    if !cfg!(target_arch = "x86_64") {
        let _ = writeln!(std::io::stderr(), "SKIPPED: jitted code: the machine code at hand is for x86-64");
        return Ok(());
    }
    let (truth, capture) = recorded(PROFILE, || workload(&["burn", "1", "--ms", "2400", "--jit-pieces", "8"]))?;
    let rows = capture.sql(&format!(
        "SELECT k.frames[1] AS leaf, count(*) AS n FROM cpu_sample s JOIN stack k ON k.stack_id = s.user_stack_id WHERE s.pid = {}
         GROUP BY 1 HAVING count(*) > 5 ORDER BY 1",
        truth["pid"]
    ))?;
    let leaves: Vec<&str> = rows.iter().filter_map(|row| row["leaf"].as_str()).collect();
    let expected: Vec<String> = (0..8).map(|nth| format!("ebrec_jit_piece_{nth}")).collect();
    assert_eq!(leaves, expected, "{rows:?}");
    Ok(())
}

#[test]
fn time_in_the_kernel_has_a_kernel_stack() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(PROFILE, || workload(&["burn", "1", "--ms", "1000", "--reads"]))?;
    let rows = capture.sql(&format!(
        "SELECT k.frames, k.kind, k.process_id, k.unresolved FROM cpu_sample s LEFT JOIN stack k ON k.stack_id = s.kernel_stack_id WHERE s.pid = {}",
        truth["pid"]
    ))?;
    assert_count(rows.len() as i64, 99.0, int(&truth["cpu_ns"])?, &truth);
    let of_kernel: Vec<&Value> = rows.iter().filter(|row| row["kind"] == "kernel").collect();
    // Clearing a MiB takes much longer than the way into the kernel and back.
    assert!(of_kernel.len() * 100 >= rows.len() * 80, "{} of {}", of_kernel.len(), rows.len());
    assert!(of_kernel.iter().all(|row| row["process_id"].is_null()));
    let hidden = std::fs::read_to_string("/proc/kallsyms")
        .unwrap_or_default()
        .lines()
        .next()
        .is_none_or(|line| line.starts_with("0000000000000000"));
    if hidden {
        let _ = writeln!(std::io::stderr(), "SKIPPED: names of kernel functions: /proc/kallsyms hides its addresses");
        return Ok(());
    }
    let reading = of_kernel.iter().filter(|row| names(&row["frames"]).contains(&"vfs_read")).count();
    assert!(reading * 100 >= of_kernel.len() * 95, "{reading} of {}: {:?}", of_kernel.len(), of_kernel.first());
    Ok(())
}

#[test]
fn blocked_time_adds_up_and_names_the_function() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&[PROFILE, &["--off-cpu-stacks"]].concat(), || workload(&["nap", "25", "--ms", "20"]))?;
    let rows = capture.sql(&format!(
        "SELECT o.duration_ns, o.state, u.frames, k.frames AS kernel FROM off_cpu_sample o
         JOIN stack u ON u.stack_id = o.user_stack_id JOIN stack k ON k.stack_id = o.kernel_stack_id WHERE o.tid = {}",
        truth["tid"]
    ))?;
    let naps: Vec<&Value> = rows.iter().filter(|row| names(&row["frames"]).starts_with(&["ebrec_nap_leaf", "ebrec_nap_outer"])).collect();
    assert_eq!(naps.len() as i64, int(&truth["times"])?);
    let slept: i64 = naps.iter().filter_map(|nap| nap["duration_ns"].as_i64()).sum();
    // It is off the CPU a little later than it asks, and on it a little before it knows. A busy host makes the first long.
    assert!(slept <= int(&truth["slept_ns"])? && slept * 10 >= int(&truth["asked_ns"])? * 9, "{slept} {truth}");
    for nap in naps {
        assert_eq!(nap["state"], "S");
        assert!(names(&nap["kernel"]).first().is_none_or(|name| name.starts_with("__schedule") || name.starts_with('[')), "{nap}");
    }
    Ok(())
}

#[test]
fn what_nobody_asked_for_is_off_and_not_empty() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    // On an idle host nothing is sampled, and a capture without a row ends with exit code 1.
    let (_, capture) = recorded(PROFILE, || workload(&["burn", "1", "--ms", "300"]))?;
    let hook = capture.row("SELECT status, mechanism, reason FROM probe WHERE probe = 'profile' AND hook = 'off_cpu'")?;
    assert_eq!((text(&hook["status"])?, text(&hook["reason"])?), ("off", "not asked for (--off-cpu-stacks)"));
    let ran = ebrec_tests::analyze(capture.path(), &["sql", "SELECT count(*) FROM off_cpu_sample"])?;
    assert!(!ran.status.success() && ran.stderr.contains("--off-cpu-stacks"), "{}", ran.stderr);
    let ran = ebrec_tests::analyze(capture.path(), &["sql", "SELECT count(*) FROM stack", "--strict"])?.succeeded()?;
    assert!(!ran.stderr.contains("off_cpu"), "{}", ran.stderr);
    Ok(())
}

#[test]
fn filters_limit_samples() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) =
        recorded(&[PROFILE, &["--off-cpu-stacks", "--comm", "wl-burn-1"]].concat(), || workload(&["burn", "2", "--ms", "400"]))?;
    let comms = capture.sql("SELECT DISTINCT comm FROM cpu_sample UNION SELECT DISTINCT comm FROM off_cpu_sample")?;
    assert_eq!(comms.iter().map(|row| &row["comm"]).collect::<Vec<_>>(), ["wl-burn-1"], "{truth}");
    Ok(())
}

/// A program whose functions that aren't exported are only named by what it carries compressed, as Fedora ships all of its.
const MINI: &str = r#"
set -e
cat >prog.c <<'C'
#include <time.h>
#include <stdlib.h>
volatile unsigned long sink;
static __attribute__((noinline)) void hidden_burn(void) { for (int i = 0; i < 100000; i++) sink += i; }
__attribute__((noinline)) void exported_burn(void) { for (int i = 0; i < 100000; i++) sink += i; }
int main(int argc, char **argv)
{
	for (long end = clock() + atol(argv[1]) * CLOCKS_PER_SEC / 1000; clock() < end;) {
		hidden_burn();
		exported_burn();
	}
}
C
cc -O1 -fno-omit-frame-pointer -rdynamic -o prog prog.c
nm -D --format=posix --defined-only prog | cut -d' ' -f1 | sort >exported
nm --format=posix --defined-only prog | awk '$2 == "T" || $2 == "t" { print $1 }' | sort >functions
comm -13 exported functions >kept
objcopy --only-keep-debug prog whole
objcopy -S --keep-symbols=kept whole mini
strip --strip-all prog
xz -k mini
objcopy --add-section .gnu_debugdata=mini.xz prog
"#;

#[test]
fn a_stripped_program_is_named_by_the_symbols_that_it_carries_compressed() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let dir = ebrec_tests::TempDir::new("mini")?;
    let made = std::process::Command::new("sh").args(["-c", MINI]).current_dir(dir.path()).output().context("run sh")?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (_, capture) = recorded(PROFILE, || {
        let ran = std::process::Command::new(dir.path().join("prog")).arg("800").status().context("run it")?;
        assert!(ran.success());
        Ok(())
    })?;
    let rows = capture.sql(
        "SELECT k.frames[1] AS leaf, count(*) AS n FROM cpu_sample s JOIN stack k ON k.stack_id = s.user_stack_id
         WHERE s.comm = 'prog' GROUP BY 1 ORDER BY 2 DESC",
    )?;
    let of = |name: &str| rows.iter().find(|row| row["leaf"] == name).map_or(Ok(0), |row| int(&row["n"]));
    // About forty samples each; on a busy host fewer.
    assert!(of("hidden_burn")? >= 5 && of("exported_burn")? >= 5, "{rows:?}");
    Ok(())
}
