//! What `--from`, `--to`, `-p`, `--tid`, `--comm` and `--cgroup` mean for each table.
//!
//! Every table is registered as a view with this filter, so that no query needs to mention it. The filters are plain
//! comparisons of columns with constants: DataFusion pushes them into the Parquet scan, which then skips row groups and pages.

use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, col, lit};
use std::sync::Arc;

/// Tables whose rows tell a state that holds for the window rather than what happened at an instant: `ts` doesn't limit them.
const STATES: [&str; 7] = ["process", "tcp_socket", "capture", "clock", "loss", "probe_library", "file_path"];
/// Whether a table's rows tell a state.
pub fn is_state(table: &str) -> bool {
    STATES.contains(&table) || ["mount", "disk", "netdev", "container", "cgroup", "stack", "probe"].contains(&table)
}

/// Connections have a beginning and an end: they belong to each window that they overlap.
const SPANS: &[(&str, &str, &str)] = &[("tcp_connection", "opened_ts", "closed_ts")];

/// What the user wants to see.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// From this instant on, ns since 1970.
    pub from: Option<i64>,
    /// Before this instant, ns since 1970.
    pub to: Option<i64>,
    /// The capture's window, ns since 1970: what lies outside was recorded before all hooks were attached or while they were detached, by some of
    /// them and not by others, and is in no answer. Either end may be open.
    pub recorded: (Option<i64>, Option<i64>),
    /// Events of this process.
    pub pid: Option<i32>,
    /// Events of this thread.
    pub tid: Option<i32>,
    /// Events of tasks with this name.
    pub comm: Option<String>,
    /// The cgroup that was asked for, and the processes that were in it.
    pub cgroup: Option<(String, Arc<Vec<i64>>)>,
}

/// Which of a switch's two tasks a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acting {
    /// Either.
    #[default]
    Both,
    /// The one that left the CPU.
    Prev,
    /// The one that got it.
    Next,
}

fn instant(ns: i64) -> Expr {
    lit(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
}

impl Filter {
    /// Whether it is about certain tasks.
    pub fn is_of_tasks(&self) -> bool {
        self.pid.is_some() || self.tid.is_some() || self.comm.is_some() || self.cgroup.is_some()
    }

    /// The filter that leaves all that was recorded in the window.
    pub fn whole(&self) -> Filter {
        Filter { recorded: self.recorded, ..Filter::default() }
    }

    /// The filter by tasks alone.
    pub fn of_tasks(&self) -> Filter {
        Filter { from: None, to: None, recorded: (None, None), ..self.clone() }
    }

    /// The condition on the rows of a table, `None` if all of them are wanted.
    pub fn predicate(&self, table: &str, schema: &Schema, task: Acting) -> Option<Expr> {
        let has = |column: &str| schema.column_with_name(column).is_some();
        let mut conditions = Vec::new();
        let from = self.from.max(self.recorded.0);
        // Without an end, the other one.
        let to = [self.to, self.recorded.1].into_iter().flatten().min();
        if let Some((_, begin, end)) = SPANS.iter().find(|(name, ..)| *name == table) {
            conditions.extend(from.map(|from| col(*end).is_null().or(col(*end).gt_eq(instant(from)))));
            conditions.extend(to.map(|to| col(*begin).is_null().or(col(*begin).lt(instant(to)))));
        } else if has("ts") && !STATES.contains(&table) {
            conditions.extend(from.map(|from| col("ts").gt_eq(instant(from))));
            conditions.extend(to.map(|to| col("ts").lt(instant(to))));
        }
        let is = |value: Expr| move |column: Expr| column.eq(value.clone());
        conditions.extend(self.pid.and_then(|pid| acting(&has, "pid", task, &is(lit(pid)))));
        conditions.extend(self.tid.and_then(|tid| acting(&has, "tid", task, &is(lit(tid)))));
        conditions.extend(self.comm.as_ref().and_then(|comm| acting(&has, "comm", task, &is(lit(comm.as_str())))));
        conditions.extend(self.cgroup.as_ref().and_then(|(_, processes)| {
            let processes: Vec<Expr> = processes.iter().map(|&process| lit(process)).collect();
            acting(&has, "process_id", task, &|column: Expr| column.in_list(processes.clone(), false))
        }));
        conditions.into_iter().reduce(Expr::and)
    }
}

/// The acting task's `column` is as wanted; for a switch, which has two acting tasks, that of the one which is meant, or either's.
fn acting(has: &impl Fn(&str) -> bool, column: &str, task: Acting, wanted: &impl Fn(Expr) -> Expr) -> Option<Expr> {
    let (prev, next) = (format!("prev_{column}"), format!("next_{column}"));
    if has(column) {
        Some(wanted(col(column)))
    } else if has(&prev) && has(&next) {
        Some(match task {
            Acting::Both => wanted(col(prev)).or(wanted(col(next))),
            Acting::Prev => wanted(col(prev)),
            Acting::Next => wanted(col(next)),
        })
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
    fn nothing_outside_of_the_capture_is_seen() {
        let recorded = (Some(5), Some(9));
        let conditions = |filter: Filter, table: &str| {
            let schema = events::table(table).map(ebrec_format::Table::schema);
            schema.and_then(|schema| filter.predicate(table, &schema, Acting::Both)).map(|p| p.to_string())
        };
        let at = |ns: i64| instant(ns).to_string();
        let within = |from: i64, to: i64| Some(format!("ts >= {} AND ts < {}", at(from), at(to)));
        let filter = |from, to| Filter { from, to, recorded, ..Filter::default() };
        assert_eq!(conditions(filter(None, None), "signal"), within(5, 9));
        assert_eq!(conditions(filter(Some(1), Some(20)), "signal"), within(5, 9));
        assert_eq!(conditions(filter(Some(6), Some(7)), "signal"), within(6, 7));
        // What was there at the start was there before.
        assert_eq!(conditions(filter(None, None), "process"), None);
    }

    #[test]
    fn a_switch_has_two_tasks() {
        let filter = Filter { pid: Some(7), ..Filter::default() };
        for table in events::tables() {
            let predicate = filter.predicate(table.name, &table.schema(), Acting::Both).map(|p| p.to_string());
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
