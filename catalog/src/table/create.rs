//! Version 0 of a table: protocol and metadata, and the rows a `CREATE TABLE AS` brings along.
//!
//! # Why these properties
//! History is kept, so nothing may clean the log up or vacuum files by age. Changes are recorded
//! (`delta.enableChangeDataFeed`) so that what changed between two versions can be read by any
//! tool. Deletion vectors and column mapping stay off: both make scans slower or schemas rigid.

use deltalake_core::kernel::{Action, Metadata, Protocol, new_metadata};
use serde_json::json;

use super::checkpoint::CHECKPOINT_EVERY;
use super::commit::{Basis, Commit, CommitAuthor, Metrics};
use super::schema::{TableColumn, delta_schema};
use super::{Location, Staged, Tables, delta_error};
use crate::error::Result;
use crate::types::Type;

/// About three thousand years: Delta has no word for ever.
const FOREVER: &str = "interval 1000000 days";

impl Tables {
    /// Makes the table. Nobody sees it before the catalog names its location.
    ///
    /// # Errors
    /// `0A000` for a type Delta cannot store, `58030` for the storage's failures.
    pub async fn create(
        &self,
        location: &Location,
        columns: &[TableColumn],
        rows: Option<Staged>,
        author: &CommitAuthor,
    ) -> Result<u64> {
        let operation = if rows.is_some() { "CREATE TABLE AS SELECT" } else { "CREATE TABLE" };
        let mut actions =
            vec![Action::Protocol(protocol(columns)?), Action::Metadata(metadata(columns)?)];
        let mut metrics = Metrics::default();
        let staged_after = rows.as_ref().map(|rows| rows.after);
        if let Some(rows) = rows {
            metrics.rows_inserted = rows.rows;
            actions.extend(rows.into_actions());
        }
        let commit = Commit {
            operation,
            basis: Basis::New,
            read_version: None,
            actions,
            staged_after,
            author: author.clone(),
            metrics,
        };
        let log_store = self.log_store(location)?;
        self.commit_to(location, &log_store, commit).await
    }
}

/// Metadata like `old`, for other columns: what a column's adding, dropping or renaming writes.
pub(super) fn metadata_with(old: &Metadata, columns: &[TableColumn]) -> Result<Metadata> {
    let schema = serde_json::to_string(&delta_schema(columns)?)?;
    let mut value = serde_json::to_value(old)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("schemaString".to_owned(), json!(schema));
    }
    Ok(serde_json::from_value(value)?)
}

/// The protocol that `columns` need, and nothing more: any reader that can, should.
pub(super) fn protocol(columns: &[TableColumn]) -> Result<Protocol> {
    let value = if columns.iter().any(|column| holds_timestamp(&column.data_type)) {
        json!({
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"],
            "writerFeatures": ["timestampNtz", "changeDataFeed", "appendOnly", "invariants"],
        })
    } else {
        json!({ "minReaderVersion": 1, "minWriterVersion": 4 })
    };
    Ok(serde_json::from_value(value)?)
}

fn metadata(columns: &[TableColumn]) -> Result<Metadata> {
    let checkpoint_every = CHECKPOINT_EVERY.to_string();
    let configuration = [
        ("delta.enableChangeDataFeed", "true"),
        ("delta.enableExpiredLogCleanup", "false"),
        ("delta.logRetentionDuration", FOREVER),
        ("delta.deletedFileRetentionDuration", FOREVER),
        ("delta.checkpointInterval", checkpoint_every.as_str()),
    ];
    let no_partitions: [&str; 0] = [];
    new_metadata(&delta_schema(columns)?, no_partitions, configuration)
        .map_err(|error| delta_error(error.into()))
}

/// Whether a timestamp without time zone, which is a table feature, is anywhere in the type.
fn holds_timestamp(of: &Type) -> bool {
    match of {
        Type::Timestamp => true,
        Type::Array(element) => holds_timestamp(element),
        Type::Struct(fields) => fields.iter().any(|(_, field)| holds_timestamp(field)),
        _ => false,
    }
}
