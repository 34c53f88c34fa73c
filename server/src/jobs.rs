//! The tasks that run as long as the server does.
//!
//! What it guarantees: every task has a name and one owner; one that ends before it is asked to,
//! or panics, is logged and makes [`Jobs::failed`] return; when [`Jobs::stop`] returns, none runs.
//! What it does not: it starts nothing again; a server that lost a task is stopped by its owner.

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kho_catalog::error::Result;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// The running tasks of one server.
#[derive(Default)]
pub struct Jobs {
    tasks: Mutex<JoinSet<()>>,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Jobs {
    pub fn new() -> Jobs {
        Jobs::default()
    }

    /// Cancelled when the server stops; what it is given to must end soon after.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs `work` until the server stops.
    pub fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        let watched = async move {
            // Of its own, so that a panic in it is seen here and not lost.
            let mut inner = JoinSet::new();
            inner.spawn(work.in_current_span());
            match inner.join_next().await {
                Some(Ok(Ok(()))) if stop.is_cancelled() => return,
                Some(Ok(Ok(()))) => tracing::error!(job = name, "a job ended by itself"),
                Some(Ok(Err(error))) => tracing::error!(job = name, ?error, "a job failed"),
                Some(Err(error)) => tracing::error!(job = name, %error, "a job panicked"),
                None => {}
            }
            failed.cancel();
        };
        self.lock().spawn(watched.instrument(tracing::info_span!("job", name)));
    }

    /// Returns when a task ended that should not have.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Asks every task to end, waits for `grace`, then ends those that did not.
    /// Says whether all ended by themselves.
    pub async fn stop(self, grace: Duration) -> bool {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.lock());
        let all = async { while tasks.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(grace, all).await.is_ok();
        if !in_time {
            tracing::warn!(left = tasks.len(), "jobs did not end in time and were ended");
            tasks.shutdown().await;
        }
        in_time
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        // A set of handles is whole whatever panicked while it was held.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
