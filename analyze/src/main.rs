//! `ebrec-analyze`, normally run as `ebrec analyze`.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

use ebrec_analyze::memory::Counting;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    ExitCode::from(ebrec_analyze::app::main(std::env::args_os().collect()))
}
