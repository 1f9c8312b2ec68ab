//! The front command: `ebrec record …` and `ebrec check …` run `ebrec-record`, everything else runs `ebrec-analyze`.
//!
//! The two are separate programs because they live in different worlds: the recorder is small, needs privilege and
//! runs on a host in trouble; the analyzer is large, needs none and runs on a laptop.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let word = args.first().map(|arg| arg.to_string_lossy().into_owned());
    let program = match word.as_deref() {
        Some("record") => {
            args.remove(0);
            "ebrec-record"
        }
        Some("check") => "ebrec-record",
        Some("analyze") => {
            args.remove(0);
            "ebrec-analyze"
        }
        // The capture comes first there: ebrec replay FILE REPORT is ebrec-analyze FILE replay REPORT.
        Some("replay") if args.get(1).is_some_and(|arg| !arg.to_string_lossy().starts_with('-')) => {
            args.swap(0, 1);
            "ebrec-analyze"
        }
        _ => "ebrec-analyze",
    };
    let mut command = Command::new(beside(program));
    command.args(&args).env("EBREC_FRONT", "1");
    run(command, program)
}

/// The program beside this one if it is there, else whatever PATH has.
fn beside(program: &str) -> PathBuf {
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    let here = std::env::current_exe().ok().and_then(|exe| Some(exe.canonicalize().ok()?.parent()?.join(&name)));
    here.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

#[cfg(unix)]
fn run(mut command: Command, program: &str) -> ExitCode {
    // exec: signals, exit code and terminal are then the program's own.
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    failed(program, &error)
}

#[cfg(not(unix))]
fn run(mut command: Command, program: &str) -> ExitCode {
    match command.status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(2)).unwrap_or(2)),
        Err(error) => failed(program, &error),
    }
}

fn failed(program: &str, error: &std::io::Error) -> ExitCode {
    eprintln!("ebrec: {program}: {error}");
    if error.kind() == std::io::ErrorKind::NotFound {
        eprintln!("ebrec: {program} is not beside ebrec nor in PATH; install it with: make install");
    }
    ExitCode::from(2)
}
