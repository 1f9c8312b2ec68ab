//! SQL over captures: DataFusion, set up so that it reads the captures and nothing else of the machine.
//!
//! * [`store`] serves byte ranges of the segments; there is no other store, not even for local files.
//! * [`table`] scans them as Parquet, [`catalog`] names them, [`filter`] narrows them to what the user asked for.
//! * Statements that define, change, write or set anything are refused.
//! * Memory is limited; what doesn't fit is spilled to a temporary directory that is removed in the end.

pub mod catalog;
pub mod filter;
pub mod functions;
pub mod store;
pub mod table;

use crate::error::{Error, Result};
use catalog::{CATALOG, Catalog, SCHEMA, Tables};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use ebrec_format::capture::Capture;
use filter::Filter;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use store::CaptureStore;
use table::File;

/// Memory that queries may use before they spill, unless `--memory` says otherwise.
pub const DEFAULT_MEMORY: usize = 512 << 20;
const STORE_URL: &str = "ebrec://captures";

/// The opened captures and the SQL session over them.
pub struct Engine {
    captures: Arc<Vec<Capture>>,
    tables: Arc<Tables>,
    context: SessionContext,
    filter: Filter,
}

impl Engine {
    /// Opens `paths` as one dataset.
    pub fn open(paths: &[PathBuf]) -> Result<Vec<Capture>> {
        paths.iter().map(|path| Capture::open(path).map_err(Error::from)).collect()
    }

    /// A session over `captures`, seen through `filter`, in `memory` bytes.
    pub fn new(captures: Vec<Capture>, filter: Filter, memory: usize) -> Result<Engine> {
        let captures = Arc::new(captures);
        let url = ObjectStoreUrl::parse(STORE_URL)?;
        let mut store = CaptureStore::default();
        let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
        for (number, capture) in captures.iter().enumerate() {
            let partition = partition_of(capture);
            for table in capture.tables() {
                let segments = capture.segments(table).iter();
                let of_table = segments.map(|segment| File { meta: store.add(number, segment), partition: partition.clone() });
                files.entry(table.to_owned()).or_default().extend(of_table);
            }
        }
        let store = Arc::new(store);
        let context = session(memory, &url, store.clone())?;
        let tables = Arc::new(Tables::new(captures.clone(), store, url, files, filter.clone()));
        context.register_catalog(CATALOG, Arc::new(Catalog(tables.clone())));
        Ok(Engine { captures, tables, context, filter })
    }

    /// The opened captures.
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What the user asked for.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Plans one statement, which may only read, with its parameters bound. Tables are looked up now, nothing is read.
    pub async fn query(&self, sql: &str, parameters: Vec<(String, ScalarValue)>) -> Result<DataFrame> {
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = self.context.sql_with_options(sql, options).await.map_err(|error| match self.tables.not_found() {
            Some(missing) if error.to_string().contains("not found") => missing,
            _ => error.into(),
        })?;
        if parameters.is_empty() {
            return Ok(frame);
        }
        let parameters: HashMap<String, ScalarValue> = parameters.into_iter().collect();
        Ok(frame.with_param_values(ParamValues::from(parameters))?)
    }

    /// The window that is looked at: `--from` and `--to`, else all that was recorded. ns since 1970.
    pub fn window(&self) -> (i64, i64) {
        // Queries subtract instants: a manifest from before 1970 or after 2200 must not make them overflow.
        const LATEST: i64 = 230 * 31_557_600 * 1_000_000_000;
        let started = self.captures.iter().map(|capture| capture.manifest.started_ns).min().unwrap_or_default();
        let ended = self.captures.iter().map(|capture| capture.manifest.ended_ns).max().unwrap_or_default();
        let (from, to) = (self.filter.from.unwrap_or(started), self.filter.to.unwrap_or(ended));
        (from.clamp(0, LATEST), to.clamp(0, LATEST))
    }
}

/// The values of the partition columns: the host's name, and the capture's without its suffix.
fn partition_of(capture: &Capture) -> [String; 2] {
    let name = capture.path.file_name().unwrap_or(capture.path.as_os_str()).to_string_lossy();
    let name = name.strip_suffix(ebrec_format::capture::PARTIAL_SUFFIX).unwrap_or(&name);
    [capture.manifest.host.name.clone(), name.strip_suffix(".ebrec").unwrap_or(name).to_owned()]
}

fn session(memory: usize, url: &ObjectStoreUrl, store: Arc<CaptureStore>) -> Result<SessionContext> {
    let consumers = NonZeroUsize::new(5).unwrap_or(NonZeroUsize::MIN);
    let pool = TrackConsumersPool::new(FairSpillPool::new(memory), consumers);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc()?;
    // DataFusion brings a store for local files; a query that names a path must find nothing there.
    runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    runtime.register_object_store(url.as_ref(), store);
    let context = SessionContext::new_with_config_rt(config(memory), runtime);
    functions::register(&context);
    Ok(context)
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
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    config
}
