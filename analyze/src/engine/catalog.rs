//! Which tables a query may name, and what it hears when one is missing.

use super::filter::Filter;
use super::store::CaptureStore;
use super::table::{CaptureTable, File, check_frame, damaged};
use crate::error::Error;
use crate::suggest::closest;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::LogicalPlanBuilder;
use ebrec_format::capture::Capture;
use ebrec_format::events;
use ebrec_format::manifest::HookState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The tables of the opened captures, by name.
#[derive(Debug)]
pub struct Tables {
    captures: Arc<Vec<Capture>>,
    store: Arc<CaptureStore>,
    url: ObjectStoreUrl,
    files: BTreeMap<String, Vec<File>>,
    filter: Filter,
    state: Mutex<State>,
}

/// What changes from query to query.
#[derive(Debug, Default)]
struct State {
    touched: BTreeSet<String>,
    /// Tables that the query reads without the filter.
    whole: BTreeSet<String>,
    /// Tables that may be missing: they are empty then.
    optional: BTreeSet<String>,
    /// Why the first table that was not found is missing.
    missing: Option<Error>,
}

impl Tables {
    /// The tables of `captures`, whose segments are `files` of `store`, seen through `filter`.
    pub fn new(
        captures: Arc<Vec<Capture>>,
        store: Arc<CaptureStore>,
        url: ObjectStoreUrl,
        files: BTreeMap<String, Vec<File>>,
        filter: Filter,
    ) -> Tables {
        Tables { captures, store, url, files, filter, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is a set of names: whatever a panicking thread left of it is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a query that reads the tables `whole` without the filter and can do without the tables `optional`.
    pub fn begin(&self, whole: &[&str], optional: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        *self.state() = State { whole: owned(whole), optional: owned(optional), ..State::default() };
    }

    /// The tables that were named since [`Tables::begin`].
    pub fn touched(&self) -> Vec<String> {
        self.state().touched.iter().cloned().collect()
    }

    /// Why a table that the query named was not found.
    pub fn not_found(&self) -> Option<Error> {
        self.state().missing.take()
    }

    /// Whether the table was recorded, be it without a row.
    pub fn is_captured(&self, name: &str) -> bool {
        let probe = events::probe_of(name);
        let attached = |capture: &Capture| {
            let probe = probe.and_then(|probe| capture.manifest.probes.get(probe.name));
            let feeds = |hook: &HookState| hook.tables.is_empty() || hook.tables.iter().any(|table| table == name);
            probe.is_some_and(|probe| probe.hooks.iter().any(|hook| hook.mechanism.is_some() && feeds(hook)))
        };
        self.files.contains_key(name)
            || events::table(name).is_some() && probe.is_none()
            || self.captures.iter().any(|capture| capture.manifest.tables.contains_key(name) || attached(capture))
    }

    /// All names that a query may use: the declared tables and what else was captured.
    pub fn names(&self) -> BTreeSet<&str> {
        events::tables().map(|table| table.name).chain(self.files.keys().map(String::as_str)).collect()
    }

    /// Why there is no such table here.
    pub fn missing(&self, name: &str) -> Error {
        let Some(probe) = events::probe_of(name) else {
            let error = Error::text(format!("there is no table {name}"));
            return match closest(name, self.names()) {
                Some(other) => error.hint(format!("did you mean {other}?")),
                None => error.hint("ebrec-analyze FILE tables lists the tables"),
            };
        };
        let state = self.captures.iter().find_map(|capture| capture.manifest.probes.get(probe.name));
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
        Error::new(name, format!("not captured, because the probe {} was off", probe.name))
            .hint(format!("record it with: ebrec record --probes {}", probe.name))
    }

    /// The columns of a table: as declared or, for a table of a newer recorder, as its first file has them.
    pub async fn schema(&self, name: &str) -> Result<SchemaRef> {
        if let Some(table) = events::table(name) {
            return Ok(table.schema());
        }
        let Some(file) = self.files.get(name).and_then(|files| files.first()) else { return Err(self.missing(name).into()) };
        check_frame(self.store.as_ref(), name, file).await?;
        let schema = DFParquetMetadata::new(self.store.as_ref(), &file.meta).fetch_schema().await;
        Ok(Arc::new(schema.map_err(|error| damaged(name, file, error.find_root().strip_backtrace()))?))
    }

    async fn provider(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        let files = self.files.get(name).cloned().unwrap_or_default();
        let schema = self.schema(name).await?;
        let table: Arc<dyn TableProvider> = Arc::new(CaptureTable::new(name, &schema, self.url.clone(), files, self.captures.len() > 1));
        let whole = self.state().whole.contains(name);
        let Some(predicate) = (if whole { None } else { self.filter.predicate(name, &schema) }) else { return Ok(table) };
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.filter(predicate)?.build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| self.is_captured(name)).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let optional = self.state().optional.contains(name);
        if !optional && !self.is_captured(name) {
            // Not an error yet: a statement that may not run at all is refused for what it is.
            let why = self.missing(name);
            self.state().missing.get_or_insert(why);
            return Ok(None);
        }
        self.state().touched.insert(name.to_owned());
        self.provider(name).await.map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.is_captured(name)
    }
}

/// The catalogue with the one schema there is.
#[derive(Debug)]
pub struct Catalog(pub Arc<Tables>);

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
