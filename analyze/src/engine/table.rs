//! A table of the opened captures, as DataFusion scans it.
//!
//! The schema comes from the declarations in [`ebrec_format::events`], not from the files: a column that an older capture
//! lacks is null, one that a newer capture has in addition is not shown. The footers are read when the table is scanned, never
//! before, and checked ([`footer`]). They give the statistics by which files, row groups and pages are skipped, and the columns are checked
//! against the declaration there: a file with other types is refused, not converted.

use crate::error::Error;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{CachedParquetFileReaderFactory, CachedParquetMetaData, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetSource, wrap_partition_type_in_dict, wrap_partition_value_in_dict,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use ebrec_format::footer;
use futures::future::BoxFuture;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use std::ops::Range;
use std::sync::Arc;

/// The columns that tell captures apart when several are opened.
pub const PARTITION_COLUMNS: [&str; 2] = ["host", "capture"];

/// A segment of a table and the capture that it is from.
#[derive(Debug, Clone)]
pub struct File {
    /// The segment's name in the store.
    pub meta: ObjectMeta,
    /// Values of [`PARTITION_COLUMNS`].
    pub partition: [String; 2],
}

/// A table of the opened captures.
#[derive(Debug)]
pub struct CaptureTable {
    name: String,
    url: ObjectStoreUrl,
    schema: TableSchema,
    files: Vec<File>,
}

impl CaptureTable {
    /// The table `name` with the columns `declared`. `partitioned` adds [`PARTITION_COLUMNS`].
    pub fn new(name: &str, declared: &Schema, url: ObjectStoreUrl, files: Vec<File>, partitioned: bool) -> CaptureTable {
        // A table that has such a column of its own keeps it.
        let added = PARTITION_COLUMNS.iter().filter(|name| partitioned && declared.column_with_name(name).is_none());
        let columns: Vec<FieldRef> = added.map(|name| Arc::new(partition_field(name))).collect();
        let schema = TableSchema::builder(Arc::new(query_schema(declared))).with_table_partition_cols(columns).build();
        CaptureTable { name: name.to_owned(), url, schema, files }
    }

    /// A file of the scan with what its footer tells.
    async fn open(&self, state: &dyn Session, file: &File) -> Result<PartitionedFile> {
        let runtime = state.runtime_env();
        let store = runtime.object_store(&self.url)?;
        let metadata = footer(store.as_ref(), runtime, &self.name, file).await?;
        self.check(file, &metadata)?;
        let statistics = DFParquetMetadata::statistics_from_parquet_metadata(&metadata, self.schema.file_schema())?;
        let columns = self.schema.table_partition_cols().iter();
        let values = columns.filter_map(|column| PARTITION_COLUMNS.iter().position(|name| name == column.name()));
        let values = values.map(|i| wrap_partition_value_in_dict(ScalarValue::from(file.partition[i].as_str()))).collect();
        Ok(PartitionedFile::new_from_meta(file.meta.clone()).with_partition_values(values).with_statistics(Arc::new(statistics)))
    }

    /// Refuses a file whose columns have other types than declared.
    fn check(&self, file: &File, metadata: &ParquetMetaData) -> Result<()> {
        let found = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), None)?;
        for column in self.schema.file_schema().fields() {
            let Ok(other) = found.field_with_name(column.name()) else { continue };
            if !same_kind(column.data_type(), other.data_type()) {
                let why = format!(
                    "segment {}: column {} is {}, expected {}",
                    file.meta.location,
                    column.name(),
                    other.data_type(),
                    column.data_type()
                );
                return Err(Error::new(&self.name, why).hint("this file was not written by ebrec record; record it again").into());
            }
        }
        Ok(())
    }
}

/// What a file says about itself; read once.
async fn footer(store: &dyn ObjectStore, runtime: &RuntimeEnv, table: &str, file: &File) -> Result<Arc<ParquetMetaData>> {
    check_frame(store, table, file).await?;
    metadata(store, table, file, &runtime.cache_manager.get_file_metadata_cache()).await
}

/// How long the rows of a file are, as far as its footer tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct Width {
    /// Bytes of text in a row, on average over the row group where it is most; 0 if that can't be known.
    pub bytes: u64,
    /// Whether rows may be longer: a dictionary holds each text once, and doesn't say how often it is meant.
    pub hidden: bool,
}

impl Width {
    /// The width of both together.
    pub fn max(self, other: Width) -> Width {
        Width { bytes: self.bytes.max(other.bytes), hidden: self.hidden || other.hidden }
    }
}

/// How long the rows of a file are.
pub(super) async fn width(store: &dyn ObjectStore, runtime: &RuntimeEnv, table: &str, file: &File) -> Width {
    /// A dictionary of less holds no text that matters.
    const LARGE: i64 = 32 << 10;
    // What is wrong with the file is said when it is scanned.
    let Ok(metadata) = footer(store, runtime, table, file).await else { return Width::default() };
    let columns = || metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let hidden = columns().any(|column| column.dictionary_page_offset().is_some() && column.uncompressed_size() > LARGE);
    let widths = metadata.row_groups().iter().map(|group| {
        let text = group.columns().iter().filter(|column| column.column_type() == Type::BYTE_ARRAY);
        let bytes: i64 = text.map(|column| column.unencoded_byte_array_data_bytes().unwrap_or(column.uncompressed_size()).max(0)).sum();
        bytes.unsigned_abs() / group.num_rows().max(1).unsigned_abs()
    });
    Width { bytes: widths.max().unwrap_or_default(), hidden }
}

/// Refuses what has no Parquet footer, before the reader computes with the length that it claims to have.
pub(super) async fn check_frame(store: &dyn ObjectStore, table: &str, file: &File) -> Result<()> {
    const FRAME: u64 = 8;
    let size = file.meta.size;
    let footer = match size.checked_sub(FRAME) {
        Some(at) => store.get_range(&file.meta.location, at..size).await?,
        None => Bytes::new(),
    };
    let length = footer.first_chunk::<4>().map(|length| u64::from(u32::from_le_bytes(*length)));
    if footer.ends_with(b"PAR1") && length.is_some_and(|length| length + FRAME <= size) {
        return Ok(());
    }
    Err(damaged(table, file, "it is not Parquet"))
}

/// The footer of a file, checked; kept in the cache as it is then.
pub(super) async fn metadata(
    store: &dyn ObjectStore,
    table: &str,
    file: &File,
    cache: &Arc<FileMetadataCache>,
) -> Result<Arc<ParquetMetaData>> {
    let fetched = DFParquetMetadata::new(store, &file.meta).with_file_metadata_cache(Some(cache.clone())).fetch_metadata().await;
    let fetched = fetched.map_err(|error| damaged(table, file, error.find_root().strip_backtrace()))?;
    let checked = footer::checked(&fetched, file.meta.size).map_err(|why| damaged(table, file, why))?;
    if !Arc::ptr_eq(&checked, &fetched) {
        let entry = CachedFileMetadataEntry::new(file.meta.clone(), Arc::new(CachedParquetMetaData::new(checked.clone())));
        cache.put(&file.meta.location, entry);
    }
    Ok(checked)
}

/// Readers of files whose footers are checked, also when one was dropped from the cache and is read again.
#[derive(Debug)]
struct CheckedReaders(CachedParquetFileReaderFactory);

impl ParquetFileReaderFactory for CheckedReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let len = file.object_meta.size;
        Ok(Box::new(CheckedReader { reader: self.0.create_reader(partition, file, hint, metrics)?, len }))
    }
}

struct CheckedReader {
    reader: Box<dyn AsyncFileReader + Send>,
    len: u64,
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.reader.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.reader.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let len = self.len;
        let fetched = self.reader.get_metadata(options);
        Box::pin(async move { footer::checked(&fetched.await?, len).map_err(ParquetError::General) })
    }
}

/// The error of a segment that can't be read.
pub(super) fn damaged(table: &str, file: &File, why: impl std::fmt::Display) -> DataFusionError {
    Error::new(table, format!("segment {} can't be read: {why}", file.meta.location))
        .hint("the file is damaged or was not copied completely")
        .into()
}

/// The declared columns as queries see them: text as views, which DataFusion compares and groups without copying, and every
/// column nullable, because an older capture may lack it.
fn query_schema(declared: &Schema) -> Schema {
    let view = |data_type: &DataType| if is_text(data_type) { DataType::Utf8View } else { data_type.clone() };
    Schema::new(declared.fields().iter().map(|field| Field::new(field.name(), view(field.data_type()), true)).collect::<Vec<_>>())
}

fn partition_field(name: &str) -> Field {
    Field::new(name, wrap_partition_type_in_dict(DataType::Utf8), false)
}

/// Whether a column of type `found` may be read as `declared`: the same but for the layout in memory and the width of integers.
fn same_kind(declared: &DataType, found: &DataType) -> bool {
    match (declared, found) {
        (DataType::List(a), DataType::List(b) | DataType::LargeList(b)) => same_kind(a.data_type(), b.data_type()),
        (_, DataType::Dictionary(_, value)) => same_kind(declared, value),
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        _ => declared == found || declared.is_integer() && found.is_integer() || is_text(declared) && is_text(found),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[async_trait]
impl TableProvider for CaptureTable {
    fn schema(&self) -> SchemaRef {
        self.schema.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    // Inexact: the scan skips what statistics exclude, and takes over the filter itself when the physical plan is optimised.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema.table_schema();
        if self.files.is_empty() {
            let schema = projection.map_or_else(|| Ok(schema.clone()), |columns| schema.project(columns).map(Arc::new))?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            files.push(self.open(state, file).await?);
        }
        let statistics = Statistics::try_merge_iter(files.iter().filter_map(|file| file.statistics.as_deref()), schema)?;
        let runtime = state.runtime_env();
        let readers =
            CachedParquetFileReaderFactory::new(runtime.object_store(&self.url)?, runtime.cache_manager.get_file_metadata_cache());
        let readers = CheckedReaders(readers);
        let source = ParquetSource::new(self.schema.clone())
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(readers));
        // A filter may drop rows after the limit was reached, so it must not stop the scan.
        let limit = limit.filter(|_| filters.is_empty());
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(state.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
