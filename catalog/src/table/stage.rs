//! Rows on their way into a table: written to files that no version names yet.
//!
//! What it guarantees: memory is bounded by one row group per writer and the uploads in flight;
//! files are durable when [`Stage::finish`] returns.
//! What it does not: it conforms and checks nothing; batches must have the table's schema.
//! On failure: [`Stage::abort`] and [`Staged::discard`] remove what was written.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use delta_writer::writer_config;
use deltalake_core::datafile::writer::DeltaWriter;
use deltalake_core::kernel::{Action, Add, AddCDCFile};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};

use super::changes::CHANGE_TYPE;
use super::schema::{TableColumn, arrow_schema};
use super::{Location, Tables, delta_error};
use crate::error::Result;

const CHANGE_FOLDER: &str = "_change_data";
/// About the size that readers of object storage like best.
pub(super) const TARGET_FILE_BYTES: NonZeroU64 = match NonZeroU64::new(128 * 1024 * 1024) {
    Some(size) => size,
    None => NonZeroU64::MIN,
};

/// Files being written.
pub struct Stage {
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    writer: DeltaWriter,
    changes: Option<DeltaWriter>,
    rows: u64,
    /// See [`Staged`].
    pub(super) after: u64,
}

/// Files written, durable, and not yet part of any version.
pub struct Staged {
    store: Arc<dyn ObjectStore>,
    adds: Vec<Add>,
    changes: Vec<AddCDCFile>,
    /// A version of the table that was there before the first file was begun.
    pub(super) after: u64,
    /// Rows in the data files.
    pub rows: u64,
}

impl Tables {
    /// Begins to write rows with `columns` for the table at `location`.
    pub fn stage(&self, location: &Location, columns: &[TableColumn]) -> Stage {
        let root: Arc<dyn ObjectStore> = self.environment().store().clone();
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(root, location.path()));
        let schema = arrow_schema(columns);
        let writer = DeltaWriter::new(store.clone(), writer_config(&schema));
        // The newest version seen here; no later one could be older than these files.
        let after = self.remembered(location).map_or(0, |snapshot| snapshot.version());
        Stage { store, schema, writer, changes: None, rows: 0, after }
    }
}

impl Stage {
    /// The schema that batches must have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).await.map_err(delta_error)
    }

    /// Records changed rows for the change feed: the table's columns and, last, what happened
    /// (`insert`, `delete`, `update_preimage`, `update_postimage`).
    pub async fn write_changes(&mut self, batch: &RecordBatch) -> Result<()> {
        let store: Arc<dyn ObjectStore> =
            Arc::new(PrefixStore::new(self.store.clone(), Path::from(CHANGE_FOLDER)));
        let schema = change_schema(&self.schema);
        let writer =
            (self.changes).get_or_insert_with(|| DeltaWriter::new(store, writer_config(&schema)));
        writer.write(batch).await.map_err(delta_error)
    }

    /// Closes the files.
    pub async fn finish(self) -> Result<Staged> {
        let Stage { store, writer, changes, rows, after, .. } = self;
        let mut staged = Staged { store, adds: Vec::new(), changes: Vec::new(), after, rows };
        staged.adds = writer.close().await.map_err(delta_error)?;
        if let Some(changes) = changes {
            match changes.close().await {
                Ok(adds) => staged.changes = adds.into_iter().map(change_file).collect(),
                Err(error) => {
                    staged.discard().await;
                    return Err(delta_error(error));
                }
            }
        }
        Ok(staged)
    }

    /// Gives up: unfinished uploads are aborted; files already complete are orphans without a
    /// version, which maintenance removes.
    pub async fn abort(self) {
        for writer in [Some(self.writer), self.changes].into_iter().flatten() {
            if let Err(error) = writer.abort().await {
                tracing::warn!(%error, "an unfinished file could not be removed");
            }
        }
    }
}

impl Staged {
    /// Nothing at all: for commits that only remove.
    pub fn empty(tables: &Tables) -> Staged {
        let store: Arc<dyn ObjectStore> = tables.environment().store().clone();
        Staged { store, adds: Vec::new(), changes: Vec::new(), after: u64::MAX, rows: 0 }
    }

    /// How many data files there are.
    pub(super) fn file_count(&self) -> usize {
        self.adds.len()
    }

    /// What to remove if the commit turns out not to be.
    pub(super) fn files(&self) -> StagedFiles {
        let adds = self.adds.iter().map(|add| add.path.clone());
        let paths = adds.chain(self.changes.iter().map(|change| change.path.clone())).collect();
        StagedFiles { store: self.store.clone(), paths }
    }

    pub(super) fn into_actions(self) -> Vec<Action> {
        let adds = self.adds.into_iter().map(Action::Add);
        adds.chain(self.changes.into_iter().map(Action::Cdc)).collect()
    }

    /// The same rows in other files: readers of changes are to see none.
    #[must_use]
    pub fn without_data_change(mut self) -> Staged {
        for add in &mut self.adds {
            add.data_change = false;
        }
        self
    }

    /// Both sets of files in one commit.
    #[must_use]
    pub fn and(mut self, other: Staged) -> Staged {
        self.adds.extend(other.adds);
        self.changes.extend(other.changes);
        self.after = self.after.min(other.after);
        self.rows += other.rows;
        self
    }

    /// Removes the files again, as far as the storage lets us.
    pub async fn discard(self) {
        self.files().discard().await;
    }
}

/// The names of staged files.
pub(super) struct StagedFiles {
    store: Arc<dyn ObjectStore>,
    paths: Vec<String>,
}

impl StagedFiles {
    pub(super) async fn discard(self) {
        for path in self.paths {
            if let Err(error) = self.store.delete(&Path::from(path.as_str())).await {
                tracing::warn!(%error, path, "a staged file could not be removed");
            }
        }
    }
}

fn change_schema(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(CHANGE_TYPE, DataType::Utf8, true)));
    Arc::new(Schema::new(fields))
}

fn change_file(add: Add) -> AddCDCFile {
    AddCDCFile {
        path: format!("{CHANGE_FOLDER}/{}", add.path),
        size: add.size,
        partition_values: HashMap::new(),
        data_change: false,
        tags: None,
    }
}

/// How data files are written.
mod delta_writer {
    use arrow::datatypes::{DataType, SchemaRef};
    use delta_kernel::table_properties::DataSkippingNumIndexedCols;
    use deltalake_core::datafile::writer::WriterConfig;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    use parquet::schema::types::ColumnPath;

    /// # Why no statistics on floats
    /// Arrow orders `NaN` above every number, statistics pass it over: a file whose only large
    /// value is `NaN` would be skipped by `d > 100`, though the row is there.
    pub(super) fn writer_config(schema: &SchemaRef) -> WriterConfig {
        let floats = |of: &DataType| of.is_floating();
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(1024 * 1024));
        for field in schema.fields().iter().filter(|field| floats(field.data_type())) {
            properties = properties.set_column_statistics_enabled(
                ColumnPath::from(field.name().as_str()),
                EnabledStatistics::None,
            );
        }
        let indexed = (schema.fields().iter())
            .filter(|field| !floats(field.data_type()) && !field.data_type().is_nested())
            .take(32)
            // They are parsed as SQL names.
            .map(|field| format!("\"{}\"", field.name().replace('"', "\"\"")))
            .collect();
        WriterConfig::new(
            schema.clone(),
            Vec::new(),
            Some(properties.build()),
            Some(super::TARGET_FILE_BYTES),
            Some(8192),
            DataSkippingNumIndexedCols::NumColumns(32),
            Some(indexed),
        )
    }
}
