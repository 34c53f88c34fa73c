//! Durable before released, whole after failures.

mod sealing;
mod spending;
mod tampering;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::environment::faults::{Fault, FaultyStore};

fn memory() -> Environment {
    Environment::open("memory://").unwrap()
}

fn local() -> (tempfile::TempDir, Environment) {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::open(folder.path().to_str().unwrap()).unwrap();
    (folder, environment)
}

fn record(statement: &str) -> Record {
    Record {
        kind: RecordKind::Statement,
        role: "an".to_owned(),
        role_id: Some(100),
        protocol: "pgwire".to_owned(),
        session: "1".to_owned(),
        purpose: Some("d".to_owned()),
        order_number: None,
        client: "127.0.0.1:4000".to_owned(),
        authentication: Some("password".to_owned()),
        statement: Some(statement.to_owned()),
        parameters: vec!["0011223344556677".to_owned()],
    }
}

fn done(rows: u64) -> Completion {
    let touched = Touched {
        dataset: "health.patient".to_owned(),
        relation: 16_400,
        version: Some(3),
        columns: vec!["ward".to_owned()],
    };
    Completion {
        outcome: "00000".to_owned(),
        tag: "SELECT".to_owned(),
        rows,
        datasets: vec![touched],
        ..Completion::default()
    }
}

/// A ledger in one place, signed by keys that tests share.
async fn open(environment: &Environment, server: &str) -> Ledger {
    let source = Source::new(environment, environment);
    Ledger::open(source, keys(), server).await.unwrap()
}

fn keys() -> Arc<Keys> {
    static KEYS: std::sync::LazyLock<Arc<Keys>> =
        std::sync::LazyLock::new(|| Arc::new(Keys::passing().unwrap()));
    Arc::clone(&KEYS)
}

/// Every line of every server, but those that say that a run began.
async fn read_all(environment: &Environment) -> Result<Vec<Line>> {
    let source = Source::new(environment, environment);
    let mut all = Vec::new();
    for server in source.servers().await? {
        let lines: Vec<Line> = source.lines(&server).try_collect().await?;
        for (line, expected) in lines.iter().zip(0..) {
            if line.sequence != expected {
                return Err(stored::corrupted(&server, expected, "is missing"));
            }
        }
        all.extend(lines.into_iter().filter(|it| !matches!(it.event, Event::Opened(_))));
    }
    Ok(all)
}

async fn segments(environment: &Environment) -> Vec<String> {
    let prefix = Path::from("audit/journal");
    let found: Vec<_> = environment.store().list(Some(&prefix)).try_collect().await.unwrap();
    let mut names: Vec<_> = found.into_iter().map(|it| it.location.to_string()).collect();
    names.sort();
    names
}

fn statement(line: &Line) -> &str {
    match &line.event {
        Event::Begin(record) => record.statement.as_deref().unwrap(),
        other => other.name(),
    }
}

async fn statements(environment: &Environment) -> Vec<String> {
    let lines = read_all(environment).await.unwrap();
    lines.iter().map(|line| statement(line).to_owned()).collect()
}

async fn begins_ends_and_goes_on(environment: Environment) {
    let ledger = open(&environment, "kho-1").await;
    let opened = ledger.begin(record("first")).await.unwrap();
    let id = opened.id().to_owned();
    // Durable before anything else happens.
    let lines = read_all(&environment).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].id.as_str(), lines[0].server.as_str()), (id.as_str(), "kho-1"));
    assert_eq!(lines[0].event, Event::Begin(record("first")));
    opened.complete(done(7));
    drop(ledger.begin(record("second")).await.unwrap());
    ledger.close().await.unwrap();
    let lines = read_all(&environment).await.unwrap();
    let end = lines.iter().find(|line| line.event == Event::Complete(done(7))).unwrap();
    assert_eq!(end.id, id);
    assert_eq!(statement(lines.last().unwrap()), "abandoned");
    assert_eq!(lines.len(), 4);
    let error = ledger.begin(record("third")).await.unwrap_err();
    assert_eq!(error.sqlstate(), "57P01");
    ledger.close().await.unwrap();

    // The next run goes on counting, in a segment of its own.
    let ledger = open(&environment, "kho-1").await;
    ledger.begin(record("fourth")).await.unwrap().complete(done(0));
    ledger.close().await.unwrap();
    let lines = read_all(&environment).await.unwrap();
    assert_eq!(lines.last().unwrap().sequence, 7);
    let other = open(&environment, "kho-2").await;
    drop(other.begin(record("elsewhere")).await.unwrap());
    other.close().await.unwrap();
    assert_eq!(read_all(&environment).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_record_begins_ends_and_the_next_run_goes_on() {
    begins_ends_and_goes_on(memory()).await;
    let (_folder, environment) = local();
    begins_ends_and_goes_on(environment).await;
}

#[tokio::test]
async fn those_who_wait_together_are_written_together() {
    let environment = memory();
    let ledger = open(&environment, "kho").await;
    let opened = join_all((0..500).map(|it| ledger.begin(record(&it.to_string())))).await;
    assert!(segments(&environment).await.len() <= 50);
    opened.into_iter().for_each(|it| it.unwrap().complete(done(1)));
    ledger.close().await.unwrap();
    let lines = read_all(&environment).await.unwrap();
    assert_eq!(lines.len(), 1_000);
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_refuses_and_recovers() {
    let plain = memory();
    let faulty = FaultyStore::over(plain.store());
    let environment = plain.clone().with_store(faulty.clone());
    let ledger = open(&environment, "kho").await;
    let running = ledger.begin(record("running")).await.unwrap();
    faulty.set_down(true);
    running.complete(done(1));
    for _ in 0..2 {
        let error = ledger.begin(record("refused")).await.unwrap_err();
        assert_eq!(error.sqlstate(), "58030");
    }
    faulty.set_down(false);
    let opened = ledger.begin(record("after")).await.unwrap();
    assert_eq!(statements(&plain).await, ["running", "complete", "after"]);
    opened.complete(done(1));
    // A write that came through although it was said to have failed is void.
    faulty.fail_put("audit/journal", Fault::After);
    let _ = ledger.begin(record("ghost")).await;
    ledger.begin(record("last")).await.unwrap().complete(done(1));
    ledger.close().await.unwrap();
    let found = statements(&plain).await;
    assert_eq!(found.iter().filter(|it| *it == "complete").count(), 3);
    assert_eq!(found.last().unwrap(), "complete");
}

#[tokio::test]
async fn a_disk_that_fails_refuses_and_recovers() {
    let (folder, environment) = local();
    let limits = Limits { segment_bytes_max: 1, open_max: 16 };
    let source = Source::new(&environment, &environment);
    let ledger = Ledger::open_with(source, keys(), "kho", limits).await.unwrap();
    let running = ledger.begin(record("running")).await.unwrap();
    // Each batch is a segment here; with a file in the place of the folder none can be made.
    let journal = folder.path().join("audit/journal");
    let aside = folder.path().join("aside");
    std::fs::rename(&journal, &aside).unwrap();
    std::fs::write(&journal, "in the way").unwrap();
    running.complete(done(1));
    for _ in 0..2 {
        let error = ledger.begin(record("refused")).await.unwrap_err();
        assert_eq!(error.sqlstate(), "58030");
    }
    std::fs::remove_file(&journal).unwrap();
    std::fs::rename(&aside, &journal).unwrap();
    let after = ledger.begin(record("after")).await.unwrap();
    let mut found = statements(&environment).await;
    assert_eq!(found.remove(0), "running");
    found.sort();
    assert_eq!(found, ["after", "complete"]);
    after.complete(done(1));
    ledger.close().await.unwrap();
    assert_eq!(read_all(&environment).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_line_cut_off_by_a_crash_is_passed_over() {
    let (folder, environment) = local();
    let ledger = open(&environment, "kho").await;
    let _opened = ledger.begin(record("whole")).await.unwrap();
    let name = segments(&environment).await.remove(0);
    let path = folder.path().join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend(b"{\"sequence\":1,\"time_ms");
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(folder.path().join("audit/journal/kho-0000000001.jsonl"), "{\"for").unwrap();
    // As after a restart: the first ledger is simply no longer used.
    let ledger = open(&environment, "kho").await;
    let _next = ledger.begin(record("next")).await.unwrap();
    assert_eq!(statements(&environment).await, ["whole", "next"]);
    assert_eq!(read_all(&environment).await.unwrap().last().unwrap().sequence, 3);
}

#[tokio::test]
async fn a_missing_record_is_found() {
    let environment = memory();
    let ledger = open(&environment, "kho").await;
    let mut open = Vec::new();
    for name in ["one", "two", "three"] {
        open.push(ledger.begin(record(name)).await.unwrap());
    }
    let second = Path::from(segments(&environment).await.remove(1));
    environment.store().delete(&second).await.unwrap();
    let error = read_all(&environment).await.unwrap_err();
    assert_eq!(error.message(), "audit record 2 of server kho is missing");
}

#[tokio::test]
async fn open_records_are_bounded_and_a_lost_wait_is_abandoned() {
    let environment = memory();
    let limits = Limits { segment_bytes_max: 1 << 20, open_max: 1 };
    let source = Source::new(&environment, &environment);
    let ledger = Ledger::open_with(source, keys(), "kho", limits).await.unwrap();
    let held = ledger.begin(record("held")).await.unwrap();
    let error = ledger.begin(record("too many")).await.unwrap_err();
    assert_eq!(error.sqlstate(), "53400");
    held.complete(done(1));
    ledger.close().await.unwrap();

    let ledger = open(&environment, "kho").await;
    let mut waiting = Box::pin(ledger.begin(record("cancelled")));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(waiting);
    ledger.close().await.unwrap();
    assert_eq!(statements(&environment).await, ["held", "complete", "cancelled", "abandoned"]);
    let error = Ledger::passing(&environment, "../kho").await.unwrap_err();
    assert_eq!(error.sqlstate(), "22023");
}

#[tokio::test]
async fn a_ledger_that_is_only_dropped_still_writes_its_ends() {
    let environment = memory();
    let ledger = open(&environment, "kho").await;
    let opened = ledger.begin(record("one")).await.unwrap();
    let writer = Arc::new(ledger);
    drop(writer);
    opened.complete(done(1));
    while read_all(&environment).await.unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
}

/// Nothing of a long failure is left in the ledger, and the ledger needs no new start.
#[tokio::test]
async fn a_failure_that_lasts_is_recovered_from() {
    let plain = memory();
    let faulty = FaultyStore::over(plain.store());
    let ledger = open(&plain.clone().with_store(faulty.clone()), "kho").await;
    faulty.set_down(true);
    for _ in 0..200 {
        let refused = ledger.begin(record("refused")).await;
        assert_eq!(refused.unwrap_err().sqlstate(), "58030");
    }
    faulty.set_down(false);
    ledger.begin(record("after")).await.unwrap().complete(done(1));
    ledger.close().await.unwrap();
    assert_eq!(statements(&plain).await, ["after", "complete"]);
}
