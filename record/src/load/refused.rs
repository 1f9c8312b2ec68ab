//! Why the kernel refuses a program, in its own words.

use crate::hooks::Program;
use libbpf_rs::PrintLevel;
use std::sync::Mutex;

/// What libbpf printed since it was last taken: its words name the program that failed.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub(super) fn keep_log(_: PrintLevel, line: String) {
    if let Ok(mut log) = LOG.lock()
        && log.len() < 1000
    {
        log.push(line);
    }
}

pub(super) fn take_log() -> Vec<String> {
    LOG.lock().map(|mut log| std::mem::take(&mut *log)).unwrap_or_default()
}

/// Why an attempt failed.
pub(super) enum Failed {
    /// One program is to blame: try without.
    Program { name: String, reason: String },
    /// Nothing can be had.
    Whole(anyhow::Error),
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Failed {
        Failed::Whole(error)
    }
}

/// The program that the log blames for a failed load.
pub(super) fn blame(error: &libbpf_rs::Error) -> Failed {
    let log = take_log();
    let named = log.iter().rev().find_map(|line| {
        let rest = line.split_once("prog '")?.1;
        let (name, what) = rest.split_once("': ")?;
        what.contains("failed").then(|| (name.to_owned(), what.trim().to_owned()))
    });
    match named {
        Some((name, what)) => {
            // The verifier's last words before its statistics are the reason.
            let reason =
                log.iter().flat_map(|line| line.lines()).rev().find(|line| is_verdict(line)).map_or(what, |line| line.trim().to_owned());
            Failed::Program { name, reason: format!("the kernel refuses the program: {reason}") }
        }
        None => {
            let tail: Vec<&str> = log.iter().rev().take(5).map(|line| line.trim()).collect();
            Failed::Whole(anyhow::anyhow!(
                "cannot load the BPF programs: {error}\n  {}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n  ")
            ))
        }
    }
}

fn is_verdict(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty()
        && !line.starts_with("libbpf:")
        && !line.starts_with("processed ")
        && !line.starts_with("-- ")
        && !line.contains("verification time")
        && !line.starts_with("stack depth")
}

pub(super) fn attach_reason(program: &Program, error: &libbpf_rs::Error) -> String {
    format!("{} cannot be attached: {error}", program.section.trim_start_matches('?'))
}
