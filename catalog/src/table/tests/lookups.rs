//! Rows looked for by their key: which files are looked into.

use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::SessionContext;

use super::*;
use crate::state::{Key, KeyKind};
use crate::table::{KEPT_KEYS, Searched};

/// A file with these ids, made to be searched by them.
async fn add(tables: &Tables, location: &Location, kind: KeyKind, ids: Vec<i64>) {
    let key = Key { name: "d_pkey".to_owned(), kind, columns: vec![1] };
    let mut stage = tables.stage(location, &columns(), &[key]);
    let count = ids.len();
    let scores = Float64Array::from(vec![0.5; count]);
    let values: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from(ids)), Arc::new(scores)];
    let batch = RecordBatch::try_new(stage.schema().clone(), values).unwrap();
    stage.write(&batch).await.unwrap();
    let snapshot = tables.latest(location).await.unwrap();
    let staged = stage.finish().await.unwrap();
    let compares = kind != KeyKind::Index && count <= KEPT_KEYS;
    assert_eq!(staged.new_keys().is_some(), compares, "by what rows are compared");
    tables.commit(&snapshot, Commit::append(&snapshot, staged, author())).await.unwrap();
}

/// Even and odd ids are within one range: only bloom filters tell their files apart.
#[tokio::test]
async fn a_key_is_looked_for_where_it_may_be() {
    looked_for(KeyKind::Primary).await;
}

#[tokio::test]
async fn an_index_is_as_good_as_a_key() {
    looked_for(KeyKind::Index).await;
}

async fn looked_for(kind: KeyKind) {
    let (tables, location) = made().await;
    add(&tables, &location, kind, (0..500).map(|it| it * 2).collect()).await;
    add(&tables, &location, kind, (0..500).map(|it| it * 2 + 1).collect()).await;
    add(&tables, &location, kind, vec![1_000_000]).await;
    let snapshot = tables.latest(&location).await.unwrap();
    let session = SessionContext::new().state();
    let places =
        async |filters: &[Expr]| snapshot.files_holding(&session, filters).await.unwrap().len();
    assert_eq!(places(&[]).await, 3);
    assert_eq!(places(&[col("id").gt(lit(5_i64))]).await, 3);
    assert_eq!(places(&[col("id").lt(lit(5_i64))]).await, 2);
    assert_eq!(places(&[col("id").eq(lit(1_000_000_i64))]).await, 1);
    for id in [0_i64, 1, 778, 999] {
        assert_eq!(places(&[col("id").eq(lit(id))]).await, 1, "{id}");
        // What is not there is in no file, or in one by mistake.
        assert!(places(&[col("id").eq(lit(id + 4000))]).await <= 1, "{id}");
    }
    let both = col("id").in_list(vec![lit(4_i64), lit(5_i64)], false);
    assert_eq!(places(&[both]).await, 2);
    let even = col("id").in_list(vec![lit(4_i64), lit(778_i64)], false);
    assert_eq!(places(&[even]).await, 1);
}

/// In order, in no order, and over one another: what is asked for by its key is read, and little else.
#[tokio::test]
async fn rows_are_read_by_their_key() {
    let (tables, location) = made().await;
    add(&tables, &location, KeyKind::Primary, (0..9_000).collect()).await;
    let shuffled = (0..9_000).map(|it| 20_000 + (it * 7919) % 9_000).collect();
    add(&tables, &location, KeyKind::Primary, shuffled).await;
    add(&tables, &location, KeyKind::Primary, vec![100_000]).await;
    let snapshot = tables.latest(&location).await.unwrap();
    let read = async |filters: &[Expr]| rows_by_key(&snapshot, filters).await;
    for id in [0_i64, 1, 4095, 4096, 8_999, 20_000, 27_919, 28_999, 100_000] {
        let (found, all) = read(&[col("id").eq(lit(id))]).await.unwrap();
        assert_eq!(found.into_iter().filter(|it| *it == id).count(), 1, "{id}");
        assert!(all <= 4096, "{all} rows for {id}");
        let (found, _) = read(&[lit(id).eq(col("id")), col("score").gt(lit(1.0))]).await.unwrap();
        assert!(found.contains(&id), "what is not asked of a key is decided elsewhere");
    }
    for id in [-1_i64, 29_000, 99_999, 100_001, i64::MAX] {
        let (found, _) = read(&[col("id").eq(lit(id))]).await.unwrap();
        assert!(!found.contains(&id), "{id}");
    }
    let some = col("id").in_list([5_i64, 25_000, 100_000, -5].map(lit).to_vec(), false);
    let (found, _) = read(&[some]).await.unwrap();
    assert!([5, 25_000, 100_000].iter().all(|id| found.contains(id)));
    let (found, _) = read(&[col("id").eq(lit(5_i64)), col("id").eq(lit(6_i64))]).await.unwrap();
    assert!(!(found.contains(&5) && found.contains(&6) && found.len() > 4096));
    // Not by a key, or not by a value.
    assert!(read(&[col("score").eq(lit(0.5))]).await.is_none());
    assert!(read(&[col("id").gt(lit(5_i64))]).await.is_none());
    assert!(read(&[]).await.is_none());
}

/// The ids that are read for `filters`, and how many rows; `None` where they give no key.
async fn rows_by_key(snapshot: &Snapshot, filters: &[Expr]) -> Option<(Vec<i64>, usize)> {
    let state = SessionContext::new().state();
    let key = [Searched { columns: vec!["id".to_owned()], is_unique: true }];
    let asked = (None, filters);
    let plan = snapshot.scan_by_value(&state, &snapshot.schema(), &key, asked).await.unwrap()?;
    let batches = datafusion::physical_plan::collect(plan, state.task_ctx()).await.unwrap();
    let ids = |batch: &RecordBatch| {
        batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    let ids: Vec<i64> = batches.iter().flat_map(ids).collect();
    let all = ids.len();
    Some((ids, all))
}
