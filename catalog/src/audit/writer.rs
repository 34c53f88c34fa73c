//! The one task that writes a server's journal, a batch at a time.
//!
//! What it guarantees: a batch with a beginning in it is made durable before that one is answered;
//! a completion that could not be written stays here and goes with the next batch. What stays is
//! bounded by the number of open records, because nothing new opens while writing fails. The chain
//! goes on from the last durable link: what a failed batch held was never a part of it.

use tokio::sync::{mpsc, oneshot, watch};

use super::journal::Journal;
use super::record::Event;
use super::stored::{self, Head};
use crate::environment::Environment;
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
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub(super) enum Message {
    Begin { item: Item, reply: oneshot::Sender<Result<()>> },
    Rotate { reply: oneshot::Sender<Result<Closed>> },
    Close { reply: oneshot::Sender<Result<Closed>> },
}

/// Segments that nothing is appended to any more: those below `number`; all links below the head
/// are in them, or were sealed before.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub number: u64,
    pub head: Head,
}

pub(super) struct Writer {
    journal: Journal,
    begins: mpsc::Receiver<Message>,
    completions: mpsc::Receiver<Item>,
    environment: Environment,
    /// The head of what is durable; `waiting` goes on from there.
    head: watch::Sender<Head>,
    /// The same with what was written and is not yet durable.
    tail: Head,
    /// What is not durable yet, in order; the first `in_file` of them were written.
    waiting: Vec<Item>,
    in_file: usize,
    /// Who waits for the batch.
    replies: Vec<oneshot::Sender<Result<()>>>,
    rotations: Vec<oneshot::Sender<Result<Closed>>>,
    closers: Vec<oneshot::Sender<Result<Closed>>>,
}

impl Writer {
    /// `first` is what is written before anything else.
    pub(super) fn new(
        environment: Environment,
        journal: Journal,
        head: watch::Sender<Head>,
        first: Item,
        (begins, completions): (mpsc::Receiver<Message>, mpsc::Receiver<Item>),
    ) -> Writer {
        let tail = head.borrow().clone();
        Writer {
            journal,
            begins,
            completions,
            environment,
            head,
            tail,
            waiting: vec![first],
            in_file: 0,
            replies: Vec::new(),
            rotations: Vec::new(),
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
            let sync = !self.replies.is_empty()
                || !self.rotations.is_empty()
                || self.waiting.len() > UNSYNCED_MAX;
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
        self.journal.give_up();
        for closer in self.closers {
            let closed =
                Closed { number: self.journal.next_number(), head: self.head.borrow().clone() };
            // One that no longer waits finds the outcome in the log.
            drop(closer.send(if written { Ok(closed) } else { Err(unwritten(Kind::Io)) }));
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Begin { item, reply } => {
                self.waiting.push(item);
                self.replies.push(reply);
            }
            Message::Rotate { reply } => self.rotations.push(reply),
            Message::Close { reply } => self.closers.push(reply),
        }
    }

    /// Writes what is waiting, and answers those who wait; says whether it went well.
    async fn write(&mut self, sync: bool) -> bool {
        let outcome = self.write_waiting(sync).await;
        if let Err(error) = &outcome {
            tracing::error!(?error, "the audit journal could not be written");
            self.journal.give_up();
            self.forget_written();
            // The beginnings are refused; the ends of what began before are still owed.
            let is_owed = |event: &Event| {
                !matches!(event, Event::Begin(_) | Event::Removing(_) | Event::Releasing(_))
            };
            self.waiting.retain(|item| is_owed(&item.event));
        }
        for reply in self.replies.drain(..) {
            // One that no longer waits has dropped its record, and that is on its way.
            drop(reply.send(outcome.as_ref().map_err(|error| unwritten(error.kind())).copied()));
        }
        for reply in self.rotations.drain(..) {
            // All is durable, so nothing is lost of the segment that is given up.
            self.journal.give_up();
            let closed =
                Closed { number: self.journal.next_number(), head: self.head.borrow().clone() };
            drop(reply.send(match &outcome {
                Ok(()) => Ok(closed),
                Err(error) => Err(unwritten(error.kind())),
            }));
        }
        outcome.is_ok()
    }

    /// The next write writes everything that waits.
    fn forget_written(&mut self) {
        self.in_file = 0;
        self.tail = self.head.borrow().clone();
    }

    async fn write_waiting(&mut self, sync: bool) -> Result<()> {
        if !self.journal.is_open() {
            self.forget_written();
        }
        // A run that nothing happens in leaves nothing, not even its first line.
        let only_opened = matches!(self.waiting.as_slice(), [Item { event: Event::Opened(_), .. }]);
        let nothing_new = self.in_file == self.waiting.len();
        if self.waiting.is_empty() || only_opened || (nothing_new && !sync) {
            return Ok(());
        }
        let first_sequence = self.head.borrow().next;
        let mut bytes = Vec::new();
        let mut tail = self.tail.clone();
        for Item { time_ms, id, event } in self.waiting.iter().skip(self.in_file) {
            let salt = || self.environment.salt();
            tail = stored::append(&mut bytes, &tail, (*time_ms, id, event), salt)?;
        }
        self.tail = tail;
        if self.journal.append(bytes, first_sequence, sync).await? {
            self.head.send_replace(self.tail.clone());
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
