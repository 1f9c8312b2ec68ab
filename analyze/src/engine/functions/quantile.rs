//! `quantile_disc(x, p)`: the smallest value of `x` that at least the share `p` of all values doesn't exceed. `p` may be a list.
//!
//! Exact, unlike `approx_percentile_cont`, and one pass for several shares, unlike `percentile_cont`. Same name, arguments and results as
//! in DuckDB. The values of a group are kept until its end: 8 bytes each.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, ListArray, PrimitiveArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use datafusion::physical_expr::expressions::Literal;
use std::mem::size_of;
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct QuantileDisc {
    signature: Signature,
    aliases: Vec<String>,
}

impl QuantileDisc {
    /// The function.
    pub fn new() -> QuantileDisc {
        QuantileDisc { signature: Signature::user_defined(Volatility::Immutable), aliases: vec!["percentile".to_owned()] }
    }
}

/// The type that values of `data_type` are computed in: whole numbers stay whole.
fn computed(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Null => Some(DataType::Int64),
        // Beyond 63 bits a whole number is no length, size or count that a kernel tells.
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(DataType::Int64),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some(DataType::Int64),
        other if other.is_numeric() => Some(DataType::Float64),
        _ => None,
    }
}

fn list_of(data_type: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(data_type.clone(), true)))
}

impl AggregateUDFImpl for QuantileDisc {
    fn name(&self) -> &str {
        "quantile_disc"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, share] = types else { return plan_err!("quantile_disc takes a value and a share: quantile_disc(latency_ns, 0.99)") };
        let Some(value) = computed(value) else { return plan_err!("quantile_disc takes numbers, not {value}") };
        let share = if matches!(share, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) {
            list_of(&DataType::Float64)
        } else {
            DataType::Float64
        };
        Ok(vec![value, share])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [value, share] = types else { return plan_err!("quantile_disc takes a value and a share") };
        Ok(if matches!(share, DataType::List(_)) { list_of(value) } else { value.clone() })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new("values", list_of(args.input_fields[0].data_type()), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (shares, as_list) = shares(&args)?;
        Ok(match args.expr_fields[0].data_type() {
            DataType::Float64 => Box::new(Single(Groups::<Float64Type> { groups: vec![Vec::new()], shares, as_list })),
            _ => Box::new(Single(Groups::<Int64Type> { groups: vec![Vec::new()], shares, as_list })),
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let (shares, as_list) = shares(&args)?;
        Ok(match args.expr_fields[0].data_type() {
            DataType::Float64 => Box::new(Groups::<Float64Type> { groups: Vec::new(), shares, as_list }),
            _ => Box::new(Groups::<Int64Type> { groups: Vec::new(), shares, as_list }),
        })
    }
}

/// The constant shares, and whether they were given as a list.
fn shares(args: &AccumulatorArgs<'_>) -> Result<(Vec<f64>, bool)> {
    if args.is_distinct {
        return plan_err!("quantile_disc(DISTINCT …) is not supported; take the quantile of a subquery with SELECT DISTINCT");
    }
    const EXPECTED: &str = "quantile_disc: the share must be a constant from 0 to 1, or a list of such";
    let Some(literal) = args.exprs.get(1).and_then(|expr| expr.downcast_ref::<Literal>()) else { return plan_err!("{EXPECTED}") };
    let (shares, as_list) = match literal.value() {
        ScalarValue::Float64(Some(share)) => (vec![*share], false),
        ScalarValue::List(list) if list.len() == 1 && list.is_valid(0) => {
            let items = list.value(0);
            let Some(items) = items.as_primitive_opt::<Float64Type>().filter(|items| items.null_count() == 0) else {
                return plan_err!("{EXPECTED}");
            };
            (items.values().to_vec(), true)
        }
        _ => return plan_err!("{EXPECTED}"),
    };
    if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
        return plan_err!("{EXPECTED}");
    }
    Ok((shares, as_list))
}

/// The values of each group.
#[derive(Debug)]
struct Groups<T: ArrowPrimitiveType> {
    groups: Vec<Vec<T::Native>>,
    shares: Vec<f64>,
    as_list: bool,
}

impl<T: ArrowPrimitiveType> Groups<T> {
    fn take(&mut self, emit_to: EmitTo) -> Vec<Vec<T::Native>> {
        emit_to.take_needed(&mut self.groups)
    }

    fn lists(lists: Vec<Vec<T::Native>>) -> ListArray {
        let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
        let values = match <[Vec<T::Native>; 1]>::try_from(lists) {
            Ok([only]) => only,
            Err(lists) => lists.concat(),
        };
        let values = PrimitiveArray::<T>::new(ScalarBuffer::from(values), None);
        ListArray::new(Arc::new(Field::new_list_field(T::DATA_TYPE, true)), offsets, Arc::new(values), None)
    }

    /// What the function returns for each group; for one without values, null.
    fn results(&self, results: Vec<Vec<T::Native>>) -> ArrayRef {
        if !self.as_list {
            return Arc::new(results.into_iter().map(|result| result.first().copied()).collect::<PrimitiveArray<T>>());
        }
        let nulls = results.iter().map(|result| !result.is_empty()).collect::<Vec<bool>>().into();
        let (field, offsets, values, _) = Self::lists(results).into_parts();
        Arc::new(ListArray::new(field, offsets, values, Some(nulls)))
    }
}

/// Sorts only as much of `values` as the shares need.
fn quantiles<N: ArrowNativeTypeOp>(values: &mut [N], shares: &[f64]) -> Vec<N> {
    let Some(last) = values.len().checked_sub(1) else { return Vec::new() };
    let place = |share: f64| ((values.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
    let places: Vec<usize> = shares.iter().map(|&share| place(share)).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let mut done = 0;
    for place in sorted {
        values[done..].select_nth_unstable_by(place - done, |a, b| a.compare(*b));
        done = place + 1;
        if done >= values.len() {
            break;
        }
    }
    places.into_iter().map(|place| values[place]).collect()
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for Groups<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.groups.resize(total, Vec::new());
        let values = values[0].as_primitive::<T>();
        let wanted = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        // Mostly all rows are of one group, and none is null.
        if filter.is_none() && values.null_count() == 0 && total == 1 {
            self.groups[0].extend_from_slice(values.values());
            return Ok(());
        }
        for (row, &group) in groups.iter().enumerate() {
            if values.is_valid(row) && wanted(row) {
                self.groups[group].push(values.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.groups.resize(total, Vec::new());
        let lists = states[0].as_list::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            if lists.is_valid(row) {
                let values = lists.value(row);
                let values = values.as_primitive::<T>().values();
                let mine = &mut self.groups[group];
                if mine.is_empty() {
                    mine.reserve_exact(values.len());
                }
                mine.extend_from_slice(values);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        // Each row a group of its own.
        let values = values[0].as_primitive::<T>();
        let wanted = |row: usize| values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let lists = (0..values.len()).map(|row| if wanted(row) { vec![values.value(row)] } else { Vec::new() });
        Ok(vec![Arc::new(Self::lists(lists.collect()))])
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(Self::lists(self.take(emit_to)))])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let mut groups = self.take(emit_to);
        Ok(self.results(groups.iter_mut().map(|values| quantiles(values, &self.shares)).collect()))
    }

    fn size(&self) -> usize {
        self.groups.iter().map(|values| values.capacity() * size_of::<T::Native>()).sum::<usize>()
            + self.groups.capacity() * size_of::<Vec<T::Native>>()
    }
}

/// One group.
#[derive(Debug)]
struct Single<T: ArrowPrimitiveType>(Groups<T>);

impl<T: ArrowPrimitiveType + std::fmt::Debug> Accumulator for Single<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values, &vec![0; values[0].len()], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // Sorted where they are: of a window's frames there are more to come.
        let results = quantiles(&mut self.0.groups[0], &self.0.shares);
        ScalarValue::try_from_array(&self.0.results(vec![results]), 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = std::mem::take(&mut self.0.groups[0]);
        Ok(vec![ScalarValue::List(Arc::new(Groups::<T>::lists(vec![values])))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states, &vec![0; states[0].len()], 1)
    }
}
