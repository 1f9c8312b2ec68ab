//! docs/METRICS.md: the metrics, from their declarations.

use super::metric::{Function, GRAMMAR, Metric, Polarity, Source};
use std::fmt::Write;

/// How a metric is computed, as its declaration has it.
pub fn function(metric: &Metric) -> String {
    let columns = metric.function.columns().join(", ");
    let name = match metric.function {
        Function::Quantiles(_) => "quantiles",
        Function::Rate(_) => "rate",
        Function::Share(..) => "share",
        Function::Ratio(..) => "ratio",
    };
    format!("{name}({columns})")
}

/// Which direction is better, in a word.
pub fn polarity(metric: &Metric) -> &'static str {
    match metric.polarity {
        Polarity::Lower => "lower",
        Polarity::Higher => "higher",
        Polarity::Neutral => "neutral",
    }
}

/// The document.
pub fn reference(sources: &[Source]) -> String {
    let mut md = String::from(
        "# Metrics\n\nGenerated from the headers of the files in queries/metrics/ by `EBREC_BLESS=1 cargo test -p ebrec-analyze`; do not edit.\n\n\
         What `ebrec compare` compares ([COMPARE.md](COMPARE.md) says how). A distribution is compared by its p50, p90, p99 and p99.9 and as a whole; a rate is \
         per second; a share is a part of a whole. Each metric is compared for all rows together, and for each group.\n",
    );
    let mut groups: Vec<&str> = sources.iter().map(|source| source.group.as_str()).collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let _ = write!(md, "\n## {group}\n");
        for source in sources.iter().filter(|source| source.group == group) {
            let tables: Vec<String> = source.needs.iter().map(|table| format!("`{table}`")).collect();
            let by: Vec<String> = source.by.iter().map(|columns| format!("`{}`", columns.join(", "))).collect();
            let by = if by.is_empty() { String::new() } else { format!("; by {}", by.join("; ")) };
            let _ = write!(md, "\n### {}\n\n", source.help);
            if !source.prose.is_empty() {
                let _ = write!(md, "{}\n\n", source.prose);
            }
            let _ = write!(
                md,
                "Needs {}{by}.\n\n| metric | computed as | unit | better | what |\n| --- | --- | --- | --- | --- |\n",
                tables.join(", ")
            );
            for metric in &source.metrics {
                let _ = writeln!(
                    md,
                    "| `{}` | `{}` | {} | {} | {} |",
                    metric.name,
                    function(metric),
                    metric.unit,
                    polarity(metric),
                    metric.doc
                );
            }
        }
    }
    let _ = write!(md, "\n## Your own\n\n{GRAMMAR}");
    md
}
