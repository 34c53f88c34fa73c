//! Loads while others write the same table: a client that is still sending keeps nobody from it, and
//! what is asked of the table is asked when the rows are all there.

use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::{BufMut, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use kho_catalog::error::Result;
use kho_server::flight::ingest::{Arriving, Existing, LoadName, Loaded, Target, ingest};
use kho_server::flight::name::RelationName;
use kho_sql::session::{Held, Session};
use kho_tests::inside::{Warehouse, run};
use kho_tests::kho::Kho;
use kho_tests::wire::{Answer, Error, Wire};
use object_store::ObjectStore;
use object_store::path::Path;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    SILENCE, answer, append, batch, load, load_named, messages, numbers, play, refused, served,
    target,
};

/// How long others are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What others do to a table meanwhile, and what a load of it is told then.
const OTHERWISE: &[(&[&str], &str)] = &[
    (&["ALTER TABLE s.t ADD COLUMN more text"], "40001"),
    (&["ALTER TABLE s.t ALTER COLUMN id SET NOT NULL"], "40001"),
    (&["ALTER TABLE s.t ADD CONSTRAINT large CHECK (id > 5)"], "40001"),
    (&["ALTER TABLE s.t ADD CONSTRAINT one UNIQUE (id)"], "40001"),
    (&["DROP TABLE s.t", "CREATE TABLE s.t (id bigint)"], "40001"),
    (&["CALL kho.freeze(dataset => 's.t', reason => 'leak')"], "55000"),
];

fn ids(of: &[i64]) -> RecordBatch {
    batch(&[("id", numbers(of))])
}

/// Loads two batches, between which the client is silent until `meanwhile` is done.
async fn load_while(
    session: &mut Session,
    to: &Target,
    name: Option<(&str, &str)>,
    rows: [RecordBatch; 2],
    meanwhile: impl Future<Output = ()>,
) -> Result<Loaded> {
    let mut begun = messages(&rows);
    let rest = begun.split_off(2);
    let (taken, is_taken) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel::<()>();
    // It is asked for the rest when the first batch is written.
    let silent = stream::once(async move {
        taken.send(()).unwrap();
        may_go_on.await.unwrap();
        stream::iter(rest)
    });
    let sent = stream::iter(begun).chain(silent.flatten());
    let arriving = Arriving::open(sent, SILENCE, Held::without_limit()).await?;
    let name = name.map(|(stream, sequence)| LoadName {
        stream: stream.to_owned(),
        sequence: sequence.to_owned(),
    });
    let stop = CancellationToken::new();
    let loading = ingest(session, to, name.as_ref(), arriving, &stop);
    let others = async {
        is_taken.await.unwrap();
        let done = tokio::time::timeout(PATIENCE, meanwhile).await;
        done.expect("others wait for a load whose client is silent");
        go_on.send(()).unwrap();
    };
    tokio::join!(loading, others).0
}

#[test]
fn others_write_a_table_while_rows_come() {
    play(|| async {
        let (server, mut session) = served().await;
        let mut other = server.connect().await.unwrap();
        for (table, rules) in [("t", ""), ("k", "PRIMARY KEY")] {
            let name = format!("s.{table}");
            run(&mut session, &format!("CREATE TABLE {name} (id bigint {rules})")).await.unwrap();
            for (creates, first) in [(false, 0), (true, 10)] {
                let to = target(table, creates, Existing::Append);
                let rows = [ids(&[first + 1, first + 2]), ids(&[first + 3])];
                let meanwhile = async {
                    let insert = format!("INSERT INTO {name} VALUES ({first}), ({first} + 9)");
                    run(&mut other, &insert).await.unwrap();
                    let delete = format!("DELETE FROM {name} WHERE id = {first}");
                    run(&mut other, &delete).await.unwrap();
                };
                let loaded = load_while(&mut session, &to, None, rows, meanwhile).await.unwrap();
                assert_eq!(loaded.rows, 3);
                let newest = format!("SELECT max(version) FROM kho.table_history('{name}')");
                let version = loaded.version.unwrap().to_string();
                assert_eq!(answer(&mut session, &newest).await, version);
            }
            let found = answer(&mut session, &format!("SELECT id FROM {name} ORDER BY id")).await;
            assert_eq!(found, "1; 2; 3; 9; 11; 12; 13; 19");
        }
    });
}

/// Neither a table of the same name elsewhere nor a stranger waits for who is making one: a stranger who
/// waited would know of it.
#[test]
fn a_load_that_makes_its_table_keeps_no_other_waiting() {
    play(|| async {
        let (server, mut session) = served().await;
        for statement in ["CREATE SCHEMA elsewhere", "CREATE ROLE stranger LOGIN"] {
            run(&mut session, statement).await.unwrap();
        }
        let mut other = server.connect().await.unwrap();
        let mut stranger = server.connect_as("stranger", &[]).await.unwrap();
        let mut same = server.connect().await.unwrap();
        let to = target("t", true, Existing::Append);
        let meanwhile = async {
            // Who waits for itself waits no longer than it may.
            for (limit, sqlstate) in [("lock_timeout", "55P03"), ("statement_timeout", "57014")] {
                run(&mut same, &format!("SET {limit} = '100ms'")).await.unwrap();
                let error = refused(load(&mut same, &to, &[ids(&[9])]).await);
                assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
                run(&mut same, &format!("RESET {limit}")).await.unwrap();
            }
            let table = RelationName::new(Some("elsewhere".to_owned()), "t".to_owned()).unwrap();
            let beside = Target { table, creates: true, existing: Existing::Append };
            assert_eq!(load(&mut other, &beside, &[ids(&[7])]).await.unwrap().rows, 1);
            for schema in ["s", "nowhere"] {
                let table = RelationName::new(Some(schema.to_owned()), "t".to_owned()).unwrap();
                let hidden = Target { table, creates: true, existing: Existing::Append };
                let error = refused(load(&mut stranger, &hidden, &[ids(&[8])]).await);
                assert_eq!(error.sqlstate(), "3F000", "{schema}: {error:?}");
            }
        };
        let rows = [ids(&[1, 2]), ids(&[3])];
        assert_eq!(load_while(&mut session, &to, None, rows, meanwhile).await.unwrap().rows, 3);
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "3");
    });
}

#[test]
fn a_key_that_another_took_meanwhile_is_refused_whole() {
    play(|| async {
        let (server, mut session) = served().await;
        let mut other = server.connect().await.unwrap();
        run(&mut session, "CREATE TABLE s.k (id bigint PRIMARY KEY)").await.unwrap();
        let rows = [ids(&[1, 2]), ids(&[3])];
        let meanwhile = async {
            run(&mut other, "INSERT INTO s.k VALUES (2)").await.unwrap();
        };
        let loaded = load_while(&mut session, &append("k"), None, rows, meanwhile).await;
        assert_eq!(refused(loaded).sqlstate(), "23505");
        assert_eq!(answer(&mut session, "SELECT id FROM s.k").await, "2");
    });
}

/// A block sees what it saw when it began, and its rows go behind what others added.
#[test]
fn a_load_that_is_the_first_of_its_block_keeps_nobody_out_while_rows_come() {
    play(|| async {
        let (server, mut session) = served().await;
        let mut other = server.connect().await.unwrap();
        run(&mut session, "CREATE TABLE s.t (id bigint)").await.unwrap();
        run(&mut session, "BEGIN").await.unwrap();
        let meanwhile = async {
            run(&mut other, "INSERT INTO s.t VALUES (9)").await.unwrap();
        };
        let rows = [ids(&[1, 2]), ids(&[3])];
        let loaded = load_while(&mut session, &append("t"), None, rows, meanwhile).await.unwrap();
        assert_eq!((loaded.rows, loaded.version), (3, None));
        run(&mut session, "INSERT INTO s.t VALUES (4)").await.unwrap();
        run(&mut session, "COMMIT").await.unwrap();
        let found = answer(&mut other, "SELECT id FROM s.t ORDER BY id").await;
        assert_eq!(found, "1; 2; 3; 4; 9");
    });
}

#[test]
fn two_of_the_same_load_at_a_time_are_applied_once() {
    play(|| async {
        let (server, mut session) = served().await;
        let mut other = server.connect().await.unwrap();
        for (table, rules) in [("t", ""), ("k", "PRIMARY KEY")] {
            let create = format!("CREATE TABLE s.{table} (id bigint {rules})");
            run(&mut session, &create).await.unwrap();
            let (to, name) = (append(table), Some(("clinic", "1")));
            let rows = || [ids(&[1, 2]), ids(&[3])];
            let meanwhile = async {
                let loaded = load_named(&mut other, &to, name, &rows()).await.unwrap();
                assert_eq!((loaded.rows, loaded.version), (3, Some(1)));
            };
            let loaded = load_while(&mut session, &to, name, rows(), meanwhile).await.unwrap();
            assert_eq!((loaded.rows, loaded.version), (3, Some(1)));
            let found =
                answer(&mut session, &format!("SELECT id FROM s.{table} ORDER BY id")).await;
            assert_eq!(found, "1; 2; 3");

            // One whose turn has passed while it came is told, as if it came now.
            let (next, last) = (Some(("clinic", "2")), Some(("clinic", "3")));
            let meanwhile = async {
                load_named(&mut other, &to, next, &[ids(&[4])]).await.unwrap();
                load_named(&mut other, &to, last, &[ids(&[5])]).await.unwrap();
            };
            let loaded =
                load_while(&mut session, &to, next, [ids(&[4]), ids(&[])], meanwhile).await;
            assert_eq!(refused(loaded).sqlstate(), "55000");
            let count = format!("SELECT count(*) FROM s.{table}");
            assert_eq!(answer(&mut session, &count).await, "5");
        }
    });
}

#[test]
fn a_table_that_is_another_by_the_end_is_refused() {
    play(|| async {
        for (statements, sqlstate) in OTHERWISE {
            let (server, mut session) = served().await;
            let mut other = server.connect().await.unwrap();
            run(&mut session, "CREATE TABLE s.t (id bigint)").await.unwrap();
            let meanwhile = async {
                for statement in *statements {
                    run(&mut other, statement).await.unwrap();
                }
            };
            let rows = [ids(&[1, 2]), ids(&[3])];
            let loaded = load_while(&mut session, &append("t"), None, rows, meanwhile).await;
            let error = refused(loaded);
            assert_eq!(error.sqlstate(), *sqlstate, "{statements:?}: {error:?}");
            if *sqlstate == "55000" {
                run(&mut other, "CALL kho.unfreeze(dataset => 's.t')").await.unwrap();
            }
            let count = answer(&mut session, "SELECT count(*) FROM s.t").await;
            assert_eq!(count, "0", "{statements:?}");
        }
    });
}

/// A load waits for the table at its end only, and no longer than its session waits for anything.
#[test]
fn a_load_that_does_not_get_its_table_leaves_no_files() {
    play(|| async {
        let warehouse = Warehouse::in_memory();
        let server = warehouse.serve_well("one").await.unwrap();
        let mut session = server.connect().await.unwrap();
        let mut block = server.connect().await.unwrap();
        run(&mut session, "CREATE TABLE s.t (id bigint)").await.unwrap();
        run(&mut block, "BEGIN").await.unwrap();
        run(&mut block, "INSERT INTO s.t VALUES (9)").await.unwrap();
        let folder = Path::from(server.place("s", "t").unwrap());
        let files = async || {
            let listed: Vec<_> = warehouse.store.list(Some(&folder)).try_collect().await.unwrap();
            listed.len()
        };
        let before = files().await;
        for (setting, sqlstate) in [("lock_timeout", "55P03"), ("statement_timeout", "57014")] {
            run(&mut session, &format!("SET {setting} = 1000")).await.unwrap();
            let error = refused(load(&mut session, &append("t"), &[ids(&[1, 2])]).await);
            assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
            run(&mut session, &format!("RESET {setting}")).await.unwrap();
            assert_eq!(files().await, before, "{setting}");
        }
        run(&mut block, "COMMIT").await.unwrap();
        load(&mut session, &append("t"), &[ids(&[1, 2])]).await.unwrap();
        assert_eq!(answer(&mut session, "SELECT count(*) FROM s.t").await, "3");
    });
}

/// Begins a `COPY` and sends the first rows of it.
fn begin_copy(wire: &mut Wire, table: &str, rows: &[u8]) {
    wire.send(|buffer| frontend::query(&format!("COPY {table} FROM STDIN"), buffer)).unwrap();
    assert!(matches!(wire.receive().unwrap(), Message::CopyInResponse(_)));
    wire.send(|buffer| copy_data(rows, buffer)).unwrap();
}

/// Sends the last rows of a `COPY`.
fn end_copy(wire: &mut Wire, rows: &[u8]) -> Result<Vec<Answer>, Error> {
    wire.send(|buffer| {
        copy_data(rows, buffer)?;
        frontend::copy_done(buffer);
        Ok(())
    })?;
    wire.answers()
}

fn copy_data(rows: &[u8], buffer: &mut BytesMut) -> std::io::Result<()> {
    buffer.put_u8(b'd');
    buffer.put_i32(i32::try_from(rows.len() + 4).map_err(std::io::Error::other)?);
    buffer.put_slice(rows);
    Ok(())
}

/// What is to be done before a `COPY` goes on.
fn at_once(wire: &mut Wire, statement: &str) {
    wire.run(&format!("SET lock_timeout = {}; {statement}", PATIENCE.as_millis()));
}

#[test]
fn others_write_a_table_while_a_copy_of_it_is_open() {
    let kho = Kho::start();
    let (mut wire, mut other) = (kho.admin(), kho.admin());
    wire.run("CREATE SCHEMA s");
    for (table, rules) in [("s.t", ""), ("s.k", "PRIMARY KEY")] {
        wire.run(&format!("CREATE TABLE {table} (id bigint {rules})"));
        begin_copy(&mut wire, table, b"1\n2\n");
        at_once(&mut other, &format!("INSERT INTO {table} VALUES (9)"));
        assert_eq!(other.value(&format!("SELECT count(*) FROM {table}")), "1");
        end_copy(&mut wire, b"3\n").unwrap();
        assert_eq!(other.value(&format!("SELECT count(*) FROM {table}")), "4");
    }
    begin_copy(&mut wire, "s.k", b"5\n6\n");
    at_once(&mut other, "INSERT INTO s.k VALUES (6)");
    let taken = end_copy(&mut wire, b"7\n").unwrap_err();
    assert_eq!(taken.sqlstate(), Some("23505"), "{taken}");
    assert_eq!(wire.value("SELECT count(*) FROM s.k"), "5");
    // Two that are open at a time wait for nobody but at their ends.
    begin_copy(&mut wire, "s.t", b"5\n");
    begin_copy(&mut other, "s.t", b"6\n");
    end_copy(&mut wire, b"7\n").unwrap();
    end_copy(&mut other, b"8\n").unwrap();
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "8");
}

#[test]
fn two_copies_of_the_same_load_at_a_time_are_applied_once() {
    let kho = Kho::start();
    let (mut wire, mut other) = (kho.admin(), kho.admin());
    wire.run("CREATE SCHEMA s");
    wire.run("CREATE TABLE s.t (id bigint)");
    for wire in [&mut wire, &mut other] {
        wire.run("SET kho.load_stream = 'clinic'; SET kho.load_sequence = '1'");
        begin_copy(wire, "s.t", b"1\n2\n");
    }
    for wire in [&mut wire, &mut other] {
        end_copy(wire, b"3\n").unwrap();
    }
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "3");
}
