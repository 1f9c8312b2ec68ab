//! Which tables and views a query may name, and what it hears when one is missing.

use super::filter::{Acting, Filter};
use super::table::{self, CaptureTable, File, PARTITION_COLUMNS, Width, check_frame, damaged, metadata};
use super::{Engine, Planned, Shared};
use crate::error::Error;
use crate::query::{Query, params};
use crate::suggest::closest;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::plan_err;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use ebrec_format::capture::Capture;
use ebrec_format::events;
use ebrec_format::manifest::HookState;
use parquet::arrow::parquet_to_arrow_schema;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// The tables of the opened captures, by name, and the reports as views.
#[derive(Debug, Clone)]
pub struct Tables {
    shared: Arc<Shared>,
    /// Which of the captures.
    which: Range<usize>,
    /// The views that this is within: none of them may be used again.
    within: Vec<String>,
}

/// How a query reads the tables.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reading<'a> {
    /// Tables that it reads without the user's filter.
    pub whole: &'a [&'a str],
    /// Tables that it can do without: they are empty then.
    pub optional: &'a [&'a str],
    /// Which task of a switch it is about.
    pub acting: Acting,
}

/// The tables as one query sees them. Each query has its own, so that several can be planned at a time.
#[derive(Debug)]
pub struct Lookup {
    tables: Tables,
    whole: BTreeSet<String>,
    optional: BTreeSet<String>,
    acting: Acting,
    found: Mutex<Found>,
}

/// What a query has named so far.
#[derive(Debug, Default)]
struct Found {
    touched: BTreeSet<String>,
    /// Why the first table that was not found is missing.
    missing: Option<Error>,
}

impl Tables {
    /// The tables of some of the captures.
    pub fn new(shared: Arc<Shared>, which: Range<usize>, within: Vec<String>) -> Tables {
        Tables { shared, which, within }
    }

    /// The same, for one query.
    pub fn read(&self, reading: Reading<'_>) -> Lookup {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Lookup {
            tables: self.clone(),
            whole: owned(reading.whole),
            optional: owned(reading.optional),
            acting: reading.acting,
            found: Mutex::default(),
        }
    }

    fn captures(&self) -> &[Capture] {
        &self.shared.captures[self.which.clone()]
    }

    /// The segments of a table.
    fn files(&self, name: &str) -> Vec<File> {
        self.shared.files[self.which.clone()].iter().filter_map(|files| files.get(name)).flatten().cloned().collect()
    }

    /// Whether there is a file of it in the capture.
    pub fn has_files(&self, name: &str) -> bool {
        self.shared.files[self.which.clone()].iter().any(|files| files.contains_key(name))
    }

    /// Whether the table was recorded, be it without a row.
    pub fn is_captured(&self, name: &str) -> bool {
        let probe = events::probe_of(name);
        let attached = |capture: &Capture| {
            let probe = probe.and_then(|probe| capture.manifest.probes.get(probe.name));
            let feeds = |hook: &HookState| hook.tables.is_empty() || hook.tables.iter().any(|table| table == name);
            probe.is_some_and(|probe| probe.hooks.iter().any(|hook| hook.mechanism.is_some() && feeds(hook)))
        };
        self.has_files(name)
            || events::table(name).is_some() && probe.is_none()
            || self.captures().iter().any(|capture| {
                // A complete capture lists all that were recorded; a table that a later recorder brought is not among them.
                capture.manifest.tables.contains_key(name) || (!capture.manifest.complete && attached(capture))
            })
    }

    /// All names that a query may use: the declared tables and what else was captured.
    pub fn names(&self) -> BTreeSet<&str> {
        let captured = self.shared.files[self.which.clone()].iter().flat_map(BTreeMap::keys);
        events::tables().map(|table| table.name).chain(captured.map(String::as_str)).collect()
    }

    /// Why there is no such table here.
    pub fn missing(&self, name: &str) -> Error {
        let Some(probe) = events::probe_of(name) else {
            let error = Error::text(format!("there is no table {name}"));
            let reports = self.shared.reports.iter().map(|query| query.name);
            return match closest(name, self.names().into_iter().chain(reports)) {
                Some(other) => error.hint(format!("did you mean {other}?")),
                None => error.hint("ebrec-analyze FILE tables lists the tables"),
            };
        };
        let state = self.captures().iter().find_map(|capture| capture.manifest.probes.get(probe.name));
        let hooks = || state.iter().flat_map(|state| &state.hooks);
        let off = hooks().find(|hook| hook.is_off() && hook.tables.iter().any(|table| table == name));
        if let Some(option) = off.and_then(|hook| hook.reason.as_deref()?.split_once('(')?.1.strip_suffix(')')) {
            return Error::new(name, format!("not captured, because {option} was not given"))
                .hint(format!("record it with: ebrec record {option} --probes {}", probe.name));
        }
        let failed: Vec<String> = state
            .iter()
            .flat_map(|state| &state.hooks)
            .filter(|hook| !hook.is_off())
            .filter_map(|hook| hook.reason.as_ref().map(|reason| format!("{}: {reason}", hook.hook)))
            .collect();
        if state.is_some_and(|state| state.requested) && !failed.is_empty() {
            return Error::new(
                name,
                format!("not captured, because the probe {} could not be attached ({})", probe.name, failed.join("; ")),
            )
            .hint("ebrec check on that host says what it lacks");
        }
        if state.is_some_and(|state| state.requested && state.hooks.iter().any(|hook| hook.mechanism.is_some())) {
            return Error::new(name, "not captured, because the recorder of this capture did not have it yet")
                .hint(format!("record it with a newer one: ebrec record --probes {}", probe.name));
        }
        Error::new(name, format!("not captured, because the probe {} was off", probe.name))
            .hint(format!("record it with: ebrec record --probes {}", probe.name))
    }

    /// The columns of a table: as declared or, for a table of a newer recorder, as its first file has them.
    pub async fn schema(&self, name: &str) -> Result<SchemaRef> {
        if let Some(table) = events::table(name) {
            return Ok(table.schema());
        }
        let files = self.files(name);
        let Some(file) = files.first() else { return Err(self.missing(name).into()) };
        let store = self.shared.store.as_ref();
        check_frame(store, name, file).await?;
        let cache = self.shared.runtime.cache_manager.get_file_metadata_cache();
        let metadata = metadata(store, name, file, &cache).await?;
        let schema = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), None);
        Ok(Arc::new(schema.map_err(|error| damaged(name, file, error))?))
    }
}

impl Lookup {
    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        // A set of names: whatever a panicking thread left of it is usable.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables that the query named.
    pub fn touched(&self) -> Vec<String> {
        self.found().touched.iter().cloned().collect()
    }

    /// How long the rows are of the widest table that the query named.
    pub async fn width(&self) -> Width {
        let shared = &self.tables.shared;
        let mut widest = Width::default();
        for table in self.touched() {
            for file in self.tables.files(&table) {
                widest = widest.max(table::width(shared.store.as_ref(), &shared.runtime, &table, &file).await);
            }
        }
        widest
    }

    /// Why a table that the query named was not found.
    pub fn not_found(&self) -> Option<Error> {
        self.found().missing.clone()
    }

    /// A table, filtered.
    async fn provider(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        let tables = &self.tables;
        let schema = tables.schema(name).await?;
        let (whole, acting) = (self.whole.contains(name), self.acting);
        let filters = &tables.shared.filters[tables.which.clone()];
        let predicate =
            |filter: &Filter| if whole { filter.whole().predicate(name, &schema, acting) } else { filter.predicate(name, &schema, acting) };
        let table = |files: Vec<File>| -> Arc<dyn TableProvider> {
            Arc::new(CaptureTable::new(name, &schema, tables.shared.url.clone(), files, tables.which.len() > 1))
        };
        let filtered = |files: Vec<File>, predicate: Option<Expr>| {
            let plan = LogicalPlanBuilder::scan(name, provider_as_source(table(files)), None)?;
            predicate.map_or(Ok(plan.clone()), |predicate| plan.filter(predicate))
        };
        let first = filters.first().and_then(predicate);
        if filters.iter().all(|filter| predicate(filter) == first) {
            let files = tables.files(name);
            return Ok(match first {
                Some(predicate) => Arc::new(ViewTable::new(filtered(files, Some(predicate))?.build()?, None)),
                None => table(files),
            });
        }
        // Times that are relative to the start of each capture, or processes that are others in each.
        let parts = tables.which.clone().map(|i| {
            let files = tables.shared.files[i].get(name).cloned().unwrap_or_default();
            filtered(files, predicate(&tables.shared.filters[i]))?.build()
        });
        Ok(Arc::new(ViewTable::new(union(parts.collect::<Result<_>>()?)?, None)))
    }

    /// A report with its default parameters, as a table.
    async fn view(&self, query: &Query) -> Result<Option<Arc<dyn TableProvider>>> {
        let tables = &self.tables;
        if let Some(table) = query.needs.iter().find(|table| !tables.is_captured(table)) {
            let why = tables.missing(table);
            self.found().missing.get_or_insert(why);
            return Ok(None);
        }
        let values = params::defaults(query)?;
        let within: Vec<String> = tables.within.iter().cloned().chain([query.name.to_owned()]).collect();
        let mut parts = Vec::new();
        for i in tables.which.clone() {
            let engine = Engine::within(tables.shared.clone(), i..i + 1, within.clone());
            let Planned { mut frame, tables: touched } = engine.report(query, &values).await?;
            if tables.which.len() > 1 {
                for (column, value) in PARTITION_COLUMNS.iter().zip(&tables.shared.partitions[i]) {
                    frame = frame.with_column(column, lit(value.as_str()))?;
                }
            }
            self.found().touched.extend(touched);
            parts.push(frame.into_unoptimized_plan());
        }
        Ok(Some(Arc::new(ViewTable::new(union(parts)?, None))))
    }
}

/// The rows of all of them.
fn union(parts: Vec<LogicalPlan>) -> Result<LogicalPlan> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return plan_err!("no capture") };
    parts.try_fold(LogicalPlanBuilder::from(first), LogicalPlanBuilder::union)?.build()
}

#[async_trait]
impl SchemaProvider for Lookup {
    fn table_names(&self) -> Vec<String> {
        self.tables.names().into_iter().filter(|name| self.tables.is_captured(name)).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(query) = self.tables.shared.reports.get(name)
            && events::table(name).is_none()
            && !self.tables.within.iter().any(|other| other == name)
        {
            return self.view(query).await;
        }
        if !self.optional.contains(name) && !self.tables.is_captured(name) {
            // Not an error yet: a statement that may not run at all is refused for what it is.
            let why = self.tables.missing(name);
            self.found().missing.get_or_insert(why);
            return Ok(None);
        }
        self.found().touched.insert(name.to_owned());
        self.provider(name).await.map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.is_captured(name) || self.tables.shared.reports.get(name).is_some()
    }
}

/// The catalogue with the one schema there is.
#[derive(Debug)]
pub struct Catalog(pub Arc<Lookup>);

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| self.0.clone() as Arc<dyn SchemaProvider>)
    }
}

/// Name of the catalogue.
pub const CATALOG: &str = "ebrec";
/// Name of the schema.
pub const SCHEMA: &str = "main";
