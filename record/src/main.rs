//! `ebrec-record`: loads the BPF programs, drains them, writes the capture.
//!
//! A recording is a pipeline of threads: [`drain`] copies records out of the rings, [`build`] orders and resolves them
//! and makes columns, [`store`] encodes and keeps them safe; [`session`] watches over it. Which programs are loaded is
//! decided by [`hooks`] from their names and by [`load`] by trying. No module here names an event of `format/`.

mod budget;
mod build;
mod cgroups;
mod check;
mod cli;
mod containers;
mod drain;
mod elf;
mod flow;
mod hooks;
mod host;
mod kernel;
mod load;
mod losses;
mod maps;
mod namespaces;
mod owner;
mod perf_event;
mod privilege;
mod procs;
mod report;
mod resolve;
mod scheduling;
mod session;
mod shed;
mod signals;
mod stacks;
#[allow(clippy::disallowed_methods, reason = "the capture's own files, in a directory that the recorder made")]
mod store;
mod talk;
mod tongs;
mod trial;
mod uncommitted;
mod uprobes;
mod usage;

use clap::{CommandFactory as _, FromArgMatches as _};
use cli::{Cli, Sub};
use session::Outcome;
use std::process::ExitCode;
use talk::say;

/// Keeps freed memory for the next batch. Batches come and go by the megabyte; giving each back to the kernel and
/// getting zeroed pages for the next costs more than encoding it.
fn keep_memory() {
    // SAFETY: mallopt has no preconditions; it is called before any thread is started.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
        // Memory freed by one thread of the pipeline was allocated by another: separate arenas only hoard it.
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Whether the real-time class may be used, found out before the command line is parsed: on a busy host that alone may take seconds.
fn realtime_is_allowed() -> bool {
    !std::env::args_os().skip(1).take_while(|arg| arg != "--").any(|arg| arg == "--no-realtime")
}

fn main() -> ExitCode {
    scheduling::begin(realtime_is_allowed());
    keep_memory();
    let cli = parsed();
    let result = match &cli.command {
        Some(Sub::Check(args)) => check::check(args).map(|good| Outcome { good, status: None }),
        None if cli.record.list_probes => list_probes().map(|()| Outcome { good: true, status: None }),
        None => session::record(&cli.record),
    };
    let code = match result {
        // As env, time and perf do.
        Ok(Outcome { status: Some(status), good: true }) => status,
        Ok(Outcome { status: Some(0) | None, good }) => u8::from(!good),
        Ok(Outcome { status: Some(status), good: false }) => status,
        Err(error) => {
            let remedy = error.downcast_ref::<usage::Usage>();
            let ended = error.downcast_ref::<report::Ended>().is_some();
            match remedy {
                Some(usage) => say!("ebrec-record: {usage}\nebrec-record: {}", usage.remedy),
                None => say!("ebrec-record: {error:#}"),
            }
            if ended { 1 } else { 2 }
        }
    };
    talk::finish();
    ExitCode::from(code)
}

/// The command line. Usage is shown with the name that was typed: `ebrec` (analyze/src/bin/ebrec.rs) says when it was that.
fn parsed() -> Cli {
    let mut command = Cli::command();
    if std::env::var_os("EBREC_FRONT").is_some() {
        command = command.bin_name("ebrec record").mut_subcommand("check", |check| check.override_usage("ebrec check [OPTIONS]"));
    }
    // What can't be had from the matches is a fault of the declaration, and is reported as clap does.
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn list_probes() -> anyhow::Result<()> {
    let mut out = String::new();
    for probe in ebrec_format::events::PROBES {
        let tables: Vec<&str> = probe.tables.iter().map(|table| table().name).collect();
        out += &format!("{:<10} {:<3} {}\n", probe.name, if probe.default { "on" } else { "off" }, probe.doc);
        out += &format!("{:14} tables: {}\n{:14} cost: {}\n", "", tables.join(", "), "", probe.cost);
    }
    talk::print(&out)
}
