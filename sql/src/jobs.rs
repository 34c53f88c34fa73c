//! Long work of this server: what runs, how far it is, and how the last of it ended.
//!
//! What it guarantees: a job that was begun is shown until it ends; one that was dropped on the way
//! is shown as stopped. Memory is bounded: of ended jobs the newest are kept.
//! What it does not: jobs of other servers, and those before the server's start, are not known.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kho_catalog::environment::Environment;
use kho_catalog::error::Error;
use kho_catalog::state::Oid;
use kho_catalog::table::Progress;

/// How many ended jobs are remembered.
const ENDED_MAX: usize = 1_000;

/// The jobs of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    last: u64,
    running: BTreeMap<u64, Job>,
    ended: VecDeque<Job>,
}

/// One job as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub id: String,
    /// `compaction`, `checkpoint`, `sweep`.
    pub kind: &'static str,
    /// `None` for work on the whole warehouse.
    pub dataset: Option<Oid>,
    pub progress: Arc<Progress>,
    pub started_ms: i64,
    pub ended: Option<Ended>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub at_ms: i64,
    pub state: &'static str,
    pub error: Option<String>,
}

/// A job that runs as long as this is kept.
#[derive(Debug)]
pub(crate) struct RunningJob {
    jobs: Jobs,
    environment: Environment,
    number: u64,
    id: String,
    progress: Arc<Progress>,
    ended: bool,
}

impl Jobs {
    pub(crate) fn begin(
        &self,
        environment: &Environment,
        kind: &'static str,
        dataset: Option<Oid>,
    ) -> RunningJob {
        let (id, progress) = (environment.new_id(), Arc::new(Progress::default()));
        let job = Job {
            id: id.clone(),
            kind,
            dataset,
            progress: Arc::clone(&progress),
            started_ms: environment.now_ms(),
            ended: None,
        };
        let mut known = self.lock();
        known.last += 1;
        let number = known.last;
        known.running.insert(number, job);
        let (jobs, environment) = (self.clone(), environment.clone());
        RunningJob { jobs, environment, number, id, progress, ended: false }
    }

    /// What runs, then what ended, the newest of each first.
    pub(crate) fn all(&self) -> Vec<Job> {
        let known = self.lock();
        known.running.values().rev().chain(known.ended.iter().rev()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningJob {
    /// What its commits name as the statement.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Everything was done.
    pub(crate) fn succeed(mut self) {
        self.end("succeeded", None);
    }

    /// Others were faster, or held what it needed; it is tried again when there is reason to.
    pub(crate) fn give_up(mut self) {
        self.end("given up", None);
    }

    pub(crate) fn fail(mut self, error: &Error) {
        let words = format!("{}: {}", error.sqlstate(), error.message());
        self.end("failed", Some(words));
    }

    fn end(&mut self, state: &'static str, error: Option<String>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let mut known = self.jobs.lock();
        if let Some(mut job) = known.running.remove(&self.number) {
            job.ended = Some(Ended { at_ms: self.environment.now_ms(), state, error });
            known.ended.push_back(job);
            if known.ended.len() > ENDED_MAX {
                known.ended.pop_front();
            }
        }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.end("stopped", None);
    }
}
