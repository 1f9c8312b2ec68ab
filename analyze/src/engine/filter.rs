//! What `--from`, `--to`, `-p` and `--comm` mean for each table.
//!
//! Every table is registered as a view with this filter, so that no query needs to mention it. The filters are plain
//! comparisons of columns with constants: DataFusion pushes them into the Parquet scan, which then skips row groups and pages.

use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};

/// Tables whose rows tell a state that holds for the window rather than what happened at an instant: `ts` doesn't limit them.
const STATES: [&str; 5] = ["process", "tcp_socket", "capture", "clock", "loss"];
/// Connections have a beginning and an end: they belong to each window that they overlap.
const SPANS: &[(&str, &str, &str)] = &[("tcp_connection", "opened_ts", "closed_ts")];

/// What the user wants to see.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this instant on, ns since 1970.
    pub from: Option<i64>,
    /// Before this instant, ns since 1970.
    pub to: Option<i64>,
    /// Events of this process.
    pub pid: Option<i32>,
    /// Events of tasks with this name.
    pub comm: Option<String>,
}

fn instant(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
}

impl Filter {
    /// The condition on the rows of a table, `None` if all of them are wanted.
    pub fn predicate(&self, table: &str, schema: &Schema) -> Option<Expr> {
        let has = |column: &str| schema.column_with_name(column).is_some();
        let mut conditions = Vec::new();
        if let Some((_, begin, end)) = SPANS.iter().find(|(name, ..)| *name == table) {
            conditions.extend(self.from.map(|from| col(*end).is_null().or(col(*end).gt_eq(instant(from)))));
            conditions.extend(self.to.map(|to| col(*begin).is_null().or(col(*begin).lt(instant(to)))));
        } else if has("ts") && !STATES.contains(&table) {
            conditions.extend(self.from.map(|from| col("ts").gt_eq(instant(from))));
            conditions.extend(self.to.map(|to| col("ts").lt(instant(to))));
        }
        conditions.extend(self.pid.and_then(|pid| acting(&has, "pid", &lit(pid))));
        conditions.extend(self.comm.as_ref().and_then(|comm| acting(&has, "comm", &lit(comm.as_str()))));
        conditions.into_iter().reduce(Expr::and)
    }
}

/// The acting task's `column` is `value`; for a switch, which has two acting tasks, either's.
fn acting(has: &impl Fn(&str) -> bool, column: &str, value: &Expr) -> Option<Expr> {
    let (prev, next) = (format!("prev_{column}"), format!("next_{column}"));
    if has(column) {
        Some(col(column).eq(value.clone()))
    } else if has(&prev) && has(&next) {
        Some(col(prev).eq(value.clone()).or(col(next).eq(value.clone())))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebrec_format::events;

    #[test]
    fn the_named_tables_and_columns_exist() {
        for name in STATES {
            assert!(events::table(name).is_some(), "{name}");
        }
        for (name, begin, end) in SPANS {
            let schema = events::table(name).map(ebrec_format::Table::schema);
            let has = |column: &str| schema.as_ref().is_some_and(|schema| schema.column_with_name(column).is_some());
            assert!(has(begin) && has(end), "{name}");
        }
    }

    #[test]
    fn a_switch_has_two_tasks() {
        let filter = Filter { pid: Some(7), ..Filter::default() };
        for table in events::tables() {
            let predicate = filter.predicate(table.name, &table.schema()).map(|p| p.to_string());
            match table.name {
                "sched_switch" => assert_eq!(predicate.as_deref(), Some("prev_pid = Int32(7) OR next_pid = Int32(7)")),
                name if table.schema().column_with_name("pid").is_some() => {
                    assert_eq!(predicate.as_deref(), Some("pid = Int32(7)"), "{name}");
                }
                name => assert_eq!(predicate, None, "{name}"),
            }
        }
    }
}
