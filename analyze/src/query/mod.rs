//! Reports: `.sql` files whose comment header declares everything that is known about them.
//!
//! Commands, `--help`, the catalogue, the rendering and the notes about losses come from the header; [`header`] parses
//! it and documents its grammar ([`header::GRAMMAR`]), and [`reference`](mod@reference) prints queries/README.md.
//! Files given with `--queries DIR` go the same way as the built-in ones.

pub mod declaration;
pub mod header;
pub mod histogram;
pub mod macros;
pub mod params;
pub mod reference;

use crate::error::{Error, Result};
pub use declaration::{Alias, Column, Condition, Histogram, Param, ParamType, Query, Render, Show, StackColumns, Title, Unit};
use std::path::Path;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/queries.rs"));
}

/// The name and the text of a user's own file of SQL. Both are printed, and the name is that of a command.
pub fn read_own(path: &Path) -> Result<(String, String)> {
    let wrong =
        |why: &str| Error::new(path.display(), why).hint("name the file as the command: a-z, 0-9, _ and -, then .sql; its text is plain");
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() || name.starts_with('-') || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(wrong("is no name of a command"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(wrong("has control characters"));
    }
    Ok((name, text))
}

/// The reports, sorted by name.
#[derive(Debug, Clone, Default)]
pub struct Queries(Vec<Query>);

impl Queries {
    /// The built-in reports.
    pub fn builtin() -> Result<Queries> {
        Queries::embedded()?.without_aliases()
    }

    fn embedded() -> Result<Queries> {
        embedded::FILES.iter().map(|(name, text)| header::parse(name, text)).collect::<Result<Vec<_>>>().map(Queries)
    }

    /// With each alias replaced by the report that it stands for.
    fn without_aliases(self) -> Result<Queries> {
        let resolve = |query: &Query| {
            let Some(alias) = &query.alias else { return Ok(query.clone()) };
            let failed = |why| Error::new(format!("{}.sql", query.name), why).hint("queries/README.md describes the header");
            let report = self.get(alias.report).filter(|report| report.alias.is_none());
            let report = report.ok_or_else(|| failed(format!("there is no report {} to be an alias of", alias.report)))?;
            query.stand_for(alias, report).map_err(failed)
        };
        self.iter().map(resolve).collect::<Result<Vec<_>>>().map(Queries)
    }

    /// The parts of the summary, in order.
    pub fn summary() -> Result<Queries> {
        embedded::SUMMARY.iter().map(|(name, text)| header::parse(name, text)).collect::<Result<Vec<_>>>().map(Queries)
    }

    /// The checks of triage, in order.
    pub fn triage() -> Result<Queries> {
        embedded::TRIAGE.iter().map(|(name, text)| header::parse(name, text)).collect::<Result<Vec<_>>>().map(Queries)
    }

    /// The built-in reports and those of the files `*.sql` in `directory`, which may replace built-in ones.
    pub fn with_directory(directory: &Path) -> Result<Queries> {
        let mut queries = Queries::embedded()?;
        let failed = |error: std::io::Error| {
            Error::new(directory.display(), error).hint("--queries takes a directory of .sql files; queries/README.md describes them")
        };
        let entries = std::fs::read_dir(directory).map_err(failed)?;
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.map_err(failed)?.path());
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        for path in files {
            let (name, text) = read_own(&path)?;
            // The command line parser keeps names and texts for as long as the program runs, and so do we.
            let query = header::parse(name.leak(), text.leak())?;
            queries.0.retain(|other| other.name != query.name);
            queries.0.push(query);
        }
        queries.0.sort_by_key(|query| query.name);
        queries.without_aliases()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Query> {
        self.0.iter()
    }

    /// The report of that name.
    pub fn get(&self, name: &str) -> Option<&Query> {
        self.0.iter().find(|query| query.name == name)
    }
}
