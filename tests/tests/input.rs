//! What is not a whole capture, made from a real one, is refused with a reason and never with a panic.

use ebrec_tests::{Context, Program, Ran, Result, list, program, recorded, require_bpf, run, workload};
use std::path::Path;
use std::process::Command;

/// Asks for rows of a file that is no capture.
fn ask(path: &Path) -> Result<Ran> {
    run(Program::Analyze, [path.as_os_str(), "sql".as_ref(), "SELECT count(*) FROM process_fork".as_ref()])
}

fn assert_refused(path: &Path) -> Result<()> {
    for ran in [ask(path)?, run(Program::Analyze, [path])?] {
        assert_eq!(ran.status.code(), Some(2), "{}: {}", path.display(), ran.stderr);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.starts_with("ebrec-analyze: ") && !ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    Ok(())
}

#[test]
fn damaged_and_foreign_files_are_refused_with_a_reason() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (_, capture) = recorded(&["--probes", "process"], || workload(&["threads"]))?;
    let whole = std::fs::read(capture.path()).context("read the capture")?;
    let damaged = capture.dir().join("damaged.ebrec");
    // At the start, in the middle, in the central directory, and one byte short.
    for len in [0, 1, 30, 100, whole.len() / 3, whole.len() / 2, whole.len() - 2000, whole.len() - 22, whole.len() - 1] {
        std::fs::write(&damaged, &whole[..len]).context("write")?;
        assert_refused(&damaged)?;
    }
    std::fs::write(&damaged, "neither this nor that\n".repeat(1000)).context("write")?;
    assert_refused(&damaged)?;
    std::fs::create_dir(capture.dir().join("empty")).context("mkdir")?;
    for other in [capture.dir().join("empty"), "/etc".into(), "/dev/null".into(), "/no/such/file".into()] {
        assert_refused(&other)?;
    }
    Ok(())
}

#[test]
fn flipped_bytes_give_an_error_or_an_answer_but_no_crash() -> Result<()> {
    let Some(_bpf) = require_bpf()? else { return Ok(()) };
    let (truth, capture) = recorded(&["--probes", "process"], || workload(&["threads"]))?;
    let whole = std::fs::read(capture.path()).context("read the capture")?;
    let damaged = capture.dir().join("damaged.ebrec");
    for at in (0..40).map(|step| step * whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&damaged, bytes).context("write")?;
        let ran = ask(&damaged)?;
        assert!(matches!(ran.status.code(), Some(0 | 2)), "byte {at}: {:?} {}", ran.status, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "byte {at}: {}", ran.stderr);
    }
    assert!(!list(&truth["threads"])?.is_empty());
    Ok(())
}

/// A usage line is copied into a runbook: it names the command that was typed, and is in PATH.
#[test]
fn usage_names_the_command_that_was_typed() -> Result<()> {
    let said = |of: Program, args: &[&str]| -> Result<String> {
        // As the front command calls it.
        let ran = Command::new(program(of)?).args(args).env("EBREC_FRONT", "1").output().context("run it")?;
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    };
    for (of, args, command) in [
        (Program::Record, &["--help"][..], "ebrec record"),
        (Program::Record, &["check", "--help"], "ebrec check"),
        (Program::Analyze, &["--help"], "ebrec analyze"),
    ] {
        let help = said(of, args)?;
        let usage = help.lines().find(|line| line.starts_with("Usage:")).context("no usage")?;
        assert!(usage.starts_with(&format!("Usage: {command} ")), "{usage}");
    }
    let version = run(Program::Front, ["--version"])?.succeeded()?.stdout;
    assert!(version.starts_with("ebrec "), "{version}");
    Ok(())
}
