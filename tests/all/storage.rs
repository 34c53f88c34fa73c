//! Storage that fails: a clear error, nothing half-visible, and service again by itself.
//!
//! What it guarantees: full and write-protected disks are real ones (a `tmpfs` of the server's
//! own); a bucket that is slow, busy or gone is one behind a proxy. No server is started again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kho_tests::disk::{View, on_small_disk};
use kho_tests::kho::{Folders, Kho, serve};
use kho_tests::proxy::{Mode, Proxy};
use kho_tests::s3::{Bucket, S3};
use kho_tests::wire::{ServerError, Wire};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

/// No statement waits longer for storage that does not answer; DESIGN's half a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
const MEBIBYTES: u32 = 16;

/// A Kho with `disk`, one of its folders, on a small disk of its own.
fn on_disk(disk: PathBuf, folders: Folders, more: &[(&str, &str)]) -> (Kho, View, PathBuf) {
    let mut command = serve(&folders.data(), &folders.keys());
    command.envs(more.iter().copied());
    let mut kho = Kho::start_by(folders, &mut on_small_disk(&command, &disk, MEBIBYTES));
    let view = View::of(kho.process().id());
    (kho, view, disk)
}

fn with_table(kho: &Kho) -> Wire {
    let mut admin = kho.admin();
    admin.run("CREATE SCHEMA s");
    admin.run("CREATE TABLE s.t (id integer)");
    admin.run("INSERT INTO s.t VALUES (1)");
    admin
}

/// The refusal of `statement`, which names what to do and nothing of the machine.
fn refusal(wire: &mut Wire, statement: &str, sqlstates: &[&str]) -> ServerError {
    let asked = Instant::now();
    let error = wire.refusal(statement);
    assert!(asked.elapsed() < TOLD_WITHIN, "{statement}: told after {:?}", asked.elapsed());
    assert!(sqlstates.contains(&error.sqlstate.as_str()), "{statement}: {error:?}");
    assert!(error.hint.is_some(), "{statement}: no hint: {error:?}");
    let text = format!("{error:?}");
    for private in ["/tmp", "kho-test", "127.0.0.1", "://"] {
        assert!(!text.contains(private), "{statement}: {error:?}");
    }
    error
}

/// Everything works, on the connection that saw the failure and on a new one.
fn serves(kho: &Kho, wire: &mut Wire, rows: usize) {
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), rows.to_string());
    wire.run("INSERT INTO s.t VALUES (2)");
    wire.run("CREATE TABLE s.after (id integer)");
    wire.run("COMMENT ON TABLE s.after IS 'made after'");
    wire.run("DROP TABLE s.after");
    wire.run("DELETE FROM s.t WHERE id = 2");
    assert_eq!(kho.admin().value("SELECT count(*) FROM s.t"), rows.to_string());
}

#[test]
fn a_full_disk_refuses_and_serves_again_when_there_is_room() {
    let folders = Folders::new();
    let (kho, view, disk) = on_disk(folders.data(), folders, &[]);
    let mut wire = with_table(&kho);
    view.fill(&disk);
    until_full(&mut wire);
    // The ledger lies there too, and without it nothing is done, not even a read.
    for statement in ["INSERT INTO s.t VALUES (2)", "SELECT count(*) FROM s.t"] {
        refusal(&mut wire, statement, &["53100"]);
    }
    view.free(&disk);
    serves(&kho, &mut wire, 1);
}

#[test]
fn a_full_warehouse_can_still_be_read() {
    let folders = Folders::new();
    let journal = folders.data().with_file_name("journal");
    let journal = [("KHO_AUDIT__JOURNAL_DIRECTORY", journal.to_str().unwrap())];
    let (kho, view, disk) = on_disk(folders.data(), folders, &journal);
    let mut wire = with_table(&kho);
    view.fill(&disk);
    for statement in [
        "INSERT INTO s.t VALUES (2)",
        "UPDATE s.t SET id = 3",
        "DELETE FROM s.t",
        "CREATE TABLE s.u (id integer)",
        "CREATE TABLE s.u AS SELECT x FROM generate_series(1, 1000) AS g (x)",
        "CREATE ROLE r",
        "COMMENT ON TABLE s.t IS 'x'",
    ] {
        refusal(&mut wire, statement, &["53100"]);
        assert_eq!(wire.value("SELECT count(*) FROM s.t WHERE id = 1"), "1", "{statement}");
    }
    view.free(&disk);
    assert_eq!(copy_until_full(&mut wire).sqlstate, "53100");
    // Room that a failed load took is given back.
    serves(&kho, &mut wire, 1);
    assert_eq!(wire.refusal("SELECT * FROM s.u").sqlstate, "42P01");
    assert_eq!(wire.value("SELECT count(*) FROM s.t VERSION AS OF 1"), "1");
}

/// Asks until the ledger has used up what is left of the block that its journal ends in.
fn until_full(wire: &mut Wire) {
    const QUESTIONS_MAX: usize = 1000;
    let refused = (0..QUESTIONS_MAX).any(|_| wire.simple("SELECT 1").is_err());
    assert!(refused, "{QUESTIONS_MAX} records found room on a full disk");
}

/// Loads more than the disk takes, of rows that do not compress.
fn copy_until_full(wire: &mut Wire) -> ServerError {
    wire.run("CREATE TABLE s.big (word text)");
    wire.send(|buffer| frontend::query("COPY s.big FROM STDIN", buffer)).unwrap();
    assert!(matches!(wire.receive().unwrap(), Message::CopyInResponse(_)));
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut sent = true;
    for _ in 0..64 {
        let mut text = String::with_capacity(1 << 20);
        while text.len() < 1 << 20 {
            for _ in 0..16 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                text.push_str(&format!("{random:016x}"));
            }
            text.push('\n');
        }
        let chunk = |buffer: &mut BytesMut| {
            buffer.put_u8(b'd');
            buffer.put_i32(i32::try_from(text.len() + 4).unwrap());
            buffer.put_slice(text.as_bytes());
            Ok(())
        };
        sent = sent && wire.send(chunk).is_ok();
    }
    wire.send(|buffer| {
        frontend::copy_done(buffer);
        Ok(())
    })
    .unwrap();
    let error = match wire.answers() {
        Err(kho_tests::wire::Error::Server(error)) => *error,
        other => panic!("64 MB went onto {MEBIBYTES} MB: {other:?}"),
    };
    assert_eq!(wire.value("SELECT count(*) FROM s.big"), "0");
    error
}

/// Promise 2: nothing is done or released while it cannot be recorded. A ledger that was full for
/// hours neither litters its disk nor has to be started again.
#[test]
fn a_ledger_without_room_stops_everything_until_there_is_some() {
    let folders = Folders::new();
    let journal = folders.data().with_file_name("journal");
    let text = journal.to_str().unwrap().to_owned();
    let (kho, view, disk) =
        on_disk(journal, folders, &[("KHO_AUDIT__JOURNAL_DIRECTORY", text.as_str())]);
    let mut wire = with_table(&kho);
    view.fill(&disk);
    until_full(&mut wire);
    for _ in 0..100 {
        refusal(&mut wire, "INSERT INTO s.t VALUES (2)", &["53100"]);
        refusal(&mut wire, "SELECT id FROM s.t", &["53100"]);
    }
    refusal(&mut wire, "CREATE TABLE s.u (id integer)", &["53100"]);
    let refused = Wire::connect(&kho.target("admin", "admin"));
    assert_eq!(refused.err().unwrap().sqlstate(), Some("53100"));
    let left = std::fs::read_dir(view.path(&disk.join("audit/journal"))).unwrap().count();
    assert!(left < 5, "{left} files");
    view.free(&disk);
    assert_eq!(wire.refusal("SELECT * FROM s.u").sqlstate, "42P01");
    serves(&kho, &mut wire, 1);
}

#[test]
fn a_read_only_folder_refuses_writes_and_serves_again() {
    let folders = Folders::new();
    let (kho, view, data) = on_disk(folders.data(), folders, &[]);
    let mut wire = with_table(&kho);
    let tables = data.join("tables");
    view.protect(&tables);
    for statement in
        ["INSERT INTO s.t VALUES (2)", "DELETE FROM s.t", "CREATE TABLE s.u (id integer)"]
    {
        let error = refusal(&mut wire, statement, &["58030"]);
        assert!(error.message.contains("cannot be written"), "{error:?}");
        assert_eq!(wire.value("SELECT count(*) FROM s.t"), "1");
    }
    view.release(&tables);
    let catalog = data.join("catalog");
    view.protect(&catalog);
    refusal(&mut wire, "CREATE ROLE r", &["58030"]);
    refusal(&mut wire, "COMMENT ON TABLE s.t IS 'x'", &["58030"]);
    wire.run("INSERT INTO s.t VALUES (9)");
    view.release(&catalog);
    wire.run("DELETE FROM s.t WHERE id = 9");
    wire.run("CREATE ROLE r");
    serves(&kho, &mut wire, 1);
}

/// A folder that is gone is not an empty warehouse: it is neither read as one nor made again.
#[test]
fn a_vanished_folder_is_a_failure_until_it_is_back() {
    let kho = Kho::start();
    let mut wire = with_table(&kho);
    let aside = kho.data().with_file_name("aside");
    std::fs::rename(kho.data(), &aside).unwrap();
    for statement in ["INSERT INTO s.t VALUES (2)", "SELECT count(*) FROM s.t", "CREATE ROLE r"] {
        refusal(&mut wire, statement, &["58030", "57P03"]);
    }
    assert!(!kho.data().exists(), "the folder was made again");
    std::fs::rename(&aside, kho.data()).unwrap();
    serves(&kho, &mut wire, 1);
}

/// A bucket behind a proxy, and a Kho that does not wait long for it.
fn behind_proxy() -> (Bucket, Proxy, Kho) {
    let bucket = S3::shared().bucket();
    let proxy = Proxy::start(bucket.endpoint);
    let short = [("KHO_S3__RETRY_TIMEOUT_MS", "1500"), ("KHO_S3__REQUEST_TIMEOUT_MS", "3000")];
    let kho = bucket.at(proxy.address).serve_with(Folders::new(), &short);
    (bucket, proxy, kho)
}

/// Each refusal comes in time, twice: before the server knows that its catalog is old, and after.
fn fails_and_recovers(mode: Mode) {
    let (_bucket, proxy, kho) = behind_proxy();
    let mut wire = with_table(&kho);
    proxy.set(mode);
    for _ in 0..2 {
        refusal(&mut wire, "SELECT count(*) FROM s.t", &["58030", "57P03"]);
        refusal(&mut wire, "CREATE ROLE r", &["58030", "57P03"]);
    }
    proxy.set(Mode::Pass);
    serves(&kho, &mut wire, 1);
    wire.run("CREATE ROLE r");
}

#[test]
fn a_service_that_is_busy_for_long_is_an_error() {
    fails_and_recovers(Mode::Unavailable);
}

#[test]
fn a_service_that_is_gone_is_an_error() {
    fails_and_recovers(Mode::Refuse);
}

#[test]
fn a_service_that_does_not_answer_is_an_error() {
    fails_and_recovers(Mode::Hold);
}

#[test]
fn a_vanished_bucket_is_an_error_and_not_an_empty_warehouse() {
    fails_and_recovers(Mode::NoBucket);
}

/// A write that meets a failure is done, or is not, or is done and said to be unknown: what was
/// acknowledged is there, and nothing twice.
#[test]
fn writes_through_failures_are_whole_or_absent() {
    let (_bucket, proxy, kho) = behind_proxy();
    let mut wire = with_table(&kho);
    let (mut acknowledged, mut unclear) = (1, 0);
    for (turn, mode) in [Mode::Unavailable, Mode::Refuse, Mode::Hold, Mode::NoBucket]
        .into_iter()
        .cycle()
        .take(8)
        .enumerate()
    {
        proxy.set(mode);
        let failed = wire.simple(&format!("INSERT INTO s.t VALUES ({})", 100 + turn));
        assert!(matches!(failed.unwrap_err().sqlstate(), Some("58030" | "57P03")));
        unclear += 1;
        proxy.set(Mode::Pass);
        wire.run(&format!("INSERT INTO s.t VALUES ({})", 200 + turn));
        acknowledged += 1;
    }
    let sure = wire.value("SELECT count(*) FROM s.t WHERE id < 100 OR id >= 200");
    assert_eq!(sure, acknowledged.to_string());
    let count = wire.value("SELECT count(*) FROM s.t WHERE id BETWEEN 100 AND 199");
    assert!(count.parse::<i32>().unwrap() <= unclear);
    assert_eq!(wire.value("SELECT count(*) - count(DISTINCT id) FROM s.t"), "0");
}

/// The one request that makes rows visible got no answer, and may arrive at any later time: the
/// client is told so, and the rows are there once or not at all.
#[test]
fn a_commit_that_was_not_answered_is_said_to_be_unclear() {
    let (_bucket, proxy, kho) = behind_proxy();
    let mut wire = with_table(&kho);
    proxy.set(Mode::HoldCommits);
    let error = refusal(&mut wire, "INSERT INTO s.t VALUES (2)", &["58030"]);
    assert!(error.message.contains("not known"), "{error:?}");
    proxy.set(Mode::Pass);
    wire.run("INSERT INTO s.t VALUES (3)");
    let found = wire.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM s.t");
    assert!(["1 3", "1 2 3"].contains(&found.as_str()), "{found}");
    wire.run("DELETE FROM s.t WHERE id > 1");
    serves(&kho, &mut wire, 1);
}

#[test]
fn a_service_that_is_slow_or_busy_for_a_moment_is_waited_for() {
    let (_bucket, proxy, kho) = behind_proxy();
    let mut wire = with_table(&kho);
    proxy.set(Mode::Slow(Duration::from_millis(200)));
    wire.run("INSERT INTO s.t VALUES (2)");
    assert_eq!(wire.value("SELECT count(*) FROM s.t"), "2");
    wire.run("DELETE FROM s.t WHERE id = 2");
    for times in 1..4 {
        proxy.set(Mode::UnavailableTimes(times));
        wire.run("INSERT INTO s.t VALUES (2)");
        proxy.set(Mode::UnavailableTimes(times));
        wire.run("DELETE FROM s.t WHERE id = 2");
    }
    proxy.set(Mode::Pass);
    serves(&kho, &mut wire, 1);
}

/// The service stored it and its answer was lost: the client puts again, finds it there, and must
/// know it for its own.
#[test]
fn a_lost_answer_is_neither_a_failure_nor_a_second_row() {
    let (_bucket, proxy, kho) = behind_proxy();
    let mut wire = with_table(&kho);
    proxy.set(Mode::LoseFirstAnswers);
    for id in 2..6 {
        wire.run(&format!("INSERT INTO s.t VALUES ({id})"));
    }
    wire.run("UPDATE s.t SET id = id + 10 WHERE id > 3");
    wire.run("CREATE TABLE s.u AS SELECT * FROM s.t");
    wire.run("CREATE VIEW s.v AS SELECT count(*) AS n FROM s.u");
    wire.run("COMMENT ON TABLE s.u IS 'once'");
    proxy.set(Mode::Pass);
    assert_eq!(wire.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM s.t"), "5 5");
    assert_eq!(wire.value("SELECT n FROM s.v"), "5");
    let versions = wire.value("SELECT count(*) FROM kho.table_history('s.t')");
    assert_eq!(versions, "7", "a statement was applied twice");
}

/// A bucket that was emptied is no place to go on in as if nothing had happened.
#[test]
fn an_emptied_bucket_is_refused() {
    let service = S3::start();
    let bucket = service.bucket();
    let kho = bucket.serve();
    let mut wire = with_table(&kho);
    service.forget_everything();
    refusal(&mut wire, "CREATE ROLE r", &["58030", "57P03"]);
    bucket.make();
    refusal(&mut wire, "CREATE ROLE r", &["57P03", "58030", "XX001"]);
    // Once the catalog was looked for and not found, statements that would only read fail too.
    let asked = Instant::now();
    while wire.simple("INSERT INTO s.t VALUES (2)").is_ok() {
        assert!(asked.elapsed() < TOLD_WITHIN, "it goes on writing into an empty bucket");
    }
    refusal(&mut wire, "SELECT count(*) FROM s.t", &["57P03", "58030", "XX001"]);
}
