//! Kinds that are one number: identities, counts, lengths of time, instants, flags, and padding.

use super::columns::Numbers;
use super::info::{FLAG, SORTED_TIMESTAMP, TIMESTAMP};
use super::{Build, Context, Encoding, Kind, KindInfo, Parts, WireKind};
use crate::wire::{NULL32, NULL64};
use arrow::array::{ArrayRef, BooleanBuilder};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampNanosecondType};
use std::sync::Arc;

/// Declares a kind of numbers: sentence, name, wire type, C type, Arrow type, properties, and its null rule.
macro_rules! number_kinds {
    ($( $(#[doc = $doc:literal])+ $kind:ident: $value:ty, $c:literal => $arrow:ident, unit $unit:expr, $encoding:ident, $null:expr; )+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $kind;
        impl Kind for $kind {
            type Value = $value;
            type Builder = NumberBuilder<$kind, $arrow>;
            const PARTS: &'static [(&'static str, &'static str, &'static KindInfo)] = &[("", "", &KindInfo {
                name: stringify!($kind),
                arrow: || <$arrow as ArrowPrimitiveType>::DATA_TYPE,
                unit: $unit,
                nullable: true,
                encoding: Encoding::$encoding,
            })];
        }
        impl WireKind for $kind {
            const C: (&'static str, &'static str) = ($c, "");
        }
        impl NumberRule<$arrow> for $kind {
            type Value = $value;
            #[inline]
            fn convert(value: $value) -> Option<<$arrow as ArrowPrimitiveType>::Native> {
                let null: fn($value) -> bool = $null;
                if null(value) { None } else { Some(value as _) }
            }
        }
    )+ };
}

/// The conversion of a number kind.
pub trait NumberRule<T: ArrowPrimitiveType> {
    /// The wire type.
    type Value: Copy;
    /// The column's value, `None` for null.
    fn convert(value: Self::Value) -> Option<T::Native>;
}

/// Builder of a number kind.
pub struct NumberBuilder<K, T: ArrowPrimitiveType>(Numbers<T>, std::marker::PhantomData<K>);

impl<K, T: ArrowPrimitiveType> Default for NumberBuilder<K, T> {
    fn default() -> Self {
        NumberBuilder(Numbers::default(), std::marker::PhantomData)
    }
}

impl<K: NumberRule<T>, T: ArrowPrimitiveType> Build<K::Value> for NumberBuilder<K, T> {
    #[inline]
    fn append(&mut self, value: &K::Value, _: &mut Context<'_>) {
        self.0.push_option(K::convert(*value));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.0.take()));
    }
}

number_kinds! {
    /// Process id (the kernel's tgid). Null: unknown.
    Pid: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// Thread id (the kernel's pid). Null: unknown.
    Tid: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// User id. Null: unknown.
    Uid: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// Processor number.
    Cpu: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// Length of time, ns. Null: begins or ends outside of what the kernel or the window can tell.
    Duration: u64, "__u64" => Int64Type, unit Some("ns"), Plain, |v| v == NULL64;
    /// Number of bytes. Null: unknown.
    Bytes: u64, "__u64" => Int64Type, unit Some("bytes"), Plain, |v| v == NULL64;
    /// Position on a disk, in units of 512 bytes. Null: the operation has none.
    Sector: u64, "__u64" => Int64Type, unit Some("512 bytes"), Delta, |v| v == NULL64;
    /// How many. Null: unknown.
    Count: u64, "__u64" => Int64Type, unit None, Plain, |v| v == NULL64;
    /// How many, in 32 bits. Null: unknown.
    Count32: u32, "__u32" => Int64Type, unit None, Dictionary, |v| v == NULL32;
    /// Number of a connection, unique within the capture.
    ConnId: u64, "__u64" => Int64Type, unit None, Delta, |v| v == NULL64;
    /// Number of a stack, unique within the capture. Null: there is none.
    StackId: u64, "__u64" => Int64Type, unit None, Dictionary, |v| v == NULL64;
    /// cgroup v2 id, as `stat -c %i` of its directory prints. Null: unknown.
    CgroupId: u64, "__u64" => Int64Type, unit None, Dictionary, |v| v == NULL64;
    /// Error number, positive; 0 is success. Null: unknown or not over yet.
    Errno: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// What a system call returned: negative is `-errno`.
    Ret: i32, "__s32" => Int32Type, unit None, Dictionary, |_| false;
    /// What a call returned, in 64 bits: negative is `-errno`, an address is one above. Null: it didn't return.
    Ret64: i64, "__s64" => Int64Type, unit None, Dictionary, |v| v == i64::MIN;
    /// An address in memory; those of the kernel are negative.
    Address: u64, "__u64" => Int64Type, unit None, Plain, |v| v == NULL64;
    /// oom_score_adj, -1000 to 1000. Null: unknown.
    OomScore: i32, "__s32" => Int32Type, unit None, Dictionary, |v| v == i32::MIN;
    /// File descriptor. Null: none.
    Fd: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// Place in a file, bytes from its beginning. Null: none.
    Offset: u64, "__u64" => Int64Type, unit Some("bytes"), Delta, |v| v == NULL64;
    /// Exit status, 0 to 255. Null: killed by a signal.
    ExitCode: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// Number of bytes, in 32 bits. Null: unknown.
    Bytes32: u32, "__u32" => Int64Type, unit Some("bytes"), Dictionary, |v| v == NULL32;
    /// Number of an interrupt, as in /proc/interrupts.
    Irq: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
    /// Signal number. Null: none.
    Signal: u32, "__u32" => Int32Type, unit None, Dictionary, |v| v == NULL32;
}

/// An instant. On the wire ns of CLOCK_BOOTTIME, in the capture UTC. Null: outside of the window, or not yet.
#[derive(Debug)]
pub struct Timestamp;

impl Kind for Timestamp {
    type Value = u64;
    type Builder = InstantBuilder;
    const PARTS: Parts = &[("", "", &TIMESTAMP)];
}

impl WireKind for Timestamp {
    const C: (&'static str, &'static str) = ("__u64", "");
}

/// The instant that the rows of a recorder's table are sorted by.
#[derive(Debug)]
pub struct SortedTimestamp;

impl Kind for SortedTimestamp {
    type Value = u64;
    type Builder = InstantBuilder;
    const PARTS: Parts = &[("", "", &SORTED_TIMESTAMP)];
}

/// Builder of instants.
#[derive(Default)]
pub struct InstantBuilder(Numbers<TimestampNanosecondType>);

impl Build<u64> for InstantBuilder {
    #[inline]
    fn append(&mut self, value: &u64, context: &mut Context<'_>) {
        self.0.push_option((*value != NULL64).then(|| (*value as i64).wrapping_add(context.boot_to_utc_ns)));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.0.take().with_timezone("UTC")));
    }
}

/// Yes or no. On the wire 0, 1 or all ones for null.
#[derive(Debug)]
pub struct Flag;

impl Kind for Flag {
    type Value = u32;
    type Builder = BooleanBuilder;
    const PARTS: Parts = &[("", "", &FLAG)];
}

impl WireKind for Flag {
    const C: (&'static str, &'static str) = ("__u32", "");
}

impl Build<u32> for BooleanBuilder {
    fn append(&mut self, value: &u32, _: &mut Context<'_>) {
        self.append_option((*value != NULL32).then_some(*value != 0));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(BooleanBuilder::finish(self)));
    }
}

/// Explicit padding: no column.
#[derive(Debug, Default)]
pub struct Pad32;

impl Kind for Pad32 {
    type Value = u32;
    type Builder = Pad32;
    const PARTS: Parts = &[];
}

impl WireKind for Pad32 {
    const C: (&'static str, &'static str) = ("__u32", "");
}

impl Build<u32> for Pad32 {
    fn append(&mut self, _: &u32, _: &mut Context<'_>) {}
    fn finish(&mut self, _: &mut Context<'_>, _: &mut Vec<ArrayRef>) {}
}

/// A number for the recorder alone: no column.
#[derive(Debug, Default)]
pub struct Unlisted32;

impl Kind for Unlisted32 {
    type Value = u32;
    type Builder = Unlisted32;
    const PARTS: Parts = &[];
}

impl WireKind for Unlisted32 {
    const C: (&'static str, &'static str) = ("__u32", "");
}

impl Build<u32> for Unlisted32 {
    fn append(&mut self, _: &u32, _: &mut Context<'_>) {}
    fn finish(&mut self, _: &mut Context<'_>, _: &mut Vec<ArrayRef>) {}
}
