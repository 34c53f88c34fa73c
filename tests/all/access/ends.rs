//! The end of an agreement: by the clock, and by its owner's word.

use std::sync::Arc;

use futures::StreamExt;
use kho_catalog::environment::Clock;
use kho_sql::outcome::{Outcome, Rows};
use kho_sql::session::Session;
use kho_tests::faults::{Access, Area, FaultyStore};
use kho_tests::inside::{Warehouse, run};
use tokio_util::sync::CancellationToken;

use super::{City, HOUR, ROWS, play, refusal};

async fn rows(session: &mut Session, statement: &str) -> Rows {
    let statements = session.parse(statement).unwrap();
    match session.run(&statements[0], &[], &CancellationToken::new()).await.unwrap() {
        Outcome::Rows(rows) | Outcome::CopyOut(rows, _) => rows,
        _ => panic!("{statement}: gives no rows"),
    }
}

/// Reads `rows` to their end, which must be a refusal; gives its SQLSTATE and how many came before.
async fn cut_off(mut rows: Rows) -> (String, usize) {
    let mut came = 0;
    while let Some(batch) = rows.next().await {
        match batch {
            Ok(batch) => came += batch.num_rows(),
            Err(error) => return (error.sqlstate().to_owned(), came),
        }
    }
    panic!("{came} rows came, and no refusal")
}

#[test]
fn at_its_last_moment_an_agreement_holds_and_then_no_more() {
    play(|| async {
        let city = City::build().await;
        let mut an = city.an().await;
        city.clock.advance(HOUR - std::time::Duration::from_secs(2));
        assert_eq!(run(&mut an, "SELECT count(*) FROM o.t").await.unwrap().rows.len(), 1);
        city.clock.advance(std::time::Duration::from_secs(2));
        assert_eq!(refusal(&mut an, "SELECT count(*) FROM o.t").await, "KH012");
    });
}

#[test]
fn a_running_statement_gives_no_batch_after_the_end() {
    play(|| async {
        let city = City::build().await;
        for statement in ["SELECT id, name FROM o.t", "COPY o.t TO STDOUT"] {
            let city = if statement.starts_with("COPY") { &City::build().await } else { &city };
            let mut an = city.an().await;
            let mut rows = rows(&mut an, statement).await;
            let first = rows.next().await.unwrap().unwrap().num_rows();
            assert!(first > 0 && first < ROWS / 10, "{first}");
            city.clock.advance(HOUR);
            assert_eq!(cut_off(rows).await, ("KH012".to_owned(), 0), "{statement}");
        }
    });
}

#[test]
fn a_cursor_gives_no_row_after_the_end() {
    play(|| async {
        let city = City::build().await;
        let mut an = city.an().await;
        run(&mut an, "BEGIN").await.unwrap();
        run(&mut an, "DECLARE c CURSOR FOR SELECT id FROM o.t").await.unwrap();
        run(&mut an, "DECLARE d CURSOR WITH HOLD FOR SELECT id FROM o.t").await.unwrap();
        assert_eq!(run(&mut an, "FETCH 5 FROM c").await.unwrap().rows.len(), 5);
        assert_eq!(run(&mut an, "FETCH 5 FROM d").await.unwrap().rows.len(), 5);
        run(&mut an, "SAVEPOINT s").await.unwrap();
        city.clock.advance(HOUR);
        // The rest of a batch that was read before the end is not given either.
        assert_eq!(refusal(&mut an, "FETCH 5 FROM c").await, "KH012");
        run(&mut an, "ROLLBACK TO s").await.unwrap();
        assert_eq!(refusal(&mut an, "MOVE 5 IN c").await, "KH012");
        run(&mut an, "ROLLBACK TO s").await.unwrap();
        run(&mut an, "COMMIT").await.unwrap();
        assert_eq!(refusal(&mut an, "FETCH 5 FROM d").await, "KH012");
    });
}

#[test]
fn what_was_prepared_before_the_end_is_refused_after_it() {
    play(|| async {
        let city = City::build().await;
        let mut an = city.an().await;
        run(&mut an, "PREPARE p AS SELECT count(*) FROM o.t").await.unwrap();
        run(&mut an, "EXECUTE p").await.unwrap();
        city.clock.advance(HOUR);
        assert_eq!(refusal(&mut an, "EXECUTE p").await, "KH012");
    });
}

#[test]
fn a_transaction_that_began_before_the_end_is_bound_by_it() {
    play(|| async {
        let mut city = City::build().await;
        let mut an = city.an().await;
        run(&mut an, "BEGIN").await.unwrap();
        run(&mut an, "SELECT count(*) FROM o.t").await.unwrap();
        // The block sees the catalog of its beginning, and is bound by that of now.
        city.end_agreement().await;
        assert_eq!(refusal(&mut an, "SELECT count(*) FROM o.t").await, "KH004");
    });
}

#[test]
fn an_agreement_that_is_ended_ends_what_runs() {
    play(|| async {
        let mut city = City::build().await;
        let mut an = city.an().await;
        let mut rows = rows(&mut an, "SELECT id, name FROM o.t").await;
        rows.next().await.unwrap().unwrap();
        city.end_agreement().await;
        assert_eq!(cut_off(rows).await, ("KH004".to_owned(), 0));
    });
}

#[test]
fn a_membership_that_is_taken_away_takes_the_agreement_with_it() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        for statement in ["CREATE ROLE office", "CREATE ROLE binh LOGIN IN ROLE office"] {
            run(&mut admin, statement).await.unwrap();
        }
        for statement in [
            "GRANT USAGE ON SCHEMA o TO binh",
            "GRANT SELECT ON o.t TO binh",
            "CALL kho.grant_agreement('o.t', 'office', 'd', '2999-01-01', 'CV 2')",
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let settings = [("kho.purpose", "d")];
        let mut binh = city.server.connect_as("binh", &settings).await.unwrap();
        let mut rows = rows(&mut binh, "SELECT id, name FROM o.t").await;
        rows.next().await.unwrap().unwrap();
        run(&mut admin, "REVOKE office FROM binh").await.unwrap();
        assert_eq!(cut_off(rows).await, ("KH004".to_owned(), 0));
    });
}

#[test]
fn what_one_server_ends_ends_on_another_when_that_has_read_it() {
    play(|| async {
        let mut city = City::build().await;
        let second = city.warehouse.serve_by("second", city.clock.clone()).await.unwrap();
        let mut an = second.connect_as("an", &[("kho.purpose", "d")]).await.unwrap();
        let mut rows = rows(&mut an, "SELECT id, name FROM o.t").await;
        rows.next().await.unwrap().unwrap();
        city.end_agreement().await;
        second.follow().await.unwrap();
        assert_eq!(cut_off(rows).await, ("KH004".to_owned(), 0));
    });
}

#[test]
fn rows_that_a_write_gives_back_end_too() {
    play(|| async {
        let mut city = City::build().await;
        run(&mut city.officer, "GRANT INSERT ON o.t TO an").await.unwrap();
        let mut an = city.an().await;
        let insert = "INSERT INTO o.t SELECT x, 'new' FROM generate_series(1, 100) AS g (x) \
                      RETURNING id";
        let rows = rows(&mut an, insert).await;
        city.clock.advance(HOUR);
        assert_eq!(cut_off(rows).await, ("KH012".to_owned(), 0));
    });
}

#[test]
fn a_third_party_is_shut_out_at_the_end() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        run(&mut admin, "CREATE ROLE ben LOGIN").await.unwrap();
        run(&mut admin, "CALL kho.set_third_party('ben', 'Ben & Co')").await.unwrap();
        let until = (city.now_ms() + 60_000) / 1000;
        let until = chrono::DateTime::from_timestamp(until, 0).unwrap().to_rfc3339();
        for statement in [
            "GRANT USAGE ON SCHEMA o TO ben",
            "GRANT SELECT ON o.t TO ben",
            &format!("CALL kho.grant_agreement('o.t', 'an', 'd', '{until}', 'CV 3', 'ben')"),
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let settings = [("kho.purpose", "d")];
        let mut ben = city.server.connect_as("ben", &settings).await.unwrap();
        assert!(run(&mut ben, "SELECT count(*) FROM o.t").await.is_ok());
        city.clock.advance(std::time::Duration::from_secs(60));
        assert_eq!(refusal(&mut ben, "SELECT count(*) FROM o.t").await, "KH003");
        let refused = city.server.connect_as("ben", &settings).await.err().unwrap();
        assert_eq!(refused.sqlstate(), "KH003");
        let mut an = city.an().await;
        assert!(run(&mut an, "SELECT count(*) FROM o.t").await.is_ok(), "of that it has nothing");
    });
}

/// A clock that an hour passes on once a store has seen a file of rows being written.
#[derive(Debug)]
struct AfterWriting {
    store: Arc<FaultyStore>,
    now_ms: i64,
    before: u32,
}

impl Clock for AfterWriting {
    fn now_ms(&self) -> i64 {
        let wrote = self.store.seen(Area::Data, Access::Write) > self.before;
        self.now_ms + if wrote { i64::try_from(HOUR.as_millis()).unwrap() } else { 0 }
    }

    fn monotonic_ms(&self) -> i64 {
        self.now_ms()
    }
}

#[test]
fn what_was_read_until_the_end_is_not_committed_after_it() {
    play(|| async {
        let mut city = City::build().await;
        run(&mut city.officer, "CREATE TABLE o.copy (id bigint)").await.unwrap();
        run(&mut city.officer, "GRANT SELECT, INSERT ON o.copy TO an").await.unwrap();
        run(&mut city.officer, "GRANT CREATE ON SCHEMA o TO an").await.unwrap();
        let store = Arc::new(FaultyStore::new(&city.warehouse.store, None, Vec::new()));
        let mut warehouse = Warehouse::in_memory();
        warehouse.store = Arc::clone(&store) as _;
        let now_ms = city.now_ms();
        let rows = "INSERT INTO o.copy SELECT id FROM o.t";
        let (first, second) =
            ("CREATE TABLE o.a AS SELECT id FROM o.t", "CREATE TABLE o.b AS SELECT id FROM o.t");
        for (statement, copy, before, expected, there) in [
            (rows, "o.copy", u32::MAX, None, "true"),
            (rows, "o.copy", 0, Some("KH012"), "true"),
            (first, "o.a", u32::MAX, None, "true"),
            (second, "o.b", 0, Some("KH012"), "false"),
        ] {
            let before = before.max(store.seen(Area::Data, Access::Write));
            let clock = AfterWriting { store: Arc::clone(&store), now_ms, before };
            let server = warehouse.serve_by("second", Arc::new(clock)).await.unwrap();
            let mut an = server.connect_as("an", &[("kho.purpose", "d")]).await.unwrap();
            let written = run(&mut an, statement).await;
            assert_eq!(written.err().map(|it| it.sqlstate()), expected, "{statement}");
            let is_there = format!("SELECT to_regclass('{copy}') IS NOT NULL");
            // Asked of the server that wrote: another one may learn of a table a moment later.
            let found = run(&mut an, &is_there).await.unwrap();
            assert_eq!(found.rows[0][0].as_deref(), Some(there), "{statement}");
        }
        let found = run(&mut city.officer, "SELECT count(*) FROM o.copy").await.unwrap();
        assert_eq!(found.rows[0][0], Some(ROWS.to_string()), "what came too late is not there");
    });
}
