//! The bodies of texts: objects beside the log, written before the entry that commits to them.
//!
//! What it guarantees: an entry never commits to a text whose body was not durable before it.
//! What it does not: a body that is not there is not an error; it was erased.
//! On failure: bodies of a commit that did not come about are removed, or it is logged.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::entry::get;
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::state::Change;
use crate::text::Body;

pub(super) const FOLDER: &str = "catalog/body";
const AT_ONCE: usize = 16;

/// Reads the bodies `ids`; erased ones are absent from the answer.
pub(super) async fn read(
    environment: &Environment,
    ids: Vec<String>,
) -> Result<HashMap<String, Body>> {
    stream::iter(ids)
        .map(|id| async move {
            let Some(bytes) = get(environment, &location(&id)).await? else { return Ok(None) };
            match serde_json::from_slice(&bytes) {
                Ok(body) => Ok(Some((id, body))),
                Err(error) => {
                    let message = format!("catalog body {id} does not parse");
                    Err(Error::new(Kind::DataCorrupted, message).with_source(error))
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}

/// Writes the new texts of `changes`, notes their ids in `written`, and returns all those ids,
/// with the ones that an earlier attempt of the same commit wrote.
pub(super) async fn write(
    environment: &Environment,
    changes: &mut [Change],
    written: &mut BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let mut bodies = HashMap::new();
    for text in changes.iter_mut().flat_map(Change::texts_mut) {
        if let Some(body) = text.to_body() {
            bodies.insert(text.body.clone(), body);
            text.set_stored();
        }
    }
    let used = bodies.keys().cloned().collect();
    bodies.retain(|id, _| !written.contains(id));
    // Noted before they are written: one that fails half-way is discarded with the others.
    written.extend(bodies.keys().cloned());
    stream::iter(bodies)
        .map(|(id, body)| async move { put(environment, &id, &body).await })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(used)
}

/// Removes bodies that no entry commits to.
pub(super) async fn discard(environment: &Environment, ids: BTreeSet<String>) {
    for id in ids {
        match environment.store().delete(&location(&id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::warn!(%error, id, "a body that nothing refers to stays"),
        }
    }
}

async fn put(environment: &Environment, id: &str, body: &Body) -> Result<()> {
    let bytes = serde_json::to_vec(body)?;
    let options = PutOptions::from(PutMode::Create);
    match environment.store().put_opts(&location(id), bytes.into(), options).await {
        // Nobody else has this id: it is this very body, whose first answer was lost.
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn location(id: &str) -> Path {
    Path::from(format!("{FOLDER}/{id}.json"))
}
