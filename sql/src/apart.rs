//! Work that computes for long without a pause, on a thread of its own.
//!
//! # Why
//! Planning a large statement takes seconds, in which it neither waits nor yields. On a thread of
//! the server it would hold up other statements, and its own client could not cancel it.
//! What it guarantees: whoever waits for it can stop waiting at any moment; the work itself ends
//! then where it next waits for something, or between two rules of the optimizer, and what it made
//! is dropped.

use std::panic::resume_unwind;
use std::sync::Arc;

use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use kho_catalog::error::{Error, Kind, Result};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::errors::to_engine;

tokio::task_local! {
    /// Cancelled when nobody waits for the work any more.
    static DROPPED: CancellationToken;
}

/// What `work` gives. A panic in it is the caller's.
pub(crate) async fn apart<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let runtime = Handle::current();
    let dropped = CancellationToken::new();
    let _guard = dropped.clone().drop_guard();
    let span = tracing::Span::current();
    let task = tokio::task::spawn_blocking(move || {
        let _entered = span.enter();
        runtime.block_on(DROPPED.scope(dropped.clone(), async {
            tokio::select! {
                biased;
                () = dropped.cancelled() => Err(abandoned()),
                result = work => result,
            }
        }))
    });
    match task.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(abandoned()),
        },
    }
}

/// The engine's rules of optimization, with a look before each whether anybody still waits.
pub(crate) fn abandonable(rules: Vec<Rule>) -> Vec<Rule> {
    rules.into_iter().flat_map(|rule| [Arc::new(Abandon) as Rule, rule]).collect()
}

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// Changes nothing; fails where nobody waits for the plan.
#[derive(Debug)]
struct Abandon;

impl OptimizerRule for Abandon {
    fn name(&self) -> &str {
        "kho_abandon"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> PlanResult<Transformed<LogicalPlan>> {
        match DROPPED.try_with(CancellationToken::is_cancelled) {
            Ok(true) => Err(to_engine(abandoned())),
            // Not cancelled, or not planned apart.
            Ok(false) | Err(_) => Ok(Transformed::no(plan)),
        }
    }
}

fn abandoned() -> Error {
    Error::new(Kind::AdminShutdown, "the statement was given up")
}
