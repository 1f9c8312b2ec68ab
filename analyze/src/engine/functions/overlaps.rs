//! `overlaps(ts, ns, ts, ns)`: whether two things that lasted so long were going on at the same time.
//!
//! The join that relates domains: the disk requests during a slow lookup, the waits for a CPU during a request.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Overlaps {
    signature: Signature,
}

impl Overlaps {
    /// The function.
    pub fn new() -> Overlaps {
        Overlaps { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Overlaps {
    fn name(&self) -> &str {
        "overlaps"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let fits =
            |ts: &DataType, ns: &DataType| matches!(ts, DataType::Timestamp(..) | DataType::Null) && (ns.is_integer() || ns.is_null());
        match types {
            [a, an, b, bn] if fits(a, an) && fits(b, bn) => Ok(vec![instant.clone(), DataType::Int64, instant, DataType::Int64]),
            _ => plan_err!("overlaps takes two beginnings with their lengths in ns: overlaps(a.ts, a.latency_ns, b.ts, b.latency_ns)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let numbers = arrays.iter().map(|array| cast(array, &DataType::Int64)).collect::<Result<Vec<_>, _>>()?;
        let [a, an, b, bn] = numbers.as_slice() else { return plan_err!("overlaps takes four arguments") };
        let get = |array: &dyn Array, row: usize| array.is_valid(row).then(|| array.as_primitive::<Int64Type>().value(row));
        let overlap = |row: usize| {
            let (a, an, b, bn) = (get(a, row)?, get(an, row)?, get(b, row)?, get(bn, row)?);
            Some(a <= b.saturating_add(bn) && b <= a.saturating_add(an))
        };
        let result: BooleanArray = (0..a.len()).map(overlap).collect();
        Ok(ColumnarValue::Array(Arc::new(result)))
    }
}
