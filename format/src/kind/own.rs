//! Kinds of the recorder's own rows.

use super::info::{PATH, TEXT};
use super::{Build, Context, Encoding, Kind, KindInfo, Parts};
use arrow::array::{ArrayRef, Float64Builder, StringArray, StringBuilder};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type};
use std::sync::Arc;

/// Declares kinds whose values the recorder has as Rust values.
macro_rules! own_kinds {
    ($( $(#[doc = $doc:literal])+ $kind:ident: $value:ty, $info:expr, $builder:ty, |$b:ident, $v:ident| $append:expr; )+) => { $(
        $(#[doc = $doc])+
        #[derive(Debug)]
        pub struct $kind;
        impl Kind for $kind {
            type Value = $value;
            type Builder = $builder;
            const PARTS: Parts = &[("", "", $info)];
        }
        impl Build<$value> for $builder {
            fn append(&mut self, $v: &$value, _: &mut Context<'_>) {
                let $b = self;
                $append;
            }
            fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
                out.push(Arc::new(self.finish_array()));
            }
        }
    )+ };
}

/// Arrow builders under one name, so that [`own_kinds!`] can finish any of them.
trait FinishArray {
    type Array;
    fn finish_array(&mut self) -> Self::Array;
}

impl FinishArray for StringBuilder {
    type Array = StringArray;
    fn finish_array(&mut self) -> StringArray {
        self.finish()
    }
}

impl FinishArray for Float64Builder {
    type Array = arrow::array::Float64Array;
    fn finish_array(&mut self) -> Self::Array {
        self.finish()
    }
}

/// Builder of paths that the recorder read itself.
#[derive(Default)]
pub struct PathBuilder(StringBuilder);

impl FinishArray for PathBuilder {
    type Array = StringArray;
    fn finish_array(&mut self) -> StringArray {
        self.0.finish()
    }
}

own_kinds! {
    /// Text, or null.
    Text: Option<String>, &TEXT, StringBuilder, |b, v| b.append_option(v.as_deref());
    /// A path, or null.
    Path: Option<String>, &PATH, PathBuilder, |b, v| b.0.append_option(v.as_deref());
    /// A fraction or average without unit.
    Number: Option<f64>, &KindInfo { name: "Number", arrow: || <Float64Type as ArrowPrimitiveType>::DATA_TYPE, unit: None, nullable: true, encoding: Encoding::Plain },
        Float64Builder, |b, v| b.append_option(*v);
}
