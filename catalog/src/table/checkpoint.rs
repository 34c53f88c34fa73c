//! Checkpoints of a table's log, written in the background: the state at a version in one file, so
//! that opening a table does not read every commit.
//!
//! What it guarantees: a checkpoint is written off the path of every commit, and whole or not at
//! all. It removes nothing from the log: history is kept.
//! What it does not: two servers may write the same one; it has the same name and says the same.
//! On failure: the table is as it was, and opens as before.

use deltalake_core::DeltaTable;
use deltalake_core::checkpoints::create_checkpoint;
use object_store::ObjectStoreExt;
use serde::Deserialize;

use super::{Location, Snapshot, Tables, delta_error};
use crate::error::{Error, Result};

/// Commits between two checkpoints, as the tables' own property says it to other writers.
pub(super) const CHECKPOINT_EVERY: u64 = 100;

/// What Delta's `_last_checkpoint` says, as far as it matters here.
#[derive(Deserialize)]
struct LastCheckpoint {
    version: u64,
}

impl Tables {
    /// Whether the last checkpoint of a table is old.
    pub async fn checkpoint_is_due(&self, location: &Location) -> Result<bool> {
        is_due(&self.glance(location).await?).await
    }

    /// Writes a checkpoint of the newest version where the last one is old, and gives its version.
    pub async fn checkpoint(&self, location: &Location) -> Result<Option<u64>> {
        let snapshot = self.glance(location).await?;
        let version = snapshot.version();
        if !is_due(&snapshot).await? {
            return Ok(None);
        }
        let mut table = DeltaTable::new(snapshot.log_store().clone());
        table.state = Some(snapshot.state().clone());
        // The kernel writes it without giving the thread back.
        let runtime = tokio::runtime::Handle::current();
        let written = move || runtime.block_on(create_checkpoint(&table, None));
        tokio::task::spawn_blocking(written)
            .await
            .map_err(|error| Error::internal("a checkpoint was interrupted").with_source(error))?
            .map_err(delta_error)?;
        Ok(Some(version))
    }
}

async fn is_due(snapshot: &Snapshot) -> Result<bool> {
    if snapshot.version() < CHECKPOINT_EVERY {
        return Ok(false);
    }
    let last = last_checkpoint(snapshot).await?;
    Ok(snapshot.version() >= last.unwrap_or_default().saturating_add(CHECKPOINT_EVERY))
}

/// The version of the newest checkpoint; `None` also where what is there does not parse, which a
/// new checkpoint mends.
async fn last_checkpoint(snapshot: &Snapshot) -> Result<Option<u64>> {
    let place = snapshot.location().path().join("_delta_log").join("_last_checkpoint");
    match snapshot.log_store().root_object_store(None).get(&place).await {
        Ok(found) => {
            let bytes = found.bytes().await?;
            Ok(serde_json::from_slice::<LastCheckpoint>(&bytes).ok().map(|last| last.version))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
