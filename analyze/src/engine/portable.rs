//! SQL text that other engines run: DuckDB, Spark, Trino over the unzipped Parquet files.

use crate::error::{Error, Result};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type, Schema};
use chrono::DateTime;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr};

/// Replaces each `$name` outside of quotes and comments by the literal of its value.
pub fn substitute<'a>(sql: &str, value: impl Fn(&str) -> Option<&'a ScalarValue>) -> Result<String> {
    let mut out = String::with_capacity(sql.len());
    let mut quoted = false;
    let mut rest = sql;
    while let Some(at) = rest.find(['\'', '$', '-']) {
        out.push_str(&rest[..at]);
        let found = rest.as_bytes()[at];
        if found == b'-' {
            let comment = rest[at..].starts_with("--") && !quoted;
            let end = if comment { rest[at..].find('\n').map_or(rest.len(), |end| at + end) } else { at + 1 };
            out.push_str(&rest[at..end]);
            rest = &rest[end..];
            continue;
        }
        rest = &rest[at + 1..];
        if found == b'\'' {
            quoted = !quoted;
            out.push('\'');
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        match value(&rest[..end]).filter(|_| !quoted) {
            Some(value) => {
                out.push_str(&literal(value)?);
                rest = &rest[end..];
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// A value as SQL. Of a null the type is told too, because engines can't guess it.
fn literal(value: &ScalarValue) -> Result<String> {
    let typed_null = |name: &str| format!("CAST(NULL AS {name})");
    Ok(match value {
        ScalarValue::Boolean(flag) => flag.map_or_else(|| typed_null("BOOLEAN"), |flag| if flag { "TRUE" } else { "FALSE" }.to_owned()),
        ScalarValue::Int32(number) => number.map_or_else(|| typed_null("INTEGER"), |number| number.to_string()),
        ScalarValue::Int64(number) => number.map_or_else(|| typed_null("BIGINT"), |number| number.to_string()),
        ScalarValue::Float64(number) => number.map_or_else(|| typed_null("DOUBLE"), |number| format!("CAST({number} AS DOUBLE)")),
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) => {
            text.as_ref().map_or_else(|| typed_null("VARCHAR"), |text| format!("'{}'", text.replace('\'', "''")))
        }
        ScalarValue::TimestampNanosecond(Some(ns), _) => {
            format!("TIMESTAMPTZ '{}'", DateTime::from_timestamp_nanos(*ns).format("%Y-%m-%d %H:%M:%S%.9f+00:00"))
        }
        ScalarValue::List(list) => {
            let items = if list.is_valid(0) { Some(list.value(0)) } else { None };
            match items.as_ref().map(|items| items.as_primitive_opt::<Int64Type>()) {
                Some(Some(items)) => {
                    let items: Vec<String> = items.values().iter().map(ToString::to_string).collect();
                    format!("CAST([{}] AS BIGINT[])", items.join(", "))
                }
                None if matches!(list.value_type(), DataType::Int64) => typed_null("BIGINT[]"),
                _ => return Err(Error::text("a list of this type has no portable form")),
            }
        }
        other => return Err(Error::text(format!("a value of type {} has no portable form", other.data_type()))),
    })
}

/// A table that was not captured: its columns, and no row.
pub fn empty(name: &str, schema: &Schema) -> String {
    let sql_type = |data_type: &DataType| match data_type {
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::Float64 => "DOUBLE",
        DataType::Boolean => "BOOLEAN",
        DataType::Timestamp(..) => "TIMESTAMPTZ",
        DataType::List(_) => "VARCHAR[]",
        _ => "VARCHAR",
    };
    let columns = schema.fields().iter().map(|field| format!("CAST(NULL AS {}) AS \"{}\"", sql_type(field.data_type()), field.name()));
    format!("{name} AS (SELECT {} WHERE FALSE)", columns.collect::<Vec<_>>().join(", "))
}

/// A condition that a filter makes.
pub fn condition(expr: &Expr) -> Result<String> {
    Ok(match expr {
        // Engines whose instants with a zone have microseconds don't compare them with the file's nanoseconds.
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if matches!(&**right, Expr::Literal(ScalarValue::TimestampNanosecond(..), _)) => {
            format!("(CAST({} AS TIMESTAMPTZ) {op} {})", condition(left)?, condition(right)?)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => format!("({} {op} {})", condition(left)?, condition(right)?),
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) => literal(value)?,
        Expr::IsNull(inner) => format!("{} IS NULL", condition(inner)?),
        Expr::InList(list) => {
            let items = list.list.iter().map(condition).collect::<Result<Vec<_>>>()?;
            let not = if list.negated { "NOT " } else { "" };
            format!("{} {not}IN ({})", condition(&list.expr)?, items.join(", "))
        }
        other => return Err(Error::text(format!("{other} has no portable form"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    #[test]
    fn parameters_become_literals_and_text_stays_text() {
        let values = [
            ("flag", ScalarValue::Boolean(Some(true))),
            ("none", ScalarValue::Int64(None)),
            ("name", ScalarValue::Utf8(Some("it's".to_owned()))),
            ("at", ScalarValue::TimestampNanosecond(Some(1_500_000_000), Some("UTC".into()))),
        ];
        let find = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let sql = substitute("SELECT '$flag', -- it's $flag\n$flag, $none, $name, $at, $other", find).unwrap_or_default();
        let expected =
            "SELECT '$flag', -- it's $flag\nTRUE, CAST(NULL AS BIGINT), 'it''s', TIMESTAMPTZ '1970-01-01 00:00:01.500000000+00:00', $other";
        assert_eq!(sql, expected);
    }

    #[test]
    fn conditions_are_told_as_they_are() {
        let expr = col("pid").eq(lit(7)).or(col("ts").is_null()).and(col("id").in_list(vec![lit(1_i64), lit(2_i64)], false));
        assert_eq!(condition(&expr).unwrap_or_default(), "(((pid = 7) OR ts IS NULL) AND id IN (1, 2))");
    }
}
