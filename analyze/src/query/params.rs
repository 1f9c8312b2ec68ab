//! A report's parameters: from the command line to bound values.

use super::{Param, ParamType, Query};
use crate::engine::Engine;
use crate::errno;
use crate::error::{Error, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use datafusion::common::ScalarValue;
use ebrec_format::text::stored;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values by parameter name.
pub type Values = BTreeMap<&'static str, ScalarValue>;

/// The report as a command of the command line.
pub fn command(query: &Query) -> Command {
    let mut command = Command::new(query.name).about(query.help).after_help(after_help(query));
    if !query.prose.is_empty() {
        command = command.long_about(format!("{}\n\n{}", query.help, query.prose));
    }
    for param in &query.params {
        command = command.arg(argument(param, query));
    }
    command
}

fn argument(param: &Param, query: &Query) -> Arg {
    let rivals = query.conflicts.iter().filter(|set| set.contains(&param.name)).flatten().filter(|name| **name != param.name);
    let mut arg = Arg::new(param.name).help(param.doc.trim_end_matches('.')).conflicts_with_all(rivals.copied());
    if !param.positional {
        if let Some(short) = param.short {
            arg = arg.short(short);
        }
        if let Some(long) = param.long {
            arg = arg.long(long);
        }
    }
    arg = match &param.kind {
        ParamType::Flag => return arg.action(ArgAction::SetTrue),
        ParamType::Int => arg.value_parser(clap::value_parser!(i64).range(0..)),
        ParamType::Number => arg.value_parser(number),
        ParamType::Errno => arg.value_parser(error_number),
        ParamType::Seconds => arg.value_parser(seconds),
        ParamType::Text => arg,
        ParamType::Ints => arg.value_delimiter(',').value_parser(clap::value_parser!(i64).range(0..)),
        ParamType::Choice(words) => arg.value_parser(clap::builder::PossibleValuesParser::new(words.iter().copied())),
    };
    arg = arg.value_name(param.name.to_uppercase().leak() as &'static str).action(ArgAction::Set);
    match param.default {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // A nanosecond to three centuries: what a timestamp can tell apart.
        Ok(value) if (1e-9..=9.2e9).contains(&value) => Ok(value),
        _ => Err("a positive number of seconds".to_owned()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0).ok_or_else(|| "a number from 0 on".to_owned())
}

fn error_number(text: &str) -> Result<i64, String> {
    errno::number(text).ok_or_else(|| "an error's number, or its name as ENOENT".to_owned())
}

fn after_help(query: &Query) -> String {
    let mut text = match &query.histogram {
        Some(histogram) => format!(
            "The result has a row per bucket: interval_end, the columns grouped by, unit, low, high, count{}.\n\nColumns of --by:\n",
            if histogram.weight.is_none() { ", percentiles, maximum, total" } else { "" }
        ),
        None => String::from("Columns:\n"),
    };
    let is_key = |name: &str| match &query.histogram {
        Some(histogram) => name != "ts" && name != histogram.value && histogram.weight != Some(name),
        None => true,
    };
    let mut seen = Vec::new();
    let width = query.columns.iter().map(|column| column.name.len()).max().unwrap_or_default();
    for column in &query.columns {
        if !seen.contains(&column.name) && is_key(column.name) {
            seen.push(column.name);
            text.push_str(&format!("  {:width$}  {}\n", column.name, column.doc));
        }
    }
    if !query.examples.is_empty() {
        text.push_str("\nExamples:\n");
    }
    for (command, doc) in &query.examples {
        text.push_str(&format!("  ebrec analyze FILE {command}\n      {doc}\n"));
    }
    text.push_str(&format!("\nReads: {}", query.needs.join(", ")));
    if !query.uses.is_empty() {
        text.push_str(&format!("; if recorded: {}", query.uses.join(", ")));
    }
    text
}

/// The values of a report's parameters.
pub fn values(query: &Query, matches: &ArgMatches) -> Result<Values> {
    let fixed = query.fixed.iter().map(|(name, text)| Ok((*name, ScalarValue::Utf8(Some((*text).to_owned())))));
    query.params.iter().map(|param| value(param, matches).map(|value| (param.name, value))).chain(fixed).collect()
}

/// The values when nothing is given.
pub fn defaults(query: &Query) -> Result<Values> {
    let matches = command(query).try_get_matches_from([query.name]).map_err(|error| Error::new(query.name, error))?;
    values(query, &matches)
}

fn value(param: &Param, matches: &ArgMatches) -> Result<ScalarValue> {
    let wrong = |error: clap::parser::MatchesError| Error::new(param.name, error);
    Ok(match &param.kind {
        ParamType::Flag => ScalarValue::Boolean(Some(matches.try_get_one::<bool>(param.name).map_err(wrong)?.copied().unwrap_or(false))),
        ParamType::Int | ParamType::Errno => ScalarValue::Int64(matches.try_get_one::<i64>(param.name).map_err(wrong)?.copied()),
        ParamType::Seconds | ParamType::Number => ScalarValue::Float64(matches.try_get_one::<f64>(param.name).map_err(wrong)?.copied()),
        ParamType::Text => {
            let typed = matches.try_get_one::<String>(param.name).map_err(wrong)?;
            ScalarValue::Utf8(typed.map(|typed| stored(typed).into_owned()))
        }
        ParamType::Choice(_) => ScalarValue::Utf8(matches.try_get_one::<String>(param.name).map_err(wrong)?.cloned()),
        ParamType::Ints => match matches.try_get_many::<i64>(param.name).map_err(wrong)? {
            Some(numbers) => {
                let numbers: Vec<ScalarValue> = numbers.map(|number| ScalarValue::Int64(Some(*number))).collect();
                ScalarValue::List(ScalarValue::new_list_nullable(&numbers, &arrow::datatypes::DataType::Int64))
            }
            None => ScalarValue::new_null_list(arrow::datatypes::DataType::Int64, true, 1),
        },
    })
}

/// What is bound to the placeholders of a report: its parameters and the reserved ones.
pub fn bindings(engine: &Engine, values: &Values) -> Vec<(String, ScalarValue)> {
    let instant = |ns: i64| ScalarValue::TimestampNanosecond(Some(ns), Some(Arc::from("UTC")));
    let (start, end) = engine.window();
    let reserved = [
        ("pid", ScalarValue::Int64(engine.filter().pid.map(i64::from))),
        ("comm", ScalarValue::Utf8(engine.filter().comm.clone())),
        ("window_start", instant(start)),
        ("window_end", instant(end)),
    ];
    reserved
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(values.iter().map(|(n, v)| ((*n).to_owned(), v.clone())))
        .collect()
}
