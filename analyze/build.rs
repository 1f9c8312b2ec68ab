//! Embeds every file of queries/, so that a new report is one new file and no list has to be kept.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../queries");
    let mut out = list("FILES", "Name and text of each file of queries/.", &queries)?;
    out.push_str(&list("SUMMARY", "Name and text of each file of queries/summary/.", &queries.join("summary"))?);
    out.push_str(&list("TRIAGE", "Name and text of each file of queries/triage/.", &queries.join("triage"))?);
    let metrics = list("METRICS", "Name and text of each file of queries/metrics/.", &queries.join("metrics"))?;
    fs::write(PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("metrics.rs"), metrics)?;
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("queries.rs");
    fs::write(target, out)
}

/// A constant with the `.sql` files of a directory, in order of their names.
fn list(name: &str, doc: &str, directory: &Path) -> io::Result<String> {
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            files.push(fs::canonicalize(path)?);
        }
    }
    files.sort();
    let mut out = format!("/// {doc}\npub const {name}: &[(&str, &str)] = &[\n");
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let _ = writeln!(out, "    ({name:?}, include_str!({file:?})),");
    }
    out.push_str("];\n");
    Ok(out)
}
