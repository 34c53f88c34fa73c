//! Who encodes the rows of one table: one writer, or, of many rows, two at a time.
//!
//! # Why
//! To encode and to compress is most of the work of a load, and one writer keeps one processor busy.
//! What it guarantees: every row is in a file of one of them, once; what each of them writes is in the order
//! in which it came.
//! What it does not: the files of two have rows from all over the load, so that whoever looks for rows by
//! their values finds more files to look into: what is searched by is written by one.
//! On failure: [`Writers::abort`] removes what was written.

use arrow::record_batch::RecordBatch;
use deltalake_core::DeltaResult;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::Add;
use deltalake_core::logstore::ObjectStoreRef;
use futures::future::{OptionFuture, join, join_all, select_all};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::delta_error;
use crate::error::{Error, Result};

/// So many rows are of one writer: fewer are not worth a second file.
const ROWS_OF_ONE: usize = 256 * 1024;
/// Batches that wait for each of two.
const WAITING: usize = 1;

/// One writer, and maybe another one beside it.
pub(super) struct Writers {
    store: ObjectStoreRef,
    config: WriterConfig,
    /// The only one, until there are two.
    own: Option<DeltaWriter>,
    /// Two, or what is left of them after one has failed.
    hands: Vec<Hand>,
    spreads: bool,
    /// Whether rows were lost: nothing is written from then on.
    failed: bool,
    rows: usize,
}

/// A writer with a thread of its own: encoding among the tasks, it would keep those waiting that read from
/// the client, and two would take turns.
struct Hand {
    batches: mpsc::Sender<RecordBatch>,
    stop: CancellationToken,
    work: JoinHandle<DeltaResult<DeltaWriter>>,
}

impl Writers {
    pub(super) fn one(store: ObjectStoreRef, config: WriterConfig) -> Writers {
        let own = Some(DeltaWriter::new(store.clone(), config.clone()));
        Writers { store, config, own, hands: Vec::new(), spreads: false, failed: false, rows: 0 }
    }

    /// From now on there may be two.
    pub(super) fn spread(&mut self) {
        self.spreads = true;
    }

    /// Encodes a batch, or has it encoded.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.failed {
            return Err(lost());
        }
        self.rows += batch.num_rows();
        if self.spreads
            && self.rows > ROWS_OF_ONE
            && let Some(own) = self.own.take()
        {
            let other = DeltaWriter::new(self.store.clone(), self.config.clone());
            self.hands = [own, other].map(Hand::begin).into();
        }
        if let Some(own) = &mut self.own {
            return own.write(batch).await.map_err(delta_error);
        }
        let (sent, place) = Hand::send(&self.hands, batch).await;
        if sent {
            return Ok(());
        }
        self.failed = true;
        Err(self.hands.swap_remove(place).end().await.err().unwrap_or_else(lost))
    }

    /// Closes the files; what each of them is.
    pub(super) async fn close(self) -> Result<Vec<Add>> {
        let Writers { store, own, hands, failed, .. } = self;
        let own = own.map(|own| async { own.close().await.map_err(delta_error) });
        let hands = hands
            .into_iter()
            .map(|hand| async { hand.end().await?.close().await.map_err(delta_error) });
        // None is given up because another one fails: half an upload is found by nobody.
        let closed = join(OptionFuture::from(own), join_all(hands)).await;
        let (mut adds, mut error) = (Vec::new(), failed.then(lost));
        for closed in closed.0.into_iter().chain(closed.1) {
            match closed {
                Ok(closed) => adds.extend(closed),
                Err(failed) => error = Some(failed),
            }
        }
        let Some(error) = error else { return Ok(adds) };
        for add in adds {
            if let Err(error) = store.delete(&Path::from(add.path.as_str())).await {
                tracing::warn!(%error, path = add.path, "a file could not be removed");
            }
        }
        Err(error)
    }

    /// Removes what is unfinished, as far as the storage lets us.
    pub(super) async fn abort(self) {
        let mut writers = Vec::from_iter(self.own);
        for hand in self.hands {
            // Not what waits for it, nor what it waits for itself.
            hand.stop.cancel();
            match hand.end().await {
                Ok(writer) => writers.push(writer),
                Err(error) => tracing::warn!(%error, "a writer had failed"),
            }
        }
        for writer in writers {
            if let Err(error) = writer.abort().await {
                tracing::warn!(%error, "an unfinished file could not be removed");
            }
        }
    }
}

impl Hand {
    fn begin(writer: DeltaWriter) -> Hand {
        let (batches, waiting) = mpsc::channel::<RecordBatch>(WAITING);
        let stop = CancellationToken::new();
        let writing = write_all(writer, waiting, stop.clone());
        let runtime = Handle::current();
        let work = tokio::task::spawn_blocking(move || runtime.block_on(writing));
        Hand { batches, stop, work }
    }

    /// Gives a batch to the first of `hands` that can take one. That it takes none, at its place, says
    /// that it has failed.
    async fn send(hands: &[Hand], batch: &RecordBatch) -> (bool, usize) {
        let ready = hands.iter().map(|hand| Box::pin(hand.batches.reserve()));
        let (permit, place, _) = select_all(ready).await;
        (permit.map(|permit| permit.send(batch.clone())).is_ok(), place)
    }

    /// Waits until it has written what it was given.
    async fn end(self) -> Result<DeltaWriter> {
        drop(self.batches);
        match self.work.await {
            Ok(written) => written.map_err(delta_error),
            Err(_) => Err(lost()),
        }
    }
}

/// Writes what comes, until nothing more does or it is stopped.
async fn write_all(
    mut writer: DeltaWriter,
    mut waiting: mpsc::Receiver<RecordBatch>,
    stop: CancellationToken,
) -> DeltaResult<DeltaWriter> {
    while let Some(batch) = waiting.recv().await {
        let written = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            written = writer.write(&batch) => written,
        };
        if let Err(error) = written {
            // Dropped, it would leave what it has begun to send.
            if let Err(error) = writer.abort().await {
                tracing::warn!(%error, "an unfinished file could not be removed");
            }
            return Err(error);
        }
    }
    Ok(writer)
}

fn lost() -> Error {
    Error::internal("a writer ended by a bug of the server")
}
