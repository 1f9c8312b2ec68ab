//! `ebrec-analyze`: opens captures and answers questions about them. No libbpf, no privilege, any operating system.
//!
//! # The tour
//!
//! * [`cli`] is the command line, [`app`] goes from arguments to an exit code.
//! * [`engine`] is SQL over captures, and over nothing else of the machine.
//! * [`query`] makes reports of the files in queries/, [`run`] runs them, [`mod@summary`] is the answer without a question,
//!   [`triage`] what stands out.
//! * [`shell`] is SQL with history and completion, [`replay`] redraws a report as the live tool did.
//! * [`compare`] tells whether captures are worse than others.
//! * [`notes`] says what makes an answer incomplete.
//! * [`output`] writes results: as the live tools print them, as tables, for programs.
//! * [`memory`] is the limit of the whole program, [`ending`] what must be gone when it ends.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

pub mod app;
pub mod cli;
pub mod compare;
pub mod describe;
pub mod ending;
pub mod engine;
pub mod errno;
pub mod error;
pub mod front;
pub mod memory;
pub mod notes;
pub mod output;
pub mod query;
pub mod replay;
pub mod run;
pub mod shell;
pub mod statements;
pub mod suggest;
pub mod summary;
pub mod triage;
pub mod window;
