//! Flight SQL, as a client that means well sees it, and as one that does not.

mod attacks;
mod promises;
mod sql_client;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use arrow::datatypes::Schema;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionEndTransactionRequest, Any, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, EndTransaction,
    ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, FlightInfo};
use bytes::Bytes;
use kho_tests::flight::Flight;
use kho_tests::kho::Kho;
use kho_tests::wire::{Answer, Error};
use prost::Message as _;

/// The SQLSTATE of a refusal.
fn state<T: std::fmt::Debug>(refused: Result<T, Error>) -> String {
    match refused {
        Err(Error::Server(error)) => error.sqlstate,
        other => panic!("was not refused: {other:?}"),
    }
}

fn value(flight: &mut Flight, query: &str) -> String {
    let Answer { rows, .. } = flight.run(query).unwrap();
    rows[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
}

fn info(flight: &mut Flight, query: &str) -> Result<FlightInfo, Error> {
    flight.info(&CommandStatementQuery { query: query.to_owned(), transaction_id: None })
}

fn end(flight: &mut Flight, transaction: &Bytes, action: EndTransaction) -> Result<(), Error> {
    let request =
        ActionEndTransactionRequest { transaction_id: transaction.clone(), action: action as i32 };
    flight.act("EndTransaction", request.as_any().encode_to_vec()).map(drop)
}

fn prepare(flight: &mut Flight, query: &str) -> Result<Vec<Bytes>, Error> {
    let request =
        ActionCreatePreparedStatementRequest { query: query.to_owned(), transaction_id: None };
    flight.act("CreatePreparedStatement", request.as_any().encode_to_vec())
}

#[test]
fn a_statement_that_changes_something_is_run_once_and_need_not_be_fetched() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    info(&mut admin, "CREATE SCHEMA s").unwrap();
    info(&mut admin, "CREATE TABLE s.t (id bigint)").unwrap();
    let inserted = info(&mut admin, "INSERT INTO s.t VALUES (1), (2) RETURNING id").unwrap();
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "2");
    let ticket = inserted.endpoint[0].ticket.clone().unwrap();
    let (_, batches) = admin.get(ticket.clone()).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(state(admin.get(ticket)), "42704");
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "2");
}

#[test]
fn several_endpoints_give_every_row_once() {
    let kho = Kho::start();
    let mut plain = kho.fly("admin");
    plain.run("CREATE SCHEMA s").unwrap();
    plain
        .run("CREATE TABLE s.t AS SELECT g AS id FROM generate_series(1, 50000) AS s (g)")
        .unwrap();
    let mut admin = kho.fly("admin").saying("kho-endpoints", "4");
    assert_eq!(info(&mut admin, "SELECT id FROM s.t").unwrap().endpoint.len(), 4);
    assert_eq!(info(&mut admin, "SELECT id FROM s.t ORDER BY id").unwrap().endpoint.len(), 1);
    let Answer { rows, .. } = admin.run("SELECT id FROM s.t").unwrap();
    let mut ids: Vec<i64> =
        rows.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50_000).collect::<Vec<i64>>());
}

/// Who reads one of several endpoints is not told that its part is whole when the query has failed.
#[test]
fn each_of_several_endpoints_ends_with_the_error_of_all() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin").saying("kho-endpoints", "3");
    let failing = "SELECT 1 / (g - 40000) FROM generate_series(1, 50000) AS s (g)";
    let told = info(&mut admin, failing).unwrap();
    assert_eq!(told.endpoint.len(), 3);
    for endpoint in &told.endpoint {
        assert_eq!(state(admin.get(endpoint.ticket.clone().unwrap())), "22012");
    }
}

/// What waits for a client that has stopped to read is a few batches, of which nobody counts the bytes.
#[test]
fn rows_that_a_function_makes_wide_come_few_at_a_time() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    let made = "CREATE TABLE s.t AS SELECT g::text AS t FROM generate_series(1, 50000) AS s (g)";
    admin.run(made).unwrap();
    let mut most = |query: &str| {
        let ticket = info(&mut admin, query).unwrap().endpoint[0].ticket.clone().unwrap();
        let (_, batches) = admin.get(ticket).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 50_000);
        batches.iter().map(RecordBatch::num_rows).max()
    };
    assert!(most("SELECT t FROM s.t") > Some(1000));
    assert!(most("SELECT repeat(t, 2) FROM s.t") <= Some(128));
}

#[test]
fn a_transaction_is_kept_or_undone_as_a_whole() {
    let kho = Kho::start();
    let (mut admin, mut other) = (kho.fly("admin"), kho.fly("admin"));
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    let first = admin.begin().unwrap();
    admin.run("INSERT INTO s.t VALUES (1)").unwrap();
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "1");
    assert_eq!(value(&mut other, "SELECT count(*) FROM s.t"), "0");
    end(&mut admin, &first, EndTransaction::Rollback).unwrap();
    assert_eq!(state(admin.run("INSERT INTO s.t VALUES (9)")), "25P01");
    let second = admin.begin().unwrap();
    admin.run("INSERT INTO s.t VALUES (2)").unwrap();
    end(&mut admin, &second, EndTransaction::Commit).unwrap();
    assert_eq!(value(&mut other, "SELECT id FROM s.t"), "2");
    let third = admin.begin().unwrap();
    assert_eq!(state(admin.run("SELECT 1 / 0")), "22012");
    assert_eq!(state(admin.run("SELECT 1")), "25P02");
    assert_eq!(state(end(&mut admin, &third, EndTransaction::Commit)), "25P02");
    admin.is_in(None);
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "1");
}

#[test]
fn a_transaction_that_a_statement_has_ended_takes_no_other() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    admin.begin().unwrap();
    admin.run("COMMIT").unwrap();
    assert_eq!(state(admin.run("INSERT INTO s.t VALUES (1)")), "25P01");
    admin.is_in(None);
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "0");
}

#[test]
fn copy_has_no_place_and_harms_nothing() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    for statement in ["COPY s.t FROM STDIN", "COPY s.t TO STDOUT"] {
        assert_eq!(state(info(&mut admin, statement)), "0A000");
        assert_eq!(state(admin.update(statement)), "0A000");
    }
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "0");
}

#[test]
fn a_query_that_runs_is_stopped_by_its_ticket() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    let mut same = Flight::calling(kho.flight, &admin.authorization()).unwrap();
    let query = "SELECT g FROM generate_series(1, 1000000000) AS s (g)";
    let info = info(&mut admin, query).unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let request = arrow_flight::CancelFlightInfoRequest::new(info).encode_to_vec();
    let cancel = || same.act("CancelFlightInfo", request);
    let (cancelled, ended) = admin.get_while(ticket, cancel).unwrap();
    assert_eq!(cancelled.unwrap().len(), 1);
    assert_eq!(state(ended), "57014");
    assert_eq!(value(&mut admin, "SELECT 1"), "1");
}

#[test]
fn all_that_a_client_runs_is_stopped_by_a_call() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
    let mut an = kho.fly("an");
    let mut same = Flight::calling(kho.flight, &an.authorization()).unwrap();
    let query = "SELECT g FROM generate_series(1, 1000000000) AS s (g)";
    let [first, second] =
        [(); 2].map(|()| info(&mut an, query).unwrap().endpoint[0].ticket.clone().unwrap());
    let cancel = || {
        let active = "SELECT id FROM kho.activity WHERE role = 'an' AND state = 'active'";
        let id = admin.value(active);
        admin.run(&format!("CALL kho.cancel({id})"));
    };
    let (beside, ended) = an.get_while(first, || same.get_while(second, cancel)).unwrap();
    assert_eq!(state(ended), "57014");
    assert_eq!(state(beside.unwrap().1), "57014");
    assert_eq!(value(&mut an, "SELECT 1"), "1");
}

#[test]
fn one_who_does_not_read_holds_up_nobody() {
    let kho = Kho::start();
    let (mut admin, mut other) = (kho.fly("admin"), kho.fly("admin"));
    let query = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    let ticket = info(&mut admin, query).unwrap().endpoint[0].ticket.clone().unwrap();
    let (counted, ended) =
        admin.get_while(ticket, || value(&mut other, "SELECT count(*) FROM pg_class")).unwrap();
    assert!(counted.parse::<u64>().unwrap() > 0);
    assert_eq!(ended.unwrap(), 100_000);
}

#[test]
fn settings_are_of_the_client_that_set_them() {
    let kho = Kho::start();
    let (mut admin, mut other) = (kho.fly("admin"), kho.fly("admin"));
    admin.run("SET statement_timeout = '7s'").unwrap();
    assert_eq!(value(&mut admin, "SHOW statement_timeout"), "7s");
    assert_eq!(value(&mut other, "SHOW statement_timeout"), "0");
    let mut said = kho.fly("admin").saying("kho-purpose", "d");
    assert_eq!(value(&mut said, "SHOW kho.purpose"), "d");
    let mut wrong = kho.fly("admin").saying("kho-compression", "brotli");
    assert_eq!(state(wrong.run("SELECT 1")), "22023");
    for compression in ["none", "lz4", "zstd"] {
        let mut said = kho.fly("admin").saying("kho-compression", compression);
        assert_eq!(value(&mut said, "SELECT 'đ'"), "đ");
    }
}

#[test]
fn prepared_statements_are_authorized_at_each_run() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    for statement in [
        "CREATE ROLE an LOGIN PASSWORD 'an'",
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id bigint)",
        "GRANT USAGE ON SCHEMA s TO an",
        "GRANT SELECT ON s.t TO an",
    ] {
        admin.run(statement).unwrap();
    }
    let mut an = kho.fly("an");
    let told = info(&mut an, "SELECT id FROM s.t").unwrap();
    let ticket = told.endpoint[0].ticket.clone().unwrap();
    an.get(ticket.clone()).unwrap();
    admin.run("REVOKE SELECT ON s.t FROM an").unwrap();
    assert_eq!(state(an.get(ticket)), "42P01");
    assert_eq!(state(prepare(&mut an, "SELECT id FROM s.t")), "42P01");
}

fn parameters(column: ArrayRef) -> Vec<FlightData> {
    let batch = RecordBatch::try_from_iter([("$1", column)]).unwrap();
    batches_to_flight_data(&batch.schema(), vec![batch]).unwrap()
}

fn prepared(flight: &mut Flight, query: &str) -> CommandPreparedStatementUpdate {
    let any = Any::decode(prepare(flight, query).unwrap()[0].as_ref()).unwrap();
    let result: ActionCreatePreparedStatementResult = any.unpack().unwrap().unwrap();
    CommandPreparedStatementUpdate { prepared_statement_handle: result.prepared_statement_handle }
}

#[test]
fn a_prepared_change_is_made_for_each_row_of_parameters() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    let insert = prepared(&mut admin, "INSERT INTO s.t VALUES ($1)");
    let ids = |ids: &[i32]| parameters(Arc::new(Int32Array::from(ids.to_vec())));
    assert_eq!(admin.put(&insert, ids(&[1, 2, 3])).unwrap(), 3);
    assert_eq!(admin.put(&insert, ids(&[])).unwrap(), 0, "as many times as there are rows");
    assert_eq!(state(admin.put(&insert, Vec::new())), "08P01");
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "3");
    let delete = prepared(&mut admin, "DELETE FROM s.t WHERE id = $1");
    let half = parameters(Arc::new(Float64Array::from(vec![1.5])));
    assert_eq!(admin.put(&delete, half).unwrap(), 0, "it is no row's id");
    let whole = parameters(Arc::new(Float64Array::from(vec![2.0])));
    assert_eq!(admin.put(&delete, whole).unwrap(), 1);
}

#[test]
fn parameters_that_a_statement_does_not_have_are_refused_and_nothing_is_done() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    let insert = prepared(&mut admin, "INSERT INTO s.t VALUES (1)");
    let one = || parameters(Arc::new(Int32Array::from(vec![1])));
    assert_eq!(state(admin.put(&insert, one())), "08P01");
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let none = batches_to_flight_data(&none.schema(), vec![none]).unwrap();
    // What comes behind is looked at before the statement is run.
    let mut broken = none.clone();
    broken.push(FlightData { data_header: vec![1; 8].into(), ..FlightData::default() });
    assert_eq!(state(admin.put(&insert, broken)), "22P04");
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "0");
    assert_eq!(admin.put(&insert, none).unwrap(), 1, "a batch without columns is one run");
    assert_eq!(admin.put(&insert, Vec::new()).unwrap(), 1);
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "2");
    let query = prepared(&mut admin, "SELECT 1").prepared_statement_handle;
    let bind = CommandPreparedStatementQuery { prepared_statement_handle: query };
    assert_eq!(state(admin.put(&bind, one())), "08P01");
}

#[test]
fn rows_that_end_late_fail_no_block_but_their_own() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    let mut same = Flight::calling(kho.flight, &admin.authorization()).unwrap();
    admin.run("BEGIN").unwrap();
    let told = info(&mut admin, "SELECT g FROM generate_series(1, 1000000000) AS s (g)").unwrap();
    let ticket = told.endpoint[0].ticket.clone().unwrap();
    let cancel = arrow_flight::CancelFlightInfoRequest::new(told).encode_to_vec();
    let meanwhile = || {
        same.run("COMMIT").unwrap();
        same.run("BEGIN").unwrap();
        same.act("CancelFlightInfo", cancel).unwrap();
    };
    let ((), ended) = admin.get_while(ticket, meanwhile).unwrap();
    assert_eq!(state(ended), "57014");
    assert_eq!(value(&mut admin, "SELECT 1"), "1");
}

#[test]
fn a_load_is_named_where_there_is_one() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    let named = |sequence: &str| {
        kho.fly("admin").saying("kho-load-stream", "x").saying("kho-load-sequence", sequence)
    };
    assert_eq!(state(named("1").run("INSERT INTO s.t VALUES (1)")), "22023");
    assert_eq!(state(named("1").update("INSERT INTO s.t VALUES (1)")), "22023");
    assert_eq!(state(named("").run("SELECT 1")), "22023");
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "0");
}

#[test]
fn a_client_with_a_transaction_and_a_load_is_one_connection() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    admin.run("CREATE ROLE one LOGIN PASSWORD 'one' CONNECTION LIMIT 1").unwrap();
    admin.run("GRANT USAGE ON SCHEMA s TO one").unwrap();
    admin.run("GRANT SELECT, INSERT ON s.t TO one").unwrap();
    let mut one = kho.fly("one");
    assert_eq!(value(&mut one, "SELECT count(*) FROM s.t"), "0");
    let second = Flight::connect(kho.flight, "one", "one").map(drop);
    assert_eq!(state(second), "53300");
    let transaction = one.begin().unwrap();
    one.is_in(Some(transaction.clone()));
    one.run("INSERT INTO s.t VALUES (1)").unwrap();
    one.is_in(None);
    assert_eq!(value(&mut one, "SELECT count(*) FROM s.t"), "0");
    end(&mut one, &transaction, EndTransaction::Commit).unwrap();
    let ids = RecordBatch::try_from_iter([("id", Arc::new(Int32Array::from(vec![2])) as ArrayRef)]);
    let ids = ids.unwrap();
    let rows = batches_to_flight_data(&ids.schema(), vec![ids]).unwrap();
    let load = CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Fail.into(),
            if_exists: TableExistsOption::Append.into(),
        }),
        table: "t".to_owned(),
        schema: Some("s".to_owned()),
        ..CommandStatementIngest::default()
    };
    assert_eq!(one.put(&load, rows).unwrap(), 1);
    assert_eq!(value(&mut one, "SELECT count(*) FROM s.t"), "2");
}
