//! `ebrec-analyze`, normally run as `ebrec analyze`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ebrec_analyze::app::main(std::env::args_os().collect()))
}
