//! Signed heads of the ledger's chains: `audit/anchor/<server>/<number>.json`.
//!
//! What it is: an [`Anchor`] says, under the warehouse's signature, how many links a server's chain
//! has and what the hash of the last one is; and the same of the catalog log, whose cut-off end is
//! found out by it. Each names the hash of the one before.
//! What it guarantees: they are put where none is, so that two servers that go by one name do not
//! sign past each other unseen; a changed, forged or skipped one is `XX001`.
//! What it does not: whoever removes the newest anchors, the links and the catalog entries behind
//! them together leaves a ledger that is whole and shorter. Against that, a copy of one anchor kept
//! elsewhere (`kho audit verify` prints the newest) is enough.
//! On failure: the next is tried a second later; a warning says so.
//!
//! # Why not every one in the catalog log
//! There is one each second under traffic. In the catalog log that would be 86,400 entries a day
//! and server among a few dozen that a person made: each makes a new state (with ten thousand
//! datasets some milliseconds of copying) that empties what is kept by catalog version, each
//! hundredth writes a checkpoint of everything, and each makes the commits of other servers wait
//! in line. So the catalog log gets a copy of one an hour under traffic, and at stop; between those
//! the anchors' own log, chained like it, carries them. Of that the newest hundred are kept: a head
//! says all that those before it said.

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::key::{Keys, PublicKey};
use super::stored::{Head, digest};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};

const FORMAT: u32 = 1;
const FOLDER: &str = "audit/anchor";
/// Anchors of one server that are kept.
const KEPT: usize = 100;

/// One signed head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    pub format: u32,
    pub server: String,
    /// Counts the anchors of one server.
    pub number: u64,
    /// SHA-256 of the anchor before, as stored; empty in the first.
    pub previous: String,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// How many links the chain has, and the hash of the last.
    pub links: u64,
    pub head: String,
    /// The newest catalog entry that the server knew, and its hash.
    pub catalog_version: u64,
    pub catalog_head: String,
    /// Ed25519 over all of the above, in hexadecimal.
    pub signature: String,
}

/// The newest anchor of a server, as the next follows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Newest {
    pub anchor: Option<Anchor>,
    hash: String,
}

impl Anchor {
    /// What is signed: every field on a line of its own. None of them can hold a line end.
    fn message(&self) -> Vec<u8> {
        let Anchor { format, server, number, previous, time_ms, links, head, .. } = self;
        let (version, catalog) = (self.catalog_version, &self.catalog_head);
        format!(
            "kho ledger anchor {format}\n{server}\n{number}\n{previous}\n{time_ms}\n{links}\n\
             {head}\n{version}\n{catalog}\n"
        )
        .into_bytes()
    }

    /// The head that it states.
    pub fn chain(&self) -> Head {
        Head { next: self.links, hash: self.head.clone() }
    }

    /// Whether one of `keys` signed it.
    pub(super) fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let message = self.message();
        keys.iter().any(|key| key.verifies(&message, &self.signature))
    }
}

/// Signs `head` and stores that as the anchor after `newest`.
///
/// # Errors
/// `58030` also where another server has put the anchor of that number.
pub(super) async fn put(
    environment: &Environment,
    keys: &Keys,
    server: &str,
    newest: &Newest,
    head: &Head,
    (catalog_version, catalog_head): (u64, String),
) -> Result<Newest> {
    let number = newest.anchor.as_ref().map_or(0, |it| it.number.saturating_add(1));
    let mut anchor = Anchor {
        format: FORMAT,
        server: server.to_owned(),
        number,
        previous: newest.hash.clone(),
        time_ms: environment.now_ms(),
        links: head.next,
        head: head.hash.clone(),
        catalog_version,
        catalog_head,
        signature: String::new(),
    };
    anchor.signature = keys.sign(&anchor.message());
    let bytes = serde_json::to_vec(&anchor)?;
    let next = Newest { hash: digest(&bytes), anchor: Some(anchor) };
    let location = location(server, number);
    let options = PutOptions::from(PutMode::Create);
    match environment.store().put_opts(&location, bytes.clone().into(), options).await {
        Ok(_) => Ok(next),
        Err(object_store::Error::AlreadyExists { .. }) => {
            // The answer to an earlier attempt may have been lost; then it says what was known then,
            // and what is new comes with the next.
            match read(environment, server, number).await? {
                Some((anchor, hash)) if anchor.is_signed_by(&[keys.public()]) => {
                    Ok(Newest { anchor: Some(anchor), hash })
                }
                _ => {
                    let message = format!("another server writes the audit anchors of {server}");
                    Err(Error::new(Kind::Io, message))
                }
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The newest anchor of a server.
pub(super) async fn newest(environment: &Environment, server: &str) -> Result<Newest> {
    let Some(number) = numbers(environment, server).await?.pop() else {
        return Ok(Newest::default());
    };
    let found = read(environment, server, number).await?;
    Ok(found.map_or_else(Newest::default, |(anchor, hash)| Newest { anchor: Some(anchor), hash }))
}

/// The anchors of a server, oldest first, each found signed and following from the one before.
pub(super) async fn verified(
    environment: &Environment,
    server: &str,
    keys: &[PublicKey],
) -> Result<Vec<Anchor>> {
    let mut all: Vec<Anchor> = Vec::new();
    let mut hash: Option<String> = None;
    for number in numbers(environment, server).await? {
        let broken = |what: &str| broken(server, number, what);
        let (anchor, its_hash) = match read(environment, server, number).await? {
            Some(found) => found,
            // The oldest go while a server runs.
            None if all.is_empty() => continue,
            None => return Err(broken("is missing")),
        };
        if anchor.server != server || anchor.number != number {
            return Err(broken("says that it is another one"));
        }
        if !anchor.is_signed_by(keys) {
            return Err(broken("is not signed by the warehouse"));
        }
        let expected = all.last().map_or(number, |before| before.number.saturating_add(1));
        if number != expected || hash.as_ref().is_some_and(|hash| *hash != anchor.previous) {
            return Err(broken("does not follow from the one before it"));
        }
        hash = Some(its_hash);
        all.push(anchor);
    }
    Ok(all)
}

/// Removes old anchors; one that stays is no harm.
pub(super) async fn prune(environment: &Environment, server: &str) -> Result<()> {
    let numbers = numbers(environment, server).await?;
    for number in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
        match environment.store().delete(&location(server, *number)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Who has anchors.
pub(super) async fn servers(environment: &Environment) -> Result<Vec<String>> {
    let listed = environment.store().list_with_delimiter(Some(&Path::from(FOLDER))).await?;
    Ok(listed.common_prefixes.iter().filter_map(|it| it.filename().map(str::to_owned)).collect())
}

async fn numbers(environment: &Environment, server: &str) -> Result<Vec<u64>> {
    let folder = Path::from(format!("{FOLDER}/{server}"));
    let listed: Vec<_> = environment.store().list(Some(&folder)).try_collect().await?;
    let number = |name: &str| name.strip_suffix(".json")?.parse::<u64>().ok();
    let mut numbers: Vec<u64> =
        listed.iter().filter_map(|object| object.location.filename().and_then(number)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

async fn read(
    environment: &Environment,
    server: &str,
    number: u64,
) -> Result<Option<(Anchor, String)>> {
    let bytes = match environment.store().get(&location(server, number)).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let anchor: Anchor = serde_json::from_slice(&bytes)
        .map_err(|error| broken(server, number, "does not parse").with_source(error))?;
    // What it says has one spelling, so that no byte of it can be another.
    if serde_json::to_vec(&anchor)? != bytes {
        return Err(broken(server, number, "was changed"));
    }
    if anchor.format != FORMAT {
        return Err(broken(server, number, "has a format that is not known"));
    }
    Ok(Some((anchor, digest(&bytes))))
}

fn location(server: &str, number: u64) -> Path {
    Path::from(format!("{FOLDER}/{server}/{number:020}.json"))
}

fn broken(server: &str, number: u64, what: &str) -> Error {
    Error::new(Kind::DataCorrupted, format!("audit anchor {number} of server {server} {what}"))
}
