//! The catalog log: numbered, hash-chained entries on the object store, and the state they make.
//!
//! What it is: a [`Catalog`] reads `catalog/log/<number>.json` into an immutable [`State`] and
//! commits the next number by put-if-absent.
//! What it guarantees: a commit that was acknowledged is durable; of several servers that commit
//! at one time none loses another's entry; every entry read names the hash of the one before it,
//! so that a changed, missing or reordered one is refused (`XX001`).
//! What it does not: it cannot see that the newest entries were cut off; the ledger's anchors name
//! the newest one, and whoever verifies the ledger looks. A server that is killed between a body and its entry leaves that body behind.
//! On failure: a commit whose outcome stays unknown says so (`58030`); nothing is half applied. A
//! server that follows the log and could not read it for two seconds refuses (`57P03`); it does so
//! too where its own last entry is gone (`XX001`): an emptied store does not read as "no news".

mod body;
mod checkpoint;
mod entry;
mod leftovers;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use self::entry::{Author, Entry};
use self::entry::{Written, chained, entries, list_after, put_entry, read_entry};
pub use self::leftovers::{NEW_DATASET_AGE_MAX, Named};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};
use crate::state::{Change, State};

/// Entries between two checkpoints.
const CHECKPOINT_EVERY: u64 = 100;
/// A commit is tried again this often when others are faster; each time, somebody got through.
const COMMIT_ATTEMPTS_MAX: usize = 100;
/// A follower's state this old no longer says who may do what.
const STALE_AFTER_MS: i64 = 2_000;

/// A read of the log that takes longer is given up: the next one may find the store well again,
/// and who waits is told within this time.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// A little more than the read of another that is waited for may take.
const TURN_WITHIN: Duration = Duration::from_secs(11);

/// The catalog of one warehouse as one server sees it. Clones share everything.
#[derive(Clone, Debug)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    environment: Environment,
    server: String,
    states: watch::Sender<Arc<State>>,
    /// When the log's end was last seen, by the monotonic clock.
    last_read_ms: AtomicI64,
    following: AtomicBool,
    /// Held while the log is read, so that two tasks do not read the same entries.
    reading: Mutex<()>,
    /// Held during a commit: within one server commits wait in line instead of racing.
    committing: Mutex<()>,
    background: std::sync::Mutex<JoinSet<()>>,
}

/// How one commit ended, as far as its bodies are concerned.
enum Outcome {
    Stored { state: Arc<State>, bodies: BTreeSet<String> },
    NotStored(Error),
    Unknown(Error),
}

impl Catalog {
    /// Reads the catalog: the newest sound checkpoint, then every entry after it. `server` names
    /// this server in the entries it writes.
    pub async fn open(environment: Environment, server: impl Into<String>) -> Result<Catalog> {
        let start = checkpoint::newest(&environment, u64::MAX).await?.unwrap_or_default();
        let mut state = replay_all(&environment, start).await?;
        let missing = state.missing_bodies();
        state.fill(&body::read(&environment, missing).await?)?;
        Ok(Catalog {
            inner: Arc::new(Inner {
                server: server.into(),
                states: watch::Sender::new(Arc::new(state)),
                last_read_ms: AtomicI64::new(environment.monotonic_ms()),
                following: AtomicBool::new(false),
                reading: Mutex::default(),
                committing: Mutex::default(),
                background: std::sync::Mutex::default(),
                environment,
            }),
        })
    }

    /// Whether nothing was ever committed: the warehouse is to be made.
    pub fn is_new(&self) -> bool {
        self.latest().is_new()
    }

    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// The name this server writes into its entries.
    pub fn server(&self) -> &str {
        &self.inner.server
    }

    /// The state last read. Refuses (`57P03`) while the log is followed and was not read to its
    /// end within the last two seconds: rights may have changed elsewhere since.
    pub fn current(&self) -> Result<Arc<State>> {
        let age_ms = self.age_ms();
        if self.inner.following.load(Ordering::Acquire) && age_ms > STALE_AFTER_MS {
            return Err(Error::new(
                Kind::CannotConnectNow,
                format!("the catalog could not be read for {age_ms} ms"),
            )
            .with_hint("The warehouse's storage does not answer; try again when it does."));
        }
        Ok(self.latest())
    }

    /// The state last read, or where that is too old, the state now. For callers that can wait:
    /// a busy machine may have kept the follower from its turn.
    pub async fn fresh(&self) -> Result<Arc<State>> {
        let Err(stale) = self.current() else { return Ok(self.latest()) };
        match self.refresh().await {
            Err(error) if error.kind() == Kind::Io => Err(stale.with_source(error)),
            refreshed => refreshed,
        }
    }

    /// Tells of every new state; the receiver starts with the one last read.
    pub fn subscribe(&self) -> watch::Receiver<Arc<State>> {
        self.inner.states.subscribe()
    }

    /// Reads the log to its end, or gives up when storage does not answer (`58030`).
    ///
    /// One reads at a time. Who waits for another's read has all its own time after it: a read that
    /// began while storage was away does not make those fail that come when it is back.
    pub async fn refresh(&self) -> Result<Arc<State>> {
        let asked_ms = self.inner.environment.monotonic_ms();
        let turn = tokio::time::timeout(TURN_WITHIN, self.inner.reading.lock()).await;
        let _turn = turn.map_err(|_| no_answer())?;
        if self.inner.last_read_ms.load(Ordering::Acquire) > asked_ms {
            return Ok(self.latest());
        }
        tokio::time::timeout(READ_WITHIN, self.read_to_end()).await.map_err(|_| no_answer())?
    }

    /// For whoever has the turn to read.
    async fn read_to_end(&self) -> Result<Arc<State>> {
        let environment = &self.inner.environment;
        let started_ms = environment.monotonic_ms();
        let current = self.latest();
        let mut next: Option<State> = None;
        loop {
            let base = next.as_ref().unwrap_or(&current);
            let Some(bytes) = read_entry(environment, base.next_version()).await? else { break };
            let (mut entry, head) = chained(&bytes, base)?;
            fill_changes(environment, &mut entry.changes).await?;
            let state = next.get_or_insert_with(|| State::clone(&current));
            state.apply_entry(entry.changes, entry.version, head);
        }
        let latest = match next {
            Some(state) => self.publish(Arc::new(state)),
            None => {
                if let Err(error) = entry::check_still_there(environment, &current).await {
                    // Whoever asks next is not to go on with what is gone. A storage that does
                    // not answer has time to come back.
                    if error.kind() != Kind::Io {
                        let old_ms = started_ms - STALE_AFTER_MS - 1;
                        self.inner.last_read_ms.store(old_ms, Ordering::Release);
                    }
                    return Err(error);
                }
                self.latest()
            }
        };
        self.inner.last_read_ms.fetch_max(started_ms, Ordering::AcqRel);
        Ok(latest)
    }

    /// Commits what `decide` makes of the newest state, and returns the state after it. Whenever
    /// another server was faster, `decide` is asked again with what that one made: rules and
    /// rights are to be checked inside it. No changes is no entry. Once this was polled, dropping
    /// it leaves the outcome to be found by the next read.
    pub async fn commit(
        &self,
        author: &Author,
        mut decide: impl FnMut(&State) -> Result<Vec<Change>> + Send,
    ) -> Result<Arc<State>> {
        let _turn = self.inner.committing.lock().await;
        let mut written = BTreeSet::new();
        let outcome = self.attempt_all(author, &mut decide, &mut written).await;
        match outcome {
            Outcome::Stored { state, bodies } => {
                written.retain(|id| !bodies.contains(id));
                body::discard(&self.inner.environment, written).await;
                self.checkpoint_later(&state);
                Ok(state)
            }
            Outcome::NotStored(error) => {
                body::discard(&self.inner.environment, written).await;
                Err(error)
            }
            // The entry may yet be there, and would need them.
            Outcome::Unknown(error) => Err(error),
        }
    }

    /// The entries of `versions`, each checked against the one before it within that range.
    pub async fn history(&self, versions: RangeInclusive<u64>) -> Result<Vec<Entry>> {
        let mut stream = pin!(entries(&self.inner.environment, versions));
        let mut found: Vec<Entry> = Vec::new();
        let mut head = None;
        while let Some((version, bytes)) = stream.try_next().await? {
            let (entry, its_head) = entry::decode(&bytes, version, head.as_deref())?;
            head = Some(its_head);
            found.push(entry);
        }
        Ok(found)
    }

    /// The state as it was at `version`; `42704` where there is none such yet.
    pub async fn state_at(&self, version: u64) -> Result<Arc<State>> {
        let environment = &self.inner.environment;
        let current = self.refresh().await?;
        if current.is_new() || version > current.version {
            let message = format!("catalog version {version} does not exist");
            return Err(Error::new(Kind::UndefinedObject, message));
        }
        let start = checkpoint::newest(environment, version).await?.unwrap_or_default();
        let mut state = replay(environment, start, version).await?;
        let missing = state.missing_bodies();
        state.fill(&body::read(environment, missing).await?)?;
        Ok(Arc::new(state))
    }

    /// Reads the whole log from its first entry, without checkpoints, and says what number of
    /// entries the chain was found whole over.
    pub async fn verify(&self) -> Result<u64> {
        let state = replay_all(&self.inner.environment, State::default()).await?;
        Ok(state.next_version())
    }

    /// SHA-256 of the entry of `version`, as the one after it names it; `None` where there is none.
    pub async fn head_at(&self, version: u64) -> Result<Option<String>> {
        let bytes = read_entry(&self.inner.environment, version).await?;
        Ok(bytes.map(|bytes| entry::digest(&bytes)))
    }

    /// Writes a checkpoint of the state last read, unless there is one.
    pub async fn checkpoint(&self) -> Result<()> {
        checkpoint::write(&self.inner.environment, &self.latest()).await
    }

    /// Reads the log every `interval` until `shutdown`, so that a change made by another server
    /// holds here too. From now on [`Catalog::current`] refuses to be out of date.
    pub async fn follow(&self, interval: Duration, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let following = Following(&self.inner);
        following.0.following.store(true, Ordering::Release);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::warn!(?error, "the catalog log could not be read");
            }
        }
    }

    /// Waits for the checkpoints that are being written.
    pub async fn close(&self) {
        let mut background = std::mem::take(&mut *self.background());
        while background.join_next().await.is_some() {}
    }

    async fn attempt_all(
        &self,
        author: &Author,
        decide: &mut (impl FnMut(&State) -> Result<Vec<Change>> + Send),
        written: &mut BTreeSet<String>,
    ) -> Outcome {
        for _ in 0..COMMIT_ATTEMPTS_MAX {
            match self.attempt(author, decide, written).await {
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
                Err(error) => return Outcome::NotStored(error),
            }
        }
        let message = "could not commit to the catalog: other commits were always faster";
        Outcome::NotStored(Error::new(Kind::SerializationFailure, message))
    }

    /// One try; `None` where another server took the number.
    async fn attempt(
        &self,
        author: &Author,
        decide: &mut (impl FnMut(&State) -> Result<Vec<Change>> + Send),
        written: &mut BTreeSet<String>,
    ) -> Result<Option<Outcome>> {
        let environment = &self.inner.environment;
        let state = self.refresh().await?;
        let changes = decide(&state)?;
        if changes.is_empty() {
            return Ok(Some(Outcome::Stored { state, bodies: BTreeSet::new() }));
        }
        leftovers::refuse_stale(environment, &state, &changes)?;
        let mut entry = Entry::new(environment, &self.inner.server, author, &state, changes);
        let bodies = body::write(environment, &mut entry.changes, written).await?;
        let bytes = entry.encode()?;
        match put_entry(environment, &entry, &bytes).await {
            Ok(Written::Ours) => {}
            Ok(Written::Theirs) => return Ok(None),
            Err(error) => return Ok(Some(Outcome::Unknown(error))),
        }
        let mut next = State::clone(&state);
        next.apply_entry(entry.changes, entry.version, entry::digest(&bytes));
        let next = Arc::new(next);
        self.publish(Arc::clone(&next));
        Ok(Some(Outcome::Stored { state: next, bodies }))
    }

    /// Makes `state` the one last read unless a later one is known, and returns the later.
    fn publish(&self, state: Arc<State>) -> Arc<State> {
        self.inner.states.send_if_modified(|latest| {
            let newer = latest.next_version() < state.next_version();
            if newer {
                *latest = state;
            }
            newer
        });
        self.latest()
    }

    fn latest(&self) -> Arc<State> {
        Arc::clone(&self.inner.states.borrow())
    }

    fn age_ms(&self) -> i64 {
        let last_read_ms = self.inner.last_read_ms.load(Ordering::Acquire);
        self.inner.environment.monotonic_ms().saturating_sub(last_read_ms)
    }

    /// Starts a checkpoint where one is due. The commit does not wait for it, nor fail with it.
    fn checkpoint_later(&self, state: &Arc<State>) {
        if state.version == 0 || !state.version.is_multiple_of(CHECKPOINT_EVERY) {
            return;
        }
        let (environment, state) = (self.inner.environment.clone(), Arc::clone(state));
        let mut background = self.background();
        while background.try_join_next().is_some() {}
        background.spawn(async move {
            if let Err(error) = checkpoint::write(&environment, &state).await {
                tracing::warn!(?error, version = state.version, "no checkpoint was written");
            }
        });
    }

    fn background(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.inner.background.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the duty to be up to date when the follower ends, however it ends.
struct Following<'a>(&'a Inner);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        self.0.following.store(false, Ordering::Release);
    }
}

/// The state at the log's end. Entries are listed, so that a missing one in the middle is found.
async fn replay_all(environment: &Environment, start: State) -> Result<State> {
    let mut state = start;
    while let Some(last) = list_after(environment, &state).await? {
        state = replay(environment, state, last).await?;
    }
    Ok(state)
}

/// `state` with every entry after it up to `last`.
async fn replay(environment: &Environment, mut state: State, last: u64) -> Result<State> {
    let mut stream = pin!(entries(environment, state.next_version()..=last).fuse());
    while let Some((_, bytes)) = stream.try_next().await? {
        let (entry, head) = chained(&bytes, &state)?;
        state.apply_entry(entry.changes, entry.version, head);
    }
    Ok(state)
}

/// Reads the bodies of the texts that `changes` bring.
async fn fill_changes(environment: &Environment, changes: &mut [Change]) -> Result<()> {
    let mut texts: Vec<_> = changes.iter_mut().flat_map(Change::texts_mut).collect();
    let ids = texts.iter().map(|text| text.body.clone()).collect();
    let bodies = body::read(environment, ids).await?;
    for text in &mut texts {
        if let Some(body) = bodies.get(&text.body) {
            text.fill(body)?;
        }
    }
    Ok(())
}

fn no_answer() -> Error {
    Error::new(Kind::Io, "the warehouse's storage does not answer")
        .with_hint("The statement can be tried again.")
}
