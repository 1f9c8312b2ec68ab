//! Prints queries/README.md: the catalogue of reports and the grammar of their files.

use super::Queries;
use super::header::GRAMMAR;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The whole page, in Markdown.
pub fn readme(queries: &Queries) -> String {
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    queries.iter().for_each(|query| groups.entry(query.group).or_default().push(query));
    let mut md = String::from(
        "# Reports\n\nGenerated from the headers of the files in this directory by `EBREC_BLESS=1 cargo test -p ebrec-analyze`; do not edit.\n\n\
         `ebrec analyze FILE NAME --help` describes each with its options and columns.\n",
    );
    for (group, queries) in groups {
        let _ = write!(md, "\n## {group}\n\n| report | what it shows | reads |\n| --- | --- | --- |\n");
        for query in queries {
            let tables: Vec<String> = query.needs.iter().map(|table| format!("`{table}`")).collect();
            let _ = writeln!(md, "| [`{0}`]({0}.sql) | {1} | {2} |", query.name, query.help, tables.join(", "));
        }
    }
    let _ = write!(md, "\n## Writing a report\n\n{GRAMMAR}");
    md
}
