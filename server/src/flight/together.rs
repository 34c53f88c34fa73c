//! Rows that several streams take from: each batch goes to one of them.
//!
//! What it guarantees: a stream ends when all rows were taken; where they fail, every stream that is
//! there, and each that comes after, ends with the error: no part is taken for whole.
//! What it does not: what a stream took and did not deliver goes to no other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::{FutureExt as _, Stream, StreamExt as _};
use kho_catalog::error::{Error, Result};
use kho_sql::outcome::{Deadline, Rows};
use tokio::sync::Mutex;

use super::error::bug;

/// The rows, and how many take from them.
#[derive(Clone)]
pub struct Together {
    /// As the statement told it.
    pub schema: SchemaRef,
    pub deadline: Deadline,
    rows: Arc<Mutex<Left>>,
    readers: Arc<AtomicUsize>,
}

/// What is left of the rows.
enum Left {
    More(Box<Rows>),
    Nothing,
    Failed(Error),
}

/// One who takes, as long as it lives.
struct Reading(Together);

impl Together {
    pub fn new(rows: Rows) -> Together {
        let (schema, deadline) = (Arc::clone(&rows.schema), rows.deadline.clone());
        let rows = Arc::new(Mutex::new(Left::More(Box::new(rows))));
        Together { schema, deadline, rows, readers: Arc::default() }
    }

    /// Whether somebody takes from them.
    pub fn is_read(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// A stream of some of them.
    pub fn batches(self) -> impl Stream<Item = Result<RecordBatch>> + Send {
        self.readers.fetch_add(1, Ordering::Relaxed);
        futures::stream::unfold(Reading(self), |reading| async move {
            let next = reading.0.rows.lock().await.next().await;
            next.map(|batch| (batch, reading))
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Left {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        let next = match self {
            Left::More(rows) => AssertUnwindSafe(rows.next()).catch_unwind().await,
            Left::Nothing => return None,
            Left::Failed(error) => return Some(Err(error.again())),
        };
        match next.unwrap_or_else(|_| Some(Err(bug()))) {
            Some(Ok(batch)) => Some(Ok(batch)),
            Some(Err(error)) => {
                *self = Left::Failed(error.again());
                Some(Err(error))
            }
            None => {
                *self = Left::Nothing;
                None
            }
        }
    }
}
