//! What crashed writes left is removed, and nothing else ever.

use std::collections::HashSet;
use std::time::Duration;

use super::compaction::compact;
use super::*;
use crate::environment::{Clock, ManualClock, SystemClock};
use crate::log::NEW_DATASET_AGE_MAX;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A table on a clock that can be moved; what is stored bears the time of now.
async fn on_a_clock() -> (Tables, Location, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    let environment = Environment::open("memory://").unwrap().with_clock(clock.clone());
    let (tables, location) = made_in(environment).await;
    (tables, location, clock)
}

async fn objects(tables: &Tables) -> HashSet<String> {
    let listed = tables.environment().store().list(None);
    listed.map(|object| object.unwrap().location.to_string()).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_no_version_names_is_removed() {
    let (tables, location, clock) = on_a_clock().await;
    for id in 0..4 {
        add(&tables, &location, id).await;
    }
    let snapshot = tables.latest(&location).await.unwrap();
    let mut stage = tables.stage(&location, &columns(), &[]);
    let changes = changed_row(&stage);
    stage.write_changes(&changes).await.unwrap();
    let rows = stage.finish().await.unwrap();
    let metrics = Metrics::default();
    let change = Commit::replace("UPDATE", &snapshot, &[], rows, author(), metrics).unwrap();
    tables.commit(&snapshot, change).await.unwrap();
    compact(&tables, &location, Effort::All, &[]).await.unwrap().unwrap();
    let named = objects(&tables).await;

    let orphan = staged(&tables, &location, 100).await;
    let moved_on = staged(&tables, &location, 101).await;
    let mut stage = tables.stage(&location, &columns(), &[]);
    stage.write_changes(&changes).await.unwrap();
    stage.finish().await.unwrap();
    assert_eq!(objects(&tables).await.len(), named.len() + 3);
    clock.advance(DAY - HOUR);
    assert_eq!(tables.sweep_table(&location, DAY, author()).await.unwrap(), 0);
    assert_eq!(objects(&tables).await.len(), named.len() + 3);
    clock.advance(HOUR * 2);
    assert_eq!(tables.sweep_table(&location, DAY, author()).await.unwrap(), 3);
    let left = objects(&tables).await;
    assert!(named.is_subset(&left), "{:?}", named.difference(&left));
    assert_eq!(left.len(), named.len() + 1, "and the fence");
    for version in 0..=4 {
        let then = tables.at_version(&location, version).await.unwrap();
        assert_eq!(ids(&then).await.len() as u64, version);
    }
    assert_eq!(tables.sweep_table(&location, DAY, author()).await.unwrap(), 0);
    // The writer of one was not dead, it was slow: it is told to start again.
    let late = Commit::append(&snapshot, orphan, author());
    assert_eq!(tables.commit(&snapshot, late).await.unwrap_err().sqlstate(), "40001");
    // So is one that first moves on to the newest version.
    let newest = tables.latest(&location).await.unwrap();
    let late = Commit::append(&newest, moved_on, author());
    assert_eq!(tables.commit(&newest, late).await.unwrap_err().sqlstate(), "40001");
    add(&tables, &location, 100).await;
    assert_eq!(ids(&tables.latest(&location).await.unwrap()).await, [0, 1, 2, 3, 100]);
}

fn changed_row(stage: &Stage) -> RecordBatch {
    let mut fields = stage.schema().fields().to_vec();
    let label = arrow::datatypes::Field::new(CHANGE_TYPE, arrow::datatypes::DataType::Utf8, true);
    fields.push(Arc::new(label));
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1])),
        Arc::new(Float64Array::from(vec![1.0])),
        Arc::new(arrow::array::StringArray::from(vec!["delete"])),
    ];
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Without its whole log nobody knows what a table's versions name.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_whole_keeps_everything() {
    let (tables, location, clock) = on_a_clock().await;
    for id in 0..100 {
        add(&tables, &location, id).await;
    }
    tables.checkpoint(&location).await.unwrap().unwrap();
    let log = location.path().join("_delta_log").join("00000000000000000007.json");
    tables.environment().store().delete(&log).await.unwrap();
    drop(staged(&tables, &location, 1000).await);
    let before = objects(&tables).await;
    clock.advance(DAY * 2);
    assert_eq!(tables.sweep_table(&location, DAY, author()).await.unwrap(), 0);
    assert_eq!(objects(&tables).await, before);
}

/// A transaction that is open in this server keeps its table from being swept.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_of_this_server_is_left_alone() {
    let (tables, location, clock) = on_a_clock().await;
    let lease = tables.lease(&location).await;
    let snapshot = tables.latest(&location).await.unwrap();
    let open = Commit::append(&snapshot, staged(&tables, &location, 1).await, author());
    clock.advance(DAY * 2);
    assert_eq!(tables.sweep_table(&location, DAY, author()).await.unwrap(), 0);
    tables.commit(&snapshot, open).await.unwrap();
    drop(lease);
    assert_eq!(ids(&tables.latest(&location).await.unwrap()).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_the_catalog_never_named_are_removed() {
    let (tables, ours, clock) = on_a_clock().await;
    let of = |dataset: String| Location { dataset, generation: 0 };
    let (kept, gone) = (of(tables.environment().new_id()), of(tables.environment().new_id()));
    for location in [&kept, &gone] {
        tables.create(location, &columns(), None, &author()).await.unwrap();
    }
    drop(staged(&tables, &gone, 1).await);
    let named = HashSet::from([kept.dataset.clone()]);
    clock.advance(NEW_DATASET_AGE_MAX);
    assert_eq!(tables.sweep_folders(&named, HOUR).await.unwrap(), 0, "at least a day");
    clock.advance(DAY);
    assert_eq!(tables.sweep_folders(&named, HOUR).await.unwrap(), 2);
    for location in [&kept, &ours] {
        tables.latest(location).await.unwrap();
    }
    assert!(Tables::new(tables.environment().clone()).latest(&gone).await.is_err());
}
