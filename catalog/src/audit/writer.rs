//! The one task that writes a server's journal, a batch at a time.
//!
//! What it guarantees: a batch with a beginning in it is made durable before that one is answered;
//! a completion that could not be written stays here and goes with the next batch. What stays is
//! bounded by the number of open records, because nothing new opens while writing fails.

use tokio::sync::{mpsc, oneshot};

use super::journal::Journal;
use super::record::{Event, Line};
use crate::error::{Error, Kind, Result};

/// Completions written but not yet on the disk, before they get a sync of their own.
const UNSYNCED_MAX: usize = 256;
/// Beginnings in one batch.
const BATCH_MAX: usize = 2_048;

/// A line that has no number yet.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub time_ms: i64,
    pub id: String,
    pub event: Event,
}

#[derive(Debug)]
pub(super) enum Message {
    Begin { item: Item, reply: oneshot::Sender<Result<()>> },
    Close { reply: oneshot::Sender<Result<()>> },
}

pub(super) struct Writer {
    journal: Journal,
    begins: mpsc::Receiver<Message>,
    completions: mpsc::Receiver<Item>,
    /// The number of the first of `waiting`.
    sequence: u64,
    /// What is not durable yet, in order; the first `in_file` of them were written.
    waiting: Vec<Item>,
    in_file: usize,
    /// Who waits for the batch.
    replies: Vec<oneshot::Sender<Result<()>>>,
    closers: Vec<oneshot::Sender<Result<()>>>,
}

impl Writer {
    pub(super) fn new(
        journal: Journal,
        sequence: u64,
        begins: mpsc::Receiver<Message>,
        completions: mpsc::Receiver<Item>,
    ) -> Writer {
        Writer {
            journal,
            begins,
            completions,
            sequence,
            waiting: Vec::new(),
            in_file: 0,
            replies: Vec::new(),
            closers: Vec::new(),
        }
    }

    /// Writes until closed, or until nobody is left who could begin anything.
    pub(super) async fn run(mut self) {
        while self.closers.is_empty() {
            let mut completed = Vec::new();
            tokio::select! {
                message = self.begins.recv() => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                Some(item) = self.completions.recv() => completed.push(item),
            }
            // Ends before beginnings: then the beginning of each end taken here is taken too,
            // and is written before it.
            while let Ok(item) = self.completions.try_recv() {
                completed.push(item);
            }
            while self.replies.len() < BATCH_MAX
                && let Ok(message) = self.begins.try_recv()
            {
                self.take(message);
            }
            self.waiting.append(&mut completed);
            let sync = !self.replies.is_empty() || self.waiting.len() > UNSYNCED_MAX;
            self.write(sync).await;
        }
        self.drain().await;
    }

    /// Takes what was sent before the end, waits for what is still open, and syncs.
    async fn drain(mut self) {
        self.begins.close();
        while let Some(message) = self.begins.recv().await {
            self.take(message);
        }
        self.write(true).await;
        self.completions.close();
        while let Some(item) = self.completions.recv().await {
            self.waiting.push(item);
        }
        let written = self.write(true).await;
        if !written {
            tracing::error!("the audit journal lacks its last completions");
        }
        for closer in self.closers {
            // One that no longer waits finds the outcome in the log.
            drop(closer.send(if written { Ok(()) } else { Err(unwritten(Kind::Io)) }));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Begin { item, reply } => {
                self.waiting.push(item);
                self.replies.push(reply);
            }
            Message::Close { reply } => self.closers.push(reply),
        }
    }

    /// Writes what is waiting, and answers those who wait; says whether it went well.
    async fn write(&mut self, sync: bool) -> bool {
        let outcome = self.write_waiting(sync).await;
        if let Err(error) = &outcome {
            tracing::error!(?error, "the audit journal could not be written");
            self.journal.give_up();
            self.in_file = 0;
            // The beginnings are refused; the ends of what began before are still owed.
            self.waiting.retain(|item| !matches!(item.event, Event::Begin(_)));
        }
        for reply in self.replies.drain(..) {
            // One that no longer waits has dropped its record, and that is on its way.
            drop(reply.send(outcome.as_ref().map_err(|error| unwritten(error.kind())).copied()));
        }
        outcome.is_ok()
    }

    async fn write_waiting(&mut self, sync: bool) -> Result<()> {
        if !self.journal.is_open() {
            self.in_file = 0;
        }
        let nothing_new = self.in_file == self.waiting.len();
        if self.waiting.is_empty() || (nothing_new && !sync) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for (item, sequence) in self.waiting.iter().zip(self.sequence..).skip(self.in_file) {
            let (time_ms, id) = (item.time_ms, item.id.clone());
            let event = item.event.clone();
            let line = Line { server: String::new(), sequence, time_ms, id, event };
            serde_json::to_writer(&mut bytes, &line)?;
            bytes.push(b'\n');
        }
        if self.journal.append(bytes, self.sequence, sync).await? {
            let count = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
            self.sequence = self.sequence.saturating_add(count);
            self.waiting.clear();
        }
        self.in_file = self.waiting.len();
        Ok(())
    }
}

fn unwritten(kind: Kind) -> Error {
    let hint = match kind {
        Kind::DiskFull => "Nothing is done without a record; make room where the ledger lies.",
        _ => "Nothing is done without a record; see the server's log.",
    };
    Error::new(kind, "the audit record could not be written").with_hint(hint)
}
