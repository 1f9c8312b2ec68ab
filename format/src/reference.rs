//! Prints `format/TABLES.md`, the reference of tables and columns.

use crate::events;
use crate::table::Table;
use std::fmt::Write;

/// The whole reference, in Markdown.
pub fn tables_md() -> String {
    let mut md = String::from(
        "# Tables of a capture\n\n\
         Generated from `format/src/events/` by `EBREC_BLESS=1 cargo test -p ebrec-format`; do not edit.\n\n\
         Every column can be null unless it says otherwise: null means that the kernel or the window can't tell, never 0.\n\
         Text that was not UTF-8 is escaped reversibly: `\\xHH` for a byte, `\\\\` for a backslash.\n",
    );
    for probe in events::PROBES {
        let on = if probe.default { "on" } else { "off" };
        let _ = write!(md, "\n## Probe `{}` ({on} by default)\n\n{}.\n", probe.name, probe.doc);
        probe.tables.iter().for_each(|table| one(&mut md, table()));
    }
    let _ = write!(md, "\n## Always recorded\n");
    events::tables().filter(|table| events::probe_of(table.name).is_none()).for_each(|table| one(&mut md, table));
    md
}

fn one(md: &mut String, table: &Table) {
    let _ = write!(
        md,
        "\n### `{}`\n\n{}\n\n| column | type | kind | unit | what |\n| --- | --- | --- | --- | --- |\n",
        table.name,
        table.doc.trim()
    );
    for column in (table.columns)() {
        let kind = column.kind;
        let arrow = arrow_name(&(kind.arrow)());
        let null = if kind.nullable { "" } else { ", never null" };
        let _ = writeln!(md, "| `{}` | {arrow}{null} | {} | {} | {} |", column.name, kind.name, kind.unit.unwrap_or(""), column.doc);
    }
}

/// An Arrow type in short words.
pub fn arrow_name(data_type: &arrow::datatypes::DataType) -> String {
    use arrow::datatypes::DataType;
    match data_type {
        DataType::Timestamp(_, _) => "timestamp (ns, UTC)".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "text".to_owned(),
        DataType::List(item) => format!("list of {}", arrow_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| format!("{} {}", field.name(), arrow_name(field.data_type()))).collect();
            format!("({})", fields.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}
