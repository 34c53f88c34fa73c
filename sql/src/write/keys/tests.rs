//! Keys against files, without a statement: what is found, and what is read for it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::execution::SessionStateBuilder;
use kho_catalog::environment::Environment;
use kho_catalog::state::{Classification, Governance, KeyKind, RelationKind, Table};
use kho_catalog::table::{KEPT_KEYS, Location, TableColumn};
use kho_catalog::types::Type;

use super::*;
use crate::write::rewrite::table_columns;

const LOCATION: &str = "d";

fn location() -> Location {
    Location { dataset: LOCATION.to_owned(), generation: 0 }
}

fn session() -> SessionState {
    SessionStateBuilder::new().with_default_features().build()
}

fn author() -> CommitAuthor {
    CommitAuthor { role: "an".to_owned(), statement: "s1".to_owned() }
}

/// A table with the primary key `id` and the unique pair `(id, name)`.
fn relation() -> Relation {
    let column = Column::new;
    let key = |name: &str, kind, columns: &[u32]| Key {
        name: name.to_owned(),
        kind,
        columns: columns.to_vec(),
    };
    let governance = Governance {
        classification: Classification::Internal,
        update_frequency: None,
        retention: None,
        retention_column: None,
        allowed_purposes: Default::default(),
        requires_agreement: false,
    };
    Relation {
        oid: 16390,
        schema: 16389,
        name: "t".to_owned(),
        owner: 16384,
        columns: vec![column(1, "id", Type::BigInt), column(2, "Họ tên", Type::Text)],
        grants: vec![],
        comment: None,
        kind: RelationKind::Table(Table {
            dataset: LOCATION.to_owned(),
            generation: 0,
            next_column: 3,
            checks: vec![],
            keys: vec![
                key("t_pkey", KeyKind::Primary, &[1]),
                key("t_pair", KeyKind::Unique, &[2, 1]),
            ],
            indexes: vec![],
            dropped: vec![],
            row_security: Default::default(),
            policies: vec![],
            governance,
            created_ms: 0,
        }),
    }
}

fn columns() -> Vec<TableColumn> {
    table_columns(&relation().columns)
}

async fn made() -> Tables {
    let tables = Tables::new(Environment::open("memory://").unwrap());
    tables.create(&location(), &columns(), None, &author()).await.unwrap();
    tables
}

async fn staged(tables: &Tables, ids: impl IntoIterator<Item = Option<i64>>) -> Staged {
    let ids: Vec<Option<i64>> = ids.into_iter().collect();
    let mut stage = tables.stage(&location(), &columns(), relation().keys());
    for ids in ids.chunks(300) {
        let names = ids.iter().map(|id| id.map(|id| format!("Đào {id}")));
        let values: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.to_vec())),
            Arc::new(names.collect::<StringArray>()),
        ];
        let batch = RecordBatch::try_new(stage.schema().clone(), values).unwrap();
        stage.write(&batch).await.unwrap();
    }
    stage.finish().await.unwrap()
}

/// Checks and commits; the detail of the refusal, if it is refused.
async fn insert(tables: &Tables, ids: impl IntoIterator<Item = Option<i64>>) -> Option<String> {
    let (session, relation) = (session(), relation());
    let snapshot = tables.latest(&location()).await.unwrap();
    let staged = staged(tables, ids).await;
    match check(tables, &session, &relation, &staged, &snapshot, (&[], Told::Write)).await {
        Ok(()) => {
            let rows = Recheck {
                session,
                relation,
                staged,
                author: author(),
                load: None,
                told: Told::Write,
            };
            rows.commit(tables, snapshot).await.unwrap();
            None
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::UniqueViolation, "{error:?}");
            Some(error.detail().unwrap().to_owned())
        }
    }
}

fn exists(id: i64) -> Option<String> {
    Some(format!("Key (id)=({id}) already exists."))
}

#[tokio::test(flavor = "multi_thread")]
async fn few_and_many_keys_are_found_among_few_and_many() {
    let tables = made().await;
    let many = || (0..5000).map(|it| Some(it * 3));
    assert!(many().count() > KEPT_KEYS);
    assert_eq!(insert(&tables, [Some(2), Some(1), Some(2)]).await, exists(2));
    assert_eq!(insert(&tables, many().chain([Some(12)])).await, exists(12));
    assert_eq!(insert(&tables, many()).await, None);
    assert_eq!(insert(&tables, [Some(3000)]).await, exists(3000));
    assert_eq!(insert(&tables, [Some(3001)]).await, None);
    assert_eq!(insert(&tables, [None, None]).await, None);
    assert_eq!(
        insert(&tables, (0..900).map(|it| Some(it * 3 + 1)).chain([Some(30)])).await,
        exists(30)
    );
    let next = || (5000..10_000).map(|it| Some(it * 3));
    assert_eq!(insert(&tables, next().chain([Some(3001)])).await, exists(3001));
    assert_eq!(insert(&tables, next().chain([None, None])).await, None);
}

/// Two servers that do not know of each other: no lease keeps them apart.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_behind_another_servers_is_checked_again() {
    let tables = made().await;
    let other = Tables::new(tables.environment().clone());
    let stale = other.latest(&location()).await.unwrap();
    let same = staged(&other, [Some(7)]).await;
    let different = staged(&other, [Some(8)]).await;
    let recheck = |staged| Recheck {
        session: session(),
        relation: relation(),
        staged,
        author: author(),
        load: None,
        told: Told::Write,
    };
    for staged in [&same, &different] {
        check(&other, &session(), &relation(), staged, &stale, (&[], Told::Write)).await.unwrap();
    }
    assert_eq!(insert(&tables, [Some(7)]).await, None);
    let refused = recheck(same).commit(&other, stale.clone()).await.unwrap_err();
    assert_eq!(refused.sqlstate(), "23505", "{refused:?}");
    assert_eq!(recheck(different).commit(&other, stale.clone()).await.unwrap(), 2);
    // A change of more than rows is not looked through.
    let late = staged(&other, [Some(9)]).await;
    let now = tables.latest(&location()).await.unwrap();
    let mut relaxed = columns();
    relaxed.pop();
    let shape = Commit::reshape("DROP COLUMNS", &now, &relaxed, None, author()).unwrap();
    tables.commit(&now, shape).await.unwrap();
    let refused = recheck(late).commit(&other, now).await.unwrap_err();
    assert_eq!(refused.sqlstate(), "40001", "{refused:?}");
}

/// Rows that were copied from a file that goes do not count as new, but as there.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_is_checked_against_those_beside_it() {
    let tables = made().await;
    assert_eq!(insert(&tables, (0..10).map(Some)).await, None);
    let snapshot = tables.latest(&location()).await.unwrap();
    let rows = |stage: &kho_catalog::table::Stage, ids: &[i64]| {
        let names: StringArray = ids.iter().map(|it| Some(it.to_string())).collect();
        let values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)];
        RecordBatch::try_new(stage.schema().clone(), values).unwrap()
    };
    for (changed, expected) in [(5, exists(5)), (0, None), (77, None)] {
        let mut stage = tables.stage(&location(), &columns(), relation().keys());
        stage.write(&rows(&stage, &[changed])).await.unwrap();
        stage.write_copied(&rows(&stage, &[1, 2, 3, 4, 5, 6, 7, 8, 9])).await.unwrap();
        let staged = stage.finish().await.unwrap();
        assert!(staged.has_copied_rows());
        let checked =
            check(&tables, &session(), &relation(), &staged, &snapshot, (&[0], Told::Write)).await;
        let detail = checked.err().and_then(|error| error.detail().map(str::to_owned));
        assert_eq!(detail, expected);
        // Against a file that stays, each of them is there already.
        let checked =
            check(&tables, &session(), &relation(), &staged, &snapshot, (&[], Told::Write)).await;
        assert_eq!(checked.is_err(), changed < 10);
    }
}
