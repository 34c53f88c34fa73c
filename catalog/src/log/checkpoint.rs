//! Checkpoints: the state at a version, so that opening does not read the whole log.
//!
//! What it is: `catalog/checkpoint/<number>.json`, two lines: a header with the format and the
//! SHA-256 of the second line, which is the state.
//! What it guarantees: one is used only if it is whole and the entry of its version is the one it
//! names as its head.
//! What it does not: it is no part of the chain; whoever can write to the store can write a false
//! checkpoint with a true head. `Catalog::verify` and a replay do not use them.
//! On failure: a broken one is passed over for an older one, in the end for the whole log.

use object_store::{ObjectStore, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::entry::{digest, get, list, location, read_entry};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::state::State;

const FORMAT: u32 = 1;
const FOLDER: &str = "catalog/checkpoint";

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    sha256: String,
}

/// The state of the newest sound checkpoint at or below `version`, without the bodies of texts.
pub(super) async fn newest(environment: &Environment, version: u64) -> Result<Option<State>> {
    let mut versions = list(environment, FOLDER, None).await?;
    versions.retain(|found| *found <= version);
    versions.sort_unstable();
    for version in versions.into_iter().rev() {
        let Some(bytes) = get(environment, &location(FOLDER, version)).await? else { continue };
        let Some(entry) = read_entry(environment, version).await? else {
            tracing::warn!(version, "a checkpoint is passed over: its entry is missing");
            continue;
        };
        match decode(&bytes, version, &digest(&entry)) {
            Ok(state) => return Ok(Some(state)),
            Err(error) => tracing::warn!(version, ?error, "a checkpoint is passed over"),
        }
    }
    Ok(None)
}

/// Stores `state` as a checkpoint, unless there is one of its version.
pub(super) async fn write(environment: &Environment, state: &State) -> Result<()> {
    if state.is_new() {
        return Ok(());
    }
    let state_json = serde_json::to_vec(state)?;
    let header = Header { format: FORMAT, sha256: digest(&state_json) };
    let mut bytes = serde_json::to_vec(&header)?;
    bytes.push(b'\n');
    bytes.extend(state_json);
    bytes.push(b'\n');
    let options = PutOptions::from(PutMode::Create);
    let location = location(FOLDER, state.version);
    match environment.store().put_opts(&location, bytes.into(), options).await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn decode(bytes: &[u8], version: u64, head: &str) -> Result<State> {
    let broken = |what: &str| {
        Error::new(Kind::DataCorrupted, format!("catalog checkpoint {version} {what}"))
    };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(header), Some(state)) = (lines.next(), lines.next()) else {
        return Err(broken("is cut short"));
    };
    let header: Header = serde_json::from_slice(header)?;
    if header.format != FORMAT {
        return Err(broken("has a format that is not known"));
    }
    if header.sha256 != digest(state) {
        return Err(broken("was changed"));
    }
    let state: State = serde_json::from_slice(state)?;
    if state.version != version || state.head != head {
        return Err(broken("does not belong to this log"));
    }
    Ok(state.indexed())
}
