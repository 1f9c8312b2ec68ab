//! SQL over captures: DataFusion, set up so that it reads the captures and nothing else of the machine.
//!
//! * [`store`] serves byte ranges of the segments; there is no other store, not even for local files.
//! * [`table`] scans them as Parquet, [`catalog`] names them, [`filter`] narrows them to what the user asked for.
//! * Statements that define, change, write or set anything are refused.
//! * Memory is limited; what doesn't fit is spilled to a temporary directory ([`spill`]) that is removed in the end.

pub mod catalog;
pub mod cgroup;
pub mod filter;
pub mod functions;
pub mod owner;
pub mod portable;
pub mod spill;
mod statement;
pub mod store;
pub mod table;

use crate::error::{Error, Result};
use crate::query::params::{self, Values};
use crate::query::{Queries, Query};
use arrow::record_batch::RecordBatch;
use catalog::{CATALOG, Catalog, Reading, SCHEMA, Tables};
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use ebrec_format::capture::Capture;
use filter::Filter;
use futures::{StreamExt, TryStreamExt};
pub use statement::{LONGEST_CHAIN, MOST_JOINS};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use store::CaptureStore;
use table::{File, Width};

/// Memory that queries may use before they spill, unless `--memory` says otherwise.
pub const DEFAULT_MEMORY: usize = 512 << 20;
/// Text that a batch holds, as far as it can be known before: what operators hold on to in one piece.
const BATCH_BYTES: usize = 4 << 20;
/// A batch of fewer rows costs more than it saves.
const FEWEST_ROWS: usize = 16;
/// Rows of a batch where they may be longer than they seem.
const FEW_ROWS: usize = 64;
const STORE_URL: &str = "ebrec://captures";

/// What the sessions over the same captures share.
#[derive(Debug)]
pub struct Shared {
    captures: Vec<Capture>,
    /// Host and name of each: the values of the partition columns.
    partitions: Vec<[String; 2]>,
    /// What is to be seen of each.
    filters: Vec<Filter>,
    /// The segments of each, by table.
    files: Vec<BTreeMap<String, Vec<File>>>,
    store: Arc<CaptureStore>,
    url: ObjectStoreUrl,
    runtime: Arc<RuntimeEnv>,
    memory: usize,
    /// Reports, which are views.
    reports: Queries,
}

/// The opened captures, or one of them, and the SQL session over them. Queries on it can be planned and run at the same time.
pub struct Engine {
    shared: Arc<Shared>,
    which: Range<usize>,
    tables: Tables,
    /// What the sessions of the queries are made of.
    state: SessionState,
}

/// A query that can run.
#[derive(Debug)]
pub struct Planned {
    /// Its plan.
    pub frame: DataFrame,
    /// The tables that it reads.
    pub tables: Vec<String>,
}

impl Engine {
    /// Opens `paths` as one dataset.
    pub fn open(paths: &[PathBuf]) -> Result<Vec<Capture>> {
        paths.iter().map(|path| Capture::open(path).map_err(Error::from)).collect()
    }

    /// A session over `captures`, each seen through its filter (one of `filters`, in the same order), in `memory` bytes, with `reports` as views.
    pub fn new(captures: Vec<Capture>, mut filters: Vec<Filter>, memory: usize, reports: Queries) -> Result<Engine> {
        for (capture, filter) in captures.iter().zip(&mut filters) {
            // The manifest of a recording that goes on or was killed doesn't know its end.
            let ended = Some(capture.manifest.ended_ns).filter(|_| capture.manifest.complete);
            // What is told at the end, as of the end, belongs to the window; a filter's end doesn't.
            let ended = ended.map(|ended| ended.saturating_add(1));
            filter.recorded = (Some(capture.manifest.started_ns), ended);
        }
        let url = ObjectStoreUrl::parse(STORE_URL)?;
        let mut store = CaptureStore::default();
        let mut files = Vec::new();
        let partitions = partitions_of(&captures);
        for (number, (capture, partition)) in captures.iter().zip(&partitions).enumerate() {
            let mut of_capture: BTreeMap<String, Vec<File>> = BTreeMap::new();
            for table in capture.tables() {
                let segments = capture.segments(table).iter();
                let of_table = segments.map(|segment| File { meta: store.add(number, segment), partition: partition.clone() });
                of_capture.entry(table.to_owned()).or_default().extend(of_table);
            }
            files.push(of_capture);
        }
        let store = Arc::new(store);
        let runtime = runtime(memory, &url, store.clone())?;
        let which = 0..captures.len();
        Ok(Engine::within(
            Arc::new(Shared { captures, partitions, filters, files, store, url, runtime, memory, reports }),
            which,
            Vec::new(),
        ))
    }

    /// A session over some of the captures, for the innermost of the views `within`.
    fn within(shared: Arc<Shared>, which: Range<usize>, within: Vec<String>) -> Engine {
        let context = SessionContext::new_with_config_rt(config(shared.memory), shared.runtime.clone());
        functions::register(&context);
        let tables = Tables::new(shared.clone(), which.clone(), within);
        Engine { shared, which, tables, state: context.state() }
    }

    /// Sessions over each of the captures alone.
    pub fn each(&self) -> impl Iterator<Item = Engine> {
        self.which.clone().map(|i| Engine::within(self.shared.clone(), i..i + 1, Vec::new()))
    }

    /// The opened captures.
    pub fn captures(&self) -> &[Capture] {
        &self.shared.captures[self.which.clone()]
    }

    /// Host and name of the first capture, as the partition columns have them.
    pub fn partition(&self) -> &[String; 2] {
        &self.shared.partitions[self.which.start]
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The reports.
    pub fn reports(&self) -> &Queries {
        &self.shared.reports
    }

    /// What the user asked for, of the first capture.
    pub fn filter(&self) -> &Filter {
        &self.shared.filters[self.which.start]
    }

    /// The names of the functions that a query may use.
    pub fn functions(&self) -> Vec<String> {
        let state = &self.state;
        let mut names: Vec<String> = state.scalar_functions().keys().chain(state.aggregate_functions().keys()).cloned().collect();
        names.extend(state.window_functions().keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// A report's statement as another engine can run it: parameters are literals, and tables are narrowed to what was asked for.
    pub fn portable(&self, query: &Query, values: &Values) -> Result<String> {
        let query = query.prepare(values)?;
        let bound = params::bindings(self, values);
        let sql = portable::substitute(&query.sql, |name| bound.iter().find(|(known, _)| known == name).map(|(_, value)| value))?;
        let mut narrowed = Vec::new();
        // What isn't captured, and what an older recorder didn't have, is no file.
        for table in query.needs.iter().chain(&query.uses).filter(|table| !self.tables.has_files(table)) {
            narrowed.extend(ebrec_format::events::table(table).map(|declared| portable::empty(table, &declared.schema())));
        }
        for table in query.needs.iter().chain(&query.uses).filter(|table| self.tables.has_files(table)) {
            let filter = if query.whole.contains(table) { self.filter().whole() } else { self.filter().clone() };
            let schema = ebrec_format::events::table(table).map(ebrec_format::Table::schema);
            if let Some(predicate) = schema.and_then(|schema| filter.predicate(table, &schema, query.acting)) {
                narrowed.push(format!("{table} AS (SELECT * FROM {SCHEMA}.{table} WHERE {})", portable::condition(&predicate)?));
            }
        }
        if query.reads_whole_tables() && self.filter().is_of_tasks() {
            return Err(Error::new("--show-sql", format!("{} is filtered after its statement", query.name))
                .hint("leave out -p, --comm and the like"));
        }
        if narrowed.is_empty() {
            return Ok(sql);
        }
        let narrowed = narrowed.join(",\n");
        Ok(match sql.strip_prefix("WITH ") {
            Some(rest) => format!("WITH {narrowed},\n{rest}"),
            None => format!("WITH {narrowed}\n{sql}"),
        })
    }

    /// Plans a report, over one capture.
    pub async fn report(&self, query: &Query, values: &Values) -> Result<Planned> {
        let query = &query.prepare(values)?;
        if let Some(table) = query.needs.iter().find(|table| !self.tables.is_captured(table)) {
            return Err(self.tables.missing(table));
        }
        let mut planned = self.read(&query.sql, query.reading(), params::bindings(self, values)).await?;
        // What reads nothing through the filter tells of all processes: then it is for the rows.
        if query.reads_whole_tables()
            && let Some(predicate) = self.filter().of_tasks().predicate(query.name, planned.frame.schema().as_arrow(), query.acting)
        {
            planned.frame = planned.frame.filter(predicate)?;
        }
        Ok(planned)
    }

    /// Plans one statement, which may only read, with its parameters bound.
    pub async fn query(&self, sql: &str, parameters: Vec<(String, ScalarValue)>) -> Result<Planned> {
        self.read(sql, Reading::default(), parameters).await
    }

    /// The same, for a statement that reads the tables in its own way. Tables are looked up now, nothing is read.
    pub async fn read(&self, sql: &str, reading: Reading<'_>, parameters: Vec<(String, ScalarValue)>) -> Result<Planned> {
        let lookup = Arc::new(self.tables.read(reading));
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(Catalog(lookup.clone())));
        let mut state = SessionStateBuilder::new_from_existing(self.state.clone()).with_catalog_list(Arc::new(catalogs)).build();
        let statement = statement::parse(&state, sql)?;
        // A table that isn't there is the cause of whatever else the planner says.
        let plan = state.statement_to_plan(statement).await.map_err(|error| lookup.not_found().unwrap_or_else(|| error.into()))?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|_| statement::refused())?;
        let width = lookup.width().await;
        let config = state.config().clone();
        let bytes = usize::try_from(width.bytes).unwrap_or(usize::MAX);
        let rows = (BATCH_BYTES / bytes.max(1)).clamp(FEWEST_ROWS, config.batch_size());
        *state.config_mut() = config.with_batch_size(rows).with_extension(Arc::new(width));
        let mut frame = DataFrame::new(state, plan);
        if !parameters.is_empty() {
            let parameters: HashMap<String, ScalarValue> = parameters.into_iter().collect();
            frame = frame.with_param_values(ParamValues::from(parameters))?;
        }
        Ok(Planned { frame, tables: lookup.touched() })
    }

    /// The window that is looked at: `--from` and `--to`, else all that was recorded. ns since 1970.
    pub fn window(&self) -> (i64, i64) {
        // Queries subtract instants: a manifest from before 1970 or after 2200 must not make them overflow.
        const LATEST: i64 = 230 * 31_557_600 * 1_000_000_000;
        let windows =
            self.captures().iter().zip(&self.shared.filters[self.which.clone()]).map(|(capture, filter)| {
                (filter.from.unwrap_or(capture.manifest.started_ns), filter.to.unwrap_or(capture.manifest.ended_ns))
            });
        let (from, to) = windows.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1))).unwrap_or_default();
        (from.clamp(0, LATEST), to.clamp(0, LATEST))
    }
}

/// The rows of a query as they come.
///
/// Operators count the batches that they hold, and can't spill half of one: if rows may be longer than they seemed, and no row has come out yet, it is
/// tried once more with small batches.
pub async fn stream(frame: DataFrame) -> Result<SendableRecordBatchStream> {
    let context = frame.task_ctx();
    let config = context.session_config();
    let mut again = config.get_extension::<Width>().is_some_and(|width| width.hidden).then_some(FEW_ROWS);
    let mut rows = config.batch_size();
    loop {
        let mut stream = execute(frame.clone(), rows).await?;
        let first = stream.next().await;
        let exhausted = |error: &DataFusionError| matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
        if let Some(few) = again.take().filter(|few| *few < rows && matches!(&first, Some(Err(error)) if exhausted(error))) {
            rows = few;
            continue;
        }
        let schema = stream.schema();
        let all = futures::stream::iter(first).chain(stream);
        return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, all)));
    }
}

/// All rows of a query.
pub async fn collect(frame: DataFrame) -> Result<Vec<RecordBatch>> {
    Ok(stream(frame).await?.try_collect().await?)
}

/// DataFusion's sources give up the thread now and then, so that a query can be ended between two of their batches. A join may make hours of
/// work of one batch, so its output does the same.
async fn execute(frame: DataFrame, rows: usize) -> Result<SendableRecordBatchStream> {
    let (mut state, plan) = frame.into_parts();
    if rows < state.config().batch_size() {
        // What threads share is more for each of them if there is one.
        *state.config_mut() = state.config().clone().with_batch_size(rows).with_target_partitions(1);
    }
    let frame = DataFrame::new(state, plan);
    let context = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let joins = |node: Arc<dyn ExecutionPlan>| {
        let is_join = node.children().len() > 1;
        Ok(if is_join { Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>) } else { Transformed::no(node) })
    };
    Ok(execute_stream(plan.transform_up(joins)?.data, context)?)
}

/// The values of the partition columns: the host's name, and the capture's without its suffix. Of captures with the same name
/// the second is `NAME#2`.
fn partitions_of(captures: &[Capture]) -> Vec<[String; 2]> {
    let mut partitions: Vec<[String; 2]> = Vec::new();
    for capture in captures {
        let name = capture.path.file_name().unwrap_or(capture.path.as_os_str()).to_string_lossy();
        let name = name.strip_suffix(ebrec_format::capture::PARTIAL_SUFFIX).unwrap_or(&name);
        let name = name.strip_suffix(".ebrec").unwrap_or(name);
        let numbered = (2..).map(|nth| format!("{name}#{nth}"));
        let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| partitions.iter().all(|[_, other]| other != name));
        partitions.push([capture.manifest.host.name.clone(), free.unwrap_or_default()]);
    }
    partitions
}

fn runtime(memory: usize, url: &ObjectStoreUrl, store: Arc<CaptureStore>) -> Result<Arc<RuntimeEnv>> {
    let consumers = NonZeroUsize::new(5).unwrap_or(NonZeroUsize::MIN);
    let pool = TrackConsumersPool::new(FairSpillPool::new(memory), consumers);
    // Where there is no place for spilled data, queries that need none still run.
    let mode = spill::directory().map_or(DiskManagerMode::Disabled, |directory| DiskManagerMode::Directories(vec![directory]));
    let disk = DiskManagerBuilder::default().with_mode(mode);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(disk).build_arc()?;
    // DataFusion brings a store for local files; a query that names a path must find nothing there.
    runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    runtime.register_object_store(url.as_ref(), store);
    Ok(runtime)
}

fn config(memory: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true)
        // What a sort keeps for merging what it spilled must fit into the limit, for each of its threads.
        .with_sort_spill_reservation_bytes((memory / 16).min(10 << 20))
        // Segments are small when the recording was short: they are still worth a second core.
        .with_repartition_file_min_size(256 << 10);
    let options = config.options_mut();
    // As DuckDB orders: a null is neither the largest nor the smallest.
    options.sql_parser.default_null_ordering = "nulls_last".to_owned();
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    config
}
