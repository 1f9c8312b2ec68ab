//! A capture whose tables are read whole, once, and what comparing it with the truth found.

use ebrec_tests::{Context, Result, sql};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Rows of a table, in the order of time.
pub type Rows = Rc<Vec<Value>>;

/// A capture.
pub struct Capture {
    path: PathBuf,
    tables: RefCell<BTreeMap<String, Rows>>,
}

impl Capture {
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned(), tables: RefCell::default() }
    }

    /// A whole table.
    pub fn table(&self, name: &str) -> Result<Rows> {
        if let Some(rows) = self.tables.borrow().get(name) {
            return Ok(Rc::clone(rows));
        }
        let mut rows = self.sql(&format!("SELECT * FROM {name}"))?;
        // All timestamps have the same form.
        rows.sort_by(|a, b| a["ts"].as_str().cmp(&b["ts"].as_str()));
        let rows = Rc::new(rows);
        self.tables.borrow_mut().insert(name.to_owned(), Rc::clone(&rows));
        Ok(rows)
    }

    /// The rows of `table` in which `column` is `value`.
    pub fn rows(&self, table: &str, column: &str, value: &Value) -> Result<Vec<Value>> {
        Ok(self.table(table)?.iter().filter(|row| row[column] == *value).cloned().collect())
    }

    pub fn sql(&self, query: &str) -> Result<Vec<Value>> {
        sql(&self.path, query)
    }

    /// The whole number that is the only answer to `query`.
    pub fn number(&self, query: &str) -> Result<i64> {
        let rows = self.sql(query)?;
        let value = rows.first().and_then(Value::as_object).and_then(|row| row.values().next());
        value.and_then(Value::as_i64).context(format!("no number: {query}"))
    }
}

/// What was compared, by hook, and what differs.
#[derive(Debug, Default)]
pub struct Findings {
    pub compared: BTreeSet<String>,
    pub differences: Vec<(String, String)>,
}

impl Findings {
    /// `hook` is `PROBE HOOK`, as in the table `probe`.
    pub fn equal<T: PartialEq<U> + Debug, U: Debug>(&mut self, hook: &str, what: impl Display, is: T, truth: U) {
        self.check(hook, is == truth, || format!("{what} is {is:?} instead of {truth:?}"));
    }

    pub fn check(&mut self, hook: &str, right: bool, what: impl FnOnce() -> String) {
        self.compared.insert(hook.to_owned());
        if !right {
            self.differences.push((hook.to_owned(), what()));
        }
    }
}

/// Sum of a column.
pub fn sum<'a>(rows: impl IntoIterator<Item = &'a Value>, column: &str) -> u64 {
    rows.into_iter().filter_map(|row| row[column].as_u64()).sum()
}

/// The elements of a list; none if it isn't one.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
