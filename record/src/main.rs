//! `ebrec-record`: loads the BPF programs, drains them, writes the capture.
//!
//! A recording is a pipeline of threads: [`drain`] copies records out of the rings, [`build`] orders and resolves them
//! and makes columns, [`store`] encodes and keeps them safe; [`session`] watches over it. Which programs are loaded is
//! decided by [`hooks`] from their names and by [`load`] by trying. No module here names an event of `format/`.

mod build;
mod check;
mod cli;
mod drain;
mod elf;
mod hooks;
mod host;
mod kernel;
mod load;
mod losses;
mod namespaces;
mod owner;
mod perf_event;
mod privilege;
mod report;
mod resolve;
mod session;
mod signals;
mod stacks;
mod store;
mod trial;
mod uprobes;
mod usage;

use clap::Parser;
use cli::{Cli, Sub};
use std::process::ExitCode;

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

fn main() -> ExitCode {
    keep_memory();
    let cli = Cli::parse();
    if cli.record.list_probes || cli.command.is_some() {
        // These only print. Whoever reads may stop (`| head`), and that is no error.
        // SAFETY: no handler of ours is replaced; no pointers.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    if cli.record.list_probes {
        list_probes();
        return ExitCode::SUCCESS;
    }
    let result = match &cli.command {
        Some(Sub::Check(args)) => check::check(args),
        None => session::record(&cli.record).map(|outcome| outcome.good),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let remedy = error.downcast_ref::<usage::Usage>();
            let ended = error.downcast_ref::<report::Ended>().is_some();
            match remedy {
                Some(usage) => eprintln!("ebrec-record: {usage}\nebrec-record: {}", usage.remedy),
                None => eprintln!("ebrec-record: {error:#}"),
            }
            ExitCode::from(if ended { 1 } else { 2 })
        }
    }
}

fn list_probes() {
    for probe in ebrec_format::events::PROBES {
        println!("{:<10} {:<3} {}", probe.name, if probe.default { "on" } else { "off" }, probe.doc);
        let tables: Vec<&str> = probe.tables.iter().map(|table| table().name).collect();
        println!("{:14} tables: {}", "", tables.join(", "));
        println!("{:14} cost: {}", "", probe.cost);
    }
}
