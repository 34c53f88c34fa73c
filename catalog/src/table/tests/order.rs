//! Commits that read other tables take their places one after the other.

use futures::TryStreamExt;

use super::*;
use crate::environment::ManualClock;

/// Two servers' views of one store, with tables `a` and `b`.
async fn two_servers() -> (Tables, Tables, Location, Location) {
    let environment = Environment::open("memory://").unwrap();
    let (here, there) = (Tables::new(environment.clone()), Tables::new(environment));
    let location = |name: &str| Location { dataset: name.to_owned(), generation: 0 };
    for name in ["a", "b"] {
        here.create(&location(name), &columns(), None, &author()).await.unwrap();
    }
    (here, there, location("a"), location("b"))
}

async fn append(tables: &Tables, location: &Location, id: i64) -> Commit {
    let snapshot = tables.latest(location).await.unwrap();
    Commit::append(&snapshot, staged(tables, location, id).await, author())
}

async fn commit(tables: &Tables, location: &Location, commit: Commit) -> Result<u64> {
    tables.commit(&tables.latest(location).await?, commit).await
}

/// Reads `read` and writes `written`, both as they are now.
async fn depending(tables: &Tables, read: &Location, written: &Location) -> Dependence {
    let version = |of: Snapshot| (of.location().clone(), of.version());
    Dependence {
        since: tables.order_seen(),
        reads: vec![version(tables.latest(read).await.unwrap())],
        written: Some(version(tables.latest(written).await.unwrap())),
        all: false,
    }
}

#[tokio::test]
async fn of_two_that_read_what_the_other_writes_one_is_refused() {
    let (here, there, a, b) = two_servers().await;
    let (one, other) = (depending(&here, &a, &b).await, depending(&there, &b, &a).await);
    let (to_b, to_a) = (append(&here, &b, 1).await, append(&there, &a, 1).await);
    let turn = here.take_turn(&one, &author()).await.unwrap();
    commit(&here, &b, to_b).await.unwrap();
    turn.give_up().await;
    let refused = there.take_turn(&other, &author()).await.err().unwrap();
    assert_eq!(refused.sqlstate(), "40001");
    // Told so, it reads again and gets through.
    let again = depending(&there, &b, &a).await;
    let turn = there.take_turn(&again, &author()).await.unwrap();
    commit(&there, &a, to_a).await.unwrap();
    turn.give_up().await;
}

#[tokio::test]
async fn a_change_of_what_was_read_alone_stops_nobody_but_the_strict() {
    let (here, there, a, b) = two_servers().await;
    let long = depending(&here, &a, &b).await;
    let strict = Dependence { all: true, ..long.clone() };
    let (change, blind) = (append(&there, &a, 1).await, append(&there, &b, 1).await);
    commit(&there, &a, change).await.unwrap();
    commit(&there, &b, blind).await.unwrap();
    here.take_turn(&long, &author()).await.unwrap().give_up().await;
    assert_eq!(here.take_turn(&strict, &author()).await.err().unwrap().sqlstate(), "40001");
    // One that looked at the written table's rows may have looked for ours.
    let mut looked = append(&there, &b, 2).await;
    looked.basis = Basis::Exact;
    commit(&there, &b, looked).await.unwrap();
    assert_eq!(here.take_turn(&long, &author()).await.err().unwrap().sqlstate(), "40001");
}

#[tokio::test]
async fn a_reader_of_the_written_table_that_came_between_is_found() {
    let (here, there, a, b) = two_servers().await;
    let long = depending(&here, &a, &b).await;
    let change = append(&there, &a, 1).await;
    commit(&there, &a, change).await.unwrap();
    // What it writes is a third matter; here it is the table that the other reads.
    let reader = depending(&there, &b, &a).await;
    there.take_turn(&reader, &author()).await.unwrap().give_up().await;
    assert_eq!(here.take_turn(&long, &author()).await.err().unwrap().sqlstate(), "40001");
}

#[tokio::test]
async fn a_holder_that_does_not_come_back_is_shut_out() {
    let (here, there, a, b) = two_servers().await;
    let late = append(&here, &b, 1).await;
    let dependence = depending(&here, &a, &b).await;
    drop(here.take_turn(&dependence, &author()).await.unwrap());
    let before = there.latest(&b).await.unwrap().version();
    let other = depending(&there, &b, &a).await;
    there.take_turn(&other, &author()).await.unwrap().give_up().await;
    assert_eq!(there.latest(&b).await.unwrap().version(), before + 1);
    let snapshot = here.latest(&b).await.unwrap();
    assert_eq!(here.commit(&snapshot, late).await.unwrap_err().sqlstate(), "40001");
}

#[tokio::test]
async fn a_holder_whose_table_is_gone_keeps_nobody_waiting() {
    let (here, there, a, b) = two_servers().await;
    let dependence = depending(&here, &a, &b).await;
    drop(here.take_turn(&dependence, &author()).await.unwrap());
    let other = depending(&there, &a, &a).await;
    let store = there.environment().store();
    let left: Vec<_> = store.list(Some(&b.path())).try_collect().await.unwrap();
    assert!(!left.is_empty());
    for object in left {
        store.delete(&object.location).await.unwrap();
    }
    there.take_turn(&other, &author()).await.unwrap().give_up().await;
    let fresh = Tables::new(there.environment().clone());
    fresh.take_turn(&other, &author()).await.unwrap().give_up().await;
}

#[tokio::test]
async fn places_that_are_old_are_removed_and_the_count_goes_on() {
    let clock = Arc::new(ManualClock::new(Environment::open("memory://").unwrap().now_ms()));
    let environment = Environment::open("memory://").unwrap().with_clock(clock.clone());
    let tables = Tables::new(environment.clone());
    let location = |name: &str| Location { dataset: name.to_owned(), generation: 0 };
    for name in ["a", "b"] {
        tables.create(&location(name), &columns(), None, &author()).await.unwrap();
    }
    let dependence = depending(&tables, &location("a"), &location("b")).await;
    for _ in 0..3 {
        tables.take_turn(&dependence, &author()).await.unwrap().give_up().await;
    }
    assert_eq!(tables.sweep_order().await.unwrap(), 0);
    clock.advance(std::time::Duration::from_secs(25 * 60 * 60));
    assert_eq!(tables.sweep_order().await.unwrap(), 4);
    for tables in [&tables, &Tables::new(environment.clone())] {
        tables.take_turn(&dependence, &author()).await.unwrap().give_up().await;
    }
    assert_eq!(tables.order_seen(), 4);
    let fresh = Tables::new(environment);
    fresh.take_turn(&dependence, &author()).await.unwrap().give_up().await;
    assert_eq!(fresh.order_seen(), 6);
}

#[tokio::test]
async fn rows_staged_under_the_rules_of_before_do_not_pass_a_new_shape() {
    let (tables, location) = made().await;
    let late = staged(&tables, &location, 1).await;
    let snapshot = tables.latest(&location).await.unwrap();
    let shape = Commit::reshape("CHANGE COLUMN", &snapshot, &columns(), None, author()).unwrap();
    tables.commit(&snapshot, shape).await.unwrap();
    // The shape is the same, so a writer may take the newer version for as good.
    let newest = tables.latest(&location).await.unwrap();
    assert!(newest.has_shape_of(&snapshot));
    let mut commit = Commit::append(&newest, late, author());
    commit.basis = Basis::Exact;
    assert_eq!(tables.commit(&newest, commit).await.unwrap_err().sqlstate(), "40001");
}
