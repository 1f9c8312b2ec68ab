//! The column kinds: what is known about a column whatever table it stands in.
//!
//! A kind fixes the C type on the wire, the Arrow type, the Parquet encoding, the unit, the null rule, and how a
//! value of the one becomes a value of the other. A kind may stand for several columns ([`Head`], [`Endpoints`]).

mod block;
mod cgroup;
mod columns;
mod dns;
mod file_words;
mod files;
mod info;
mod net;
mod numbers;
mod own;
mod stack;
mod strings;
mod task;
mod words;

pub use block::*;
pub use cgroup::*;
pub use columns::{Interned, Numbers};
pub use dns::*;
pub use file_words::*;
pub use files::*;
pub use net::*;
pub use numbers::*;
pub use own::*;
pub use stack::*;
pub use strings::*;
pub use task::*;
pub use words::*;

use crate::wire::Task as WireTask;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use std::sync::Arc;

/// How a column is laid out in Parquet. Only encodings that DuckDB and pandas read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Differences, bit-packed: sorted instants, and integers that are mostly distinct.
    Delta,
    /// A dictionary and bit-packed indices: few distinct values.
    Dictionary,
    /// Plain bytes, left to zstd: lengths of time and sizes, whose upper bytes are nearly always zero. Of a switch's three
    /// durations it takes 6.7 bytes where differences take 8.2. (BYTE_STREAM_SPLIT would take 5.7, but DuckDB 1 reads it for
    /// floating point only.)
    Plain,
}

/// What is known about a kind of column, as data.
#[derive(Debug)]
pub struct KindInfo {
    /// The kind's name, as the reference and `describe` print it.
    pub name: &'static str,
    /// The Arrow type.
    pub arrow: fn() -> DataType,
    /// The unit of the stored number, if it has one.
    pub unit: Option<&'static str>,
    /// Whether a value can be missing.
    pub nullable: bool,
    /// Layout in Parquet.
    pub encoding: Encoding,
}

/// A column kind.
pub trait Kind {
    /// What a row hands over: the wire value, or the recorder's own.
    type Value: ?Sized;
    /// What collects the values.
    type Builder: Build<Self::Value> + Default + Send;
    /// The columns it stands for: suffix, sentence, kind. A single column has suffix and sentence `""`.
    const PARTS: &'static [(&'static str, &'static str, &'static KindInfo)];
}

/// A kind that the kernel side can write.
pub trait WireKind: Kind {
    /// The C type, and what follows the field's name.
    const C: (&'static str, &'static str);
}

/// What collects the values of one field and makes Arrow arrays of them.
pub trait Build<V: ?Sized> {
    /// Adds a value.
    fn append(&mut self, value: &V, context: &mut Context<'_>);
    /// What the values take beyond the row itself: texts, whose length others choose.
    #[inline]
    fn bytes(&self) -> usize {
        0
    }
    /// Pushes one array per column and is empty afterwards.
    fn finish(&mut self, context: &mut Context<'_>, out: &mut Vec<ArrayRef>);
}

/// What resolving needs beyond the value itself.
pub struct Context<'a> {
    /// What is added to a boot-clock instant to make it UTC, ns.
    pub boot_to_utc_ns: i64,
    /// The host's knowledge.
    pub resolver: &'a mut dyn Resolver,
}

/// What only the host, or only the whole stream, can tell. The recorder implements it. What isn't implemented isn't known.
pub trait Resolver {
    /// Remembers the owner of a connection.
    fn note_owner(&mut self, conn_id: u64, owner: &WireTask) {
        let _ = (conn_id, owner);
    }
    /// The owner of a connection, if an event told it, be it a later one of the same batch.
    fn owner(&mut self, conn_id: u64) -> Option<WireTask> {
        let _ = conn_id;
        None
    }
    /// Remembers what a file's number stands for.
    fn note_file(&mut self, id: u64, file: FileInfo) {
        let _ = (id, file);
    }
    /// What a file's number stands for, if a record told it, be it a later one of the same batch.
    fn file(&mut self, id: u64) -> Option<Arc<FileInfo>> {
        let _ = id;
        None
    }
    /// What /proc says of the process of the row that is appended.
    fn process(&mut self, pid: u32) -> ProcessDetails {
        let _ = pid;
        ProcessDetails::default()
    }
    /// The frames of a stack, leaf first, from the tail of its record.
    fn frames(&mut self, tail: &[u8]) -> Option<StackFrames> {
        let _ = tail;
        None
    }
}

/// What `/proc` says of a process that existed at the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessDetails {
    /// `/proc/PID/cmdline`, each argument ended by NUL, and whether there was more of it.
    pub cmdline: Option<(Vec<u8>, bool)>,
    /// Path of its cgroup below the cgroup2 mount.
    pub cgroup: Option<Arc<str>>,
}

/// A resolver that knows nothing: for tests, and for tables that need none.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoResolver;

impl Resolver for NoResolver {}

/// Shorthand for the value of [`Kind::PARTS`].
type Parts = &'static [(&'static str, &'static str, &'static KindInfo)];
