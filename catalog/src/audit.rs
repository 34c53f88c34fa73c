//! The ledger: what was asked of the warehouse, by whom, and how it ended.
//!
//! What it is: a record is opened before an act and completed after it; one writer task gathers
//! what is waiting and makes it durable together (group commit).
//! What it guarantees: [`Ledger::begin`] returns only once the record is durable, so nothing is
//! released before; every opened record gets a completion, `abandoned` if its holder vanished;
//! completions are durable before [`Ledger::close`] returns.
//! What it does not: records are numbered, not yet hash-chained or signed. It redacts nothing:
//! the caller gives a statement without its literals. A process that is killed leaves its running
//! statements without a completion, and may lose the newest completions in a power cut.
//! On failure: while the journal cannot be written every `begin` fails (`58030`); each tries anew,
//! so that it works again as soon as the disk does.

mod journal;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

pub use self::journal::read_all;
use self::journal::{Journal, SEGMENT_BYTES_MAX};
pub use self::record::{Completion, Event, Line, Record, RecordKind, TableVersion};
use self::writer::{Item, Message, Writer};
use crate::environment::Environment;
use crate::error::{Error, Kind, Result};

/// Records that wait for the disk; beyond it, `begin` waits in turn.
const QUEUE_MAX: usize = 1_024;
/// Records open at one time: running statements and sessions. Each holds a place in the queue of
/// completions, so that completing never waits and never fails.
const OPEN_MAX: usize = 16_384;

/// The ledger of one server. Clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    environment: Environment,
    begins: mpsc::Sender<Message>,
    completions: mpsc::Sender<Item>,
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

#[derive(Clone, Copy, Debug)]
struct Limits {
    segment_bytes_max: u64,
    open_max: usize,
}

impl Ledger {
    /// Opens the journal of the server named `server` (letters, digits, `_` and `-`) for
    /// appending, after what it wrote before. No other running server may have the same name.
    pub async fn open(environment: Environment, server: &str) -> Result<Ledger> {
        let limits = Limits { segment_bytes_max: SEGMENT_BYTES_MAX, open_max: OPEN_MAX };
        Ledger::open_with(environment, server, limits).await
    }

    async fn open_with(environment: Environment, server: &str, limits: Limits) -> Result<Ledger> {
        let (journal, sequence) =
            Journal::open(&environment, server, limits.segment_bytes_max).await?;
        let (begins, begins_out) = mpsc::channel(QUEUE_MAX);
        let (completions, completions_out) = mpsc::channel(limits.open_max);
        let writer = Writer::new(journal, sequence, begins_out, completions_out);
        tokio::spawn(writer.run());
        Ok(Ledger { environment, begins, completions })
    }

    /// Records that an act begins, and returns once that is durable.
    pub async fn begin(&self, record: Record) -> Result<Opened> {
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
        let item = opened.item(Event::Begin(record));
        slot.send(Message::Begin { item, reply });
        match written.await {
            Ok(Ok(())) => Ok(opened),
            failed => {
                opened.place = None;
                Err(match failed {
                    Ok(Err(error)) => error,
                    _ => Error::internal("the audit ledger's writer has stopped"),
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
        match written.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::internal("the audit ledger's writer has stopped")),
        }
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

impl Drop for Opened {
    fn drop(&mut self) {
        self.finish(Event::Abandoned);
    }
}

fn closed() -> Error {
    Error::new(Kind::AdminShutdown, "the audit ledger is closed")
        .with_hint("The server is stopping.")
}
