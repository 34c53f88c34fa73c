//! The ledger: what was asked of the warehouse, by whom, and how it ended.
//!
//! What it is: a record is opened before an act and completed after it; one writer task gathers
//! what is waiting and makes it durable together (group commit). The lines of one server are a
//! chain of hashes over its restarts ([`stored`]), its head is signed every second ([`anchor`]), and
//! what is written is sealed into a Delta table in the background ([`Ledger::keep`]).
//! What it guarantees: [`Ledger::begin`] returns only once the record is durable, so nothing is
//! released before; every opened record gets a completion, `abandoned` if its holder vanished;
//! completions are durable before [`Ledger::close`] returns. [`verify`](Source::verify) finds any
//! line that was changed, taken out, put elsewhere or cut off up to the last signed head.
//! What it does not: it redacts nothing: the caller gives a statement without its literals. A
//! process that is killed leaves its running statements without a completion (the next run's first
//! line says that they are over), and may lose the newest completions in a power cut. A lost disk
//! takes what was not sealed with it; the server that starts without it says which records those
//! were, by the last signed head.
//! On failure: while the journal cannot be written every `begin` fails (`58030`); each tries anew,
//! so that it works again as soon as the disk does.

mod act;
mod anchor;
mod bodies;
mod erase;
mod journal;
mod keep;
mod key;
mod read;
mod record;
mod removal;
mod rotation;
mod sealed;
mod spent;
mod stored;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::act::{Act, End};
pub use self::anchor::Anchor;
use self::journal::{Journal, SEGMENT_BYTES_MAX};
pub use self::keep::Keeping;
pub use self::key::{Keys, PublicKey};
pub use self::read::Source;
pub use self::record::{
    Completion, Event, Line, Opening, Record, RecordKind, Released, Removal, Touched,
};
pub use self::removal::Removed;
pub use self::rotation::{Rotation, rotate};
pub use self::spent::{Spent, Used};
pub use self::stored::Head;
pub use self::verify::Verified;
use self::writer::{Closed, Item, Message, Writer};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};

/// Records that wait for the disk; beyond it, `begin` waits in turn.
const QUEUE_MAX: usize = 1_024;
/// Records open at one time: running statements and sessions. Each holds a place in the queue of
/// completions, so that completing never waits and never fails.
const OPEN_MAX: usize = 16_384;

/// The ledger of one server. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    environment: Environment,
    source: Source,
    server: Arc<str>,
    keys: Arc<Keys>,
    begins: mpsc::Sender<Message>,
    completions: mpsc::Sender<Item>,
    head: watch::Receiver<Head>,
    /// What is closed, once all is.
    closed: Arc<OnceLock<Closed>>,
    /// Held while bodies are moved or erased, so that none comes back.
    moving: Arc<tokio::sync::Mutex<()>>,
    discards: bool,
}

/// A durable record whose act is under way. Dropping it says that the act was abandoned.
#[derive(Debug)]
#[must_use = "an act that is not completed is recorded as abandoned"]
pub struct Opened {
    id: String,
    environment: Environment,
    /// The place of the completion; taken when it is used.
    place: Option<mpsc::OwnedPermit<Item>>,
}

/// The durable word that rows are about to be removed. Dropping it leaves open whether they were;
/// the table's own log tells.
#[derive(Debug)]
#[must_use = "a removal that is not ended has to be looked up in the table's log"]
pub struct Removing(Opened);

#[derive(Clone, Copy, Debug)]
struct Limits {
    segment_bytes_max: u64,
    open_max: usize,
}

impl Ledger {
    /// Opens the journal of the server named `server` (letters, digits, `_` and `-`) for
    /// appending, after what it wrote before. No other running server may have the same name.
    pub async fn open(source: Source, keys: Arc<Keys>, server: &str) -> Result<Ledger> {
        let limits = Limits { segment_bytes_max: SEGMENT_BYTES_MAX, open_max: OPEN_MAX };
        Ledger::open_with(source, keys, server, limits).await
    }

    /// A ledger that lies in one place, with keys that are forgotten with it.
    pub async fn passing(environment: &Environment, server: &str) -> Result<Ledger> {
        let source = Source::new(environment, environment);
        Ledger::open(source, Arc::new(Keys::passing()?), server).await
    }

    /// A ledger that keeps nothing: what a measurement holds a real one against. No server can be
    /// told to have it.
    pub async fn discarding() -> Result<Ledger> {
        let nowhere = Environment::open("memory://")?;
        Ok(Ledger { discards: true, ..Ledger::passing(&nowhere, "nowhere").await? })
    }

    async fn open_with(
        source: Source,
        keys: Arc<Keys>,
        server: &str,
        limits: Limits,
    ) -> Result<Ledger> {
        let environment = source.journal.clone();
        let (journal, local) =
            Journal::open(&environment, server, limits.segment_bytes_max).await?;
        let (head, opening) = source.whole_head(server, local).await?;
        if let Some((first, last)) = opening.lost {
            tracing::error!(first, last, "audit records were signed for and are lost");
        }
        let (begins, begins_out) = mpsc::channel(QUEUE_MAX);
        let (completions, completions_out) = mpsc::channel(limits.open_max);
        let (head_in, head) = watch::channel(head);
        let first = Item {
            time_ms: environment.now_ms(),
            id: environment.new_id(),
            event: Event::Opened(opening),
        };
        let queues = (begins_out, completions_out);
        let writer = Writer::new(environment.clone(), journal, head_in, first, queues);
        tokio::spawn(writer.run());
        Ok(Ledger {
            environment,
            source,
            server: Arc::from(server),
            keys,
            begins,
            completions,
            head,
            closed: Arc::default(),
            moving: Arc::default(),
            discards: false,
        })
    }

    /// Where it lies.
    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Records that an act begins, and returns once that is durable.
    pub async fn begin(&self, record: Record) -> Result<Opened> {
        self.open_event(Event::Begin(record)).await
    }

    /// Records that rows are about to leave a dataset, and returns once that is durable.
    pub async fn remove(&self, removal: Removal) -> Result<Removing> {
        self.open_event(Event::Removing(removal)).await.map(Removing)
    }

    async fn open_event(&self, event: Event) -> Result<Opened> {
        if self.discards {
            let (id, environment) = (self.environment.new_id(), self.environment.clone());
            return Ok(Opened { id, environment, place: None });
        }
        let place = self.completions.clone().try_reserve_owned().map_err(|error| match error {
            TrySendError::Full(_) => {
                Error::new(Kind::ConfigurationLimitExceeded, "too many audit records are open")
                    .with_hint("Wait until running statements have ended.")
            }
            TrySendError::Closed(_) => closed(),
        })?;
        let slot = self.begins.reserve().await.map_err(|_| closed())?;
        // From here on the record may become durable even if this future is dropped: whoever
        // drops it leaves an abandoned record, not one without an end.
        let mut opened = Opened {
            id: self.environment.new_id(),
            environment: self.environment.clone(),
            place: Some(place),
        };
        let (reply, written) = oneshot::channel();
        let item = opened.item(event);
        slot.send(Message::Begin { item, reply });
        match written.await {
            Ok(Ok(())) => Ok(opened),
            failed => {
                opened.place = None;
                Err(match failed {
                    Ok(Err(error)) => error,
                    _ => stopped(),
                })
            }
        }
    }

    /// Takes no more records, waits until every open one is completed or dropped, and makes all
    /// of it durable. Calls after the first one has begun to take effect return at once.
    pub async fn close(&self) -> Result<()> {
        let (reply, written) = oneshot::channel();
        if self.begins.send(Message::Close { reply }).await.is_err() {
            return Ok(());
        }
        let closed = written.await.map_err(|_| stopped())??;
        // Of two that close at one time both say the same.
        drop(self.closed.set(closed));
        Ok(())
    }

    /// Closes the segment that is written, so that it can be sealed.
    async fn rotate(&self) -> Result<Closed> {
        if let Some(closed) = self.closed.get() {
            return Ok(closed.clone());
        }
        let (reply, rotated) = oneshot::channel();
        self.begins.send(Message::Rotate { reply }).await.map_err(|_| closed())?;
        rotated.await.map_err(|_| stopped())?
    }
}

impl Opened {
    /// The id of the record; the statement's id everywhere else.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Records how the act ended. Neither waits nor fails; durable with the next batch.
    pub fn complete(mut self, completion: Completion) {
        self.finish(Event::Complete(completion));
    }

    fn finish(&mut self, event: Event) {
        let item = self.item(event);
        if let Some(place) = self.place.take() {
            place.send(item);
        }
    }

    fn item(&self, event: Event) -> Item {
        Item { time_ms: self.environment.now_ms(), id: self.id.clone(), event }
    }
}

impl Removing {
    /// The rows are gone, since this version; `None` where there is no version any more.
    pub fn done(mut self, version: Option<u64>) {
        self.0.finish(Event::Removed { version });
    }

    /// The rows are still there.
    pub fn kept(mut self) {
        self.0.finish(Event::Kept);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.finish(Event::Abandoned);
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("server", &self.server).finish_non_exhaustive()
    }
}

fn closed() -> Error {
    Error::new(Kind::AdminShutdown, "the audit ledger is closed")
        .with_hint("The server is stopping.")
}

fn stopped() -> Error {
    Error::internal("the audit ledger's writer has stopped")
}
