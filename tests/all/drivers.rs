//! Real drivers, as programs use them.

use kho_tests::kho::Kho;
use kho_tests::programs::{java, node};
use kho_tests::python::client;
use kho_tests::wire::{Wire, bind};
use postgres_protocol::message::frontend;
use tokio_postgres::{NoTls, types::Type};

#[test]
fn psycopg() {
    client(&Kho::start(), "psycopg3", &[]);
}

#[test]
fn asyncpg() {
    client(&Kho::start(), "asyncpg_client", &[]);
}

#[test]
fn node_postgres() {
    node(&Kho::start());
}

#[test]
fn jdbc() {
    java(&Kho::start());
}

#[test]
fn odbc() {
    client(&Kho::start(), "odbc_client", &[]);
}

#[test]
fn adbc_over_flight() {
    client(&Kho::start(), "flight_adbc", &[]);
}

#[test]
fn pyarrow_over_flight() {
    client(&Kho::start(), "flight_pyarrow", &[]);
}

#[test]
fn sqlalchemy() {
    client(&Kho::start(), "sqlalchemy_client", &[]);
}

#[test]
fn pandas() {
    client(&Kho::start(), "pandas_client", &[]);
}

#[test]
fn duckdb_attaches_it() {
    client(&Kho::start(), "duckdb_attach", &[]);
}

#[test]
fn dbt_builds_its_starter_project() {
    client(&Kho::start(), "dbt_client", &[]);
}

/// What BI tools ask when they connect and when someone looks through the catalog.
#[test]
fn queries_of_bi_tools() {
    client(&Kho::start(), "bi_queries", &[]);
}

fn connect(kho: &Kho) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(kho.pg.port()).user("admin").password("admin").dbname("kho");
    config
}

/// The Rust driver asks for types first and takes every value in binary.
#[test]
fn the_rust_driver_reads_binary_values() {
    let kho = Kho::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = connect(&kho).connect(NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        client.batch_execute("CREATE SCHEMA s").await.unwrap();
        client
            .batch_execute(
                "CREATE TABLE s.t (id bigint, name text, score double precision, ok bool)",
            )
            .await
            .unwrap();
        let insert = client.prepare("INSERT INTO s.t VALUES ($1, $2, $3, $4)").await.unwrap();
        assert_eq!(insert.params(), [Type::INT8, Type::TEXT, Type::FLOAT8, Type::BOOL]);
        for (id, name) in [(1_i64, Some("Đào")), (2, None)] {
            let done = client.execute(&insert, &[&id, &name, &0.5_f64, &true]).await.unwrap();
            assert_eq!(done, 1);
        }
        let query =
            "SELECT id, name, score, ok, count(*) OVER () FROM s.t WHERE id >= $1 ORDER BY id";
        let rows = client.query(query, &[&1_i64]).await.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].get::<_, i64>(0), 1);
        assert_eq!(rows[0].get::<_, Option<&str>>(1), Some("Đào"));
        assert_eq!(rows[1].get::<_, Option<&str>>(1), None);
        assert_eq!(rows[0].get::<_, f64>(2), 0.5);
        assert!(rows[0].get::<_, bool>(3));
        assert_eq!(rows[0].get::<_, i64>(4), 2);
        let refused = client.query("SELECT * FROM s.missing", &[]).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("42P01"));
        drop(client);
        driver.await.unwrap().unwrap();
    });
}

/// A parameter is of the type that it is cast to, unless something else tells; an `oid` is one.
#[test]
fn parameters_are_told_by_what_they_are_cast_to() {
    let kho = Kho::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = connect(&kho).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        let cast = client.prepare("SELECT $1::integer, $2::date, $3::text[], $4::oid").await;
        let cast = cast.unwrap();
        assert_eq!(cast.params(), [Type::INT4, Type::DATE, Type::TEXT_ARRAY, Type::OID]);
        assert_eq!(cast.columns()[3].type_(), &Type::OID);
        let optional = "SELECT relname FROM pg_class WHERE $1::oid IS NULL OR oid = $1";
        let optional = client.prepare(optional).await.unwrap();
        assert_eq!(optional.params(), [Type::OID]);
        let rows = client.query(&optional, &[&1259_u32]).await.unwrap();
        assert_eq!(rows[0].get::<_, &str>(0), "pg_class");
        assert_eq!(rows.len(), 1);
        let listed = "SELECT oid FROM pg_class WHERE oid = ANY($1) ORDER BY oid";
        let listed = client.prepare(listed).await.unwrap();
        assert_eq!(listed.params(), [Type::OID_ARRAY]);
        // Numbers beyond the sign of four bytes are taken as they are.
        let rows = client.query(&listed, &[&vec![1259_u32, 1247, u32::MAX]]).await.unwrap();
        let found: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, [1247, 1259]);
    });
}

/// A statement prepared before the table changed answers with the table of now, or says so.
#[test]
fn a_prepared_statement_sees_the_data_of_now() {
    let kho = Kho::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = connect(&kho).connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE SCHEMA s").await.unwrap();
        client.batch_execute("CREATE TABLE s.t (id integer)").await.unwrap();
        let count = client.prepare("SELECT count(*) FROM s.t").await.unwrap();
        assert_eq!(client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 0);
        client.batch_execute("INSERT INTO s.t VALUES (1)").await.unwrap();
        assert_eq!(client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 1);
    });
}

/// The decision is made at each execution: a right that was taken away is gone at once.
#[test]
fn a_prepared_statement_obeys_the_rights_of_now() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    admin.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    admin.run("GRANT USAGE ON SCHEMA s TO reader");
    admin.run("GRANT SELECT ON s.t TO reader");
    let mut reader = kho.connect("reader");
    let execute = |wire: &mut Wire| {
        wire.send(|buffer| {
            bind("", "q", &[], buffer)?;
            frontend::execute("", 0, buffer)?;
            frontend::sync(buffer);
            Ok(())
        })
        .unwrap();
        wire.answers()
    };
    reader.send(|buffer| frontend::parse("q", "SELECT count(*) FROM s.t", [], buffer)).unwrap();
    let answers = execute(&mut reader).unwrap();
    assert_eq!(answers[0].rows, [[Some("0".to_owned())]]);
    admin.run("REVOKE SELECT ON s.t FROM reader");
    assert_eq!(execute(&mut reader).unwrap_err().sqlstate(), Some("42P01"));
    admin.run("GRANT SELECT ON s.t TO reader");
    assert_eq!(execute(&mut reader).unwrap()[0].rows, [[Some("0".to_owned())]]);
}
