//! One entry of the catalog log: its form, its hash, and its place on the store.
//!
//! What it guarantees: bytes that do not fit the number, the format or the chain are refused with
//! the number of the entry; an entry is put once, or found to be another's.
//! What it does not: it reads no bodies of texts.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::state::{Change, Oid, State};

/// The form written today; later ones are refused, earlier ones (there are none) are read.
const FORMAT: u32 = 1;
const FOLDER: &str = "catalog/log";
/// A put that failed without a word on its outcome is repeated this often, at once.
const PUT_ATTEMPTS: usize = 3;
/// After which it is not begun again: who waits is told.
const PUT_AGAIN_WITHIN: Duration = Duration::from_secs(10);
const READS_AT_ONCE: usize = 16;

/// Who commits, and for which statement.
#[derive(Clone, Debug)]
pub struct Author {
    pub role: Oid,
    /// The id under which the ledger knows the statement.
    pub statement_id: String,
    /// The command's tag, `CREATE TABLE` for one; no text of the user.
    pub action: String,
}

/// One atomic change of the catalog, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub format: u32,
    pub version: u64,
    /// SHA-256 of the bytes of the entry before, in hexadecimal; empty in the first.
    pub previous: String,
    /// Tells this attempt from every other, so that a writer can find itself.
    pub id: String,
    /// Milliseconds since the epoch, by the writer's clock: not always rising.
    pub time_ms: i64,
    pub role: Oid,
    pub statement: String,
    pub server: String,
    pub action: String,
    pub changes: Vec<Change>,
}

/// Whose entry has the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Ours,
    Theirs,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Entry {
    /// The entry that would come next after `state`.
    pub(super) fn new(
        environment: &Environment,
        server: &str,
        author: &Author,
        state: &State,
        changes: Vec<Change>,
    ) -> Entry {
        Entry {
            format: FORMAT,
            version: state.next_version(),
            previous: state.head.clone(),
            id: environment.new_id(),
            time_ms: environment.now_ms(),
            role: author.role,
            statement: author.statement_id.clone(),
            server: server.to_owned(),
            action: author.action.clone(),
            changes,
        }
    }

    pub(super) fn encode(&self) -> Result<Bytes> {
        let encoded = serde_json::to_vec(self);
        let failed = |error| Error::internal("a catalog entry has no JSON form").with_source(error);
        Ok(Bytes::from(encoded.map_err(failed)?))
    }
}

/// The entry in `bytes` as the one after `state`, and its hash.
pub(super) fn chained(bytes: &[u8], state: &State) -> Result<(Entry, String)> {
    decode(bytes, state.next_version(), Some(&state.head))
}

/// The entry in `bytes`, which is stored under `version`, and its hash. `previous` is the hash
/// of the entry before, where it is known.
pub(super) fn decode(
    bytes: &[u8],
    version: u64,
    previous: Option<&str>,
) -> Result<(Entry, String)> {
    let unreadable = |error| corrupted(version, "does not parse").with_source(error);
    let Format { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if format > FORMAT {
        let message = format!("catalog entry {version} has format {format}, which is not known");
        return Err(
            Error::unsupported(message).with_hint("A newer Kho wrote it; upgrade this server.")
        );
    }
    let entry: Entry = serde_json::from_slice(bytes).map_err(unreadable)?;
    if entry.format != FORMAT || entry.version != version {
        return Err(corrupted(version, "says that it is another one"));
    }
    if previous.is_some_and(|previous| previous != entry.previous) {
        return Err(corrupted(version, "does not follow from the one before it"));
    }
    Ok((entry, digest(bytes)))
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of one entry; `None` where the log ends before it.
pub(super) async fn read_entry(environment: &Environment, version: u64) -> Result<Option<Bytes>> {
    get(environment, &location(FOLDER, version)).await
}

/// The bytes of the entries `versions`, in order, read some at a time; a missing one is an error.
pub(super) fn entries(
    environment: &Environment,
    versions: RangeInclusive<u64>,
) -> impl Stream<Item = Result<(u64, Bytes)>> + Send {
    stream::iter(versions)
        .map(move |version| async move {
            let bytes = read_entry(environment, version).await?;
            Ok((version, bytes.ok_or_else(|| corrupted(version, "is missing"))?))
        })
        .buffered(READS_AT_ONCE)
}

/// The number of the newest entry, where it is after `state`.
pub(super) async fn list_after(environment: &Environment, state: &State) -> Result<Option<u64>> {
    let after = (!state.is_new()).then_some(state.version);
    Ok(list(environment, FOLDER, after).await?.into_iter().max())
}

/// The numbers of the documents in `folder`, those greater than `after` only.
pub(super) async fn list(
    environment: &Environment,
    folder: &str,
    after: Option<u64>,
) -> Result<Vec<u64>> {
    let prefix = Path::from(folder);
    let store = environment.store();
    let listed = match after {
        Some(version) => store.list_with_offset(Some(&prefix), &location(folder, version)),
        None => store.list(Some(&prefix)),
    };
    let number = |name: &str| name.strip_suffix(".json")?.parse::<u64>().ok();
    let numbers = listed
        .try_filter_map(|object| async move { Ok(object.location.filename().and_then(number)) });
    Ok(numbers.try_collect().await?)
}

/// Puts `entry` under its number. An attempt whose outcome is unknown is repeated: it finds
/// either the free number, or an entry there, and whose that is. That second put also makes the
/// name durable where the first came no further than making it.
pub(super) async fn put_entry(
    environment: &Environment,
    entry: &Entry,
    bytes: &Bytes,
) -> Result<Written> {
    let location = location(FOLDER, entry.version);
    let mut failure = None;
    let begun = Instant::now();
    for _ in 0..PUT_ATTEMPTS {
        if begun.elapsed() > PUT_AGAIN_WITHIN {
            break;
        }
        let options = PutOptions::from(PutMode::Create);
        match environment.store().put_opts(&location, bytes.clone().into(), options).await {
            Ok(_) => return Ok(Written::Ours),
            Err(object_store::Error::AlreadyExists { .. }) => {
                return whose(environment, &location, &entry.id).await;
            }
            Err(error) => {
                tracing::warn!(%error, version = entry.version, "a catalog put failed");
                failure = Some(error);
            }
        }
    }
    let unclear = Error::new(Kind::Io, "it is not known whether the change was stored")
        .with_hint("The warehouse's storage failed; look before you try again.");
    let Some(failure) = failure else { return Err(unclear) };
    // A disk that refused has not stored it, where it is not there; of others nobody knows.
    match Error::of_refusing_disk(&failure) {
        Some(told) if get(environment, &location).await?.is_none() => {
            Err(told.with_source(failure))
        }
        _ => Err(unclear.with_source(failure)),
    }
}

/// Sees to it that the end of the log is an end: the entry that `state` was read from is there.
pub(super) async fn check_still_there(environment: &Environment, state: &State) -> Result<()> {
    if state.is_new() {
        return Ok(());
    }
    match environment.store().head(&location(FOLDER, state.version)).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::NotFound { .. }) => Err(corrupted(state.version, "is gone")),
        Err(error) => Err(error.into()),
    }
}

/// The place of a numbered document.
pub(super) fn location(folder: &str, version: u64) -> Path {
    Path::from(format!("{folder}/{version:020}.json"))
}

/// The bytes of an object, if it is there.
pub(super) async fn get(environment: &Environment, location: &Path) -> Result<Option<Bytes>> {
    match environment.store().get(location).await {
        Ok(found) => Ok(Some(found.bytes().await?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn whose(environment: &Environment, location: &Path, id: &str) -> Result<Written> {
    let Some(bytes) = get(environment, location).await? else {
        return Err(Error::new(Kind::Io, "an object that exists could not be read"));
    };
    // What does not parse is not ours; the read that follows says what is wrong with it.
    match serde_json::from_slice::<Id>(&bytes) {
        Ok(found) if found.id == id => Ok(Written::Ours),
        _ => Ok(Written::Theirs),
    }
}

fn corrupted(version: u64, what: &str) -> Error {
    Error::new(Kind::DataCorrupted, format!("catalog entry {version} {what}"))
        .with_hint("Restore the catalog log from a backup.")
}
