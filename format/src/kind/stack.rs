//! Stacks: whose they are, and their frames.

use super::columns::Numbers;
use super::info::{PROCESS_ID, TEXT, strings_type};
use super::{Build, Context, Encoding, Kind, KindInfo, Parts, WireKind};
use crate::wire;
use arrow::array::{ArrayBuilder, ArrayRef, Int64Builder, ListArray, ListBuilder, StringBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use std::sync::Arc;

/// The head of a stack's record, of which only the process is a column: `process_id`.
#[derive(Debug)]
pub struct StackHead;

impl Kind for StackHead {
    type Value = wire::Head;
    type Builder = StackHeadBuilder;
    const PARTS: Parts = &[("process_id", "Process whose addresses these are, as in the other tables. Null: the kernel's.", &PROCESS_ID)];
}

impl WireKind for StackHead {
    const C: (&'static str, &'static str) = ("struct ebrec_head", "");
}

/// Builder of stacks' heads.
#[derive(Default)]
pub struct StackHeadBuilder(Numbers<Int64Type>);

impl Build<wire::Head> for StackHeadBuilder {
    fn append(&mut self, head: &wire::Head, _: &mut Context<'_>) {
        self.0.push_option(head.task.is_known().then(|| head.task.process_id()));
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.0.take()));
    }
}

/// A frame of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Name of the function, or what stands for it.
    pub function: String,
    /// Address of the instruction; of a caller, the one that it returns to.
    pub address: u64,
    /// The file that was mapped there.
    pub module: Option<Arc<str>>,
    /// Its build id, hexadecimal.
    pub build_id: Option<Arc<str>>,
    /// Offset of the address in that file.
    pub offset: Option<u64>,
}

/// The frames of a stack, leaf first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StackFrames {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Why some frames have no function's name. None: all have.
    pub unresolved: Option<&'static str>,
}

static LOCATIONS: KindInfo =
    KindInfo { name: "Locations", arrow: locations_type, unit: None, nullable: true, encoding: Encoding::Dictionary };
static FRAMES: KindInfo = KindInfo { name: "Frames", arrow: strings_type, unit: None, nullable: true, encoding: Encoding::Dictionary };

fn location_fields() -> Fields {
    Fields::from(vec![
        Field::new("address", DataType::Int64, true),
        Field::new("module", DataType::Utf8, true),
        Field::new("build_id", DataType::Utf8, true),
        Field::new("offset", DataType::Int64, true),
    ])
}

fn locations_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Struct(location_fields()), true)))
}

/// Tail of a stack's record: columns `frames, locations, unresolved`.
#[derive(Debug)]
pub struct Frames;

impl Kind for Frames {
    type Value = [u8];
    type Builder = FramesBuilder;
    const PARTS: Parts = &[
        (
            "frames",
            "The functions, leaf first. Where no name is known: the file in brackets, or [unknown]. Inlined functions are not told apart.",
            &FRAMES,
        ),
        (
            "locations",
            "The same frames as places, so that names can be sought again elsewhere: address, mapped file, its build id, offset in it.",
            &LOCATIONS,
        ),
        ("unresolved", "Why some frames have no function's name: `no symbols`, `out of time`, …. Null: all have.", &TEXT),
    ];
}

/// Builder of frames.
#[derive(Default)]
pub struct FramesBuilder {
    frames: ListBuilder<StringBuilder>,
    lengths: Vec<usize>,
    valid: Vec<bool>,
    address: Int64Builder,
    module: StringBuilder,
    build_id: StringBuilder,
    offset: Int64Builder,
    unresolved: StringBuilder,
}

impl Build<[u8]> for FramesBuilder {
    fn append(&mut self, tail: &[u8], context: &mut Context<'_>) {
        let stack = context.resolver.frames(tail);
        self.valid.push(stack.is_some());
        for frame in stack.iter().flat_map(|stack| &stack.frames) {
            self.frames.values().append_value(&frame.function);
        }
        self.frames.append(stack.is_some());
        let stack = stack.unwrap_or_default();
        for frame in &stack.frames {
            self.address.append_value(frame.address as i64);
            self.module.append_option(frame.module.as_deref());
            self.build_id.append_option(frame.build_id.as_deref());
            self.offset.append_option(frame.offset.map(|offset| offset as i64));
        }
        self.lengths.push(stack.frames.len());
        self.unresolved.append_option(stack.unresolved);
    }

    fn bytes(&self) -> usize {
        let texts = [self.frames.values_ref(), &self.module, &self.build_id];
        texts.iter().map(|texts| texts.values_slice().len() + texts.len() * size_of::<i32>()).sum::<usize>() + self.address.len() * 16
    }

    fn finish(&mut self, _: &mut Context<'_>, out: &mut Vec<ArrayRef>) {
        out.push(Arc::new(self.frames.finish()));
        let places: Vec<ArrayRef> = vec![
            Arc::new(self.address.finish()),
            Arc::new(self.module.finish()),
            Arc::new(self.build_id.finish()),
            Arc::new(self.offset.finish()),
        ];
        let item = Arc::new(Field::new("item", DataType::Struct(location_fields()), true));
        let places = Arc::new(StructArray::new(location_fields(), places, None));
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        let offsets = OffsetBuffer::from_lengths(self.lengths.drain(..));
        out.push(Arc::new(ListArray::new(item, offsets, places, Some(nulls))));
        out.push(Arc::new(self.unresolved.finish()));
    }
}
