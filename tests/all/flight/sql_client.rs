//! The Rust client that comes with Arrow, as its users call it.
//!
//! What it does not: a stream of batches that fails at the client is one that this client ends as if it
//! were whole, so that what came before is loaded; no server can tell.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Int64Type};
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, CommandStatementIngest, EndTransaction, SqlInfo,
    TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{FlightInfo, IpcMessage};
use futures::TryStreamExt as _;
use kho_tests::kho::Kho;
use tonic::transport::{Channel, Endpoint};

type Client = FlightSqlServiceClient<Channel>;

#[test]
fn the_client_of_arrow_does_all_it_can() {
    let kho = Kho::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = connect(kho.flight).await;
        for statement in ["CREATE SCHEMA s", "CREATE TABLE s.t (id bigint PRIMARY KEY, name text)"]
        {
            assert_eq!(client.execute_update(statement.to_owned(), None).await.unwrap(), 0);
        }
        ingest(&mut client).await;
        prepared(&mut client).await;
        transactions(&mut client).await;
        metadata(&mut client).await;
        client.set_header("kho-compression", "zstd");
        assert_eq!(count(&mut client).await, 5, "over a compressed stream");
        client.set_token("x".to_owned());
        let refused = client.execute("SELECT 1".to_owned(), None).await.unwrap_err();
        assert_eq!(state(&refused), "28P01");
        client.close().await.unwrap();
    });
}

async fn connect(address: SocketAddr) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = Client::new(endpoint.connect().await.unwrap());
    assert!(client.handshake("admin", "wrong").await.is_err());
    client.handshake("admin", "admin").await.unwrap();
    assert!(client.token().is_some());
    client
}

async fn ingest(client: &mut Client) {
    let rows = |names: ArrayRef, ids: &[i64]| {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        // By name, so that the order is the sender's.
        RecordBatch::try_from_iter([("name", names), ("id", ids)]).unwrap()
    };
    let command = || CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail.into(),
            if_exists: TableExistsOption::Append.into(),
        }),
        table: "t".to_owned(),
        schema: Some("s".to_owned()),
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: HashMap::new(),
    };
    let views: ArrayRef = Arc::new(StringViewArray::from(vec!["một", "hai"]));
    let batches = vec![Ok(rows(Arc::clone(&views), &[1, 2])), Ok(rows(views, &[3, 4]))];
    let sent = client.execute_ingest(command(), futures::stream::iter(batches)).await;
    assert_eq!(sent.unwrap(), 4);
    let twice: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let batches = vec![Ok(rows(twice, &[1]))];
    let refused = client.execute_ingest(command(), futures::stream::iter(batches)).await;
    assert_eq!(state(&refused.unwrap_err()), "23505");
    assert_eq!(count(client).await, 4);
}

async fn prepared(client: &mut Client) {
    let query = "SELECT name FROM s.t WHERE id = $1".to_owned();
    let mut select = client.prepare(query, None).await.unwrap();
    assert_eq!(select.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    assert_eq!(select.dataset_schema().unwrap().field(0).name(), "name");
    for (id, name) in [(1, "một"), (2, "hai"), (1, "một")] {
        select.set_parameters(ids(&[id])).unwrap();
        let info = select.execute().await.unwrap();
        let found = all(client, info).await;
        assert_eq!(found.column(0).as_string::<i32>().value(0), name);
    }
    select.close().await.unwrap();
    let query = "INSERT INTO s.t (id) VALUES ($1)".to_owned();
    let mut insert = client.prepare(query, None).await.unwrap();
    insert.set_parameters(ids(&[10, 11, 12])).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 3);
    assert_eq!(state(&insert.execute_update().await.unwrap_err()), "23505", "the same once more");
    let query = "DELETE FROM s.t WHERE id > 10".to_owned();
    let mut delete = client.prepare(query, None).await.unwrap();
    assert_eq!(delete.execute_update().await.unwrap(), 2);
    delete.close().await.unwrap();
    insert.close().await.unwrap();
}

async fn transactions(client: &mut Client) {
    for (action, left) in [(EndTransaction::Rollback, 5), (EndTransaction::Commit, 0)] {
        let transaction = client.begin_transaction().await.unwrap();
        let delete = "DELETE FROM s.t".to_owned();
        assert_eq!(client.execute_update(delete, Some(transaction.clone())).await.unwrap(), 5);
        let select = "SELECT * FROM s.t".to_owned();
        let info = client.execute(select, Some(transaction.clone())).await.unwrap();
        assert_eq!(all(client, info).await.num_rows(), 0);
        assert_eq!(count(client).await, 5, "outside of it");
        client.end_transaction(transaction, action).await.unwrap();
        assert_eq!(count(client).await, left);
    }
    let again = "INSERT INTO s.t SELECT g, 'x' FROM generate_series(1, 5) AS s (g)".to_owned();
    assert_eq!(client.execute_update(again, None).await.unwrap(), 5);
}

async fn metadata(client: &mut Client) {
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(all(client, info).await.num_rows(), 1);
    let pattern = Some("s".to_owned());
    let request = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: pattern.clone() };
    let info = client.get_db_schemas(request).await.unwrap();
    assert_eq!(all(client, info).await.num_rows(), 1);
    let request = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: pattern,
        table_name_filter_pattern: None,
        table_types: Vec::new(),
        include_schema: true,
    };
    let info = client.get_tables(request).await.unwrap();
    let tables = all(client, info).await;
    let schema = tables.column_by_name("table_schema").unwrap().as_binary::<i32>();
    let schema = bytes::Bytes::copy_from_slice(schema.value(0));
    let schema = arrow::datatypes::Schema::try_from(IpcMessage(schema)).unwrap();
    assert_eq!(schema.fields().len(), 2);
    let info = client.get_table_types().await.unwrap();
    assert!(all(client, info).await.num_rows() > 0);
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await.unwrap();
    assert_eq!(all(client, info).await.num_rows(), 1);
}

fn ids(ids: &[i64]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_from_iter([("$1", ids)]).unwrap()
}

async fn count(client: &mut Client) -> i64 {
    let info = client.execute("SELECT count(*) FROM s.t".to_owned(), None).await.unwrap();
    all(client, info).await.column(0).as_primitive::<Int64Type>().value(0)
}

/// All rows of an answer.
async fn all(client: &mut Client, info: FlightInfo) -> RecordBatch {
    let schema = Arc::new(info.clone().try_decode_schema().unwrap());
    let mut batches = Vec::new();
    for endpoint in info.endpoint {
        let rows = client.do_get(endpoint.ticket.unwrap()).await.unwrap();
        batches.extend(rows.try_collect::<Vec<_>>().await.unwrap());
    }
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// The SQLSTATE of a refusal.
fn state(error: &FlightError) -> String {
    let FlightError::Tonic(status) = error else { panic!("{error} is no status") };
    let state = status.metadata().get("sqlstate").map(|it| it.to_str().unwrap().to_owned());
    state.unwrap_or_else(|| panic!("{status} has no SQLSTATE"))
}
