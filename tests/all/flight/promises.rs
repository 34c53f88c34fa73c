//! What a client was told is what it gets, and what it says is obeyed or refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::FlightData;
use arrow_flight::sql::{
    CommandGetTables, CommandStatementIngest, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};
use arrow_flight::utils::batches_to_flight_data;
use kho_tests::kho::Kho;

use super::{end, info, state, value};

fn ingest(table: &str) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: TableNotExistOption::Create as i32,
            if_exists: TableExistsOption::Append as i32,
        }),
        table: table.to_owned(),
        schema: Some("s".to_owned()),
        ..CommandStatementIngest::default()
    }
}

/// Numbers, and a struct with the text of each.
fn rows(ids: &[Option<i64>], is_nullable: bool) -> Vec<FlightData> {
    let texts = StringArray::from_iter_values(ids.iter().map(|it| format!("{it:?}")));
    let text = Arc::new(Field::new("text", DataType::Utf8, true));
    let place: ArrayRef = Arc::new(StructArray::from(vec![(text, Arc::new(texts) as ArrayRef)]));
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, is_nullable),
        Field::new("place", place.data_type().clone(), true),
    ]));
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids, place]).unwrap();
    batches_to_flight_data(&schema, vec![batch]).unwrap()
}

#[test]
fn a_ticket_gives_the_rows_of_the_tables_that_it_was_told_of() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    for schema in ["one", "two"] {
        admin.run(&format!("CREATE SCHEMA {schema}")).unwrap();
        admin.run(&format!("CREATE TABLE {schema}.t AS SELECT '{schema}' AS of")).unwrap();
    }
    admin.run("SET search_path = one").unwrap();
    let told = info(&mut admin, "SELECT * FROM t").unwrap();
    let ticket = told.endpoint[0].ticket.clone().unwrap();
    admin.run("SET search_path = two").unwrap();
    assert_eq!(state(admin.get(ticket.clone())), "0A000");
    admin.run("SET search_path = one").unwrap();
    let (_, batches) = admin.get(ticket).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    // The same text is another table's rows where it is told of anew.
    admin.run("SET search_path = two").unwrap();
    assert_eq!(value(&mut admin, "SELECT of FROM t"), "two");
    admin.run("DROP TABLE two.t").unwrap();
    admin.run("CREATE TABLE two.t AS SELECT 3 AS of").unwrap();
    assert_eq!(value(&mut admin, "SELECT of FROM t"), "3");
}

#[test]
fn what_is_never_null_stays_so_beside_a_struct() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    assert_eq!(admin.put(&ingest("t"), rows(&[Some(1), Some(2)], false)).unwrap(), 2);
    assert_eq!(state(admin.put(&ingest("t"), rows(&[Some(3), None], true))), "23502");
    assert_eq!(value(&mut admin, "SELECT count(*) FROM s.t"), "2");
    // A schema is told as rows come.
    let tables = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let ticket = admin.info(&tables).unwrap().endpoint[0].ticket.clone().unwrap();
    assert!(!String::from_utf8_lossy(&admin.bytes(ticket).unwrap()).contains("Utf8View"));
}

#[test]
fn a_load_does_not_wait_for_ever_for_a_transaction_of_its_own_client() {
    let kho = Kho::start();
    let mut admin = kho.fly("admin");
    admin.run("CREATE SCHEMA s").unwrap();
    assert_eq!(admin.put(&ingest("t"), rows(&[Some(1)], false)).unwrap(), 1);
    admin.run("SET lock_timeout = '100ms'").unwrap();
    let transaction = admin.begin().unwrap();
    admin.run("DELETE FROM s.t").unwrap();
    // As a driver sends it that begins transactions by itself.
    assert_eq!(state(admin.put(&ingest("t"), rows(&[Some(2)], false))), "55P03");
    let mut named = ingest("t");
    named.transaction_id = Some(transaction.clone());
    assert_eq!(admin.put(&named, rows(&[Some(2)], false)).unwrap(), 1);
    end(&mut admin, &transaction, arrow_flight::sql::EndTransaction::Commit).unwrap();
    admin.is_in(None);
    assert_eq!(value(&mut admin, "SELECT id FROM s.t"), "2");
}

#[test]
fn a_transaction_ends_by_its_own_silence() {
    let kho = Kho::start();
    let (mut admin, mut other) = (kho.fly("admin"), kho.fly("admin"));
    admin.run("CREATE SCHEMA s").unwrap();
    admin.run("CREATE TABLE s.t (id bigint)").unwrap();
    admin.run("SET idle_in_transaction_session_timeout = '1s'").unwrap();
    admin.begin().unwrap();
    admin.run("INSERT INTO s.t VALUES (1)").unwrap();
    let transaction = admin.begin().unwrap();
    admin.is_in(None);
    // The client is busy besides, for as long as that takes.
    other.run("SET lock_timeout = '60s'").unwrap();
    let waited = "INSERT INTO s.t VALUES (2)";
    other.run(waited).unwrap();
    assert_eq!(value(&mut admin, "SELECT id FROM s.t"), "2");
    assert_eq!(
        state(end(&mut admin, &transaction, arrow_flight::sql::EndTransaction::Commit)),
        "25P01"
    );
}

#[test]
fn an_option_that_is_said_twice_is_refused() {
    let kho = Kho::start();
    for (name, [one, other]) in [
        ("kho-compression", ["none", "zstd"]),
        ("kho-purpose", ["a", "b"]),
        ("kho-endpoints", ["2", "3"]),
    ] {
        let mut twice = kho.fly("admin").saying(name, one).saying(name, other);
        assert_eq!(state(twice.run("SELECT 1")), "22023", "{name}");
    }
    let admin = kho.fly("admin");
    let said = admin.authorization();
    let mut twice = kho.fly("admin").saying("authorization", &said);
    assert_eq!(state(twice.run("SELECT 1")), "28000");
}
