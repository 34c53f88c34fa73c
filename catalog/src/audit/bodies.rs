//! The bodies of sealed records: `audit/bodies/<server>-<first sequence>.jsonl`.
//!
//! What it is: one object for each sealing, with the bodies of its links in their order, each on a
//! line of its own ([`super::stored`] says what is in it).
//! What it guarantees: a link is sealed only after its body is durable here. Erasing a body leaves a
//! mark in its place; the object with it is put in one step.
//! What it does not: it decides nothing about who may erase.
//! On failure: of the storage; nothing is half erased but some objects may be done and others not.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::stored::{self, Linked, What};
use crate::environment::Environment;
use crate::error::Result;

const FOLDER: &str = "audit/bodies";

/// The bodies of one server, read an object at a time.
#[derive(Debug)]
pub(super) struct Bodies {
    environment: Environment,
    server: String,
    /// The first sequence of each object.
    starts: Vec<u64>,
    loaded: Option<(u64, BTreeMap<u64, Vec<u8>>)>,
}

impl Bodies {
    pub(super) async fn of(environment: &Environment, server: &str) -> Result<Bodies> {
        let starts = objects(environment).await?.remove(server).unwrap_or_default();
        let (environment, server) = (environment.clone(), server.to_owned());
        Ok(Bodies { environment, server, starts, loaded: None })
    }

    /// The body of a sealed link, or the mark of one; `None` where there is neither.
    pub(super) async fn get(&mut self, sequence: u64) -> Result<Option<Vec<u8>>> {
        let after = self.starts.partition_point(|start| *start <= sequence);
        let Some(start) = after.checked_sub(1).and_then(|at| self.starts.get(at)).copied() else {
            return Ok(None);
        };
        if self.loaded.as_ref().is_none_or(|(loaded, _)| *loaded != start) {
            self.loaded = Some((start, read(&self.environment, &self.server, start).await?));
        }
        Ok(self.loaded.as_mut().and_then(|(_, bodies)| bodies.remove(&sequence)))
    }
}

/// Stores the bodies of links that are about to be sealed. What a sealing that was cut off left
/// under the same name is the beginning of this.
pub(super) async fn put(environment: &Environment, server: &str, links: &[Linked]) -> Result<()> {
    let Some(first) = links.first() else { return Ok(()) };
    let mut bytes = Vec::new();
    for body in links.iter().filter_map(|link| link.body.as_ref()) {
        bytes.extend(body);
        bytes.push(b'\n');
    }
    environment.store().put(&location(server, first.sequence), bytes.into()).await?;
    Ok(())
}

/// Erases bodies of sealed links of `server`; says how many there were.
pub(super) async fn erase(
    environment: &Environment,
    server: &str,
    sequences: &BTreeSet<u64>,
) -> Result<u64> {
    let mut erased = 0;
    for start in objects(environment).await?.remove(server).unwrap_or_default() {
        let mut bodies = read(environment, server, start).await?;
        let mut changed = false;
        for (sequence, body) in &mut bodies {
            if sequences.contains(sequence) {
                let mark = stored::erased(*sequence)?;
                if *body != mark {
                    (*body, changed) = (mark, true);
                    erased += 1;
                }
            }
        }
        if changed {
            let rows = bodies.values().flat_map(|body| body.iter().copied().chain([b'\n']));
            let bytes: Vec<u8> = rows.collect();
            environment.store().put(&location(server, start), bytes.into()).await?;
        }
    }
    Ok(erased)
}

/// The objects of each server, by their first sequence, in order.
pub(super) async fn objects(environment: &Environment) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut listed = environment.store().list(Some(&Path::from(FOLDER)));
    while let Some(object) = listed.try_next().await? {
        let name = object.location.filename().and_then(|name| name.strip_suffix(".jsonl"));
        let Some((server, start)) = name.and_then(|name| name.rsplit_once('-')) else { continue };
        if let Ok(start) = start.parse() {
            found.entry(server.to_owned()).or_default().push(start);
        }
    }
    found.values_mut().for_each(|starts| starts.sort_unstable());
    Ok(found)
}

async fn read(
    environment: &Environment,
    server: &str,
    start: u64,
) -> Result<BTreeMap<u64, Vec<u8>>> {
    let bytes = environment.store().get(&location(server, start)).await?.bytes().await?;
    let mut bodies = BTreeMap::new();
    // A row that is broken is no body: the link that committed to it will lack one, and is named.
    for row in bytes.split(|byte| *byte == b'\n').filter_map(stored::row) {
        if let What::Body(sequence) = row.what {
            bodies.entry(sequence).or_insert(row.bytes);
        }
    }
    Ok(bodies)
}

fn location(server: &str, start: u64) -> Path {
    Path::from(format!("{FOLDER}/{server}-{start:020}.jsonl"))
}
