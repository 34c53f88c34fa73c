//! What was acknowledged survives; what was not is either whole or absent.

use bytes::{BufMut, BytesMut};
use kho_tests::kho::{Folders, Kho, serve};
use kho_tests::trace::{Event, events, traced};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer, name text)");
    admin.run("CREATE ROLE reader LOGIN PASSWORD 'reader'");
    admin.run("GRANT USAGE ON SCHEMA s TO reader");
    admin.run("GRANT SELECT ON s.t TO reader");
    for id in 0..10 {
        admin.run(&format!("INSERT INTO s.t VALUES ({id}, 'Đào')"));
    }
    let kho = Kho::start_in(kho.kill());
    let mut reader = kho.connect("reader");
    assert_eq!(reader.value("SELECT count(*) FROM s.t WHERE name = 'Đào'"), "10");
    assert_eq!(kho.admin().value("SELECT count(*) FROM s.t VERSION AS OF 5"), "5");
}

#[test]
fn what_was_not_finished_is_absent_after_a_kill() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    // Another one, so that neither has anything to do with the other.
    admin.run("CREATE TABLE s.u (id integer)");
    let mut block = kho.admin();
    block.run("BEGIN");
    block.run("INSERT INTO s.t VALUES (1)");
    let mut copy = kho.admin();
    copy.send(|buffer: &mut BytesMut| {
        frontend::query("COPY s.u FROM STDIN", buffer)?;
        buffer.put_slice(b"d\0\0\0\x062\n");
        Ok(())
    })
    .unwrap();
    assert!(matches!(copy.receive().unwrap(), Message::CopyInResponse(_)));
    let kho = Kho::start_in(kho.kill());
    for table in ["s.t", "s.u"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(kho.admin().value(&count), "0", "{table}");
        kho.admin().run(&format!("INSERT INTO {table} VALUES (3)"));
        assert_eq!(kho.admin().value(&count), "1", "{table}");
    }
}

#[test]
fn a_stop_is_graceful_and_a_start_finds_everything() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t AS SELECT x FROM generate_series(1, 1000) AS g (x)");
    admin.run("CREATE VIEW s.v AS SELECT count(*) AS n FROM s.t");
    admin.run("COMMENT ON TABLE s.t IS 'một nghìn'");
    // A connection that is open and idle is told and does not hold the server up.
    let (ended, folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let told = admin.wait_for_close();
    assert!(told.is_none_or(|it| it.sqlstate == "57P01"));
    let kho = Kho::start_in(folders);
    assert_eq!(kho.admin().value("SELECT n FROM s.v"), "1000");
    let comment = "SELECT obj_description('s.t'::regclass, 'pg_class')";
    assert_eq!(kho.admin().value(comment), "một nghìn");
}

/// Before a client is told that its rows are there, the file with the rows, the log's entry and the
/// folders that name them were synced: each file before it got its name, each folder after.
#[test]
fn an_answer_comes_after_every_sync() {
    let folders = Folders::new();
    let trace = folders.data().with_file_name("trace");
    let command = serve(&folders.data(), &folders.keys());
    let kho = Kho::start_by(folders, &mut traced(&command, &trace));
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    admin.run("COMMENT ON TABLE s.t IS 'before'");
    admin.run("INSERT INTO s.t VALUES (1)");
    // What is looked for last in the trace.
    admin.rows("SELECT x FROM generate_series(1, 5) AS g (x)");
    let (ended, folders) = kho.stop();
    assert!(ended.status.success(), "{}", ended.log);
    let told = |wanted: &'static str| move |event: &Event| matches!(event, Event::Told(it) if it.contains(wanted));
    let all = events(&trace, told("SELECT 5\\0"));
    let inserted = all.iter().position(told("INSERT 0 1\\0")).unwrap();
    let before = all[..inserted].iter().rposition(told("COMMENT\\0")).unwrap();
    let work = &all[before..inserted];
    let place = |wanted: &Event| work.iter().position(|it| it == wanted);
    let mut named = Vec::new();
    for (turn, event) in work.iter().enumerate() {
        let Event::Named { from, to } = event else { continue };
        let synced = place(&Event::Synced(from.clone()));
        assert!(
            synced.is_some_and(|it| it < turn),
            "{to:?} was named before it was synced: {work:#?}"
        );
        let folder = Event::Synced(to.parent().unwrap().to_owned());
        let kept = work[turn..].contains(&folder);
        assert!(kept, "the name of {to:?} was not synced: {work:#?}");
        named.push(to.strip_prefix(folders.data()).unwrap().display().to_string());
    }
    let data = named.iter().filter(|it| it.ends_with(".parquet")).count();
    let commits = named.iter().filter(|it| it.ends_with("00000000000000000001.json")).count();
    assert_eq!((data, commits), (1, 1), "{named:?}");
    let ledger = |event: &&Event| matches!(event, Event::Synced(path) if path.to_string_lossy().contains("audit"));
    assert!(work.iter().filter(ledger).count() >= 1, "the ledger was not synced: {work:#?}");
}

/// Several writers of one table: each is done once, or told to try again; no row is lost.
#[test]
fn writers_at_the_same_time_lose_nothing() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    let target = kho.target("admin", "admin");
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let target = target.clone();
            std::thread::spawn(move || {
                let mut wire = kho_tests::wire::Wire::connect(&target).unwrap();
                let mut written = 0;
                for turn in 0..10 {
                    let id = writer * 100 + turn;
                    match wire.simple(&format!("INSERT INTO s.t VALUES ({id})")) {
                        Ok(_) => written += 1,
                        Err(refused) => assert_eq!(refused.sqlstate(), Some("40001"), "{refused}"),
                    }
                }
                written
            })
        })
        .collect();
    let written: i32 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert!(written > 0);
    assert_eq!(admin.value("SELECT count(*) FROM s.t"), written.to_string());
    assert_eq!(admin.value("SELECT count(DISTINCT id) FROM s.t"), written.to_string());
}
