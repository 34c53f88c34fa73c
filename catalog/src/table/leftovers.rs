//! What crashed writes left behind: files in a table's folder that no version names, and folders
//! that no entry of the catalog ever named.
//!
//! What it guarantees: nothing is removed that any version of any table names, or will. This does
//! not rest on how old a file is:
//! - Every file was listed before the log was read from its newest commit to its first; a log that
//!   is not whole, because another program cleaned it up, leaves everything where it is.
//! - Between that reading and the first removal stands a commit of our own, the fence. A commit
//!   that came before it was read. A commit that replaces rows cannot come after it with files of
//!   before, since it lands on the version it read or not at all; one that appends or compacts is
//!   refused when it meets the fence, and one that moved on to a newer version with files of before
//!   is refused by the version they were staged after ([`super::commit`]). So a transaction that was
//!   open all the while fails with `40001`; it never commits files that are gone.
//! - A table that is being made has no log yet, or none that the catalog names. Its folder's name
//!   says when that began, and the catalog refuses to name a new folder that is half as old as the
//!   youngest that is removed ([`crate::log::NEW_DATASET_AGE_MAX`]).
//!
//! What it does not: another program that appends by itself and takes longer than the age given
//! between writing a file and committing it can lose that file, as with Delta's own `VACUUM`. A
//! process that stood still for twelve hours between asking the catalog's clock and putting its
//! entry is not provided for. Files that are not Parquet are left alone.
//! On failure: what is still there is found by the next round.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde_json::Value;
use uuid::Uuid;

use super::commit::{Commit, CommitAuthor, actions, is_plain, whole};
use super::{Location, Snapshot, Tables, delta_error};
use crate::error::{Kind, Result};
use crate::log::NEW_DATASET_AGE_MAX;

/// Where the tables' folders are.
const ROOT: &str = "tables";
const READS_AT_ONCE: usize = 16;
/// A transaction that is open in this server is not waited for; the next round comes by again.
const LEASE_WAIT: Duration = Duration::from_secs(5);

/// Files by their own name, which holds a random id, so that it does not matter how a log spells
/// the way to it.
type Candidates = HashMap<String, Path>;

impl Tables {
    /// Removes the files of a table that are older than `older_than` and that no version names;
    /// says how many those were.
    pub async fn sweep_table(
        &self,
        location: &Location,
        older_than: Duration,
        author: CommitAuthor,
    ) -> Result<usize> {
        let mut found = self.unnamed_in_listing(location, older_than).await?;
        let snapshot = self.glance(location).await?;
        for file in snapshot.files() {
            found.remove(own_name(&file.path));
        }
        if !keep_unnamed(&snapshot, 0, &mut found).await? || found.is_empty() {
            return Ok(0);
        }
        let lease = tokio::time::timeout(LEASE_WAIT, self.lease(location)).await;
        let Ok(_lease) = lease else { return Ok(0) };
        let newest = self.glance(location).await?;
        if !keep_unnamed(&newest, snapshot.version() + 1, &mut found).await? || found.is_empty() {
            return Ok(0);
        }
        match self.commit(&newest, Commit::fence(&newest, author)).await {
            Ok(_) => self.remove(found.into_values().collect()).await,
            // Whoever was faster may have named one of them.
            Err(error) if error.kind() == Kind::SerializationFailure => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Removes the folders of tables that came to nothing: not among `named`, the datasets that
    /// any entry of the catalog ever named, and older than `older_than` (a day at least). Says how
    /// many files those held.
    pub async fn sweep_folders(
        &self,
        named: &HashSet<String>,
        older_than: Duration,
    ) -> Result<usize> {
        let cutoff_ms = self.cutoff_ms(older_than.max(NEW_DATASET_AGE_MAX * 2));
        let root = Path::from(ROOT);
        let listed = self.environment().store().list_with_delimiter(Some(&root)).await?;
        let mut removed = 0;
        for folder in listed.common_prefixes {
            let name = folder.filename().unwrap_or_default();
            let old = made_ms(name).is_some_and(|made| made < cutoff_ms);
            if named.contains(name) || !old {
                continue;
            }
            let listed = self.environment().store().list(Some(&folder));
            let files: Vec<ObjectMeta> = listed.try_collect().await?;
            if files.iter().all(|file| file.last_modified.timestamp_millis() < cutoff_ms) {
                tracing::info!(folder = %folder, "a folder that no catalog entry names is removed");
                removed +=
                    self.remove(files.into_iter().map(|file| file.location).collect()).await?;
            }
        }
        Ok(removed)
    }

    /// The old Parquet files below a table's folder that are no part of its log.
    async fn unnamed_in_listing(
        &self,
        location: &Location,
        older_than: Duration,
    ) -> Result<Candidates> {
        let cutoff_ms = self.cutoff_ms(older_than);
        let folder = location.path();
        let log = folder.clone().join("_delta_log");
        let mut listed = self.environment().store().list(Some(&folder));
        let mut found = Candidates::new();
        while let Some(file) = listed.try_next().await? {
            let path = file.location;
            let name = path.filename().unwrap_or_default();
            let data = name.ends_with(".parquet") && is_plain(name) && !path.prefix_matches(&log);
            if data && file.last_modified.timestamp_millis() < cutoff_ms {
                found.insert(name.to_owned(), path);
            }
        }
        Ok(found)
    }

    async fn remove(&self, files: Vec<Path>) -> Result<usize> {
        let mut removed = 0;
        for file in files {
            match self.environment().store().delete(&file).await {
                Ok(()) => removed += 1,
                // Another server was faster.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }

    fn cutoff_ms(&self, older_than: Duration) -> i64 {
        let age_ms = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        self.environment().now_ms().saturating_sub(age_ms)
    }
}

/// Takes out of `found` what a commit of `snapshot`'s log from `first` on names. The newest come
/// first: what is new in the folder was most likely committed lately, and with nothing left to look
/// for the rest need not be read. False where the log does not say it all.
async fn keep_unnamed(snapshot: &Snapshot, first: u64, found: &mut Candidates) -> Result<bool> {
    if found.is_empty() {
        return Ok(true);
    }
    let mut entries = stream::iter((first..=snapshot.version()).rev())
        .map(|version| async move {
            let entry = snapshot.log_store().read_commit_entry(version).await;
            entry.map(|entry| (version, entry)).map_err(delta_error)
        })
        .buffered(READS_AT_ONCE);
    while let Some((version, entry)) = entries.try_next().await? {
        let Some(entry) = entry.filter(whole) else {
            let table = snapshot.location();
            tracing::info!(%table, version, "the log is not whole: nothing is swept");
            return Ok(false);
        };
        for action in actions(&entry) {
            let named = ["add", "remove", "cdc"].iter().find_map(|key| action.get(*key));
            if let Some(path) = named.and_then(|file| file.get("path")).and_then(Value::as_str) {
                found.remove(own_name(path));
            }
        }
        if found.is_empty() {
            break;
        }
    }
    Ok(true)
}

/// The last part of a path. Names that could be spelled in more than one way are no candidates.
fn own_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// When a folder's id was given out, in milliseconds since the epoch; `None` for a name that is
/// not ours.
fn made_ms(name: &str) -> Option<i64> {
    let id = Uuid::try_parse(name).ok().filter(|id| id.get_version_num() == 7)?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    i64::try_from(seconds.checked_mul(1000)? + u64::from(nanoseconds / 1_000_000)).ok()
}
