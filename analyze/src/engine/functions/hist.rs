//! `hist(x)`: how many values fall between powers of two, as a list of `{low, high, count}`, which tables draw as the BCC tools do.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// 0 and 1, 2 and 3, 4 to 7, …: the last ends with the largest number there is.
const SLOTS: usize = 63;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Hist {
    signature: Signature,
}

impl Default for Hist {
    fn default() -> Hist {
        Hist { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn buckets() -> Fields {
    ["low", "high", "count"].iter().map(|name| Field::new(*name, DataType::Int64, false)).collect()
}

/// The type of a histogram.
pub fn data_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(buckets()), false)))
}

/// The buckets of a histogram: smallest and largest value, and how many.
pub fn rows(list: &ListArray, row: usize) -> Vec<(i64, i64, i64)> {
    let items = list.value(row);
    let Some(items) = items.as_struct_opt().filter(|items| items.num_columns() == 3) else { return Vec::new() };
    let column = |nth: usize| items.column(nth).as_primitive_opt::<Int64Type>();
    let (Some(low), Some(high), Some(count)) = (column(0), column(1), column(2)) else { return Vec::new() };
    (0..items.len()).map(|i| (low.value(i), high.value(i), count.value(i))).collect()
}

impl AggregateUDFImpl for Hist {
    fn name(&self) -> &str {
        "hist"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [value] if value.is_numeric() || value.is_null() => Ok(vec![DataType::Int64]),
            [value] => plan_err!("hist takes numbers, not {value}"),
            _ => plan_err!("hist takes one value: hist(latency_ns / 1000)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(data_type())
    }

    fn state_fields(&self, _: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let counts = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        Ok(vec![Arc::new(Field::new("counts", counts, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("hist(DISTINCT …) is not supported");
        }
        Ok(Box::new(Counts([0; SLOTS])))
    }
}

#[derive(Debug)]
struct Counts([i64; SLOTS]);

/// Which bucket a value is in; what is below 0 counts as 0.
fn slot(value: i64) -> usize {
    (value.max(1).ilog2() as usize).min(SLOTS - 1)
}

impl Accumulator for Counts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.0[slot(value)] += 1;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let used = (0..SLOTS).filter(|&slot| self.0[slot] > 0);
        let low = |slot: usize| if slot == 0 { 0 } else { 1_i64 << slot };
        let high = |slot: usize| ((1_u64 << (slot + 1)) - 1) as i64;
        let column = |value: &dyn Fn(usize) -> i64| Arc::new(used.clone().map(value).collect::<Int64Array>()) as ArrayRef;
        let columns = vec![column(&low), column(&high), column(&|slot| self.0[slot])];
        let items = StructArray::new(buckets(), columns, None);
        let offsets = OffsetBuffer::from_lengths([items.len()]);
        let field = Arc::new(Field::new_list_field(DataType::Struct(buckets()), false));
        Ok(ScalarValue::List(Arc::new(ListArray::new(field, offsets, Arc::new(items), None))))
    }

    fn size(&self) -> usize {
        size_of::<Counts>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let counts: Vec<ScalarValue> = self.0.iter().map(|&count| ScalarValue::Int64(Some(count))).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&counts, &DataType::Int64))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for counts in states[0].as_list::<i32>().iter().flatten() {
            for (mine, theirs) in self.0.iter_mut().zip(counts.as_primitive::<Int64Type>().values()) {
                *mine += theirs;
            }
        }
        Ok(())
    }
}
