//! Rows on their way into a table: written to files that no version names yet.
//!
//! What it guarantees: memory is bounded by one row group per writer (of which there are two at most) and
//! the uploads in flight;
//! files are durable when [`Stage::finish`] returns.
//! What it does not: it conforms and checks nothing; batches must have the table's schema.
//! It keeps the keys of a few rows at hand, so that checking them need not read them back.
//! On failure: [`Stage::abort`] and [`Staged::discard`] remove what was written.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use delta_writer::writer_config;
use deltalake_core::datafile::writer::DeltaWriter;
use deltalake_core::kernel::{Action, Add, AddCDCFile};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};

use super::branch::Place;
use super::changes::CHANGE_TYPE;
use super::files::{FileScan, ScanFile};
use super::schema::{TableColumn, arrow_schema};
use super::snapshot::join;
use super::{Location, Snapshot, Tables, delta_error};
use crate::error::{Error, Result};
use crate::state::{Key, KeyKind};

mod writers;

use writers::Writers;

const CHANGE_FOLDER: &str = "_change_data";
/// About the size that readers of object storage like best.
pub(super) const TARGET_FILE_BYTES: NonZeroU64 = match NonZeroU64::new(128 * 1024 * 1024) {
    Some(size) => size,
    None => NonZeroU64::MIN,
};

/// The most new rows whose keys are kept in memory. More are read back from the files.
pub const KEPT_KEYS: usize = 1000;

/// Files being written.
pub struct Stage {
    store: Arc<dyn ObjectStore>,
    location: Location,
    schema: SchemaRef,
    writers: Writers,
    /// Whether files are made to be searched.
    is_searched: bool,
    changes: Option<DeltaWriter>,
    rows: u64,
    copied: u64,
    new_keys: Option<NewKeys>,
    /// See [`Staged`].
    pub(super) after: u64,
}

/// Files written, durable, and not yet part of any version.
#[derive(Clone)]
pub struct Staged {
    store: Arc<dyn ObjectStore>,
    location: Option<Location>,
    schema: SchemaRef,
    adds: Vec<Add>,
    changes: Vec<AddCDCFile>,
    /// A version of the table that was there before the first file was begun.
    pub(super) after: u64,
    /// Rows in the data files.
    pub rows: u64,
    /// Those of them that were copied from files that go.
    copied: u64,
    new_keys: Option<NewKeys>,
}

/// The key columns of the rows that are new, while they are few.
#[derive(Clone)]
struct NewKeys {
    places: Vec<usize>,
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl Tables {
    /// Begins to write rows with `columns` for the table at `location`. The files are made to be
    /// searched by the columns of `keys`, indexes among them.
    pub fn stage(&self, location: &Location, columns: &[TableColumn], keys: &[Key]) -> Stage {
        self.stage_at(None, location, columns, keys)
    }

    /// The same for a transaction that has a place for its files already.
    pub fn stage_at(
        &self,
        place: Option<&Place>,
        location: &Location,
        columns: &[TableColumn],
        keys: &[Key],
    ) -> Stage {
        let root = place.map_or_else(|| self.environment().store().clone(), Place::store);
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(root, location.path()));
        let schema = arrow_schema(columns);
        let searched = places(columns, keys.iter());
        let alone =
            |key: &&Key| key.kind != KeyKind::Index && matches!(key.columns.as_slice(), [_]);
        let distinct = places(columns, keys.iter().filter(alone));
        let writers = Writers::one(store.clone(), writer_config(&schema, &searched, &distinct));
        let is_searched = !searched.is_empty();
        // No row is compared with others by an index.
        let places = places(columns, keys.iter().filter(|key| key.kind != KeyKind::Index));
        let new_keys =
            (!places.is_empty()).then(|| NewKeys { places, batches: Vec::new(), rows: 0 });
        // The newest version seen here; no later one could be older than these files.
        let after = self.seen_version(location);
        let (location, changes) = (location.clone(), None);
        let (rows, copied) = (0, 0);
        Stage {
            store,
            location,
            schema,
            writers,
            is_searched,
            changes,
            rows,
            copied,
            new_keys,
            after,
        }
    }
}

impl Stage {
    /// The schema that batches must have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Says that what its rows are made by was looked up after `snapshot`. A version that was seen
    /// since may have brought a rule that they do not know, and their commit is refused behind it.
    #[must_use]
    pub fn behind(mut self, snapshot: &Snapshot) -> Stage {
        self.after = self.after.min(snapshot.version());
        self
    }

    /// Lets many rows be encoded by two writers at a time.
    #[must_use]
    pub fn spreading(mut self) -> Stage {
        if !self.is_searched {
            self.writers.spread();
        }
        self
    }

    /// Writes rows that are new, or changed.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if let Some(keys) = self.new_keys.take() {
            self.new_keys = keys.with(batch)?;
        }
        self.rows += batch.num_rows() as u64;
        self.writers.write(batch).await
    }

    /// Writes rows as they were in a file that goes: their keys were there before.
    pub async fn write_copied(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.copied += batch.num_rows() as u64;
        self.writers.write(batch).await
    }

    /// Records changed rows for the change feed: the table's columns and, last, what happened
    /// (`insert`, `delete`, `update_preimage`, `update_postimage`).
    pub async fn write_changes(&mut self, batch: &RecordBatch) -> Result<()> {
        let store: Arc<dyn ObjectStore> =
            Arc::new(PrefixStore::new(self.store.clone(), Path::from(CHANGE_FOLDER)));
        let schema = change_schema(&self.schema);
        let writer = (self.changes)
            .get_or_insert_with(|| DeltaWriter::new(store, writer_config(&schema, &[], &[])));
        writer.write(batch).await.map_err(delta_error)
    }

    /// Closes the files.
    pub async fn finish(self) -> Result<Staged> {
        let Stage { store, location, schema, writers, changes, rows, copied, .. } = self;
        let (new_keys, after) = (self.new_keys, self.after);
        let location = Some(location);
        let (adds, cdc) = (Vec::new(), Vec::new());
        let mut staged =
            Staged { store, location, schema, adds, changes: cdc, rows, copied, new_keys, after };
        staged.adds = writers.close().await?;
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
        self.writers.abort().await;
        if let Some(changes) = self.changes
            && let Err(error) = changes.abort().await
        {
            tracing::warn!(%error, "an unfinished file could not be removed");
        }
    }
}

impl Staged {
    /// Nothing at all: for commits that only remove.
    pub fn empty(tables: &Tables) -> Staged {
        Staged {
            store: tables.environment().store().clone(),
            location: None,
            schema: Arc::new(Schema::empty()),
            adds: Vec::new(),
            changes: Vec::new(),
            rows: 0,
            copied: 0,
            new_keys: None,
            after: u64::MAX,
        }
    }

    /// The rows of the data files, in the order they were written.
    pub fn rows(&self) -> Arc<dyn TableProvider> {
        let files = self.adds.iter().map(|add| (add.path.as_str(), add.size));
        self.scan(self.schema.clone(), files.collect())
    }

    /// The rows that were recorded for the change feed, with [`CHANGE_TYPE`] behind the table's
    /// columns.
    pub fn change_rows(&self) -> Arc<dyn TableProvider> {
        let files = self.changes.iter().map(|change| (change.path.as_str(), change.size));
        self.scan(change_schema(&self.schema), files.collect())
    }

    fn scan(&self, schema: SchemaRef, files: Vec<(&str, i64)>) -> Arc<dyn TableProvider> {
        let file = |(index, (path, size)): (usize, (&str, i64))| ScanFile {
            path: Path::from(path),
            size_bytes: u64::try_from(size).unwrap_or_default(),
            index: index as u64,
            constants: HashMap::new(),
        };
        let files: Vec<_> = files.into_iter().enumerate().map(file).collect();
        Arc::new(FileScan::new(self.store.clone(), schema, files))
    }

    /// The key columns of all rows that are new, where they are at hand: for at most
    /// [`KEPT_KEYS`] rows of a table with keys.
    pub fn new_keys(&self) -> Option<&[RecordBatch]> {
        self.new_keys.as_ref().map(|keys| keys.batches.as_slice())
    }

    /// Whether rows were copied from files that go.
    pub fn has_copied_rows(&self) -> bool {
        self.copied > 0
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The data files, from the warehouse's root.
    pub(super) fn scan_files(&self) -> Vec<ScanFile> {
        let Some(folder) = self.location.as_ref().map(Location::path) else { return Vec::new() };
        let file = |(index, add): (usize, &Add)| ScanFile {
            path: join(&folder, &add.path),
            size_bytes: u64::try_from(add.size).unwrap_or_default(),
            index: index as u64,
            constants: HashMap::new(),
        };
        self.adds.iter().enumerate().map(file).collect()
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
        // What holds no file says nothing about keys.
        self.new_keys = match (self.location.is_some(), other.location.is_some()) {
            (_, false) => self.new_keys,
            (false, true) => other.new_keys,
            (true, true) => match (self.new_keys, other.new_keys) {
                (Some(mine), Some(others)) => mine.and(others),
                _ => None,
            },
        };
        if self.location.is_none() {
            self.location = other.location;
            self.schema = other.schema;
            self.store = other.store;
        }
        self.adds.extend(other.adds);
        self.changes.extend(other.changes);
        self.after = self.after.min(other.after);
        self.rows += other.rows;
        self.copied += other.copied;
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

impl NewKeys {
    /// With the keys of `batch`; `None` where they become too many.
    fn with(mut self, batch: &RecordBatch) -> Result<Option<NewKeys>> {
        self.rows += batch.num_rows();
        if self.rows > KEPT_KEYS {
            return Ok(None);
        }
        let keys = batch.project(&self.places).map_err(|error| {
            Error::internal("a row has no place for its key").with_source(error)
        })?;
        self.batches.push(keys);
        Ok(Some(self))
    }

    fn and(mut self, other: NewKeys) -> Option<NewKeys> {
        self.rows += other.rows;
        self.batches.extend(other.batches);
        (self.rows <= KEPT_KEYS).then_some(self)
    }
}

/// Where the columns of `keys` are among `columns`.
fn places<'a>(columns: &[TableColumn], keys: impl Iterator<Item = &'a Key>) -> Vec<usize> {
    let ids: HashSet<u32> = keys.flat_map(|key| &key.columns).copied().collect();
    let in_key = |column: &TableColumn| column.id.is_some_and(|id| ids.contains(&id));
    let found = columns.iter().enumerate().filter(|(_, column)| in_key(column));
    found.map(|(place, _)| place).collect()
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

    const ROW_GROUP_ROWS: usize = 1024 * 1024;
    /// Rows of a page in a table with keys.
    const KEYED_PAGE_ROWS: usize = 4096;
    /// A dictionary of a column in such a table is no larger.
    const KEYED_DICTIONARY_BYTES: usize = 16 << 10;

    /// # Why no statistics on floats
    /// Arrow orders `NaN` above every number, statistics pass it over: a file whose only large
    /// value is `NaN` would be skipped by `d > 100`, though the row is there.
    ///
    /// # Why bloom filters on keys
    /// A key looked for among keys in no order is within the least and the greatest of every file
    /// and row group. At one false answer in a hundred the filter of a full row group is 2 MiB;
    /// it shrinks with the number of keys that are written.
    ///
    /// # Why smaller pages beside keys
    /// Whoever reads the one row of a key unpacks a page of each column for it; at the usual
    /// 20,000 rows that is most of the work. So it was with the dictionary of each column, of up to
    /// 1 MiB at the usual limit, also where the row's own page does not use it: a column of values
    /// that differ goes on without one when it is full. A key has none from the start.
    ///
    /// `keys` are the places of the columns that rows are looked for by, `distinct` those in which
    /// each row has another value.
    pub(super) fn writer_config(
        schema: &SchemaRef,
        keys: &[usize],
        distinct: &[usize],
    ) -> WriterConfig {
        let floats = |of: &DataType| of.is_floating();
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
        for field in schema.fields().iter().filter(|field| floats(field.data_type())) {
            properties = properties.set_column_statistics_enabled(
                ColumnPath::from(field.name().as_str()),
                EnabledStatistics::None,
            );
        }
        if !keys.is_empty() {
            properties = properties
                .set_data_page_row_count_limit(KEYED_PAGE_ROWS)
                .set_dictionary_page_size_limit(KEYED_DICTIONARY_BYTES);
        }
        for field in distinct.iter().filter_map(|place| schema.fields().get(*place)) {
            let path = ColumnPath::from(field.name().as_str());
            properties = properties.set_column_dictionary_enabled(path, false);
        }
        let key_fields = || keys.iter().filter_map(|place| schema.fields().get(*place));
        for field in key_fields() {
            let path = ColumnPath::from(field.name().as_str());
            properties = properties
                .set_column_bloom_filter_fpp(path.clone(), 0.01)
                .set_column_bloom_filter_max_ndv(path, ROW_GROUP_ROWS as u64);
        }
        let others = (schema.fields().iter().enumerate())
            .filter(|(place, _)| !keys.contains(place))
            .map(|(_, field)| field);
        let indexed = (key_fields().chain(others))
            .filter(|field| !floats(field.data_type()) && !field.data_type().is_nested())
            .filter(|field| super::super::bounds::is_exact(field.data_type()))
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
