//! What an ebrec capture *is*: event declarations, Arrow schemas, container, manifest.
//!
//! This crate is the only thing that the recorder and the analyzer share, and it knows neither:
//! no libbpf, no DataFusion, nothing that does not also build on macOS and Windows.
//!
//! # The tour
//!
//! * [`events`] declares every table once: name, sentence, columns, and per column a *kind*.
//! * [`kind`] holds the column kinds. A kind carries everything that is known about such a column: its C type,
//!   its Arrow type, its Parquet encoding, its unit, its null rule and how a wire value becomes a column value.
//!   Enrichment is written once per kind, never once per event.
//! * [`table`] is the machinery: the `events!` and `rows!` macros and what they expand to.
//! * [`header`] prints `bpf/events.h`, [`reference`](mod@reference) prints `format/TABLES.md`; both are committed, and a test
//!   fails when they are stale (`EBREC_BLESS=1 cargo test -p ebrec-format` refreshes them).
//! * [`segment`] turns rows into Parquet, [`pack`] and [`capture`] are the file around it, [`manifest`] its first page. [`footer`] checks
//!   what a stranger's Parquet says about itself.
//!
//! # What a change costs
//!
//! | change | files touched by hand |
//! | --- | --- |
//! | a column | 2: its declaration in `format/src/events/`, the line in `bpf/` that fills it |
//! | a table of an existing probe | 2: the declaration, the BPF program (plus its query, if it has a report) |
//! | a probe | 2 new files, and its name in the list in `format/src/events/mod.rs` |
//!
//! `bpf/events.h` and `format/TABLES.md` change with them, by the command above. The recorder and the analyzer
//! contain no line that names an event column outside of what they compute from it.

pub mod capture;
mod coded;
pub mod dns;
pub mod events;
pub mod footer;
pub mod header;
pub mod kind;
pub mod manifest;
pub mod pack;
mod plain;
pub mod reference;
pub mod segment;
pub mod syscalls;
pub mod table;
pub mod text;
pub mod wire;

pub use kind::Resolver;
pub use table::{Column, Table};
