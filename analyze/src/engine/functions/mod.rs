//! Functions beyond DataFusion's own that make questions short. Each does what a function of the same name does in DuckDB, or has a
//! plain-SQL equivalent in docs/SQL.md, so that other engines give the same answers.

mod quantile;

use datafusion::logical_expr::AggregateUDF;
use datafusion::prelude::SessionContext;

/// Makes them known to a session.
pub fn register(context: &SessionContext) {
    context.register_udaf(AggregateUDF::from(quantile::QuantileDisc::new()));
}
