//! What delta-rs does to a table when two of its operations, or one of its and one of ours, start
//! from one version.
//!
//! # Why tests of another program
//! Kho's own way of compacting rests on what is shown here. If one of the first three fails after an
//! upgrade, delta-rs has been mended, and the restated metadata of
//! [`Commit::rewrite`](super::super::Commit) may have had their day.

use deltalake_core::DeltaTable;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{StructField, StructType};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;

use super::compaction::{compact, rewrite};
use super::*;

/// delta-rs' own way to a table: nothing of ours is in between.
async fn foreign(tables: &Tables, location: &Location) -> DeltaTable {
    let mut table = DeltaTable::new(bare(tables, location));
    table.load().await.unwrap();
    table
}

fn bare(tables: &Tables, location: &Location) -> LogStoreRef {
    let root: Arc<dyn ObjectStore> = tables.environment().store().clone();
    let table: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(root.clone(), location.path()));
    default_logstore(table, root, &location.url().unwrap(), &StorageConfig::default())
}

fn batch(ids: &[i64]) -> RecordBatch {
    let values: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(Float64Array::from(vec![0.5; ids.len()])),
    ];
    RecordBatch::try_new(schema::arrow_schema(&columns()), values).unwrap()
}

/// A table that delta-rs alone made: four files of five rows.
async fn bare_table() -> (Tables, Location) {
    let tables = Tables::new(Environment::open("memory://").unwrap());
    let location = Location { dataset: "bare".to_owned(), generation: 0 };
    let schema: StructType = schema::arrow_schema(&columns()).as_ref().try_into_kernel().unwrap();
    let fields: Vec<StructField> = schema.fields().cloned().collect();
    let created =
        CreateBuilder::new().with_log_store(bare(&tables, &location)).with_columns(fields).await;
    let mut table = created.unwrap();
    for start in [0, 5, 10, 15] {
        let ids: Vec<i64> = (start..start + 5).collect();
        table = table.write(vec![batch(&ids)]).await.unwrap();
    }
    (tables, location)
}

/// A table that Kho made: four files of five rows.
async fn our_table() -> (Tables, Location) {
    let (tables, location) = made().await;
    for start in [0, 5, 10, 15] {
        let snapshot = tables.latest(&location).await.unwrap();
        let ids: Vec<i64> = (start..start + 5).collect();
        let rows = staged_all(&tables, &location, &ids).await;
        tables.commit(&snapshot, Commit::append(&snapshot, rows, author())).await.unwrap();
    }
    (tables, location)
}

async fn now(tables: &Tables, location: &Location) -> Vec<i64> {
    ids(&Tables::new(tables.environment().clone()).latest(location).await.unwrap()).await
}

fn twenty() -> Vec<i64> {
    (0..20).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_delta_rs_doubles_rows_by_two_optimizes() {
    let (tables, location) = bare_table().await;
    let (one, two) = (foreign(&tables, &location).await, foreign(&tables, &location).await);
    one.optimize().await.unwrap();
    two.optimize().await.unwrap();
    let rows = now(&tables, &location).await;
    assert_eq!(rows.len(), 40, "delta-rs was mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_delta_rs_keeps_all_rows_in_a_stale_delete() {
    let (tables, location) = bare_table().await;
    let (one, two) = (foreign(&tables, &location).await, foreign(&tables, &location).await);
    one.optimize().await.unwrap();
    two.delete().await.unwrap();
    assert_eq!(now(&tables, &location).await, twenty(), "delta-rs was mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_delta_rs_keeps_old_rows_in_a_stale_overwrite() {
    let (tables, location) = bare_table().await;
    let (one, two) = (foreign(&tables, &location).await, foreign(&tables, &location).await);
    one.optimize().await.unwrap();
    two.write(vec![batch(&[100])]).with_save_mode(SaveMode::Overwrite).await.unwrap();
    assert_eq!(now(&tables, &location).await.len(), 21, "delta-rs was mended");
}

/// Behind our compaction delta-rs' stale operations are refused; from the new version they pass.
#[tokio::test(flavor = "multi_thread")]
async fn delta_rs_cannot_corrupt_what_kho_compacted() {
    let (tables, location) = our_table().await;
    let stale = foreign(&tables, &location).await;
    compact(&tables, &location, Effort::All, &[]).await.unwrap().unwrap();
    assert!(stale.clone().optimize().await.is_err());
    assert!(stale.clone().delete().await.is_err());
    let overwrite = stale.clone().write(vec![batch(&[100])]).with_save_mode(SaveMode::Overwrite);
    assert!(overwrite.await.is_err());
    assert_eq!(now(&tables, &location).await, twenty());
    let fresh = foreign(&tables, &location).await;
    fresh.write(vec![batch(&[20])]).await.unwrap();
    assert_eq!(now(&tables, &location).await, (0..=20).collect::<Vec<_>>());
}

/// Every stale write of ours is refused behind delta-rs' compaction, and our appends pass.
#[tokio::test(flavor = "multi_thread")]
async fn kho_writes_nothing_stale_over_a_compaction_of_delta_rs() {
    let (tables, location) = our_table().await;
    let stale = tables.latest(&location).await.unwrap();
    let all: Vec<usize> = (0..stale.files().len()).collect();
    let changed = staged_all(&tables, &location, &[0, 1, 2, 3, 400]).await;
    let commits = [
        rewrite(&tables, &stale).await,
        replace(&stale, &all, Staged::empty(&tables)),
        replace(&stale, &all, staged(&tables, &location, 100).await),
        replace(&stale, &[0], changed),
    ];
    let append = Commit::append(&stale, staged(&tables, &location, 20).await, author());
    foreign(&tables, &location).await.optimize().await.unwrap();
    for commit in commits {
        let error = tables.commit(&stale, commit).await.unwrap_err();
        assert_eq!(error.sqlstate(), "40001");
    }
    assert_eq!(now(&tables, &location).await, twenty());
    tables.commit(&stale, append).await.unwrap();
    assert_eq!(now(&tables, &location).await, (0..=20).collect::<Vec<_>>());
}

/// Two servers: whatever starts from the version before a compaction is refused behind it, and a
/// compaction is refused behind whatever took one of its files out.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_of_kho_corrupt_nothing() {
    let (tables, location) = our_table().await;
    let other = Tables::new(tables.environment().clone());
    let stale = other.latest(&location).await.unwrap();
    let all: Vec<usize> = (0..stale.files().len()).collect();
    let commits = [
        rewrite(&other, &stale).await,
        replace(&stale, &all, Staged::empty(&other)),
        replace(&stale, &all, staged(&other, &location, 100).await),
    ];
    compact(&tables, &location, Effort::All, &[]).await.unwrap().unwrap();
    for commit in commits {
        let error = other.commit(&stale, commit).await.unwrap_err();
        assert_eq!(error.sqlstate(), "40001");
    }
    assert_eq!(now(&tables, &location).await, twenty());

    let before = other.latest(&location).await.unwrap();
    let late = rewrite(&other, &before).await;
    let none = replace(&before, &[0], Staged::empty(&tables));
    tables.commit(&before, none).await.unwrap();
    assert_eq!(other.commit(&before, late).await.unwrap_err().sqlstate(), "40001");
    assert!(now(&tables, &location).await.is_empty());
}

/// A table that was given another shape meanwhile is not compacted in its old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_does_not_follow_a_change_of_shape() {
    let (tables, location) = our_table().await;
    let stale = tables.latest(&location).await.unwrap();
    let late = rewrite(&tables, &stale).await;
    let mut wider = columns();
    wider.push(TableColumn {
        id: Some(3),
        name: "more".to_owned(),
        data_type: Type::BigInt,
        not_null: false,
    });
    let shape = Commit::reshape("ADD COLUMNS", &stale, &wider, None, author()).unwrap();
    tables.commit(&stale, shape).await.unwrap();
    assert_eq!(tables.commit(&stale, late).await.unwrap_err().sqlstate(), "40001");
    compact(&tables, &location, Effort::All, &[]).await.unwrap().unwrap();
    assert_eq!(now(&tables, &location).await, twenty());
}

fn replace(snapshot: &Snapshot, files: &[usize], rows: Staged) -> Commit {
    let metrics = Metrics::default();
    Commit::replace("UPDATE", snapshot, files, rows, author(), metrics).unwrap()
}
