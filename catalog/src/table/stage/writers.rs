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
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::super::delta_error;
use crate::error::{Error, Result};

/// So many rows are of one writer: fewer are not worth a second file.
const ROWS_OF_ONE: usize = 256 * 1024;
/// Batches that wait for the second one.
const WAITING: usize = 1;

/// One writer, and maybe another one beside it.
pub(super) struct Writers {
    store: ObjectStoreRef,
    config: WriterConfig,
    own: DeltaWriter,
    beside: Option<Beside>,
    spreads: bool,
    /// Whether rows were lost: nothing is written from then on.
    failed: bool,
    rows: usize,
}

/// A writer that works as a task of its own.
struct Beside {
    batches: mpsc::Sender<RecordBatch>,
    stop: CancellationToken,
    work: JoinHandle<DeltaResult<DeltaWriter>>,
}

impl Writers {
    pub(super) fn one(store: ObjectStoreRef, config: WriterConfig) -> Writers {
        let own = DeltaWriter::new(store.clone(), config.clone());
        Writers { store, config, own, beside: None, spreads: false, failed: false, rows: 0 }
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
        if self.spreads && self.rows > ROWS_OF_ONE && self.beside.is_none() {
            self.beside =
                Some(Beside::begin(DeltaWriter::new(self.store.clone(), self.config.clone())));
        }
        let Some(beside) = &self.beside else {
            return self.own.write(batch).await.map_err(delta_error);
        };
        match beside.batches.try_send(batch.clone()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => self.own.write(batch).await.map_err(delta_error),
            // It takes no more where it has failed.
            Err(TrySendError::Closed(_)) => {
                self.failed = true;
                match self.beside.take() {
                    Some(beside) => Err(beside.end().await.err().unwrap_or_else(lost)),
                    None => Err(lost()),
                }
            }
        }
    }

    /// Closes the files; what each of them is.
    pub(super) async fn close(self) -> Result<Vec<Add>> {
        let Writers { store, own, beside, failed, .. } = self;
        let other = async {
            match beside {
                None if failed => Err(lost()),
                Some(beside) => beside.end().await?.close().await.map_err(delta_error),
                None => Ok(Vec::new()),
            }
        };
        // Neither is given up because the other one fails: half an upload is found by nobody.
        let closed = futures::future::join(own.close(), other).await;
        match (closed.0.map_err(delta_error), closed.1) {
            (Ok(mut adds), Ok(others)) => {
                adds.extend(others);
                Ok(adds)
            }
            (Ok(left), Err(error)) | (Err(error), Ok(left)) => {
                for add in left {
                    if let Err(error) = store.delete(&Path::from(add.path.as_str())).await {
                        tracing::warn!(%error, path = add.path, "a file could not be removed");
                    }
                }
                Err(error)
            }
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Removes what is unfinished, as far as the storage lets us.
    pub(super) async fn abort(self) {
        let mut writers = vec![self.own];
        if let Some(beside) = self.beside {
            // Not what waits for it, nor what it waits for itself.
            beside.stop.cancel();
            match beside.end().await {
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

impl Beside {
    fn begin(mut writer: DeltaWriter) -> Beside {
        let (batches, mut waiting) = mpsc::channel::<RecordBatch>(WAITING);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let work = tokio::spawn(async move {
            while let Some(batch) = waiting.recv().await {
                let written = tokio::select! {
                    biased;
                    () = stopped.cancelled() => break,
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
        });
        Beside { batches, stop, work }
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

fn lost() -> Error {
    Error::internal("a writer ended by a bug of the server")
}
