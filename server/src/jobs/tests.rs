//! Tasks end when asked, and are missed when they end unasked.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kho_catalog::error::Error;

use super::Jobs;

#[tokio::test]
async fn a_job_that_listens_ends_by_itself() {
    let jobs = Jobs::new();
    let (stop, done) = (jobs.stopping(), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&done);
    jobs.spawn("listens", async move {
        stop.cancelled().await;
        seen.store(true, Ordering::Release);
        Ok(())
    });
    assert!(jobs.stop(Duration::from_secs(60)).await);
    assert!(done.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_job_that_does_not_listen_is_ended() {
    let jobs = Jobs::new();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    jobs.spawn("deaf", async move {
        let _held = held;
        pending().await
    });
    assert!(!jobs.stop(Duration::ZERO).await);
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test]
async fn an_error_a_panic_and_an_early_end_are_all_failures() {
    for way in 0..3 {
        let jobs = Jobs::new();
        jobs.spawn("ends", async move {
            assert!(way != 0, "on purpose");
            if way == 1 { Err(Error::internal("on purpose")) } else { Ok(()) }
        });
        jobs.failed().await;
    }
}
