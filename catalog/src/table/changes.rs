//! What changed between two versions, row by row (Delta's change data feed).
//!
//! What it guarantees: bounds are inclusive; each version's rows come with what happened to them.
//! A version that recorded its changes is read from those records, any other from the files it
//! added and removed, as the Delta protocol says.
//! What it does not: a range across which a column was dropped, renamed or retyped is refused.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::scalar::ScalarValue;
use deltalake_core::kernel::Action;
use deltalake_core::logstore::LogStoreRef;

use super::files::{FileScan, ScanFile};
use super::snapshot::join;
use super::{Location, Snapshot, Tables, delta_error};
use crate::error::{Error, Kind, Result};

/// The column that says what happened to a row: `insert`, `delete`, `update_preimage`,
/// `update_postimage`.
pub const CHANGE_TYPE: &str = "_change_type";
/// The column that says in which version.
pub const COMMIT_VERSION: &str = "_commit_version";
/// The column that says when.
pub const COMMIT_TIMESTAMP: &str = "_commit_timestamp";

impl Tables {
    /// The changes of the versions `first` to `last`, both included, with the columns of `last`.
    ///
    /// # Errors
    /// `22023` for bounds that do not exist, `0A000` for a range over which columns went away.
    pub async fn changes(
        &self,
        location: &Location,
        first: u64,
        last: u64,
    ) -> Result<Arc<dyn TableProvider>> {
        if first > last {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                format!("the first version, {first}, is after the last, {last}"),
            ));
        }
        let newest = self.at_version(location, last).await?;
        let oldest = self.at_version(location, first).await?;
        between(&oldest, &newest, first).await
    }
}

/// The changes of the versions `first` to that of `newest`.
pub(super) async fn between(
    oldest: &Snapshot,
    newest: &Snapshot,
    first: u64,
) -> Result<Arc<dyn TableProvider>> {
    refuse_lost_columns(oldest, newest)?;
    newest.refuse_foreign_layout()?;
    let mut files = Vec::new();
    for version in first..=newest.version() {
        files.extend(changed_files(newest.location(), newest.log(), version).await?);
    }
    for (index, file) in files.iter_mut().enumerate() {
        file.index = index as u64;
    }
    let store = newest.log_store().root_object_store(None);
    Ok(Arc::new(FileScan::new(store, change_schema(&newest.schema()), files)))
}

/// The columns of a change feed over a table with `schema`.
fn change_schema(schema: &Schema) -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")));
    // A row of an older version may lack a column that was added since.
    let columns = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let added = [
        Field::new(CHANGE_TYPE, DataType::Utf8, false),
        Field::new(COMMIT_VERSION, DataType::Int64, false),
        Field::new(COMMIT_TIMESTAMP, utc, false),
    ];
    Arc::new(Schema::new(columns.chain(added).collect::<Vec<_>>()))
}

fn refuse_lost_columns(oldest: &Snapshot, newest: &Snapshot) -> Result<()> {
    let now = newest.columns()?;
    for then in oldest.columns()? {
        let kept = now.iter().any(|column| {
            column.id == then.id && column.name == then.name && column.data_type == then.data_type
        });
        if !kept {
            return Err(Error::unsupported(format!(
                "column \"{}\" was dropped, renamed or retyped between these versions",
                then.name
            ))
            .with_hint("Ask for the changes before and after that version."));
        }
    }
    Ok(())
}

async fn changed_files(
    location: &Location,
    log_store: &LogStoreRef,
    version: u64,
) -> Result<Vec<ScanFile>> {
    let entry =
        log_store.read_commit_entry(version).await.map_err(delta_error)?.ok_or_else(|| {
            Error::new(
                Kind::InvalidParameterValue,
                format!("version {version} is no longer recorded"),
            )
        })?;
    let mut time_ms = 0;
    let (mut recorded, mut implied) = (Vec::new(), Vec::new());
    for line in entry.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line)? {
            Action::CommitInfo(info) => time_ms = info.timestamp.unwrap_or_default(),
            Action::Cdc(file) => recorded.push((file.path, file.size, None)),
            Action::Add(file) if file.data_change => {
                implied.push((file.path, file.size, Some("insert")));
            }
            Action::Remove(file) if file.data_change => {
                implied.push((file.path, file.size.unwrap_or_default(), Some("delete")));
            }
            _ => {}
        }
    }
    let files = if recorded.is_empty() { implied } else { recorded };
    let folder = location.path();
    let files = files.into_iter().map(|(path, size, change)| {
        let mut constants = HashMap::from([
            (COMMIT_VERSION.to_owned(), ScalarValue::from(i64::try_from(version).ok())),
            (
                COMMIT_TIMESTAMP.to_owned(),
                ScalarValue::TimestampMicrosecond(
                    Some(time_ms.saturating_mul(1000)),
                    Some(Arc::from("UTC")),
                ),
            ),
        ]);
        if let Some(change) = change {
            constants.insert(CHANGE_TYPE.to_owned(), ScalarValue::from(change));
        }
        ScanFile {
            path: join(&folder, &path),
            size_bytes: u64::try_from(size).unwrap_or_default(),
            index: 0,
            constants,
        }
    });
    Ok(files.collect())
}
