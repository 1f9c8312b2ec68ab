//! Functions beyond DataFusion's own that make questions short. Each does what a function of the same name does in DuckDB, or has a
//! plain-SQL equivalent; docs/SQL.md describes them.

mod date_part;
pub mod hist;
mod overlaps;
mod quantile;
mod sum;

use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::optimizer::analyzer::function_rewrite::ApplyFunctionRewrites;
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// Makes them known to a session.
pub fn register(context: &SessionContext) {
    context.register_udaf(AggregateUDF::from(quantile::QuantileDisc::new()));
    context.register_udaf(AggregateUDF::from(sum::CheckedSum::default()));
    context.register_udaf(AggregateUDF::from(hist::Hist::default()));
    context.register_udf(ScalarUDF::from(overlaps::Overlaps::new()));
    context.add_analyzer_rule(Arc::new(ApplyFunctionRewrites::new(vec![Arc::new(date_part::Exact::default())])));
    // DuckDB's name for it; the arguments are the same.
    context.register_udf(date_bin().as_ref().clone().with_aliases(["time_bucket"]));
}
