//! Checkpoints: written when they are due, and good to open a table by.

use super::compaction::compact;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_written_when_it_is_due_and_keeps_history() {
    let (tables, location) = made().await;
    for id in 0..99 {
        add(&tables, &location, id).await;
    }
    assert_eq!(tables.checkpoint(&location).await.unwrap(), None);
    compact(&tables, &location, Effort::All, &["id"]).await.unwrap().unwrap();
    assert_eq!(tables.checkpoint(&location).await.unwrap(), Some(100));
    assert_eq!(tables.checkpoint(&location).await.unwrap(), None);
    add(&tables, &location, 99).await;
    // Opened afresh, from the checkpoint, as another server would.
    let other = Tables::new(tables.environment().clone());
    let all: Vec<i64> = (0..100).collect();
    assert_eq!(ids(&other.latest(&location).await.unwrap()).await, all);
    for version in [0, 1, 57, 99, 100] {
        let then = other.at_version(&location, version).await.unwrap();
        assert_eq!(ids(&then).await.len() as u64, version.min(99));
    }
    assert_eq!(other.history(&location).await.unwrap().len(), 102);
}

/// A checkpoint that cannot be written fails alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_checkpoint_leaves_the_table_as_it_was() {
    use crate::environment::faults::{Fault, FaultyStore};
    let environment = Environment::open("memory://").unwrap();
    let faulty = FaultyStore::over(environment.store());
    let (tables, location) = made_in(environment.with_store(faulty.clone())).await;
    for id in 0..100 {
        add(&tables, &location, id).await;
    }
    faulty.fail_put("tables/d/0/_delta_log/00000000000000000100.checkpoint", Fault::Before);
    assert!(tables.checkpoint(&location).await.is_err());
    add(&tables, &location, 100).await;
    let other = Tables::new(tables.environment().clone());
    assert_eq!(ids(&other.latest(&location).await.unwrap()).await.len(), 101);
    assert_eq!(tables.checkpoint(&location).await.unwrap(), Some(101));
}
