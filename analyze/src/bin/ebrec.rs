//! The front command: `ebrec record …` and `ebrec check …` run `ebrec-record`, everything else runs `ebrec-analyze`.
//!
//! The two are separate programs because they live in different worlds: the recorder is small, needs privilege and
//! runs on a host in trouble; the analyzer is large, needs none and runs on a laptop.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

#[path = "../front.rs"]
mod front;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let word = |nth: usize| args.get(nth).map(|arg| arg.to_string_lossy().into_owned());
    let program = match word(0).as_deref() {
        None => {
            say("ebrec: what shall it do? ebrec record records this host, ebrec analyze FILE answers questions; ebrec --help says more");
            return ExitCode::from(2);
        }
        Some("--help" | "-h") => return print(&help()),
        Some("help") if args.len() == 1 => return print(&help()),
        Some("--version" | "-V") => return print(concat!("ebrec ", env!("CARGO_PKG_VERSION"), "\n")),
        // help COMMAND is COMMAND --help.
        Some("help") => match word(1).as_deref() {
            Some("record") => {
                args = vec!["--help".into()];
                "ebrec-record"
            }
            Some("check") => {
                args = vec!["check".into(), "--help".into()];
                "ebrec-record"
            }
            Some("analyze") => {
                args = vec!["--help".into()];
                "ebrec-analyze"
            }
            _ => "ebrec-analyze",
        },
        Some("record") => {
            args.remove(0);
            "ebrec-record"
        }
        Some("check") => "ebrec-record",
        Some("analyze") => {
            args.remove(0);
            "ebrec-analyze"
        }
        // Where the capture stands there, it sorts out itself.
        _ => "ebrec-analyze",
    };
    let mut command = Command::new(beside(program));
    command.args(&args).env("EBREC_FRONT", "1");
    run(command, program)
}

fn help() -> String {
    let mut text = String::from(
        "Records what a Linux host does during a window, and answers the questions of the BCC tools afterwards, from one file\n\n\
         Usage: ebrec COMMAND …\n\nCommands:\n",
    );
    for (name, arguments, what) in front::COMMANDS {
        text.push_str(&format!("  {name} {arguments:width$}  {what}\n", width = 32 - name.len()));
    }
    text.push_str(
        "  help COMMAND                       Says more about a command\n\n\
         Examples:\n  ebrec record --duration 60s\n  ebrec analyze incident.ebrec\n  ebrec analyze incident.ebrec tcptop 5\n\n\
         ebrec analyze --help lists the reports.\n",
    );
    text
}

/// Prints to stdout. That the reader is gone is no error; that the text can't be written is one.
fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(&format!("ebrec: output: {error}"));
            ExitCode::from(2)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says a line on stderr. Nobody can be told that stderr is closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
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
    say(&format!("ebrec: {program}: {error}"));
    if error.kind() == std::io::ErrorKind::NotFound {
        say(&format!("ebrec: {program} is not beside ebrec nor in PATH; install it with: make install"));
    }
    ExitCode::from(2)
}
