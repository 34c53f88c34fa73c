//! A scan over named Parquet files that knows each row's place.
//!
//! What it is: what changing rows and reading changes are built on. It reads the given files one
//! after another, in order, and adds constant columns and, if asked, where each row stands.
//! What it guarantees: the same files give the same places, every time.
//! What it does not: it passes over whole files only, by their statistics and bloom filters, and
//! evaluates no filter.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result as PlanResult};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::scalar::ScalarValue;
use deltalake_core::kernel::EagerSnapshot;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
#[expect(deprecated, reason = "the reader's successor is a pattern to copy, not yet a type")]
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::bounds::Bounds;
use super::{DataFile, lookup};

/// The column that tells a row's file: its index among the snapshot's files.
pub const FILE_COLUMN: &str = "__kho_file";
/// The column that tells a row's place in its file, from 0.
pub const ROW_COLUMN: &str = "__kho_row";

/// One file to be read.
#[derive(Clone, Debug)]
pub(super) struct ScanFile {
    /// From the warehouse's root.
    pub path: Path,
    pub size_bytes: u64,
    /// What [`FILE_COLUMN`] says.
    pub index: u64,
    /// Values of columns that the file does not hold.
    pub constants: HashMap<String, ScalarValue>,
}

/// A table made of files.
#[derive(Debug)]
pub(super) struct FileScan {
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    files: Arc<[ScanFile]>,
    /// By which files are passed over; then `store` is the warehouse's root.
    pruning: Option<(Arc<EagerSnapshot>, Arc<[DataFile]>)>,
}

impl FileScan {
    /// Rows of `files` with `schema`; columns that a file lacks are its constants, or NULL.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        schema: SchemaRef,
        files: impl Into<Arc<[ScanFile]>>,
    ) -> Self {
        FileScan { store, schema, files: files.into(), pruning: None }
    }

    /// The same with [`FILE_COLUMN`] and [`ROW_COLUMN`] behind the columns of `schema`.
    pub(super) fn with_positions(
        store: Arc<dyn ObjectStore>,
        schema: SchemaRef,
        files: impl Into<Arc<[ScanFile]>>,
    ) -> Self {
        let mut fields = schema.fields().to_vec();
        for name in [FILE_COLUMN, ROW_COLUMN] {
            fields.push(Arc::new(Field::new(name, DataType::UInt64, false)));
        }
        FileScan::new(store, Arc::new(Schema::new(fields)), files)
    }

    /// Passes over files that the snapshot's statistics prove not to match.
    pub(super) fn pruned_by(
        mut self,
        snapshot: Arc<EagerSnapshot>,
        files: Arc<[DataFile]>,
    ) -> Self {
        self.pruning = Some((snapshot, files));
        self
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn all(&self) -> Vec<ScanFile> {
        self.files.to_vec()
    }

    /// How many rows are in some of the files, where the log says so of each.
    pub(super) fn records(&self, files: &[ScanFile]) -> Option<usize> {
        let (_, listed) = self.pruning.as_ref()?;
        let of = |file: &ScanFile| listed.get(usize::try_from(file.index).ok()?)?.records;
        let all = files.iter().map(of).try_fold(0_u64, |all, rows| all.checked_add(rows?))?;
        usize::try_from(all).ok()
    }

    /// The files that may hold a row for which all `filters` are true.
    pub(super) fn candidates(
        &self,
        session: &dyn Session,
        filters: &[Expr],
    ) -> PlanResult<Vec<ScanFile>> {
        let (Some((snapshot, listed)), Some(filter)) =
            (&self.pruning, conjunction(filters.to_vec()))
        else {
            return Ok(self.files.to_vec());
        };
        let schema = snapshot.arrow_schema();
        let plan_schema = DFSchema::try_from(schema.as_ref().clone())?;
        let filter = session.create_physical_expr(filter, &plan_schema)?;
        let predicate =
            PruningPredicateBuilder::new().with_file_schema(schema).try_build(filter)?;
        let keep = predicate.prune(&Bounds(snapshot))?;
        // The statistics are in the log's order of files, ours are sorted by path.
        let kept: std::collections::HashSet<String> = (snapshot.log_data().iter().zip(keep))
            .filter(|(_, keep)| *keep)
            .map(|(file, _)| file.path().into_owned())
            .collect();
        let files = self.files.iter().filter(|file| {
            let listed = usize::try_from(file.index).ok().and_then(|index| listed.get(index));
            listed.is_none_or(|listed| kept.contains(&listed.path))
        });
        Ok(files.cloned().collect())
    }
}

impl FileScan {
    /// Those candidates whose bloom filters do not prove the contrary.
    pub(super) async fn holding(
        &self,
        session: &dyn Session,
        filters: &[Expr],
    ) -> PlanResult<Vec<ScanFile>> {
        let files = self.candidates(session, filters)?;
        let asked = match self.pruning {
            Some(_) => lookup::asked(session, &self.schema, filters)?,
            None => Vec::new(),
        };
        if asked.is_empty() {
            return Ok(files);
        }
        let runtime = session.runtime_env();
        let held = lookup::holding(&self.store, runtime, files, &asked).await?;
        Ok(held.into_iter().map(|held| held.file).collect())
    }
}

#[async_trait::async_trait]
impl TableProvider for FileScan {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> PlanResult<Vec<TableProviderFilterPushDown>> {
        let prunes = |filter: &&Expr| {
            let columns = filter.column_refs();
            self.pruning.is_some()
                && !filter.is_volatile()
                && columns.iter().all(|column| {
                    let field = self.schema.field_with_name(&column.name);
                    field.is_ok_and(|it| !it.data_type().is_floating())
                        && column.name != FILE_COLUMN
                        && column.name != ROW_COLUMN
                })
        };
        Ok(filters
            .iter()
            .map(|filter| match prunes(filter) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(projection) => Arc::new(self.schema.project(projection)?),
            None => self.schema.clone(),
        };
        let files = self.holding(session, filters).await?;
        let count = session.config().target_partitions().clamp(1, files.len().max(1));
        let mut parts: Vec<Vec<ScanFile>> = vec![Vec::new(); count];
        for (index, file) in files.into_iter().enumerate() {
            if let Some(part) = parts.get_mut(index % count) {
                part.push(file);
            }
        }
        let parts = (parts.into_iter())
            .map(|files| {
                let (store, schema) = (self.store.clone(), schema.clone());
                Arc::new(FilePart { store, schema, files }) as Arc<dyn PartitionStream>
            })
            .collect();
        StreamingTable::try_new(schema, parts)?.scan(session, None, &[], limit).await
    }
}

/// Some files, one after another.
#[derive(Debug)]
struct FilePart {
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    files: Vec<ScanFile>,
}

impl PartitionStream for FilePart {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (store, schema) = (self.store.clone(), self.schema.clone());
        let rows = context.session_config().batch_size();
        let batches = stream::iter(self.files.clone())
            .then(move |file| read(store.clone(), schema.clone(), file, rows))
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

type Batches = futures::stream::BoxStream<'static, PlanResult<RecordBatch>>;

#[expect(deprecated, reason = "the reader's successor is a pattern to copy, not yet a type")]
async fn read(
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    file: ScanFile,
    batch_size: usize,
) -> PlanResult<Batches> {
    let mut reader = ParquetObjectReader::new(store, file.path.clone());
    if file.size_bytes > 0 {
        reader = reader.with_file_size(file.size_bytes);
    }
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let wanted: Vec<usize> = (builder.schema().fields().iter().enumerate())
        .filter(|(_, field)| schema.field_with_name(field.name()).is_ok())
        .map(|(index, _)| index)
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let batches = builder.with_projection(mask).with_batch_size(batch_size).build()?;
    let mut next_row = 0;
    let batches = batches.map(move |batch| {
        let batch = batch.map_err(DataFusionError::from)?;
        let first_row = next_row;
        next_row += batch.num_rows() as u64;
        conform(&batch, &schema, &file, first_row)
    });
    Ok(batches.boxed())
}

fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
    file: &ScanFile,
    first_row: u64,
) -> PlanResult<RecordBatch> {
    let rows = batch.num_rows();
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().map(|field| -> PlanResult<ArrayRef> {
        Ok(match field.name().as_str() {
            FILE_COLUMN => Arc::new(UInt64Array::from_value(file.index, rows)),
            ROW_COLUMN => {
                Arc::new(UInt64Array::from_iter_values(first_row..first_row + rows as u64))
            }
            name => match (batch.column_by_name(name), file.constants.get(name)) {
                (Some(column), _) => cast_with_options(column, field.data_type(), &options)?,
                (None, Some(constant)) => constant.to_array_of_size(rows)?,
                (None, None) => new_null_array(field.data_type(), rows),
            },
        })
    });
    let columns = columns.collect::<PlanResult<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
