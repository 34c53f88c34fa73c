//! Compaction: the same rows in fewer files, whatever others do meanwhile.

use datafusion::execution::runtime_env::RuntimeEnvBuilder;

use super::*;
use crate::environment::{Clock, SystemClock};

/// Compacts with little memory, sorted by `sort_by`.
pub(super) async fn compact(
    tables: &Tables,
    location: &Location,
    effort: Effort,
    sort_by: &[&str],
) -> Result<Option<Compacted>> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(64 << 20, 1.0).build_arc().unwrap();
    let sort_by: Vec<String> = sort_by.iter().map(|name| (*name).to_owned()).collect();
    let progress = Progress::default();
    let author = author();
    let sort_by = &sort_by;
    let (progress, keys) = (&progress, &[][..]);
    let compaction = Compaction { location, effort, sort_by, keys, runtime, author, progress };
    let done = tables.compact(&compaction, std::future::pending()).await;
    if let Ok(Some(done)) = &done {
        assert_eq!(progress.get(), (done.rows, done.rows));
    }
    done
}

/// A rewrite of all of `snapshot`'s files that is ready to be committed.
pub(super) async fn rewrite(tables: &Tables, snapshot: &Snapshot) -> Commit {
    let files: Vec<usize> = (0..snapshot.files().len()).collect();
    let ids = ids(snapshot).await;
    let staged = staged_all(tables, snapshot.location(), &ids).await;
    Commit::rewrite(snapshot, &files, staged, author()).unwrap()
}

async fn files(tables: &Tables, location: &Location) -> usize {
    tables.latest(location).await.unwrap().files().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_stay_and_no_change_is_seen() {
    let (tables, location) = made().await;
    for id in (0..20).rev() {
        add(&tables, &location, id).await;
        // Files tell when they were written by the millisecond.
        let written_ms = SystemClock.now_ms();
        while SystemClock.now_ms() == written_ms {}
    }
    let before = tables.latest(&location).await.unwrap();
    assert!(tables.compaction_is_due(&location).await.unwrap());
    let done = compact(&tables, &location, Effort::Due, &[]).await.unwrap().unwrap();
    let expected = Compacted { version: 21, files_before: 20, files_after: 1, rows: 20 };
    assert_eq!(done, expected);
    assert!(!tables.compaction_is_due(&location).await.unwrap());
    let after = tables.latest(&location).await.unwrap();
    assert_eq!(ids(&after).await, ids(&before).await);
    // They came in this order, and nobody asked for another.
    let order: Vec<i64> = (0..20).rev().collect();
    assert_eq!(ids_of(after.positioned(None).unwrap()).await, order);
    for version in 0..=20 {
        let then = tables.at_version(&location, version).await.unwrap();
        assert_eq!(ids(&then).await.len() as u64, version);
    }
    let changes = tables.changes(&location, 21, 21).await.unwrap();
    assert!(ids_of(changes).await.is_empty());
    let changes = tables.changes(&location, 1, 21).await.unwrap();
    assert_eq!(ids_of(changes).await.len(), 20);
    let history = tables.history(&location).await.unwrap();
    assert_eq!(history.last().unwrap().operation.as_deref(), Some("OPTIMIZE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sorted_where_it_is_asked_for() {
    let (tables, location) = made().await;
    for id in [5, 3, 9, 1] {
        add(&tables, &location, id).await;
    }
    assert_eq!(compact(&tables, &location, Effort::Due, &["id"]).await.unwrap(), None);
    compact(&tables, &location, Effort::All, &["id"]).await.unwrap().unwrap();
    let after = tables.latest(&location).await.unwrap();
    assert_eq!(ids_of(after.positioned(None).unwrap()).await, [1, 3, 5, 9]);
}

/// The policy as the server follows it, over many single rows.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_single_rows_settle_at_few_files() {
    let (tables, location) = made().await;
    let mut most = 0;
    for id in 0..200 {
        add(&tables, &location, id).await;
        while compact(&tables, &location, Effort::Due, &["id"]).await.unwrap().is_some() {}
        most = most.max(files(&tables, &location).await);
    }
    assert!(most <= 20, "{most} files");
    let all: Vec<i64> = (0..200).collect();
    assert_eq!(ids(&tables.latest(&location).await.unwrap()).await, all);
}

/// A table that is always being written is compacted all the same, and no append is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_lands_behind_appends_and_appends_behind_it() {
    let (tables, location) = made().await;
    let other = Tables::new(tables.environment().clone());
    for id in 0..4 {
        add(&tables, &location, id).await;
    }
    let stale = tables.latest(&location).await.unwrap();
    let rewrite = rewrite(&tables, &stale).await;
    let append = Commit::append(&stale, staged(&other, &location, 5).await, author());
    add(&other, &location, 4).await;
    assert_eq!(tables.commit(&stale, rewrite).await.unwrap(), 6);
    assert_eq!(other.commit(&stale, append).await.unwrap(), 7);
    assert_eq!(files(&other, &location).await, 3);
    assert_eq!(ids(&other.latest(&location).await.unwrap()).await, [0, 1, 2, 3, 4, 5]);
}

/// Two servers write and compact one table at once; every acknowledged row is there once.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_append_and_compact_at_once() {
    let (tables, location) = made().await;
    let environment = tables.environment().clone();
    let server = |first: i64| {
        let (tables, location) = (Tables::new(environment.clone()), location.clone());
        async move {
            for id in first..first + 60 {
                add(&tables, &location, id).await;
                if id % 8 == 0 {
                    compact(&tables, &location, Effort::All, &["id"]).await.unwrap();
                }
            }
        }
    };
    let servers = [tokio::spawn(server(0)), tokio::spawn(server(60))];
    for server in servers {
        server.await.unwrap();
    }
    let all: Vec<i64> = (0..120).collect();
    assert_eq!(ids(&tables.latest(&location).await.unwrap()).await, all);
    let changes = tables.changes(&location, 1, tables.latest(&location).await.unwrap().version());
    assert_eq!(ids_of(changes.await.unwrap()).await.len(), 120);
}

/// A writer that holds the table is not waited for, and one that waits is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_is_stopped_leaves_nothing() {
    let (tables, location) = made().await;
    for id in 0..4 {
        add(&tables, &location, id).await;
    }
    let objects = tables.environment().store().list(None).count().await;
    let compaction = Compaction {
        location: &location,
        effort: Effort::All,
        sort_by: &[],
        keys: &[],
        runtime: Arc::default(),
        author: author(),
        progress: &Progress::default(),
    };
    let stopped = tables.compact(&compaction, std::future::ready(())).await.unwrap();
    assert_eq!(stopped, None);
    assert_eq!(tables.environment().store().list(None).count().await, objects);
}
