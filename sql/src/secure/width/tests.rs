//! A plan is as wide as the columns that it reads.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::prelude::SessionContext;
use kho_catalog::environment::Environment;
use kho_catalog::state::{Relation, RelationKind, View};
use kho_catalog::table::{Commit, CommitAuthor, Location, TableColumn, Tables};
use kho_catalog::text::Text;
use kho_catalog::types::Type;

use super::*;

const DOCUMENT_BYTES: usize = 30_000;

async fn documents() -> Snapshot {
    let tables = Tables::new(Environment::open("memory://").unwrap());
    let column = |id, name: &str, data_type| TableColumn {
        id: Some(id),
        name: name.to_owned(),
        data_type,
        not_null: false,
    };
    let columns = [column(1, "id", Type::BigInt), column(2, "document", Type::Text)];
    let author = CommitAuthor { role: "an".to_owned(), statement: "s".to_owned() };
    let location = Location { dataset: "documents".to_owned(), generation: 0 };
    tables.create(&location, &columns, None, &author).await.unwrap();
    let mut stage = tables.stage(&location, &columns, &[]);
    let values: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..100)),
        Arc::new(StringArray::from_iter_values(vec!["x".repeat(DOCUMENT_BYTES); 100])),
    ];
    stage.write(&RecordBatch::try_new(stage.schema().clone(), values).unwrap()).await.unwrap();
    let snapshot = tables.latest(&location).await.unwrap();
    let staged = stage.finish().await.unwrap();
    tables.commit(&snapshot, Commit::append(&snapshot, staged, author)).await.unwrap();
    tables.latest(&location).await.unwrap()
}

fn relation() -> Relation {
    Relation {
        oid: 1,
        schema: 1,
        name: "documents".to_owned(),
        owner: 1,
        columns: Vec::new(),
        grants: Vec::new(),
        comment: None,
        kind: RelationKind::View(View {
            query: Text::new("", String::new(), String::new()),
            depends_on: Vec::new(),
        }),
    }
}

#[tokio::test]
async fn columns_that_are_not_read_do_not_count() {
    let snapshot = documents().await;
    let context = SessionContext::new();
    let provider = crate::secure::open_table(&relation(), &snapshot).await.unwrap();
    context.register_table("documents", provider).unwrap();
    let state = context.state();
    let width = async |text: &str| {
        let plan = state.create_logical_plan(text).await.unwrap();
        let tables = scanned(&state.optimize(&plan).unwrap()).unwrap();
        widest(tables, Arc::clone(state.runtime_env())).await
    };
    assert_eq!(width("SELECT * FROM documents").await, 8 + DOCUMENT_BYTES);
    assert_eq!(width("SELECT id FROM documents WHERE id > 5").await, 8);
    assert_eq!(width("SELECT 1").await, 0);
    let within = "SELECT id FROM documents WHERE EXISTS
        (SELECT 1 FROM documents d WHERE d.document = 'x' AND d.id = documents.id)";
    assert_eq!(width(within).await, 8 + DOCUMENT_BYTES);
}
