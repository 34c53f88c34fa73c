//! A scan for a few rows among many: what keys are checked by, and rows are asked for by key.
//!
//! What it is: the rows of named files, through the engine's own Parquet scan. Files are passed
//! over by the log's statistics, row groups by theirs and by their bloom filters, pages by the
//! page index. Footers come from the engine's cache of them: a cache of Kho's own, with its own
//! limit, would be put in [`footer_of`] and [`Lookup::reader`].
//! What it guarantees: no row for which the filters are true is passed over.
//! What it does not: rows for which they are not true may come along; a filter above decides.

mod pages;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Result as PlanResult, Statistics};
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
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::utils::LiteralGuarantee;
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectMeta, ObjectStore};
use parquet::file::metadata::ParquetMetaData;

use super::files::{FileScan, ScanFile};
use super::{ROOT_URL, Snapshot, Staged, Tables, bloom};

/// How many files' bloom filters are read at one time.
const FILES_AT_ONCE: usize = 16;
/// So few pages are read at once.
const FEW_PAGES: usize = 2;

/// Columns of a table whose values its files are searched by, in the words of one version.
#[derive(Clone, Debug)]
pub struct Searched {
    pub columns: Vec<String>,
    /// Whether no two rows have the same values in them.
    pub is_unique: bool,
}

/// Files to look rows up in.
#[derive(Debug)]
pub(super) struct Lookup {
    store: Arc<dyn ObjectStore>,
    files: FileScan,
}

/// What is looked for in files.
struct Sought<'a> {
    projection: Option<&'a Vec<usize>>,
    /// What passes over files, row groups and pages.
    filters: &'a [Expr],
    /// How many rows can fulfil that at most, where that is told by a key that it gives values of.
    most_rows: Option<usize>,
    /// Whether to say how many rows that is about.
    estimates: bool,
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
    let filter = filter(session, schema, filters)?;
    Ok(filter.as_ref().map(guarantees).unwrap_or_default())
}

fn guarantees(filter: &Arc<dyn PhysicalExpr>) -> Vec<LiteralGuarantee> {
    let guarantees = LiteralGuarantee::analyze(filter);
    if bloom::are_few(&guarantees) { guarantees } else { Vec::new() }
}

/// All of `filters` as one, over rows of `schema`.
fn filter(
    session: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
) -> PlanResult<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters.to_vec()) else { return Ok(None) };
    let schema = DFSchema::try_from(schema.as_ref().clone())?;
    session.create_physical_expr(filter, &schema).map(Some)
}

/// Those of `files` that have a row group which may hold what is asked for. `store` is the warehouse's
/// root.
pub(super) async fn holding(
    store: &Arc<dyn ObjectStore>,
    runtime: &RuntimeEnv,
    files: Vec<ScanFile>,
    asked: &[LiteralGuarantee],
) -> PlanResult<Vec<Holding>> {
    let looked = stream::iter(files).map(|file| async move {
        let footer = footer_of(store.as_ref(), runtime, &file).await?;
        let kept = bloom::row_groups(store.as_ref(), &file.path, &footer, asked).await?;
        Ok::<_, DataFusionError>(Holding { file, kept, few_pages: false })
    });
    let looked: Vec<_> = looked.buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(looked.into_iter().filter(|it| it.kept.contains(&true)).collect())
}

/// The same for rows that are mostly there. Where a page or two may hold them, to read these says
/// more than to ask the filters first.
async fn holding_some(
    store: &Arc<dyn ObjectStore>,
    runtime: &RuntimeEnv,
    files: Vec<ScanFile>,
    asked: &[LiteralGuarantee],
) -> PlanResult<Vec<Holding>> {
    let looked = stream::iter(files).map(|file| async move {
        let footer = footer_of(store.as_ref(), runtime, &file).await?;
        let pages = pages::holding(&footer, asked);
        if let Some(pages) = pages.filter(|pages| pages.iter().sum::<usize>() <= FEW_PAGES) {
            let kept = pages.iter().map(|count| *count > 0).collect();
            return Ok::<_, DataFusionError>(Holding { file, kept, few_pages: true });
        }
        let kept = bloom::row_groups(store.as_ref(), &file.path, &footer, asked).await?;
        Ok(Holding { file, kept, few_pages: false })
    });
    let looked: Vec<_> = looked.buffered(FILES_AT_ONCE).try_collect().await?;
    Ok(looked.into_iter().filter(|it| it.kept.contains(&true)).collect())
}

/// A file that may hold what is asked for, and which of its row groups may.
pub(super) struct Holding {
    pub file: ScanFile,
    kept: Vec<bool>,
    /// Whether a page or two of each column are all there is to read.
    few_pages: bool,
}

/// The footer of one of a snapshot's files. `store` is the warehouse's root.
pub(super) async fn footer_of(
    store: &dyn ObjectStore,
    runtime: &RuntimeEnv,
    file: &ScanFile,
) -> PlanResult<Arc<ParquetMetaData>> {
    DFParquetMetadata::new(store, &meta(file))
        .with_file_metadata_cache(Some(runtime.cache_manager.get_file_metadata_cache()))
        .fetch_metadata()
        .await
}

impl Snapshot {
    /// What reads the rows for which `filters` are true, and maybe others, with the columns of
    /// `schema` that `projection` picks; `None` where the filters give no values of columns that are
    /// `searched`, or the rows are not simply those of the files.
    ///
    /// # Why
    /// The table's own scan reads the page indexes and bloom filters of its files anew each time,
    /// whole, and replays the list of files through the log's library. Of who asks for one row that
    /// is most of the work.
    pub async fn scan_by_value(
        &self,
        session: &dyn Session,
        schema: &SchemaRef,
        searched: &[Searched],
        (projection, filters): (Option<&Vec<usize>>, &[Expr]),
    ) -> PlanResult<Option<Arc<dyn ExecutionPlan>>> {
        let values: HashMap<&str, usize> = filters.iter().filter_map(valued).collect();
        let is_given = |column: &String| values.contains_key(column.as_str());
        if !searched.iter().any(|it| it.columns.iter().any(is_given)) {
            return Ok(None);
        }
        let most_rows = searched.iter().filter_map(|it| it.most_rows(&values)).min();
        let given: Vec<Expr> = match most_rows {
            // These cannot fail, in whatever order they are evaluated.
            Some(_) => filters.iter().filter(|it| valued(it).is_some()).cloned().collect(),
            None => filters.to_vec(),
        };
        let Some(rows) = self.rows(Arc::clone(schema)) else { return Ok(None) };
        let sought = Sought { projection, filters: &given, most_rows, estimates: true };
        rows.looked_up(session, sought).await.map(Some)
    }
}

impl Snapshot {
    /// Has the footers of a table of a few files kept with their page indexes: the table's own scan
    /// keeps footers without them, and reads these again each time that a filter may pass over pages.
    pub async fn keep_page_indexes(&self, session: &dyn Session) {
        let files = &self.listed().scanned;
        if files.len() > FILES_AT_ONCE {
            return;
        }
        let store = self.log_store().root_object_store(None);
        let kept = stream::iter(files.to_vec()).map(|file| {
            let store = Arc::clone(&store);
            async move {
                // What cannot be read fails the scan, in its own words.
                if let Err(error) = footer_of(store.as_ref(), session.runtime_env(), &file).await {
                    tracing::debug!(%error, "a footer is not kept");
                }
            }
        });
        kept.buffer_unordered(FILES_AT_ONCE).collect::<()>().await;
    }
}

impl Searched {
    /// How many rows can have these values, by column how many; `None` where they are not of all
    /// columns, or other rows may have the same.
    pub fn most_rows(&self, values: &HashMap<&str, usize>) -> Option<usize> {
        let of = |column: &String| values.get(column.as_str()).copied();
        let all = self.columns.iter().map(of).try_fold(1_usize, |all, of| all.checked_mul(of?));
        all.filter(|_| self.is_unique)
    }
}

/// The column of which an expression asks for values, and for how many.
pub fn valued(expr: &Expr) -> Option<(&str, usize)> {
    let column = |expr: &'_ Expr| matches!(expr, Expr::Column(_));
    let is_value = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if !value.is_null());
    let (found, count) = match expr {
        Expr::BinaryExpr(it) if it.op == Operator::Eq => match (&*it.left, &*it.right) {
            (of, value) if column(of) && is_value(value) => (of, 1),
            (value, of) if column(of) && is_value(value) => (of, 1),
            _ => return None,
        },
        Expr::InList(it) if !it.negated && it.list.iter().all(is_value) => {
            (&*it.expr, it.list.len())
        }
        _ => return None,
    };
    match found {
        Expr::Column(column) => Some((&column.name, count)),
        _ => None,
    }
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
        self.looked_up(session, Sought { projection, filters, most_rows: None, estimates: false })
            .await
    }
}

impl Lookup {
    async fn looked_up(
        &self,
        session: &dyn Session,
        Sought { projection, filters, most_rows, estimates }: Sought<'_>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let schema = self.files.schema();
        let files = match self.files.len() {
            // What its row groups are judged by says as much.
            ..=1 => self.files.all(),
            _ => self.files.candidates(session, filters)?,
        };
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
        let filter = filter(session, &schema, filters)?;
        let asked = filter.as_ref().map(guarantees).unwrap_or_default();
        if let Some(filter) = filter {
            source = source.with_predicate(filter);
        }
        let records = self.files.records(&files);
        let mut judges = false;
        let files: Vec<PartitionedFile> = match asked.is_empty() {
            true => files.iter().map(partitioned).collect(),
            false => {
                source = source.with_bloom_filter_on_read(false);
                let held = match most_rows {
                    Some(_) => holding_some(&self.store, runtime, files, &asked).await?,
                    None => holding(&self.store, runtime, files, &asked).await?,
                };
                // Where any page may hold a row, each is better judged before its other columns are
                // read.
                judges = most_rows.is_some() && !held.iter().all(|file| file.few_pages);
                source = source.with_pushdown_filters(judges);
                held.into_iter().map(restricted).collect()
            }
        };
        if files.is_empty() {
            return none();
        }
        let groups = groups(files, session.config().target_partitions());
        // To look for one page in two halves of a file is to do it twice.
        let is_whole = most_rows.is_some() && !judges;
        let partitioning = is_whole.then(|| Partitioning::UnknownPartitioning(groups.len()));
        let mut config = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_output_partitioning(partitioning)
            .with_projection_indices(projection.cloned())?;
        if let Some(rows) = most_rows.or(records).filter(|_| estimates) {
            let mut statistics = Statistics::new_unknown(&schema);
            statistics.num_rows = Precision::Inexact(rows);
            config = config.with_statistics(statistics);
        }
        Ok(DataSourceExec::from_data_source(config.build()))
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
fn restricted(Holding { file, kept, .. }: Holding) -> PartitionedFile {
    let access = |kept| if kept { RowGroupAccess::Scan } else { RowGroupAccess::Skip };
    let plan = ParquetAccessPlan::new(kept.into_iter().map(access).collect());
    partitioned(&file).with_extension(plan)
}
