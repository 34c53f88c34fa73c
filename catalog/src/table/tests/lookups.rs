//! Rows looked for by their key: which files are looked into.

use datafusion::logical_expr::{Expr, col, lit};
use datafusion::prelude::SessionContext;

use super::*;
use crate::state::{Key, KeyKind};

/// A file with these ids, made to be searched by them.
async fn add(tables: &Tables, location: &Location, kind: KeyKind, ids: Vec<i64>) {
    let key = Key { name: "d_pkey".to_owned(), kind, columns: vec![1] };
    let mut stage = tables.stage(location, &columns(), &[key]);
    let scores = Float64Array::from(vec![0.5; ids.len()]);
    let values: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from(ids)), Arc::new(scores)];
    let batch = RecordBatch::try_new(stage.schema().clone(), values).unwrap();
    stage.write(&batch).await.unwrap();
    let snapshot = tables.latest(location).await.unwrap();
    let staged = stage.finish().await.unwrap();
    assert_eq!(staged.new_keys().is_none(), kind == KeyKind::Index, "by what rows are compared");
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
