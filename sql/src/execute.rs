//! Runs an authorized plan as a stream.
//!
//! What it guarantees: it takes nothing but an [`AuthorizedPlan`]. The work runs in a task of its
//! own, two batches ahead of the client at most; it ends when the statement is cancelled, when its
//! time is over, or when the rows are dropped, also in the middle of an aggregate.
//! On failure: the error comes as the last item.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{Stream, StreamExt};
use kho_catalog::error::{Error, Kind, Result};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::authorize::AuthorizedPlan;
use crate::errors::from_engine;

/// How many batches may wait for the client.
const BATCHES_AHEAD: usize = 2;

/// When and why a statement ends before its work is done.
#[derive(Clone)]
pub(crate) struct Limits {
    pub stop: CancellationToken,
    pub deadline: Option<Instant>,
}

impl Limits {
    pub(crate) fn new(stop: &CancellationToken, timeout_ms: u64) -> Limits {
        let deadline = (timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(timeout_ms));
        Limits { stop: stop.clone(), deadline }
    }

    /// `work`, unless the statement is stopped first.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            error = self.stopped() => Err(error),
            result = work => result,
        }
    }

    async fn stopped(&self) -> Error {
        let timeout = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {
                Error::new(Kind::QueryCanceled, "canceling statement due to user request")
            }
            () = timeout => {
                Error::new(Kind::QueryCanceled, "canceling statement due to statement timeout")
            }
        }
    }
}

/// Plans the work; nothing is read yet but what planning needs.
pub(crate) async fn physical(plan: &AuthorizedPlan) -> Result<Arc<dyn ExecutionPlan>> {
    plan.session().create_physical_plan(plan.plan()).await.map_err(from_engine)
}

/// The rows of `plan` in this task: for writes, which stage them as they come.
pub(crate) async fn stream(plan: &AuthorizedPlan) -> Result<SendableRecordBatchStream> {
    let physical = physical(plan).await?;
    execute_stream(physical, plan.session().task_ctx()).map_err(from_engine)
}

/// The rows of `plan` from a task of their own, and their schema.
pub(crate) async fn spawn(
    plan: &AuthorizedPlan,
    limits: &Limits,
) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch>> + Send + use<>)> {
    let mut batches = limits.run(stream(plan)).await?;
    let schema = batches.schema();
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let limits = limits.clone();
    let dropped = CancellationToken::new();
    let guard = dropped.clone().drop_guard();
    tokio::spawn(async move {
        loop {
            let next = async { Ok(batches.next().await) };
            let item = tokio::select! {
                biased;
                () = dropped.cancelled() => return,
                next = limits.run(next) => match next {
                    Ok(Some(Ok(batch))) => Ok(batch),
                    Ok(Some(Err(error))) => Err(from_engine(error)),
                    Ok(None) => return,
                    Err(error) => Err(error),
                },
            };
            let failed = item.is_err();
            if sender.send(item).await.is_err() || failed {
                return;
            }
        }
    });
    Ok((schema, received(receiver, guard)))
}

fn received(
    receiver: mpsc::Receiver<Result<RecordBatch>>,
    guard: DropGuard,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    futures::stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
        receiver.recv().await.map(|item| (item, (receiver, guard)))
    })
}
