//! `sum` that says so when whole numbers add up to more than a BIGINT holds. DataFusion's own wraps around: the sum of many times in
//! nanoseconds (292 years fit) would be a wrong number, and look like any other.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};
use std::sync::Arc;

/// The sums on the way: 38 digits hold more BIGINTs than there can be rows.
const WIDE: DataType = DataType::Decimal128(38, 0);

/// The function: DataFusion's own, but for sums of whole numbers.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckedSum(Sum);

/// Distinct values are few as a rule, and their sum is DataFusion's business.
fn is_checked(args: &AccumulatorArgs<'_>) -> bool {
    !args.is_distinct && *args.return_field.data_type() == DataType::Int64
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        if args.is_distinct || *args.return_field.data_type() != DataType::Int64 {
            return self.0.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new(format!("{}[sum]", args.name), WIDE, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) { Ok(Box::new(Single::default())) } else { self.0.accumulator(args) }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if is_checked(&args) { Ok(Box::new(Single::default())) } else { self.0.create_sliding_accumulator(args) }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if is_checked(&args) { Ok(Box::new(Groups::default())) } else { self.0.create_groups_accumulator(args) }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

/// A sum as the function returns it.
fn narrow(sum: i128) -> Result<i64> {
    match i64::try_from(sum) {
        Ok(sum) => Ok(sum),
        Err(_) => {
            exec_err!("sum() gives {sum}, which is more than a BIGINT holds; use sum(CAST(… AS DOUBLE)), or sum(CAST(… AS DECIMAL(38, 0)))")
        }
    }
}

/// Sums of groups; none for a group without values.
#[derive(Debug, Default)]
struct Groups(Vec<Option<i128>>);

impl Groups {
    fn add(&mut self, group: usize, value: i128) {
        let sum = &mut self.0[group];
        // No number of rows that fits a disk brings an i128 to its end.
        *sum = Some(sum.unwrap_or(0).wrapping_add(value));
    }

    fn wide(sums: impl IntoIterator<Item = Option<i128>>) -> ArrayRef {
        Arc::new(sums.into_iter().collect::<Decimal128Array>().with_data_type(WIDE))
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.0.resize(total, None);
        let values = values[0].as_primitive::<Int64Type>();
        // Mostly nothing is filtered, and none is null.
        if filter.is_none() && values.null_count() == 0 {
            for (&group, &value) in groups.iter().zip(values.values()) {
                self.add(group, value.into());
            }
            return Ok(());
        }
        for (row, &group) in groups.iter().enumerate() {
            if values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.add(group, values.value(row).into());
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.0.resize(total, None);
        let sums = states[0].as_primitive::<Decimal128Type>();
        for (row, &group) in groups.iter().enumerate() {
            if sums.is_valid(row) {
                self.add(group, sums.value(row));
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        // Each row a group of its own.
        let values = values[0].as_primitive::<Int64Type>();
        let wanted = |row: usize| values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        Ok(vec![Groups::wide((0..values.len()).map(|row| wanted(row).then(|| values.value(row).into())))])
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Groups::wide(emit_to.take_needed(&mut self.0))])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.0).into_iter().map(|sum| sum.map(narrow).transpose());
        Ok(Arc::new(sums.collect::<Result<Int64Array>>()?))
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<Option<i128>>()
    }
}

/// One sum, of values that may go again (a window's frame), and how many they are.
#[derive(Debug, Default)]
struct Single {
    sum: i128,
    count: u64,
}

impl Single {
    fn value(&self) -> Option<i128> {
        (self.count > 0).then_some(self.sum)
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.sum = self.sum.wrapping_add(value.into());
            self.count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            self.sum = self.sum.wrapping_sub(value.into());
            self.count = self.count.saturating_sub(1);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(self.value().map(narrow).transpose()?))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Decimal128(self.value(), 38, 0)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for sum in states[0].as_primitive::<Decimal128Type>().iter().flatten() {
            self.sum = self.sum.wrapping_add(sum);
            self.count += 1;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use datafusion::prelude::SessionContext;

    async fn one(sql: &str) -> std::result::Result<String, String> {
        let context = SessionContext::new();
        super::super::register(&context);
        let batches = context.sql(sql).await.unwrap().collect().await.map_err(|error| error.to_string())?;
        Ok(arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap())
    }

    #[tokio::test]
    async fn a_sum_that_does_not_fit_is_an_error() {
        let most = "9223372036854775807";
        let three = format!("(VALUES (CAST({most} AS BIGINT), 1), ({most}, 1), (NULL, 2)) AS t(v, g)");
        for sql in [
            format!("SELECT sum(v) FROM {three}"),
            format!("SELECT sum(v) FROM {three} GROUP BY g ORDER BY g"),
            format!("SELECT sum(v) OVER (ORDER BY g) FROM {three}"),
        ] {
            let error = one(&sql).await.unwrap_err();
            assert!(error.contains("18446744073709551614") && error.contains("DOUBLE"), "{sql}: {error}");
        }
        // What comes back into range fits.
        let back = format!("SELECT sum(v) FROM (VALUES (CAST({most} AS BIGINT)), (1), (-1)) AS t(v)");
        assert_eq!(one(&back).await, Ok(most.to_owned()));
        assert_eq!(one(&format!("SELECT sum(v) FROM {three} WHERE g = 2")).await, Ok(String::new()));
        assert_eq!(one(&format!("SELECT sum(CAST(v AS DECIMAL(38, 0))) FROM {three}")).await, Ok("18446744073709551614".to_owned()));
        assert_eq!(one("SELECT sum(v) FROM (VALUES (1.5), (2.5)) AS t(v)").await, Ok("4.0".to_owned()));
        let frames = "SELECT s FROM (SELECT i, sum(v) OVER (ORDER BY i ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s
                      FROM (VALUES (1, 5), (2, 7), (3, 9)) AS t(i, v)) WHERE i = 3";
        assert_eq!(one(frames).await, Ok("16".to_owned()));
    }
}
