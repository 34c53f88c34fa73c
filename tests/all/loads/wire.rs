//! Loads over the real wire: in a transaction, and of a client that gives its call up.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, ActionEndTransactionRequest, Any,
    CommandStatementIngest, DoPutUpdateResult, EndTransaction, ProstMessageExt,
    TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Action, FlightData, FlightDescriptor};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::Wire;
use prost::Message as _;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::{batch, messages, numbers};

type Client = FlightServiceClient<Channel>;

const PATIENCE: Duration = Duration::from_secs(60);

fn begun() -> (Kho, Wire, Runtime, Client) {
    begun_on(Kho::start())
}

fn begun_on(kho: Kho) -> (Kho, Wire, Runtime, Client) {
    let mut wire = kho.admin();
    wire.run("CREATE SCHEMA s");
    wire.run("CREATE TABLE s.t (id bigint)");
    let runtime = Runtime::new().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", kho.flight)).unwrap();
    let client = FlightServiceClient::new(runtime.block_on(endpoint.connect()).unwrap());
    (kho, wire, runtime, client)
}

fn request<T>(message: T) -> Request<T> {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:admin"));
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", basic.parse().unwrap());
    request
}

/// The messages of a load of these rows into `s.t`, of which the first says where it goes.
fn load(rows: &[RecordBatch], transaction: Option<Bytes>) -> Vec<FlightData> {
    let command = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail.into(),
            if_exists: TableExistsOption::Append.into(),
        }),
        table: "t".to_owned(),
        schema: Some("s".to_owned()),
        transaction_id: transaction,
        ..CommandStatementIngest::default()
    };
    let mut messages: Vec<FlightData> = messages(rows).into_iter().map(Result::unwrap).collect();
    let command = command.as_any().encode_to_vec();
    messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command));
    messages
}

async fn put(
    client: &mut Client,
    messages: impl Stream<Item = FlightData> + Send + 'static,
) -> Result<i64, Status> {
    let results = client.do_put(request(messages)).await?.into_inner();
    let results: Vec<_> = results.try_collect().await?;
    Ok(DoPutUpdateResult::decode(&*results[0].app_metadata).unwrap().record_count)
}

async fn act(client: &mut Client, kind: &str, message: impl ProstMessageExt) -> Vec<Bytes> {
    let action = Action::new(kind, message.as_any().encode_to_vec());
    let results = client.do_action(request(action)).await.unwrap().into_inner();
    results.map(|result| result.unwrap().body).collect().await
}

#[test]
fn a_load_with_a_transactions_id_is_the_transactions() {
    let (_kho, mut wire, runtime, mut client) = begun();
    let rows = [batch(&[("id", numbers(&[1, 2]))])];
    for (ending, count) in [(EndTransaction::Rollback, "0"), (EndTransaction::Commit, "2")] {
        runtime.block_on(async {
            let begun =
                act(&mut client, "BeginTransaction", ActionBeginTransactionRequest {}).await;
            let begun: ActionBeginTransactionResult =
                Any::decode(&*begun[0]).unwrap().unpack().unwrap().unwrap();
            let transaction_id = begun.transaction_id;
            let messages = load(&rows, Some(transaction_id.clone()));
            assert_eq!(put(&mut client, stream::iter(messages)).await.unwrap(), 2);
            assert_eq!(wire.value("SELECT count(*) FROM s.t"), "0");
            let end = ActionEndTransactionRequest { transaction_id, action: ending.into() };
            act(&mut client, "EndTransaction", end).await;
        });
        assert_eq!(wire.value("SELECT count(*) FROM s.t"), count);
    }
    let unknown = load(&rows, Some(Bytes::from_static(&[7; 16])));
    let refused = runtime.block_on(put(&mut client, stream::iter(unknown))).unwrap_err();
    assert_eq!(refused.metadata().get("sqlstate").unwrap(), "25P01");
}

/// What a client has sent before it gives its call up looks like a whole load, and is none.
#[test]
fn a_load_that_its_client_gives_up_leaves_nothing() {
    let (_kho, mut wire, runtime, mut client) = begun();
    let rows = vec![batch(&[("id", numbers(&[1, 2]))]); 10];
    for _ in 0..10 {
        let sent = stream::iter(load(&rows, None)).chain(stream::pending());
        wire = runtime.block_on(async {
            let taken = tokio::task::spawn_blocking(move || {
                let deadline = Instant::now() + PATIENCE;
                let running = "SELECT count(*) FROM kho.activity WHERE statement LIKE 'COPY%'";
                while wire.value(running) == "0" {
                    assert!(Instant::now() < deadline, "the load does not begin");
                }
                wire
            });
            tokio::select! {
                loaded = put(&mut client, sent) => panic!("a load ends that has no end: {loaded:?}"),
                wire = taken => wire.unwrap(),
            }
        });
    }
    wire.run("INSERT INTO s.t VALUES (9)");
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1");
    let rows = load(&rows, None);
    assert_eq!(runtime.block_on(put(&mut client, stream::iter(rows))).unwrap(), 20);
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "21");
}

/// A client that is silent in the middle of its load keeps nobody from the table.
#[test]
fn others_write_a_table_while_a_load_of_it_is_silent() {
    let (_kho, mut wire, runtime, mut client) = begun();
    let rows = [batch(&[("id", numbers(&[1, 2]))]), batch(&[("id", numbers(&[3]))])];
    let mut begun = load(&rows, None);
    let rest = begun.split_off(2);
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let silent = stream::once(async move {
        may_go_on.await.unwrap();
        stream::iter(rest)
    });
    let sent = stream::iter(begun).chain(silent.flatten());
    runtime.block_on(async {
        let loading = tokio::spawn(async move { put(&mut client, sent).await });
        tokio::task::block_in_place(|| {
            let deadline = Instant::now() + PATIENCE;
            let running = "SELECT count(*) FROM kho.activity WHERE statement LIKE 'COPY%'";
            while wire.value(running) == "0" {
                assert!(Instant::now() < deadline, "the load does not begin");
            }
            wire.run("SET lock_timeout = 60000; INSERT INTO s.t VALUES (9)");
            assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1");
        });
        go_on.send(()).unwrap();
        assert_eq!(loading.await.unwrap().unwrap(), 3);
    });
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "4");
}

/// Loads and statements have one memory, whatever a client sends and however slowly.
#[test]
fn what_loads_hold_is_part_of_the_servers_memory() {
    let environment = [("KHO_LIMITS__MEMORY_BYTES", "33554432")];
    let (_kho, mut wire, runtime, mut client) =
        begun_on(Kho::start_with(Folders::new(), &environment));
    let rows = |count: i64| batch(&[("id", numbers(&(0..count).collect::<Vec<_>>()))]);
    // Of 40 MB, in one message.
    let large = load(&[rows(5_000_000)], None);
    let refused = runtime.block_on(put(&mut client, stream::iter(large))).unwrap_err();
    assert_eq!(refused.metadata().get("sqlstate").unwrap(), "53200", "{refused:?}");
    let hint = refused.metadata().get_bin("kho-hint-bin").unwrap().to_bytes().unwrap();
    assert!(hint.ends_with(b"or raise limits.memory_bytes."), "{hint:?}");
    // Of 10 MB: one that stalls leaves no room for another one, and gives it back.
    let half = load(&[rows(1_250_000)], None);
    let stalled = stream::iter(half.clone()).chain(stream::pending());
    runtime.block_on(async {
        let mut beside = client.clone();
        let stalled = tokio::spawn(async move { put(&mut beside, stalled).await });
        let deadline = Instant::now() + PATIENCE;
        // It runs from when its rows are there.
        let running = "SELECT count(*) FROM kho.activity WHERE statement LIKE 'COPY%'";
        while tokio::task::block_in_place(|| wire.value(running)) == "0" {
            assert!(Instant::now() < deadline, "the first load does not begin");
        }
        let refused = put(&mut client, stream::iter(half.clone())).await.unwrap_err();
        assert_eq!(refused.metadata().get("sqlstate").unwrap(), "53200");
        stalled.abort();
        assert!(stalled.await.unwrap_err().is_cancelled());
        // The server learns of it in its own time.
        while put(&mut client, stream::iter(half.clone())).await.is_err() {
            assert!(Instant::now() < deadline, "what was held is not given back");
        }
    });
    let counted = wire.value("SELECT count(*) % 1250000 FROM s.t");
    assert_eq!(counted, "0", "no load is there in part");
}
