//! The order of commits whose rows depend on tables that they do not write.
//!
//! What it is: a compare-and-swap on one table's log says nothing about other tables. So a commit
//! that depends on others first takes the next place in an order that all servers share,
//! `catalog/order/<number>.json`; then it looks whether what it read still stands, commits, and
//! gives its place up, `<number>.done`. Whoever comes next waits for that.
//! What it guarantees: of commits that read each other's tables none looks while another is
//! between its look and its commit, whatever server they are on; so what they leave is what they
//! would have left one after the other, or one of them gets `40001`. A holder that does not come
//! back is shut out: a line in the log of the table it was to write, which no commit that was
//! staged before can pass.
//! What it does not: commits that read nothing but the table they write take no place and do not
//! wait. So a block that only reads, and whose snapshot falls between another's look and its commit,
//! a few milliseconds, may see a third commit that came between them without the one whose reads
//! that changed; every written row is still as if one after the other.
//! On failure: a place that could not be taken is `58030` or `40001`, and nothing was committed.
//!
//! # Why it need not stop long statements
//! That a table has changed since it was read does no harm by itself: the statement simply comes
//! before that change. It does harm if the change, or what came of it, saw the written table
//! without the statement's rows. So unless everything read must stand ([`Dependence::all`]), it is
//! enough that nobody read the written table meanwhile: no place since was taken by a reader of it,
//! and every commit of it added rows without looking.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::commit::{Commit, CommitAuthor, conflict, is_blind, leaves_rows};
use super::{Location, Tables};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};

const FOLDER: &str = "catalog/order";
const FORMAT: u32 = 1;
/// So many places are remembered: a commit that began before them is taken to have missed one.
const KNOWN_MAX: usize = 1_024;
/// How long the number that is known is asked from; after that the folder is listed, since places
/// may have been removed.
const LISTING_TRUSTED_MS: i64 = 60 * 60 * 1_000;
/// Places are removed when they are this old, far longer than a listing is trusted.
const PLACE_AGE_MIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long another server's place is waited for before its holder is shut out. A put of a commit
/// is given up before that. The crate's own tests do not wait so long.
const HOLDER_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 15_000 });
const ASK_FIRST: Duration = Duration::from_millis(2);
const ASK_LAST: Duration = Duration::from_millis(100);
/// A fence is put again this often where others commit to the same table.
const FENCE_ATTEMPTS: usize = 100;

/// What a commit depends on.
#[derive(Clone, Debug)]
pub struct Dependence {
    /// The tables that were read and are not written, and their versions.
    pub reads: Vec<(Location, u64)>,
    /// The table to be written, and the version the write goes on from; `None` for a new one.
    pub written: Option<(Location, u64)>,
    /// [`Tables::order_seen`] from before the first of them was read.
    pub since: u64,
    /// Whether all that was read must stand (`SERIALIZABLE`), or no more than the order of the
    /// commits needs.
    pub all: bool,
}

/// A place that was taken, to be given up when the commit has ended one way or the other. Dropped,
/// it holds others up for a while: what became of the commit is not known then.
#[must_use = "others wait until it is given up"]
pub struct Turn {
    environment: Environment,
    known: OwnedMutexGuard<Known>,
    number: u64,
}

#[derive(Default)]
pub(super) struct Order {
    known: Arc<tokio::sync::Mutex<Known>>,
    seen: AtomicU64,
}

/// What this server knows of the order.
#[derive(Default)]
struct Known {
    /// The newest place; 0 where there was none.
    newest: u64,
    /// Whether its holder is known to have given it up.
    ended: bool,
    listed_ms: Option<i64>,
    /// The newest places, without gaps, the newest last.
    places: VecDeque<Place>,
}

/// A place as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    format: u32,
    #[serde(skip)]
    number: u64,
    nonce: String,
    /// The datasets that are read.
    reads: Vec<String>,
    /// The dataset and generation that is written.
    writes: Option<(String, u32)>,
}

impl Tables {
    /// The newest place that this server has seen.
    pub fn order_seen(&self) -> u64 {
        self.inner.order.seen.load(Ordering::Acquire)
    }

    /// Takes the next place, and looks whether what was read still stands.
    ///
    /// # Errors
    /// `40001` where the commit would have no place in any order.
    pub async fn take_turn(&self, dependence: &Dependence, author: &CommitAuthor) -> Result<Turn> {
        let mut known = Arc::clone(&self.inner.order.known).lock_owned().await;
        let number = loop {
            self.look_for_newest(&mut known).await?;
            self.wait_for_newest(&mut known, author).await?;
            if let Some(number) = self.put_next(&mut known, dependence).await? {
                break number;
            }
        };
        let turn = Turn { environment: self.environment().clone(), known, number };
        match self.has_place(&turn.known, dependence).await {
            Ok(true) => Ok(turn),
            Ok(false) => {
                turn.give_up().await;
                Err(conflict())
            }
            Err(error) => {
                turn.give_up().await;
                Err(error)
            }
        }
    }

    /// Removes places that are so old that nobody can look for them; says how many objects.
    pub async fn sweep_order(&self) -> Result<usize> {
        let store = self.environment().store();
        let age_ms = i64::try_from(PLACE_AGE_MIN.as_millis()).unwrap_or(i64::MAX);
        let cutoff_ms = self.environment().now_ms().saturating_sub(age_ms);
        let listed: Vec<_> = store.list(Some(&Path::from(FOLDER))).try_collect().await?;
        let newest = listed.iter().filter_map(|it| number_of(&it.location)).max();
        let mut removed = 0;
        for object in listed {
            let is_old = object.last_modified.timestamp_millis() < cutoff_ms;
            if !is_old || number_of(&object.location) == newest {
                continue;
            }
            match store.delete(&object.location).await {
                Ok(()) => removed += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(removed)
    }

    /// Brings `known` up to the newest place there is.
    async fn look_for_newest(&self, known: &mut Known) -> Result<()> {
        let now_ms = self.environment().monotonic_ms();
        let trusted = known.listed_ms.is_some_and(|at| now_ms - at < LISTING_TRUSTED_MS);
        if !trusted {
            let store = self.environment().store();
            let listed = store.list(Some(&Path::from(FOLDER)));
            let newest = listed.try_fold(0, |newest, object| async move {
                Ok(newest.max(number_of(&object.location).unwrap_or(0)))
            });
            let newest = newest.await?;
            if newest > known.newest {
                // Places between are not known, so nobody may rely on having seen them all.
                known.places.clear();
                known.newest = newest - 1;
            }
            known.listed_ms = Some(now_ms);
        }
        while let Some(place) = self.read_place(known.newest + 1).await? {
            known.note(place, false);
        }
        self.inner.order.seen.fetch_max(known.newest, Ordering::AcqRel);
        Ok(())
    }

    async fn read_place(&self, number: u64) -> Result<Option<Place>> {
        let bytes = match self.environment().store().get(&place_path(number)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let place: Place = serde_json::from_slice(&bytes)?;
        if place.format != FORMAT {
            let message = format!("the order of commits has format {}", place.format);
            return Err(
                Error::unsupported(message).with_hint("A newer Kho wrote it; upgrade this server.")
            );
        }
        Ok(Some(Place { number, ..place }))
    }

    /// Waits until the holder of the newest place has given it up, or shuts it out.
    async fn wait_for_newest(&self, known: &mut Known, author: &CommitAuthor) -> Result<()> {
        if known.ended || known.newest == 0 {
            return Ok(());
        }
        let done = done_path(known.newest);
        let (mut waited, mut pause) = (Duration::ZERO, ASK_FIRST);
        loop {
            match self.environment().store().head(&done).await {
                Ok(_) => break,
                Err(object_store::Error::NotFound { .. }) if waited >= HOLDER_WITHIN => {
                    self.shut_out(known, author).await?;
                    break;
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(ASK_LAST);
        }
        known.ended = true;
        Ok(())
    }

    /// Sees to it that the holder of the newest place commits no more, if it has not. What it would
    /// commit to a table that is gone, nobody would see.
    async fn shut_out(&self, known: &Known, author: &CommitAuthor) -> Result<()> {
        let Some(place) = known.places.back() else {
            return Err(Error::internal("the newest place of the order is not known"));
        };
        if let Some((dataset, generation)) = place.writes.clone() {
            tracing::warn!(number = place.number, dataset, "a commit's holder is shut out");
            let location = Location { dataset, generation };
            let mut attempt = 0;
            loop {
                attempt += 1;
                let newest = match self.latest(&location).await {
                    Err(_) if self.is_gone(&location).await? => break,
                    newest => newest?,
                };
                match self.commit(&newest, Commit::fence(&newest, author.clone())).await {
                    Err(error)
                        if error.kind() == Kind::SerializationFailure
                            && attempt < FENCE_ATTEMPTS => {}
                    Err(_) if self.is_gone(&location).await? => break,
                    other => break other.map(drop)?,
                }
            }
        }
        end(self.environment(), place.number).await
    }

    /// Whether nothing is left of a table.
    async fn is_gone(&self, location: &Location) -> Result<bool> {
        let mut left = self.environment().store().list(Some(&location.path()));
        Ok(left.try_next().await?.is_none())
    }

    /// Takes the place after the newest one; `None` where another was faster.
    async fn put_next(&self, known: &mut Known, dependence: &Dependence) -> Result<Option<u64>> {
        let written = dependence.written.as_ref();
        let place = Place {
            format: FORMAT,
            number: known.newest + 1,
            nonce: self.environment().new_id(),
            reads: dependence.reads.iter().map(|(read, _)| read.dataset.clone()).collect(),
            writes: written.map(|(it, _)| (it.dataset.clone(), it.generation)),
        };
        let bytes = serde_json::to_vec(&place)?;
        let path = place_path(place.number);
        let put = self.environment().store().put_opts(&path, bytes.into(), PutMode::Create.into());
        let is_ours = match put.await {
            Ok(_) => true,
            // It may be our own: the storage may have stored it and lost the answer.
            Err(error) => match self.read_place(place.number).await? {
                Some(there) => there.nonce == place.nonce,
                None => return Err(error.into()),
            },
        };
        if !is_ours {
            return Ok(None);
        }
        let number = place.number;
        known.note(place, false);
        self.inner.order.seen.fetch_max(number, Ordering::AcqRel);
        Ok(Some(number))
    }

    /// Whether the commit comes after all that is committed, or can come before what has changed.
    async fn has_place(&self, known: &Known, dependence: &Dependence) -> Result<bool> {
        let mut stands = true;
        for (location, version) in &dependence.reads {
            stands &= self.all_since(location, *version, leaves_rows).await?;
        }
        if stands {
            return Ok(true);
        }
        let Some((written, version)) = &dependence.written else { return Ok(!dependence.all) };
        if dependence.all || known.may_have_read(written, dependence.since) {
            return Ok(false);
        }
        self.all_since(written, *version, is_blind).await
    }

    /// Whether every commit of a table after `version` is as `wanted`.
    async fn all_since(
        &self,
        location: &Location,
        version: u64,
        wanted: fn(&bytes::Bytes) -> bool,
    ) -> Result<bool> {
        let newest = self.latest(location).await?;
        for version in version.saturating_add(1)..=newest.version() {
            let entry = newest.log_store().read_commit_entry(version).await;
            if !entry.map_err(super::delta_error)?.is_some_and(|entry| wanted(&entry)) {
                return Ok(false);
            }
        }
        Ok(newest.version() >= version)
    }
}

impl Turn {
    /// Lets the next one in. A failure is told to the log alone: the commit is what it is, and the
    /// next one finds out by waiting.
    pub async fn give_up(mut self) {
        match end(&self.environment, self.number).await {
            Ok(()) => self.known.ended = true,
            Err(error) => tracing::warn!(%error, number = self.number, "a place stays taken"),
        }
    }
}

impl Known {
    fn note(&mut self, place: Place, ended: bool) {
        (self.newest, self.ended) = (place.number, ended);
        self.places.push_back(place);
        if self.places.len() > KNOWN_MAX {
            self.places.pop_front();
        }
    }

    /// Whether a commit that took a place after `since`, the newest one left out, may have read
    /// `table`.
    fn may_have_read(&self, table: &Location, since: u64) -> bool {
        let earlier = |it: &&Place| it.number > since && it.number < self.newest;
        let first = self.places.front().map_or(u64::MAX, |place| place.number);
        first > since.saturating_add(1)
            || self.places.iter().filter(earlier).any(|it| it.reads.contains(&table.dataset))
    }
}

/// Marks a place as given up; that it is already is as good.
async fn end(environment: &Environment, number: u64) -> Result<()> {
    let (path, nothing) = (done_path(number), bytes::Bytes::new());
    match environment.store().put_opts(&path, nothing.into(), PutMode::Create.into()).await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn place_path(number: u64) -> Path {
    Path::from(format!("{FOLDER}/{number:020}.json"))
}

fn done_path(number: u64) -> Path {
    Path::from(format!("{FOLDER}/{number:020}.done"))
}

/// The number of a place, from either of its objects.
fn number_of(path: &Path) -> Option<u64> {
    let (number, of) = path.filename()?.split_once('.')?;
    matches!(of, "json" | "done").then(|| number.parse().ok())?
}
