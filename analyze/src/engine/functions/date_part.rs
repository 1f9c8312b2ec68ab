//! `date_part` that keeps the fraction of long differences. DataFusion's own takes the nanoseconds of a difference of instants through 32
//! bits: `date_part('epoch', a - b)` of 2.64 s is 2.0, of everything beyond 2^31 ns a whole number (`seconds` of
//! datafusion-functions/src/datetime/date_part.rs, release 55).

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, DurationNanosecondType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::datetime::date_part::DatePartFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// The function: DataFusion's own, but for the seconds of a difference.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct ExactDatePart(DatePartFunc);

/// Puts [`ExactDatePart`] in the place of DataFusion's own, which `EXTRACT(… FROM …)` takes whatever is registered.
#[derive(Debug)]
pub struct Exact(Arc<ScalarUDF>);

impl Default for Exact {
    fn default() -> Exact {
        Exact(Arc::new(ScalarUDF::from(ExactDatePart::default())))
    }
}

impl FunctionRewrite for Exact {
    fn name(&self) -> &str {
        "exact_date_part"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(call) if call.func.inner().is::<DatePartFunc>() => {
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(self.0.clone(), call.args))))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// Whether it is the seconds of a difference that are asked for.
fn is_epoch_of_difference(args: &[ColumnarValue]) -> bool {
    let [ColumnarValue::Scalar(part), of] = args else { return false };
    // Quotes may stand inside of the text, as DataFusion has it.
    let is_epoch = |part: &str| part.trim_matches(['\'', '"']).eq_ignore_ascii_case("epoch");
    part.try_as_str().flatten().is_some_and(is_epoch) && matches!(of.data_type(), DataType::Duration(_))
}

impl ScalarUDFImpl for ExactDatePart {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.0.preimage(args, literal, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if !is_epoch_of_difference(&args.args) {
            return self.0.invoke_with_args(args);
        }
        let is_scalar = matches!(args.args[1], ColumnarValue::Scalar(_));
        let ns = cast(&args.args[1].to_array(1)?, &DataType::Duration(TimeUnit::Nanosecond))?;
        let seconds: Float64Array = ns.as_primitive::<DurationNanosecondType>().unary(|ns| ns as f64 / 1e9);
        Ok(if is_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&seconds, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(seconds))
        })
    }
}
