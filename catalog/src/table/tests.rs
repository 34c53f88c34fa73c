//! Commits of Delta tables: what they hold, and that none is lost.

mod checkpoints;
mod compaction;
mod corruption;
mod leftovers;
mod lookups;
mod order;

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;

use super::*;
use crate::types::Type;

mod requests;

fn author() -> CommitAuthor {
    CommitAuthor { role: "an".to_owned(), statement: "s1".to_owned() }
}

fn columns() -> Vec<TableColumn> {
    let column = |id, name: &str, data_type| TableColumn {
        id: Some(id),
        name: name.to_owned(),
        data_type,
        not_null: false,
    };
    vec![column(1, "id", Type::BigInt), column(2, "score", Type::Double)]
}

async fn made() -> (Tables, Location) {
    made_in(Environment::open("memory://").unwrap()).await
}

async fn made_in(environment: Environment) -> (Tables, Location) {
    let tables = Tables::new(environment);
    let location = Location { dataset: "d".to_owned(), generation: 0 };
    tables.create(&location, &columns(), None, &author()).await.unwrap();
    (tables, location)
}

async fn staged(tables: &Tables, location: &Location, id: i64) -> Staged {
    staged_all(tables, location, &[id]).await
}

async fn staged_all(tables: &Tables, location: &Location, ids: &[i64]) -> Staged {
    let mut stage = tables.stage(location, &columns(), &[]);
    let values: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(Float64Array::from(vec![f64::NAN; ids.len()])),
    ];
    let batch = RecordBatch::try_new(stage.schema().clone(), values).unwrap();
    stage.write(&batch).await.unwrap();
    stage.finish().await.unwrap()
}

/// Adds a row in a commit and a file of its own.
async fn add(tables: &Tables, location: &Location, id: i64) -> u64 {
    let snapshot = tables.latest(location).await.unwrap();
    let commit = Commit::append(&snapshot, staged(tables, location, id).await, author());
    tables.commit(&snapshot, commit).await.unwrap()
}

/// The ids in a version, sorted, as many times as they are there.
async fn ids(snapshot: &Snapshot) -> Vec<i64> {
    let mut ids = ids_of(snapshot.provider().await.unwrap()).await;
    ids.sort_unstable();
    ids
}

async fn ids_of(provider: Arc<dyn datafusion::catalog::TableProvider>) -> Vec<i64> {
    let frame = datafusion::prelude::SessionContext::new().read_table(provider).unwrap();
    let batches = frame.select_columns(&["id"]).unwrap().collect().await.unwrap();
    let column = |batch: &RecordBatch| {
        batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    batches.iter().flat_map(column).collect()
}

async fn log_text(tables: &Tables, location: &Location) -> String {
    let folder = location.path();
    let mut listed = tables.environment().store().list(Some(&folder));
    let mut text = String::new();
    while let Some(object) = listed.next().await {
        let object = object.unwrap().location;
        if object.as_ref().ends_with(".json") {
            let body = tables.environment().store().get(&object).await.unwrap().bytes();
            text.push_str(std::str::from_utf8(&body.await.unwrap()).unwrap());
        }
    }
    text
}

/// delta-rs writes a DELETE's own text into the log, where it outlives the row it names.
#[test]
fn the_guard_takes_predicates_out_of_a_commit() {
    let commit = r#"{"commitInfo":{"operation":"DELETE","operationParameters":{"predicate":"id = '046'","mode":"x"}}}
{"remove":{"path":"a"}}"#;
    let redacted = guard::redacted(&Bytes::from(commit)).unwrap();
    let text = std::str::from_utf8(&redacted).unwrap();
    assert!(!text.contains("046"), "{text}");
    assert!(text.contains("\"mode\":\"x\"") && text.contains("\"remove\""), "{text}");
}

/// A stale replacement is refused; a stale append lands behind what came first.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_a_compare_and_swap() {
    let (tables, location) = made().await;
    let stale = tables.latest(&location).await.unwrap();
    let one = Commit::append(&stale, staged(&tables, &location, 1).await, author());
    assert_eq!(tables.commit(&stale, one).await.unwrap(), 1);
    let two = Commit::append(&stale, staged(&tables, &location, 2).await, author());
    assert_eq!(tables.commit(&stale, two).await.unwrap(), 2);
    let nothing = Staged::empty(&tables);
    let metrics = Metrics::default();
    let all = Commit::replace("DELETE", &stale, &[], nothing, author(), metrics).unwrap();
    let error = tables.commit(&stale, all).await.unwrap_err();
    assert_eq!(error.sqlstate(), "40001");
    assert_eq!(tables.latest(&location).await.unwrap().files().len(), 2);
}

/// Statistics pass NaN over: with bounds on a float, a reader would skip the file that holds one.
#[tokio::test(flavor = "multi_thread")]
async fn floats_have_no_bounds_in_the_log() {
    let (tables, location) = made().await;
    let snapshot = tables.latest(&location).await.unwrap();
    let commit = Commit::append(&snapshot, staged(&tables, &location, 1).await, author());
    tables.commit(&snapshot, commit).await.unwrap();
    let text = log_text(&tables, &location).await;
    assert!(text.contains("minValues"), "{text}");
    let (_, bounds) = text.split_once("minValues").unwrap();
    assert!(!bounds.contains("score"), "{bounds}");
}

/// Other readers match columns by Parquet field ids when the schema has them, and find none.
#[tokio::test(flavor = "multi_thread")]
async fn no_field_ids_and_no_features_that_slow_readers() {
    let (tables, location) = made().await;
    let text = log_text(&tables, &location).await;
    for word in ["field_id", "deletionVectors", "columnMapping"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

/// Time travel by time names one version, and none before the first.
#[tokio::test(flavor = "multi_thread")]
async fn every_time_names_one_version() {
    let (tables, location) = made().await;
    let first = tables.history(&location).await.unwrap()[0].time_ms;
    let snapshot = tables.latest(&location).await.unwrap();
    let commit = Commit::append(&snapshot, staged(&tables, &location, 1).await, author());
    tables.commit(&snapshot, commit).await.unwrap();
    let second = tables.history(&location).await.unwrap()[1].time_ms;
    assert!(second > first);
    assert_eq!(tables.version_at(&location, first - 1).await.unwrap(), None);
    assert_eq!(tables.version_at(&location, second - 1).await.unwrap(), Some(0));
    assert_eq!(tables.version_at(&location, second).await.unwrap(), Some(1));
}
