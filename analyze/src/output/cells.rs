//! Values of a report's columns as text, by column kind.

use super::text::escape;
use crate::errno;
use crate::error::{Error, Result};
use crate::query::Column;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use chrono::DateTime;
use ebrec_format::kind::open_flag_bits;
use std::collections::HashMap;

/// What a null is shown as.
const NULL: &str = "-";

/// A batch whose columns can be asked for values of a few plain types.
pub struct Cells {
    columns: HashMap<String, Values>,
    rows: usize,
}

enum Values {
    Int(Int64Array),
    Float(Float64Array),
    Text(StringArray),
    List(ListArray),
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A whole number, a flag, an instant or a length of time in ns.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text(&'a str),
}

impl Cells {
    /// The values of a batch.
    pub fn new(batch: &RecordBatch) -> Result<Cells> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| Ok((field.name().clone(), values(column)?)));
        Ok(Cells { columns: columns.collect::<Result<_>>()?, rows: batch.num_rows() })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A value, `None` for null.
    pub fn get(&self, column: &str, row: usize) -> Option<Value<'_>> {
        match self.columns.get(column)? {
            Values::Int(array) => array.is_valid(row).then(|| Value::Int(array.value(row))),
            Values::Float(array) => array.is_valid(row).then(|| Value::Float(array.value(row))),
            Values::Text(array) => array.is_valid(row).then(|| Value::Text(array.value(row))),
            Values::List(_) => None,
        }
    }

    /// A whole number, `None` for null and for what isn't one.
    pub fn int(&self, column: &str, row: usize) -> Option<i64> {
        match self.get(column, row)? {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The items of a list, `None` for null.
    pub fn list(&self, column: &str, row: usize) -> Option<Vec<String>> {
        let Values::List(list) = self.columns.get(column)? else { return None };
        if list.is_null(row) {
            return None;
        }
        let items = cast(&list.value(row), &DataType::Utf8).ok()?;
        Some(items.as_string::<i32>().iter().map(|item| escape(item.unwrap_or_default())).collect())
    }

    /// The text of a value without any kind's embellishment: equal texts are equal values.
    pub fn raw(&self, column: &str, row: usize) -> String {
        self.get(column, row).map_or_else(|| NULL.to_owned(), |value| value.to_string())
    }
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Int(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::Text(text) => f.write_str(&escape(text)),
        }
    }
}

fn values(column: &ArrayRef) -> Result<Values> {
    let cast = |to: &DataType| cast(column, to).map_err(|error| Error::new("a value can't be shown", error));
    Ok(match column.data_type() {
        DataType::List(_) => Values::List(column.as_list().clone()),
        DataType::Timestamp(_, zone) => {
            // Through nanoseconds, whatever the unit was.
            let ns = cast(&DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, zone.clone()))?;
            let ns = arrow::compute::cast(&ns, &DataType::Int64).map_err(|error| Error::new("a value can't be shown", error))?;
            Values::Int(ns.as_primitive::<Int64Type>().clone())
        }
        DataType::Boolean => Values::Int(cast(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        other if other.is_integer() => Values::Int(cast(&DataType::Int64)?.as_primitive::<Int64Type>().clone()),
        other if other.is_numeric() => Values::Float(cast(&DataType::Float64)?.as_primitive::<Float64Type>().clone()),
        _ => Values::Text(cast(&DataType::Utf8)?.as_string::<i32>().clone()),
    })
}

/// Instants that elapsed times are counted from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origins {
    /// The beginning of the window, ns.
    pub window: i64,
    /// The instant of the first row, ns.
    pub first: Option<i64>,
}

/// The text of a column in a row.
pub fn show(cells: &Cells, column: &Column, row: usize, origins: &mut Origins) -> String {
    let args = &column.arguments;
    match column.kind {
        "args" | "quoted_args" => {
            let Some(items) = cells.list(column.name, row) else { return NULL.to_owned() };
            if column.kind == "args" {
                return items.join(" ");
            }
            items.iter().map(|item| format!("\"{}\"", item.replace('"', "\\\""))).collect::<Vec<_>>().join(" ")
        }
        // The port is another column, and may be known when the address isn't.
        "addr_port" => format!("{}:{}", cells.raw(column.name, row), args.first().map_or_else(String::new, |port| cells.raw(port, row))),
        "exit" => exit(cells, column, row),
        kind => match cells.get(column.name, row) {
            None => NULL.to_owned(),
            Some(Value::Text(text)) => match kind {
                "file_name" => file_name(&escape(text)).to_owned(),
                "open_flags" => open_flag_bits(text).map_or_else(|| escape(text), |bits| format!("{bits:08o}")),
                _ => cut(kind, escape(text)),
            },
            Some(Value::Float(value)) => match kind {
                "float1" => format!("{value:.1}"),
                "float2" => format!("{value:.2}"),
                "percent2" => format!("{:.2}%", value * 100.0),
                _ => value.to_string(),
            },
            Some(Value::Int(value)) => number(kind, value, origins),
        },
    }
}

/// A text with `{name}` replaced by what `value` gives for it, and `\n` by a line break.
pub fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let text = text.replace("\\n", "\n");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, (name, after))) = rest.split_once('{').and_then(|(before, at)| Some((before, at.split_once('}')?))) {
        out.push_str(before);
        out.push_str(&value(name).unwrap_or_default());
        rest = after;
    }
    out + rest
}

/// `comm12` is the first 12 characters.
fn cut(kind: &str, text: String) -> String {
    match kind.strip_prefix("comm").and_then(|limit| limit.parse().ok()) {
        Some(limit) => text.chars().take(limit).collect(),
        None => text,
    }
}

/// The last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').find(|name| !name.is_empty()).unwrap_or(path)
}

fn number(kind: &str, value: i64, origins: &mut Origins) -> String {
    let seconds = |from: i64, decimals: usize| format!("{:.decimals$}", (i128::from(value) - i128::from(from)) as f64 / 1e9);
    match kind {
        "time" => DateTime::from_timestamp_nanos(value).format("%H:%M:%S").to_string(),
        "elapsed" => seconds(origins.window, 3),
        "since_first" => seconds(*origins.first.get_or_insert(value), 3),
        "since_first6" => seconds(*origins.first.get_or_insert(value), 6),
        "us" => (value / 1000).to_string(),
        "us1" => format!("{:.1}", value as f64 / 1e3),
        "us3" => format!("{:.3}", value as f64 / 1e3),
        "ms2" => format!("{:.2}", value as f64 / 1e6),
        "ms3" => format!("{:.3}", value as f64 / 1e6),
        "seconds2" => format!("{:.2}", value as f64 / 1e9),
        "kb" => (value / 1024).to_string(),
        "mb" => (value / (1 << 20)).to_string(),
        "kb2" => format!("{:.2}", value as f64 / 1024.0),
        "float1" => format!("{value}.0"),
        "float2" => format!("{value}.00"),
        "errno" if value == 0 => "0".to_owned(),
        "errno" => errno::name(value).map_or_else(|| format!("errno {value}"), str::to_owned),
        "hex" => format!("{value:x}"),
        _ => value.to_string(),
    }
}

/// How a process ended, in exitsnoop's words.
fn exit(cells: &Cells, column: &Column, row: usize) -> String {
    let argument = |i: usize| column.arguments.get(i).and_then(|name| cells.int(name, row));
    match (cells.int(column.name, row), argument(0)) {
        (_, Some(signal)) => {
            // strsignal(3) numbers those beyond; their names say more.
            let number = u32::try_from(signal).unwrap_or_default();
            let name = SIGNALS.get(number as usize).map_or_else(|| ebrec_format::kind::signal_name(number), |name| (*name).to_owned());
            let core = if argument(1) == Some(1) { ", core dumped" } else { "" };
            format!("signal {signal} ({name}){core}")
        }
        (Some(0), None) => "0".to_owned(),
        (Some(code), None) => format!("code {code}"),
        (None, None) => NULL.to_owned(),
    }
}

/// What strsignal(3) says, by number.
const SIGNALS: [&str; 32] = [
    "Unknown signal 0",
    "Hangup",
    "Interrupt",
    "Quit",
    "Illegal instruction",
    "Trace/breakpoint trap",
    "Aborted",
    "Bus error",
    "Floating point exception",
    "Killed",
    "User defined signal 1",
    "Segmentation fault",
    "User defined signal 2",
    "Broken pipe",
    "Alarm clock",
    "Terminated",
    "Stack fault",
    "Child exited",
    "Continued",
    "Stopped (signal)",
    "Stopped",
    "Stopped (tty input)",
    "Stopped (tty output)",
    "Urgent I/O condition",
    "CPU time limit exceeded",
    "File size limit exceeded",
    "Virtual timer expired",
    "Profiling timer expired",
    "Window changed",
    "I/O possible",
    "Power failure",
    "Bad system call",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_last_name_of_its_path() {
        assert_eq!(["/etc/passwd", "x", "/srv/dir/", "/"].map(file_name), ["passwd", "x", "dir", "/"]);
    }
}
