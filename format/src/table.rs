//! What a table is, and the two macros that declare one.
//!
//! `events!` declares a table whose rows come from the kernel; `rows!` one whose rows the recorder writes itself.
//! Both take the same text:
//!
//! ```text
//! events! {
//!     /// Context switches: who left the CPU, who got it, how long it had waited.   <- the table's sentence
//!     SchedSwitch = "sched_switch" {
//!         /// Acting task.                                                          <- the column's sentence
//!         head as "prev_": Head,                                                    <- name, prefix, column kind
//!         /// How long the next task had waited in the run queue.
//!         next_waited_ns: Duration,
//!     }
//! }
//! ```
//!
//! and expand to
//!
//! * `#[repr(C)] struct SchedSwitch { head: wire::Head, next_waited_ns: u64 }`, decoded by zerocopy without `unsafe`
//!   (for `events!`; padding that the compiler would have to insert is a compile error);
//! * `impl Row for SchedSwitch`, whose column builders are those of the kinds;
//! * an entry of the module's `TABLES`, from which schema, C header and reference are printed.
//!
//! A kind may stand for several columns (`Head`, `Task`, `Endpoints`); then the field's prefix goes before their names.
//! `; tail args: Strings` declares the one variable-length field that may end a record.

use crate::kind::{Context, KindInfo};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use std::collections::HashMap;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Who writes the rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A BPF program, record by record.
    Kernel,
    /// The recorder.
    Recorder,
}

/// A column as the reader of a capture sees it.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name, in snake_case.
    pub name: String,
    /// What it says, one sentence.
    pub doc: String,
    /// Everything else that is known about it.
    pub kind: &'static KindInfo,
}

/// One field of a wire struct, for the C header.
#[derive(Debug, Clone, Copy)]
pub struct CField {
    /// The field's name.
    pub name: &'static str,
    /// Its C type, and what follows the name (`[16]`).
    pub c: (&'static str, &'static str),
    /// The field's sentence.
    pub doc: &'static str,
    /// Where it stands in the Rust struct, bytes.
    pub offset: usize,
}

/// The wire struct of a table.
#[derive(Debug, Clone)]
pub struct CStruct {
    /// Its fields.
    pub fields: Vec<CField>,
    /// Its size without the tail, bytes.
    pub size: usize,
    /// Name and sentence of the variable-length field, if it has one.
    pub tail: Option<(&'static str, &'static str)>,
}

/// The declaration of a table, as data.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name, in snake_case.
    pub name: &'static str,
    /// One row per what, in one or a few sentences.
    pub doc: &'static str,
    /// Who writes it.
    pub origin: Origin,
    /// The columns, in order.
    pub columns: fn() -> Vec<Column>,
    /// An empty builder.
    pub builder: fn() -> Box<dyn RowSink>,
    /// The wire struct, for tables that the kernel writes.
    pub c_struct: fn() -> Option<CStruct>,
}

impl Table {
    /// The Arrow schema: sentence and unit of each column are in the field's metadata.
    pub fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = (self.columns)()
            .into_iter()
            .map(|column| {
                let mut metadata = HashMap::from([("description".to_owned(), column.doc)]);
                if let Some(unit) = column.kind.unit {
                    metadata.insert("unit".to_owned(), unit.to_owned());
                }
                Field::new(column.name, (column.kind.arrow)(), column.kind.nullable).with_metadata(metadata)
            })
            .collect();
        let metadata = HashMap::from([("description".to_owned(), self.doc.to_owned())]);
        Arc::new(Schema::new_with_metadata(fields, metadata))
    }

    /// An empty batch, for tables that are present without having a row.
    pub fn empty(&self) -> RecordBatch {
        RecordBatch::new_empty(self.schema())
    }

    /// Whether the first column is a `ts`, by which the rows are sorted.
    pub fn has_ts(&self) -> bool {
        (self.columns)().first().is_some_and(|column| column.name == "ts")
    }
}

/// A row type: a struct declared by `events!` or `rows!`.
pub trait Row: Sized + 'static {
    /// One builder per field.
    type Builders: Send;
    /// Empty builders.
    fn builders() -> Self::Builders;
    /// The declaration this type comes from.
    fn table() -> &'static Table;
    /// Adds one row. `tail` is the record's variable-length field, empty if there is none.
    fn append(&self, tail: &[u8], builders: &mut Self::Builders, context: &mut Context<'_>);
    /// What the values of variable length take so far.
    fn bytes(builders: &Self::Builders) -> usize;
    /// The columns built so far; the builders are empty afterwards.
    fn finish(builders: &mut Self::Builders, context: &mut Context<'_>, out: &mut Vec<ArrayRef>);
}

/// A row type that can be read from a kernel record.
pub trait WireRow: Row + FromBytes + KnownLayout + Immutable {}

/// The columns of a table in the making, whatever its row type.
pub trait RowSink: Send {
    /// Adds the row of a kernel record. `false` if the record is too short to be one: it is then not added.
    fn append_record(&mut self, record: &[u8], context: &mut Context<'_>) -> bool;
    /// Rows so far.
    fn rows(&self) -> usize;
    /// What they take in memory, about: a batch is finished by this, too, because others choose how long their texts are.
    fn bytes(&self) -> usize;
    /// The rows so far as a batch; the sink is empty afterwards. A column of few distinct values may be a dictionary of the
    /// type that the schema has.
    fn finish(&mut self, context: &mut Context<'_>) -> RecordBatch;
}

/// The columns of a table in the making.
pub struct Builder<R: Row> {
    builders: R::Builders,
    rows: usize,
    schema: SchemaRef,
}

impl<R: Row> Default for Builder<R> {
    fn default() -> Self {
        Builder { builders: R::builders(), rows: 0, schema: R::table().schema() }
    }
}

impl<R: Row> Builder<R> {
    /// Adds one row.
    pub fn push(&mut self, row: &R, context: &mut Context<'_>) {
        row.append(&[], &mut self.builders, context);
        self.rows += 1;
    }

    /// See [`RowSink::bytes`].
    pub fn bytes(&self) -> usize {
        self.rows * size_of::<R>() + R::bytes(&self.builders)
    }

    /// See [`RowSink::finish`].
    pub fn finish_batch(&mut self, context: &mut Context<'_>) -> RecordBatch {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        R::finish(&mut self.builders, context, &mut columns);
        self.rows = 0;
        // Columns of few distinct values come as dictionaries of their type.
        let fields = self.schema.fields().iter().zip(&columns).map(|(field, column)| {
            if field.data_type() == column.data_type() {
                field.clone()
            } else {
                Arc::new(field.as_ref().clone().with_data_type(column.data_type().clone()))
            }
        });
        let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), self.schema.metadata().clone()));
        match RecordBatch::try_new(schema, columns) {
            Ok(batch) => batch,
            // The columns and the schema come from the same declaration; a test builds every table.
            Err(error) => unreachable!("table {}: {error}", R::table().name),
        }
    }
}

/// A batch of `rows` that the recorder made itself.
pub fn batch_of<R: Row>(rows: &[R], context: &mut Context<'_>) -> RecordBatch {
    let mut builder = Builder::<R>::default();
    for row in rows {
        builder.push(row, context);
    }
    builder.finish_batch(context)
}

/// A sink for kernel records of type `R`.
pub struct WireSink<R: WireRow>(Builder<R>);

impl<R: WireRow> Default for WireSink<R> {
    fn default() -> Self {
        WireSink(Builder::default())
    }
}

impl<R: WireRow> RowSink for WireSink<R>
where
    R::Builders: Send,
{
    fn append_record(&mut self, record: &[u8], context: &mut Context<'_>) -> bool {
        if let Ok((row, tail)) = R::ref_from_prefix(record) {
            row.append(tail, &mut self.0.builders, context);
        } else if let Ok((row, tail)) = R::read_from_prefix(record) {
            // Not aligned: a copy is.
            row.append(tail, &mut self.0.builders, context);
        } else {
            return false;
        }
        self.0.rows += 1;
        true
    }

    fn rows(&self) -> usize {
        self.0.rows
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn finish(&mut self, context: &mut Context<'_>) -> RecordBatch {
        self.0.finish_batch(context)
    }
}

/// A sink for a table that the kernel never writes: every record is refused.
pub struct NoRecords<R: Row>(Builder<R>);

impl<R: Row> Default for NoRecords<R> {
    fn default() -> Self {
        NoRecords(Builder::default())
    }
}

impl<R: Row> RowSink for NoRecords<R>
where
    R::Builders: Send,
{
    fn append_record(&mut self, _: &[u8], _: &mut Context<'_>) -> bool {
        false
    }

    fn rows(&self) -> usize {
        0
    }

    fn bytes(&self) -> usize {
        0
    }

    fn finish(&mut self, context: &mut Context<'_>) -> RecordBatch {
        self.0.finish_batch(context)
    }
}

/// The columns of one field: its prefix or name, its sentence, its kind.
pub(crate) fn columns_of(
    parts: &[(&'static str, &'static str, &'static KindInfo)],
    name: &str,
    prefix: Option<&str>,
    doc: &str,
) -> Vec<Column> {
    match parts {
        [("", _, kind)] => vec![Column { name: name.to_owned(), doc: doc.trim().to_owned(), kind }],
        parts => parts
            .iter()
            .map(|(suffix, sentence, kind)| {
                // The moment and the processor belong to the event, not to one of its tasks.
                let prefix = if matches!(*suffix, "ts" | "cpu") { "" } else { prefix.unwrap_or("") };
                Column { name: format!("{prefix}{suffix}"), doc: (*sentence).to_owned(), kind }
            })
            .collect(),
    }
}

/// Doc lines joined into one text.
macro_rules! doc_text {
    ($($line:literal)+) => { concat!($($line),+) };
}
pub(crate) use doc_text;

/// The parts that `events!` and `rows!` share.
macro_rules! table_body {
    ($origin:ident, $sink:ident, $c:expr, ($($doc:literal)+) $ty:ident = $name:literal {
        $( ($($fdoc:literal)+) $field:ident $(as $prefix:literal)? : $kind:ident )+
    } $( ($($tdoc:literal)+) $tail:ident : $tkind:ident )?) => {
        impl $crate::table::Row for $ty {
            type Builders = (
                $( <$crate::kind::$kind as $crate::kind::Kind>::Builder, )+
                $( <$crate::kind::$tkind as $crate::kind::Kind>::Builder, )?
            );

            fn builders() -> Self::Builders {
                (
                    $( <<$crate::kind::$kind as $crate::kind::Kind>::Builder as Default>::default(), )+
                    $( <<$crate::kind::$tkind as $crate::kind::Kind>::Builder as Default>::default(), )?
                )
            }

            fn table() -> &'static $crate::table::Table {
                const TABLE: $crate::table::Table = $crate::table::Table {
                    name: $name,
                    doc: $crate::table::doc_text!($($doc)+),
                    origin: $crate::table::Origin::$origin,
                    columns: || {
                        let mut columns = Vec::new();
                        $( columns.extend($crate::table::columns_of(
                            <$crate::kind::$kind as $crate::kind::Kind>::PARTS,
                            stringify!($field),
                            None$(.or(Some($prefix)))?,
                            $crate::table::doc_text!($($fdoc)+),
                        )); )+
                        $( columns.extend($crate::table::columns_of(
                            <$crate::kind::$tkind as $crate::kind::Kind>::PARTS,
                            stringify!($tail),
                            None,
                            $crate::table::doc_text!($($tdoc)+),
                        )); )?
                        columns
                    },
                    builder: || Box::new($crate::table::$sink::<$ty>::default()),
                    c_struct: $c,
                };
                &TABLE
            }

            fn append(&self, tail: &[u8], builders: &mut Self::Builders, context: &mut $crate::kind::Context<'_>) {
                let ($($field,)+ $($tail,)?) = builders;
                $( $crate::kind::Build::append($field, &self.$field, context); )+
                $( $crate::kind::Build::append($tail, tail, context); )?
                let _ = tail;
            }

            fn bytes(builders: &Self::Builders) -> usize {
                let ($($field,)+ $($tail,)?) = builders;
                0 $( + $crate::kind::Build::<<$crate::kind::$kind as $crate::kind::Kind>::Value>::bytes($field) )+
                    $( + $crate::kind::Build::<<$crate::kind::$tkind as $crate::kind::Kind>::Value>::bytes($tail) )?
            }

            fn finish(builders: &mut Self::Builders, context: &mut $crate::kind::Context<'_>, out: &mut Vec<arrow::array::ArrayRef>) {
                let ($($field,)+ $($tail,)?) = builders;
                $( $crate::kind::Build::<<$crate::kind::$kind as $crate::kind::Kind>::Value>::finish($field, context, out); )+
                $( $crate::kind::Build::<<$crate::kind::$tkind as $crate::kind::Kind>::Value>::finish($tail, context, out); )?
            }
        }
    };
}
pub(crate) use table_body;

/// Declares tables whose rows the kernel writes. See the [module](self).
macro_rules! events {
    ($( $(#[doc = $doc:literal])+ $ty:ident = $name:literal {
        $( $(#[doc = $fdoc:literal])+ $field:ident $(as $prefix:literal)? : $kind:ident ),+ $(,)?
    } $(; $(#[doc = $tdoc:literal])+ tail $tail:ident : $tkind:ident)? )+) => {
        /// The tables declared in this module.
        pub const TABLES: &[fn() -> &'static $crate::table::Table] = &[ $( <$ty as $crate::table::Row>::table ),+ ];
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
            #[repr(C)]
            pub struct $ty {
                $( $(#[doc = $fdoc])+ pub $field: <$crate::kind::$kind as $crate::kind::Kind>::Value, )+
            }

            // Eight-byte records keep the ring's alignment; `IntoBytes` refuses implicit padding.
            const _: () = assert!(size_of::<$ty>() % 8 == 0);

            impl $crate::table::WireRow for $ty {}

            $crate::table::table_body! {
                Kernel, WireSink,
                || Some($crate::table::CStruct {
                    fields: vec![ $( $crate::table::CField {
                        name: stringify!($field),
                        c: <$crate::kind::$kind as $crate::kind::WireKind>::C,
                        doc: $crate::table::doc_text!($($fdoc)+),
                        offset: std::mem::offset_of!($ty, $field),
                    } ),+ ],
                    size: size_of::<$ty>(),
                    tail: None$(.or(Some((stringify!($tail), $crate::table::doc_text!($($tdoc)+)))))?,
                }),
                ($($doc)+) $ty = $name { $( ($($fdoc)+) $field $(as $prefix)? : $kind )+ } $( ($($tdoc)+) $tail : $tkind )?
            }
        )+
    };
}
pub(crate) use events;

/// Declares tables whose rows the recorder writes. See the [module](self).
macro_rules! rows {
    ($( $(#[doc = $doc:literal])+ $ty:ident = $name:literal {
        $( $(#[doc = $fdoc:literal])+ $field:ident $(as $prefix:literal)? : $kind:ident ),+ $(,)?
    } )+) => {
        /// The tables declared in this module.
        pub const TABLES: &[fn() -> &'static $crate::table::Table] = &[ $( <$ty as $crate::table::Row>::table ),+ ];
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone)]
            pub struct $ty {
                $( $(#[doc = $fdoc])+ pub $field: <$crate::kind::$kind as $crate::kind::Kind>::Value, )+
            }

            $crate::table::table_body! {
                Recorder, NoRecords, || None,
                ($($doc)+) $ty = $name { $( ($($fdoc)+) $field $(as $prefix)? : $kind )+ }
            }
        )+
    };
}
pub(crate) use rows;

/// Shorthand for the Arrow type of an instant.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("UTC".into()))
}
