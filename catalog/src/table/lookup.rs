//! A scan for a few rows among many: what keys are checked by.
//!
//! What it is: the rows of named files, through the engine's own Parquet scan. Files are passed
//! over by the log's statistics, row groups by theirs and by their bloom filters, pages by the
//! page index. Footers come from the engine's cache of them: a cache of Kho's own, with its own
//! limit, would be put in [`footer`] and [`Lookup::reader`].
//! What it guarantees: no row for which the filters are true is passed over.
//! What it does not: rows for which they are not true may come along; a filter above decides.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetAccessPlan, RowGroupAccess,
};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::utils::LiteralGuarantee;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore};
use parquet::file::metadata::ParquetMetaData;

use super::files::{FileScan, ScanFile};
use super::{ROOT_URL, Staged, Tables, bloom};

/// How many files' bloom filters are read at one time.
const FILES_AT_ONCE: usize = 16;

/// Files to look rows up in.
#[derive(Debug)]
pub(super) struct Lookup {
    store: Arc<dyn ObjectStore>,
    files: FileScan,
}

impl Lookup {
    /// `store` is the warehouse's root.
    pub(super) fn new(store: Arc<dyn ObjectStore>, files: FileScan) -> Lookup {
        Lookup { store, files }
    }

    fn reader(&self, runtime: &RuntimeEnv) -> Arc<CachedParquetFileReaderFactory> {
        let footers = runtime.cache_manager.get_file_metadata_cache();
        Arc::new(CachedParquetFileReaderFactory::new(self.store.clone(), footers))
    }
}

/// What `filters` ask of a row, where that can be looked up in bloom filters; else nothing.
pub(super) fn asked(
    session: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
) -> PlanResult<Vec<LiteralGuarantee>> {
    let Some(filter) = conjunction(filters.to_vec()) else { return Ok(Vec::new()) };
    let plan_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let filter = session.create_physical_expr(filter, &plan_schema)?;
    let guarantees = LiteralGuarantee::analyze(&filter);
    Ok(if bloom::are_few(&guarantees) { guarantees } else { Vec::new() })
}

/// Those of `files` that have a row group which may hold what is asked for, and which row groups
/// these are. `store` is the warehouse's root.
pub(super) async fn holding(
    store: &Arc<dyn ObjectStore>,
    runtime: &RuntimeEnv,
    files: Vec<ScanFile>,
    asked: &[LiteralGuarantee],
) -> PlanResult<Vec<(ScanFile, Vec<bool>)>> {
    let looked = stream::iter(files).map(|file| async move {
        let footer = footer(store.as_ref(), runtime, &meta(&file)).await?;
        let kept = bloom::row_groups(store.as_ref(), &file.path, &footer, asked).await?;
        Ok::<_, DataFusionError>((file, kept))
    });
    let looked: Vec<_> = looked.buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(looked.into_iter().filter(|(_, kept)| kept.contains(&true)).collect())
}

async fn footer(
    store: &dyn ObjectStore,
    runtime: &RuntimeEnv,
    file: &ObjectMeta,
) -> PlanResult<Arc<ParquetMetaData>> {
    DFParquetMetadata::new(store, file)
        .with_file_metadata_cache(Some(runtime.cache_manager.get_file_metadata_cache()))
        .fetch_metadata()
        .await
}

impl Staged {
    /// The staged rows, for look-ups by key.
    pub fn rows_staged(&self, tables: &Tables) -> Arc<dyn TableProvider> {
        let store: Arc<dyn ObjectStore> = tables.environment().store().clone();
        let files = FileScan::new(store.clone(), self.schema().clone(), self.scan_files());
        Arc::new(Lookup::new(store, files))
    }
}

#[async_trait::async_trait]
impl TableProvider for Lookup {
    fn schema(&self) -> SchemaRef {
        self.files.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let schema = self.files.schema();
        // Statistics pass `NaN` over, so they prove nothing about floats.
        let is_sound = |filter: &&Expr| {
            !filter.is_volatile()
                && filter.column_refs().iter().all(|column| {
                    let field = schema.field_with_name(&column.name);
                    field.is_ok_and(|field| !field.data_type().is_floating())
                })
        };
        let answer = |filter: &&Expr| match is_sound(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let schema = self.files.schema();
        let files = self.files.candidates(session, filters)?;
        let none = || -> PlanResult<Arc<dyn ExecutionPlan>> {
            let schema = match projection {
                Some(projection) => Arc::new(schema.project(projection)?),
                None => schema.clone(),
            };
            Ok(Arc::new(EmptyExec::new(schema)))
        };
        if files.is_empty() {
            return none();
        }
        let url = ObjectStoreUrl::parse(ROOT_URL)?;
        let runtime = session.runtime_env();
        if runtime.object_store(&url).is_err() {
            runtime.register_object_store(url.as_ref(), self.store.clone());
        }
        let mut source = ParquetSource::new(schema.clone())
            .with_parquet_file_reader_factory(self.reader(runtime))
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true);
        if let Some(filter) = conjunction(filters.to_vec()) {
            let plan_schema = DFSchema::try_from(schema.as_ref().clone())?;
            source = source.with_predicate(session.create_physical_expr(filter, &plan_schema)?);
        }
        let asked = asked(session, &schema, filters)?;
        let files: Vec<PartitionedFile> = match asked.is_empty() {
            true => files.iter().map(partitioned).collect(),
            false => {
                source = source.with_bloom_filter_on_read(false);
                let held = holding(&self.store, runtime, files, &asked).await?;
                held.into_iter().map(restricted).collect()
            }
        };
        if files.is_empty() {
            return none();
        }
        let config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups(files, session.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// The files in as many groups as there may be threads.
fn groups(files: Vec<PartitionedFile>, threads: usize) -> Vec<FileGroup> {
    let count = threads.clamp(1, files.len().max(1));
    let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); count];
    for (index, file) in files.into_iter().enumerate() {
        if let Some(group) = groups.get_mut(index % count) {
            group.push(file);
        }
    }
    groups.into_iter().map(FileGroup::new).collect()
}

/// The file as the cache of footers knows it: files are never written again under a name, so
/// their times tell nothing.
fn meta(file: &ScanFile) -> ObjectMeta {
    ObjectMeta {
        location: file.path.clone(),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: file.size_bytes,
        e_tag: None,
        version: None,
    }
}

fn partitioned(file: &ScanFile) -> PartitionedFile {
    PartitionedFile::from(meta(file))
}

/// The file, of which some row groups are read.
fn restricted((file, kept): (ScanFile, Vec<bool>)) -> PartitionedFile {
    let access = |kept| if kept { RowGroupAccess::Scan } else { RowGroupAccess::Skip };
    let plan = ParquetAccessPlan::new(kept.into_iter().map(access).collect());
    partitioned(&file).with_extension(plan)
}
