//! What is frozen while something runs.

use futures::StreamExt;
use kho_sql::outcome::Outcome;
use kho_tests::inside::run;
use tokio_util::sync::CancellationToken;

use super::{City, play, refusal};

#[test]
fn a_dataset_that_is_frozen_gives_no_more_rows() {
    play(|| async {
        let city = City::build().await;
        let (mut an, mut admin) = (city.an().await, city.server.connect().await.unwrap());
        let statements = an.parse("SELECT id FROM o.t").unwrap();
        let stop = CancellationToken::new();
        let Outcome::Rows(mut rows) = an.run(&statements[0], &[], &stop).await.unwrap() else {
            panic!("a SELECT gives rows")
        };
        rows.next().await.unwrap().unwrap();
        run(&mut admin, "CALL kho.freeze(dataset => 'o.t', reason => 'leak')").await.unwrap();
        let refused = rows.next().await.unwrap().unwrap_err();
        assert_eq!(refused.sqlstate(), "55000");
    });
}

#[test]
fn what_was_written_before_the_freeze_is_not_committed_after_it() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        run(&mut city.officer, "BEGIN").await.unwrap();
        run(&mut city.officer, "INSERT INTO o.t VALUES (0, 'late')").await.unwrap();
        run(&mut admin, "CALL kho.freeze(dataset => 'o.t', reason => 'leak')").await.unwrap();
        assert_eq!(refusal(&mut city.officer, "COMMIT").await, "55000");
        run(&mut admin, "CALL kho.unfreeze(dataset => 'o.t')").await.unwrap();
        let mut an = city.an().await;
        let found = run(&mut an, "SELECT count(*) FROM o.t WHERE id = 0").await.unwrap();
        assert_eq!(found.rows[0][0].as_deref(), Some("0"));
    });
}

#[test]
fn what_a_block_would_change_of_a_frozen_dataset_is_not_committed() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        run(&mut city.officer, "BEGIN").await.unwrap();
        run(&mut city.officer, "ALTER TABLE o.t SET (requires_agreement = false)").await.unwrap();
        run(&mut admin, "CALL kho.freeze(dataset => 'o.t', reason => 'leak')").await.unwrap();
        assert_eq!(refusal(&mut city.officer, "COMMIT").await, "55000");
    });
}

#[test]
fn a_frozen_role_commits_nothing_and_begins_nothing() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        run(&mut city.officer, "BEGIN").await.unwrap();
        run(&mut city.officer, "INSERT INTO o.t VALUES (0, 'late')").await.unwrap();
        run(&mut admin, "CALL kho.freeze(role => 'officer', reason => 'stolen')").await.unwrap();
        assert_eq!(refusal(&mut city.officer, "COMMIT").await, "28000");
        assert_eq!(refusal(&mut city.officer, "SHOW kho.purpose").await, "25P02");
        let refused = city.server.connect_as("officer", &[]).await.err().unwrap();
        assert_eq!(refused.sqlstate(), "28000");
        run(&mut admin, "CALL kho.unfreeze(role => 'officer')").await.unwrap();
        let mut an = city.an().await;
        let found = run(&mut an, "SELECT count(*) FROM o.t WHERE id = 0").await.unwrap();
        assert_eq!(found.rows[0][0].as_deref(), Some("0"));
    });
}

#[test]
fn maintenance_leaves_what_is_frozen_as_it_was_found() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        for id in 0..3 {
            let insert = format!("INSERT INTO o.t VALUES ({id}, 'small')");
            run(&mut city.officer, &insert).await.unwrap();
        }
        run(&mut admin, "CALL kho.freeze(dataset => 'o.t', reason => 'leak')").await.unwrap();
        assert_eq!(refusal(&mut city.officer, "CALL kho.compact_table('o.t')").await, "55000");
    });
}
