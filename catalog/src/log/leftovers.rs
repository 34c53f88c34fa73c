//! What the catalog log names, ever: so that what it does not name can be told from history.
//!
//! What it guarantees: a dataset or a body that any entry names is kept, whether it is still in the
//! state or was dropped long ago; a new dataset is not named by an entry once its folder could be
//! taken for a leftover.
//! What it does not: it removes no entry and no checkpoint.
//! On failure: what is still there is found by the next round.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use uuid::Uuid;

use super::entry::{self, entries};
use super::{Catalog, body};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::state::{Change, State};

/// A dataset is in the catalog this soon after its folder was begun, or not at all.
pub const NEW_DATASET_AGE_MAX: Duration = Duration::from_secs(12 * 60 * 60);

/// What the log names.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The folders of datasets.
    pub datasets: HashSet<String>,
    /// The bodies of texts.
    bodies: HashSet<String>,
}

impl Catalog {
    /// Reads the whole log for every dataset and every body that it ever named.
    pub async fn named(&self) -> Result<Named> {
        let latest = self.refresh().await?;
        let mut named = Named::default();
        if latest.is_new() {
            return Ok(named);
        }
        let mut stream = pin!(entries(self.environment(), 0..=latest.version));
        while let Some((version, bytes)) = stream.try_next().await? {
            let (mut entry, _) = entry::decode(&bytes, version, None)?;
            for change in &mut entry.changes {
                named.bodies.extend(change.texts_mut().into_iter().map(|text| text.body.clone()));
                if let Change::PutRelation(relation) = change {
                    named.datasets.extend(relation.table().map(|table| table.dataset.clone()));
                }
            }
        }
        Ok(named)
    }

    /// Removes bodies older than `older_than` (a day at least) that no entry named: those of a
    /// server that was killed between a body and its entry. Says how many those were.
    pub async fn sweep_bodies(&self, named: &Named, older_than: Duration) -> Result<usize> {
        let older_than = older_than.max(NEW_DATASET_AGE_MAX * 2);
        let age_ms = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
        let cutoff_ms = self.environment().now_ms().saturating_sub(age_ms);
        let mut listed = self.environment().store().list(Some(&Path::from(body::FOLDER)));
        let mut unnamed = BTreeSet::new();
        while let Some(object) = listed.try_next().await? {
            let old = object.last_modified.timestamp_millis() < cutoff_ms;
            let id = object.location.filename().and_then(|name| name.strip_suffix(".json"));
            unnamed.extend(id.filter(|id| old && !named.bodies.contains(*id)).map(str::to_owned));
        }
        let count = unnamed.len();
        body::discard(self.environment(), unnamed).await;
        Ok(count)
    }
}

/// Refuses to name a dataset whose folder was begun so long ago that it may be swept.
pub(super) fn refuse_stale(
    environment: &Environment,
    state: &State,
    changes: &[Change],
) -> Result<()> {
    let age_max_ms = i64::try_from(NEW_DATASET_AGE_MAX.as_millis()).unwrap_or(i64::MAX);
    let datasets = changes.iter().filter_map(|change| match change {
        Change::PutRelation(relation) if !state.relations.contains_key(&relation.oid) => {
            relation.table().map(|table| table.dataset.as_str())
        }
        _ => None,
    });
    for dataset in datasets {
        let made = Uuid::try_parse(dataset).ok().and_then(|id| id.get_timestamp());
        let made_ms =
            made.and_then(|made| i64::try_from(made.to_unix().0).ok()).map(|it| it * 1000);
        if made_ms.is_some_and(|made| environment.now_ms() - made > age_max_ms) {
            let message = "the transaction that makes a table was open for too long";
            return Err(
                Error::new(Kind::SerializationFailure, message).with_hint("Make the table again.")
            );
        }
    }
    Ok(())
}
