//! Many seeds on all cores, and what to do with one that fails.
//!
//! What it guarantees: each seed of the list runs, each in one runtime on one thread; those that
//! failed are printed, with what they said; the test fails if there was one.
//! What it does not: ids and the order of hash tables differ between two runs of a seed.

use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::inside::{STACK_BYTES, runtime};

/// So many failing seeds are told in full.
const TOLD_MAX: usize = 3;

/// The number in the environment variable `name`, or `default`.
pub fn from_environment<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

/// Runs `one` for the seeds of `kept` and for 0 to `count`, on every core.
pub fn all<F>(name: &str, kept: &[u64], count: u64, one: F)
where
    F: AsyncFn(u64) -> Result<(), String> + Sync,
{
    let seeds: Vec<u64> = kept.iter().copied().chain(0..count).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) {
            let run = || runtime().block_on(one(*seed));
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(run));
            let outcome = outcome.unwrap_or_else(|_| Err("it panicked, see above".to_owned()));
            if let Err(reason) = outcome
                && let Ok(mut failed) = failed.lock()
            {
                failed.push((*seed, reason));
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            let worker = thread::Builder::new().stack_size(STACK_BYTES);
            let worker = worker.spawn_scoped(scope, work);
            drop(worker.unwrap_or_else(|error| panic!("no thread: {error}")));
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    let seeds: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    let told: Vec<String> = (failed.iter().take(TOLD_MAX))
        .map(|(seed, reason)| format!("{name}, seed {seed}: {reason}"))
        .collect();
    assert!(seeds.is_empty(), "seeds of {name} that failed: {seeds:?}\n{}", told.join("\n"));
}
