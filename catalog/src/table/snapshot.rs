//! One version of one table: its columns, its files, and what DataFusion reads it by.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Column;
use datafusion::common::pruning::PruningStatistics;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::Expr;
use deltalake_core::delta_datafusion::DeltaScanNext;
use deltalake_core::kernel::{Action, EagerSnapshot};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::table::state::DeltaTableState;
use tokio::sync::OnceCell;

use super::files::{FileScan, ScanFile};
use super::lookup::Lookup;
use super::schema::{self, TableColumn};
use super::width::Widths;
use super::{Location, delta_error};
use crate::error::{Error, Kind, Result};

/// What a scan takes its settings from.
///
/// # Why
/// Without a session the scan evaluates predicates row by row while it decodes, twice over, and
/// that costs more than it saves. With these settings a predicate passes over files, row groups
/// and pages by their statistics, and a filter above decides.
static SCAN_SETTINGS: LazyLock<Arc<SessionState>> =
    LazyLock::new(|| Arc::new(SessionStateBuilder::new().build()));

/// An immutable view of a table at one version; cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    location: Location,
    /// Where data is read, and where a commit goes.
    log_store: LogStoreRef,
    /// Where the log is read: the same, but for a transaction's own view.
    log: LogStoreRef,
    state: Arc<DeltaTableState>,
    once: Arc<Once>,
}

/// What is found out once for each snapshot, by who first needs it.
#[derive(Default)]
pub(super) struct Once {
    size: OnceLock<Arc<TableSize>>,
    pub widths: OnceCell<Widths>,
    listed: OnceLock<Listed>,
    provider: OnceCell<Arc<dyn TableProvider>>,
}

/// The live files, in two forms, and what passes over them.
#[derive(Clone)]
pub(super) struct Listed {
    pub files: Arc<[DataFile]>,
    pub scanned: Arc<[ScanFile]>,
    pub eager: Arc<EagerSnapshot>,
    /// Whether the rows are simply those of the files.
    pub is_plain: bool,
}

/// How large a table is, as its log says it: for guesses, never for answers.
#[derive(Clone, Debug, Default)]
pub struct TableSize {
    pub rows: u64,
    /// For columns of whole numbers and of days: how many values there are from the least to the
    /// greatest.
    pub ranges: HashMap<String, u64>,
}

/// One live file of a snapshot.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Relative to the table's folder.
    pub path: String,
    pub size_bytes: u64,
    /// Rows, where the log says it.
    pub records: Option<u64>,
}

impl Snapshot {
    pub(super) async fn open(
        location: Location,
        log_store: LogStoreRef,
        version: Option<u64>,
    ) -> Result<Snapshot> {
        let state =
            DeltaTableState::try_new(log_store.as_ref(), version).await.map_err(delta_error)?;
        let (state, once) = (Arc::new(state), Arc::default());
        Ok(Snapshot { location, log: log_store.clone(), log_store, state, once })
    }

    /// The same version with its log read from `log`.
    pub(super) fn on_branch(self, log: LogStoreRef) -> Snapshot {
        Snapshot { log, ..self }
    }

    /// This snapshot brought to the newest version, reading only what is new.
    pub(super) async fn refreshed(self) -> Result<Snapshot> {
        self.brought_to(None).await
    }

    /// The same for a version that is not older than this one.
    pub(super) async fn refreshed_to(self, version: u64) -> Result<Snapshot> {
        self.brought_to(Some(version)).await
    }

    async fn brought_to(self, version: Option<u64>) -> Result<Snapshot> {
        let mut state = DeltaTableState::clone(&self.state);
        state.update(self.log.as_ref(), version).await.map_err(delta_error)?;
        Ok(Snapshot { state: Arc::new(state), once: Arc::default(), ..self })
    }

    /// About what the snapshot takes in memory: for each file its path, in three forms, and statistics
    /// of its columns as text and as values.
    pub fn memory_bytes(&self) -> usize {
        const SNAPSHOT: usize = 64 << 10;
        const FILE: usize = 1024;
        const COLUMN: usize = 160;
        let columns = self.schema().fields().len().min(32);
        self.file_count().saturating_mul(FILE + columns * COLUMN).saturating_add(SNAPSHOT)
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    pub fn version(&self) -> u64 {
        self.state.version()
    }

    /// The Arrow schema of the table, with column ids and declared types in the field metadata.
    pub fn schema(&self) -> SchemaRef {
        self.eager().arrow_schema()
    }

    /// The columns, in order.
    pub fn columns(&self) -> Result<Vec<TableColumn>> {
        schema::columns(&self.schema())
    }

    /// How large the table is; found out once for each snapshot.
    pub fn size(&self) -> Arc<TableSize> {
        Arc::clone(self.once.size.get_or_init(|| Arc::new(measured(self.eager()))))
    }

    /// The live files, oldest first, in an order that is the same for every reader.
    pub fn files(&self) -> Vec<DataFile> {
        self.listed().files.to_vec()
    }

    pub fn file_count(&self) -> usize {
        self.eager().log_data().num_files()
    }

    /// The same with what they are looked into by.
    pub(super) fn listed(&self) -> &Listed {
        self.once.listed.get_or_init(|| {
            let mut files: Vec<DataFile> = (self.eager().log_data().iter())
                .map(|file| DataFile {
                    path: file.path().into_owned(),
                    size_bytes: u64::try_from(file.size()).unwrap_or_default(),
                    records: file.num_records().map(|records| records as u64),
                })
                .collect();
            files.sort_by(|one, other| one.path.cmp(&other.path));
            let folder = self.location.path();
            let scanned = files.iter().enumerate().map(|(index, file)| ScanFile {
                path: join(&folder, &file.path),
                size_bytes: file.size_bytes,
                index: index as u64,
                constants: HashMap::new(),
            });
            Listed {
                scanned: scanned.collect(),
                files: files.into(),
                eager: Arc::new(self.eager().clone()),
                is_plain: self.refuse_foreign_layout().is_ok(),
            }
        })
    }

    /// What DataFusion reads this version by. It is a raw table: only `sql::secure` may hand it on.
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>> {
        let made = self.once.provider.get_or_try_init(async || {
            DeltaScanNext::builder()
                .with_log_store(self.log_store.clone())
                .with_eager_snapshot(self.eager().clone())
                .with_session(Arc::clone(&SCAN_SETTINGS))
                .await
        });
        let made = made.await;
        let made = made
            .map_err(|error| Error::internal("the table cannot be scanned").with_source(error))?;
        Ok(Arc::clone(made))
    }

    /// The same rows with two columns more, [`super::FILE_COLUMN`] (an index into
    /// [`Snapshot::files`]) and [`super::ROW_COLUMN`] (the row's place in its file): the identity of a row
    /// in this version. `only` restricts it to some files.
    ///
    /// # Errors
    /// `0A000` for a table whose rows are not simply those of its files: partitioned tables,
    /// deletion vectors and column mapping, which other writers may have switched on.
    pub fn positioned(&self, only: Option<&[usize]>) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(self.positions(only)?))
    }

    /// The files, by their places in [`Snapshot::files`], that may have a row for which all
    /// `filters` are true.
    pub async fn files_holding(
        &self,
        session: &dyn Session,
        filters: &[Expr],
    ) -> Result<Vec<usize>> {
        let found = self.positions(None)?.holding(session, filters).await;
        let found = found.map_err(|error| {
            Error::new(Kind::Io, "a table's files could not be looked into").with_source(error)
        })?;
        Ok(found.iter().filter_map(|file| usize::try_from(file.index).ok()).collect())
    }

    fn positions(&self, only: Option<&[usize]>) -> Result<FileScan> {
        self.refuse_foreign_layout()?;
        let listed = self.listed();
        let wanted = |(index, _): &(usize, _)| only.is_none_or(|only| only.contains(index));
        let files = listed.scanned.iter().enumerate().filter(wanted);
        let files: Vec<ScanFile> = files.map(|(_, file)| file.clone()).collect();
        let store = self.log_store.root_object_store(None);
        let scan = FileScan::with_positions(store, self.schema(), files);
        Ok(scan.pruned_by(Arc::clone(&listed.eager), Arc::clone(&listed.files)))
    }

    /// The rows outside of the files `removed`, for look-ups by key.
    pub fn rows_outside(&self, removed: &[usize]) -> Result<Arc<dyn TableProvider>> {
        self.look_up(|index, _| !removed.contains(&index))
    }

    /// The rows of files that `older`, a version before, does not have, for look-ups by key.
    pub fn rows_since(&self, older: &Snapshot) -> Result<Arc<dyn TableProvider>> {
        let known: HashSet<String> = older.files().into_iter().map(|file| file.path).collect();
        self.look_up(|_, file| !known.contains(&file.path))
    }

    /// Whether nothing but rows is different in `other`.
    pub fn has_shape_of(&self, other: &Snapshot) -> bool {
        self.eager().metadata() == other.eager().metadata()
            && self.eager().protocol() == other.eager().protocol()
    }

    /// The rows of all files, with the columns of `schema`, for look-ups by key; `None` where the rows
    /// are not simply those of the files.
    pub(super) fn rows(&self, schema: SchemaRef) -> Option<Lookup> {
        let listed = self.listed();
        listed.is_plain.then(|| self.look_up_in(schema, Arc::clone(&listed.scanned)))
    }

    fn look_up(&self, wanted: impl Fn(usize, &DataFile) -> bool) -> Result<Arc<dyn TableProvider>> {
        self.refuse_foreign_layout()?;
        let listed = self.listed();
        let both = listed.files.iter().zip(listed.scanned.iter()).enumerate();
        let files = both.filter(|(index, (file, _))| wanted(*index, file));
        let files = files.map(|(_, (_, scanned))| scanned.clone()).collect();
        Ok(Arc::new(self.look_up_in(self.schema(), files)))
    }

    fn look_up_in(&self, schema: SchemaRef, files: Arc<[ScanFile]>) -> Lookup {
        let listed = self.listed();
        let store = self.log_store.root_object_store(None);
        let scan = FileScan::new(store.clone(), schema, files);
        let scan = scan.pruned_by(Arc::clone(&listed.eager), Arc::clone(&listed.files));
        Lookup::new(store, scan)
    }

    /// The log's tombstones for some of the files.
    pub(super) fn remove_actions(&self, files: &[usize], data_change: bool) -> Result<Vec<Action>> {
        let listed = self.files();
        let paths: HashSet<&str> =
            files.iter().filter_map(|file| listed.get(*file)).map(|it| it.path.as_str()).collect();
        if paths.len() != files.len() {
            return Err(Error::internal("a file to be replaced is not in the snapshot"));
        }
        Ok((self.eager().log_data().iter())
            .filter(|file| paths.contains(file.path().as_ref()))
            .map(|file| Action::Remove(file.remove_action(data_change)))
            .collect())
    }

    /// The log's entries for the files that `wanted` picks, to be added again.
    #[expect(deprecated, reason = "the arrays that replace it are for scans, not for commits")]
    pub(super) fn add_actions(&self, wanted: impl Fn(&str) -> bool) -> Vec<Action> {
        (self.eager().log_data().iter())
            .filter(|file| wanted(file.path().as_ref()))
            .map(|file| Action::Add(file.add_action()))
            .collect()
    }

    pub(super) fn once(&self) -> &Once {
        &self.once
    }

    pub(super) fn eager(&self) -> &EagerSnapshot {
        self.state.snapshot()
    }

    pub(super) fn state(&self) -> &DeltaTableState {
        &self.state
    }

    pub(super) fn log_store(&self) -> &LogStoreRef {
        &self.log_store
    }

    pub(super) fn log(&self) -> &LogStoreRef {
        &self.log
    }

    /// The newest load of a stream of loads that the table holds; `None` where it holds none.
    pub async fn newest_load(&self, stream: &str) -> Result<Option<i64>> {
        self.eager().transaction_version(self.log.as_ref(), stream).await.map_err(delta_error)
    }

    /// Our own writes copy rows out of files; a layout that hides rows would bring them back.
    pub(super) fn refuse_foreign_layout(&self) -> Result<()> {
        let metadata = self.eager().metadata();
        let vectors =
            self.eager().log_data().iter().any(|it| it.deletion_vector_descriptor().is_some());
        let mapping = metadata.configuration().get("delta.columnMapping.mode");
        if vectors
            || !metadata.partition_columns().is_empty()
            || mapping.is_some_and(|mode| mode != "none")
        {
            return Err(Error::unsupported("this table's layout can be read but not changed")
                .with_detail(
                    "Another tool gave it partitions, deletion vectors or column mapping.",
                ));
        }
        Ok(())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} at {})", self.location, self.version())
    }
}

fn measured(snapshot: &EagerSnapshot) -> TableSize {
    let files = snapshot.log_data();
    let rows = files.iter().filter_map(|file| file.num_records()).map(|it| it as u64).sum();
    let mut size = TableSize { rows, ranges: HashMap::new() };
    for field in snapshot.arrow_schema().fields() {
        let whole = field.data_type().is_signed_integer() || *field.data_type() == DataType::Date32;
        let range = if whole { range(snapshot, field.name()) } else { None };
        if let Some(range) = range {
            size.ranges.insert(field.name().clone(), range);
        }
    }
    size
}

/// How many values there are between the bounds of all files; `None` where one has none.
fn range(snapshot: &EagerSnapshot, column: &str) -> Option<u64> {
    let column = Column::from_name(column);
    let whole = |bounds: Option<ArrayRef>| {
        let bounds = bounds.filter(|it| it.null_count() == 0)?;
        // Days have no way to 64 bits but by 32.
        let bounds = match bounds.data_type() {
            DataType::Date32 => cast(&bounds, &DataType::Int32).ok()?,
            _ => bounds,
        };
        Some(cast(&bounds, &DataType::Int64).ok()?.as_primitive::<Int64Type>().clone())
    };
    let least = min(&whole(snapshot.min_values(&column))?)?;
    let greatest = max(&whole(snapshot.max_values(&column))?)?;
    Some(least.abs_diff(greatest).saturating_add(1))
}

/// A file's place below the root. The log may hold an absolute path only for foreign tables.
pub(super) fn join(folder: &object_store::path::Path, file: &str) -> object_store::path::Path {
    // The log's name, decoded, is the file's own: encoded, it would be another one's.
    let file = object_store::path::Path::parse(file)
        .unwrap_or_else(|_| object_store::path::Path::from(file));
    folder.parts().chain(file.parts()).collect()
}
