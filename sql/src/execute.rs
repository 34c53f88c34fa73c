//! Runs an authorized plan as a stream.
//!
//! What it guarantees: it takes nothing but an [`AuthorizedPlan`]. The work runs in a task of its
//! own, [`BYTES_AHEAD`] ahead of the client at most; it ends when the statement is cancelled, when its
//! time is over, or when the rows are dropped, also in the middle of an aggregate. A hash join that
//! finds no memory is tried again as a sort-merge join, which spills, if no row was given yet. When
//! what the plan stands on ends, so do its rows.
//! On failure: the error comes as the last item.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result as PlanResult;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use kho_catalog::error::{Error, Kind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::apart::apart;
use crate::authorize::AuthorizedPlan;
use crate::authorize::standing::{SessionWatch, while_it_holds};
use crate::errors::{from_engine, to_engine};
use crate::limit::meter::kept;
use crate::memory::expanding::expands;
use crate::memory::task_context;
use crate::outcome::{Deadline, bytes_of};
use crate::scope::Scope;
use crate::secure;
use crate::share;

/// What may wait for the client, or one batch that is larger: what it is larger by counts as the
/// statement's memory.
const BYTES_AHEAD: u32 = 8 << 20;
/// How many batches that is, where they are small.
const BATCHES_AHEAD: usize = 16;
/// About how large a batch of a table may be: an operator holds several, and counts none of them.
const BATCH_BYTES: usize = 2 << 20;
/// How wide rows are taken to be that functions make of little: as wide as these may be made, several
/// batches of them are memory that nobody counts.
const EXPANDED_ROW_BYTES: usize = 16 << 10;
/// So many rows it has in any case.
const FEWEST_ROWS: usize = 16;

/// When and why a statement ends before its work is done.
#[derive(Clone)]
pub(crate) struct Limits {
    pub stop: CancellationToken,
    pub deadline: Deadline,
    /// Whose it is.
    session: Option<SessionWatch>,
}

impl Limits {
    /// For a statement of a session that may take `timeout_ms`; 0 is without end.
    pub(crate) fn new(stop: &CancellationToken, session: SessionWatch, timeout_ms: u64) -> Limits {
        let deadline = Deadline::of(Some(session.clone()), timeout_ms);
        Limits { stop: stop.clone(), deadline, session: Some(session) }
    }

    /// For rows that are taken by other statements, which have their own time.
    pub(crate) fn of_cursor(session: SessionWatch) -> Limits {
        let stop = CancellationToken::new();
        Limits { stop, deadline: Deadline::default(), session: Some(session) }
    }

    /// `work`, unless the statement is stopped first.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            error = self.canceled() => Err(error),
            error = self.deadline.passed() => Err(error),
            result = work => result,
        }
    }

    async fn canceled(&self) -> Error {
        let ended = async {
            match self.session.clone() {
                Some(session) => session.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                Error::new(Kind::QueryCanceled, "canceling statement due to user request")
            }
            error = ended => error,
        }
    }
}

/// A plan of the work.
pub(crate) struct Physical {
    pub plan: Arc<dyn ExecutionPlan>,
    /// What it was made by, and is to be run by.
    pub session: Arc<SessionState>,
}

impl Physical {
    /// Its rows, in this task.
    pub(crate) fn run(&self) -> PlanResult<SendableRecordBatchStream> {
        execute_stream(Arc::clone(&self.plan), task_context(&self.session))
    }
}

/// Plans the work, apart from other work; nothing is read yet but what planning needs.
pub(crate) async fn physical(plan: &AuthorizedPlan) -> Result<Physical> {
    planned(plan.plan().clone(), Arc::clone(plan.session())).await
}

/// The rows of `plan` in this task, while what it stands on holds: for writes, which stage them as
/// they come.
pub(crate) async fn stream(plan: &AuthorizedPlan) -> Result<SendableRecordBatchStream> {
    let physical = physical(plan).await?;
    let joins = has_hash_join(physical.plan.as_ref());
    let guarded = secure::is_guarded(physical.plan.as_ref());
    let rows = physical.run().map_err(from_engine)?;
    let rows = match joins {
        true => or_by_sorting(rows, plan.plan().clone(), Arc::clone(plan.session())),
        false => rows,
    };
    let rows = if guarded { without_values(rows) } else { rows };
    Ok(while_it_holds(rows, plan.standing().clone()))
}

/// The same for rows that are written elsewhere in the warehouse by the statement of `scope`.
pub(crate) async fn stream_kept(
    plan: &AuthorizedPlan,
    scope: &Scope,
) -> Result<SendableRecordBatchStream> {
    let rows = stream(plan).await?;
    Ok(match plan.standing().meter(&scope.facts, &scope.statement_id) {
        Some(meter) => kept(rows, meter),
        None => rows,
    })
}

/// The rows of `plan` from a task of their own, and their schema.
pub(crate) async fn spawn(
    plan: &AuthorizedPlan,
    limits: &Limits,
) -> Result<(SchemaRef, impl Stream<Item = Result<RecordBatch>> + Send + use<>)> {
    let mut batches = limits.run(stream(plan)).await?;
    let schema = batches.schema();
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    let room = Arc::new(Semaphore::new(BYTES_AHEAD as usize));
    let memory = MemoryConsumer::new("rows for the client");
    let memory = memory.register(&plan.session().runtime_env().memory_pool);
    let limits = limits.clone();
    let deadline = limits.deadline.clone();
    let dropped = CancellationToken::new();
    let guard = dropped.clone().drop_guard();
    let feeding = tokio::spawn(async move {
        loop {
            // What is computed while nobody waits for it has an end, too.
            let time = Deadline::of(limits.session.clone(), 0);
            let item = tokio::select! {
                biased;
                () = dropped.cancelled() => return,
                error = limits.canceled() => Err(error),
                error = time.passed() => Err(error),
                next = batches.next() => match next {
                    Some(batch) => batch.map_err(from_engine),
                    None => return,
                },
            };
            let bytes = item.as_ref().map_or(0, bytes_of);
            let ahead = u32::try_from(bytes).unwrap_or(u32::MAX).min(BYTES_AHEAD);
            let room = tokio::select! {
                biased;
                () = dropped.cancelled() => return,
                room = Arc::clone(&room).acquire_many_owned(ahead) => room,
            };
            let Ok(room) = room else { return };
            // After the room, in which two large ones are not at once: the first is given back by now.
            let memory = memory.new_empty();
            let item = match memory.try_grow(bytes.saturating_sub(BYTES_AHEAD as usize)) {
                Ok(()) => item,
                Err(refused) => item.and(Err(from_engine(refused))),
            };
            let failed = item.is_err();
            if sender
                .send(Ahead { item, taken: Taken { _room: room, _memory: memory } })
                .await
                .is_err()
                || failed
            {
                return;
            }
        }
    });
    Ok((schema, received(receiver, (guard, feeding), deadline)))
}

/// What waits for the client, and what it takes while it does.
struct Ahead {
    item: Result<RecordBatch>,
    taken: Taken,
}

struct Taken {
    _room: OwnedSemaphorePermit,
    _memory: MemoryReservation,
}

/// The time is the receiver's: a client that comes back for more rows has time anew. Who asks for the next
/// batch is done with the last one; until then it takes what it took. Rows are whole where whoever fed them
/// came to their end: where that broke off, nobody else says so.
fn received(
    receiver: mpsc::Receiver<Ahead>,
    fed: (DropGuard, JoinHandle<()>),
    deadline: Deadline,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let state = Some((receiver, fed, deadline, None));
    stream::unfold(state, |state| async move {
        let (mut receiver, (guard, feeding), deadline, last) = state?;
        drop(last);
        tokio::select! {
            // First: rows that are always there must not outlast it.
            biased;
            error = deadline.passed() => Some((Err(error), None)),
            ahead = receiver.recv() => match ahead {
                Some(Ahead { item, taken }) => {
                    Some((item, Some((receiver, (guard, feeding), deadline, Some(taken)))))
                }
                None => match feeding.await {
                    Ok(()) => None,
                    Err(broken) => {
                        tracing::error!(%broken, "rows broke off by a bug");
                        Some((Err(Error::internal("the rows broke off by a bug of the server")), None))
                    }
                },
            }
        }
    })
}

/// `rows`, whose errors quote no value: which of several rows fails first depends on how they lie in
/// files, and so on those that are hidden.
fn without_values(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let told = rows.map_err(|error| match error.find_root() {
        // To be tried again in another way.
        DataFusionError::ResourcesExhausted(_) => error,
        _ => to_engine(secure::without_values(from_engine(error))),
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, told))
}

async fn planned(plan: LogicalPlan, session: Arc<SessionState>) -> Result<Physical> {
    let length = secure::length(&plan);
    // Boxed: what waits for a plan is waited for by much else, and compilers look through all of it.
    let work: BoxFuture<'static, PlanResult<Physical>> = match length.is_of_few_rows {
        true => Box::pin(alone(plan, session)),
        false => Box::pin(together(plan, session)),
    };
    let work = async move { work.await.map_err(from_engine) };
    match length.is_short {
        true => work.await,
        false => apart(work).await,
    }
}

/// For a few rows: what shares work among threads would find none.
async fn alone(plan: LogicalPlan, session: Arc<SessionState>) -> PlanResult<Physical> {
    let mut alone = SessionState::clone(&session);
    alone.config_mut().options_mut().execution.target_partitions = 1;
    let plan = share::planned(&plan, &alone).await?;
    Ok(Physical { plan, session })
}

async fn together(plan: LogicalPlan, session: Arc<SessionState>) -> PlanResult<Physical> {
    let plan = session.optimize(&plan)?;
    let runtime = Arc::clone(session.runtime_env());
    let widest = secure::widest_row(plan.clone(), runtime).await?;
    let made = if expands(&plan)? { EXPANDED_ROW_BYTES } else { 0 };
    let session = fitted(session, widest.max(made));
    let plan = share::physical(plan, &session).await?;
    Ok(Physical { plan, session })
}

/// `session`, with batches of fewer rows where a row takes many bytes.
fn fitted(session: Arc<SessionState>, row_bytes: usize) -> Arc<SessionState> {
    let rows = BATCH_BYTES.checked_div(row_bytes).unwrap_or(usize::MAX).max(FEWEST_ROWS);
    if rows >= session.config().batch_size() {
        return session;
    }
    let mut fitted = SessionState::clone(&session);
    let config = fitted.config_mut();
    *config = config.clone().with_batch_size(rows);
    Arc::new(fitted)
}

fn has_hash_join(plan: &dyn ExecutionPlan) -> bool {
    plan.name() == "HashJoinExec" || plan.children().iter().any(|it| has_hash_join(it.as_ref()))
}

/// `rows`, or if memory runs out before the first of them, those of a plan that joins by sorting.
fn or_by_sorting(
    mut rows: SendableRecordBatchStream,
    plan: LogicalPlan,
    session: Arc<SessionState>,
) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let whole = async move {
        match rows.next().await {
            Some(Err(error)) if is_exhausted(&error) => {
                tracing::debug!(%error, "a join without enough memory is tried again by sorting");
                drop(rows);
                let mut session = SessionState::clone(&session);
                session.config_mut().options_mut().optimizer.prefer_hash_join = false;
                planned(plan, Arc::new(session)).await.map_err(to_engine)?.run()
            }
            first => {
                let schema = rows.schema();
                let whole = stream::iter(first).chain(rows);
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, whole)) as _)
            }
        }
    };
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::once(whole).try_flatten()))
}

fn is_exhausted(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

#[cfg(test)]
mod tests;
