//! Rights, policies and masks that change while a statement runs: it ends, or is not concerned.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::StreamExt;
use kho_sql::outcome::{Outcome, Rows};
use kho_sql::session::Session;
use kho_tests::inside::run;
use tokio_util::sync::CancellationToken;

use super::{City, ROWS, play, refusal};

async fn begin(session: &mut Session, statement: &str) -> Rows {
    let statements = session.parse(statement).unwrap();
    let run = session.run(&statements[0], &[], &CancellationToken::new()).await;
    let Ok(Outcome::Rows(mut rows)) = run else { panic!("{statement}: gives no rows") };
    assert!(rows.next().await.unwrap().unwrap().num_rows() < ROWS / 10);
    rows
}

/// The SQLSTATE that ends `rows`, of which none may come; `None` where they come to their end.
async fn end(mut rows: Rows) -> Option<String> {
    let mut came = 0;
    while let Some(batch) = rows.next().await {
        match batch {
            Ok(batch) => came += batch.num_rows(),
            Err(error) => {
                assert_eq!(came, 0, "{error:?}");
                return Some(error.sqlstate().to_owned());
            }
        }
    }
    None
}

/// How `statement` of `an` ends when its owner does `meanwhile` after its first rows.
async fn ends_with(before: &[&str], statement: &str, meanwhile: &str) -> Option<String> {
    let mut city = City::build().await;
    for statement in before {
        run(&mut city.officer, statement).await.unwrap();
    }
    let mut an = city.an().await;
    let rows = begin(&mut an, statement).await;
    run(&mut city.officer, meanwhile).await.unwrap();
    end(rows).await
}

const READ: &str = "SELECT id, name FROM o.t";

#[test]
fn a_right_that_is_taken_ends_what_runs() {
    play(|| async {
        let ended = ends_with(&[], READ, "REVOKE SELECT ON o.t FROM an").await;
        assert_eq!(ended.as_deref(), Some("42P01"), "with its last right the table is gone");
        let of_columns = ["REVOKE SELECT ON o.t FROM an", "GRANT SELECT (id, name) ON o.t TO an"];
        let revoke = "REVOKE SELECT (name) ON o.t FROM an";
        let ended = ends_with(&of_columns, READ, revoke).await;
        assert_eq!(ended.as_deref(), Some("42501"));
        let ended = ends_with(&of_columns, "SELECT id FROM o.t", revoke).await;
        assert_eq!(ended, None, "of the column that is read nothing was taken");
        let ended = ends_with(&[], READ, "REVOKE USAGE ON SCHEMA o FROM an").await;
        assert_eq!(ended.as_deref(), Some("42P01"));
    });
}

#[test]
fn a_right_of_a_views_owner_counts_for_who_reads_through_it() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        for statement in ["CREATE ROLE maker LOGIN", "CREATE SCHEMA m AUTHORIZATION maker"] {
            run(&mut admin, statement).await.unwrap();
        }
        for statement in [
            "GRANT USAGE ON SCHEMA o TO maker",
            "GRANT SELECT ON o.t TO maker",
            "ALTER TABLE o.t SET (requires_agreement = false)",
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let settings = [("kho.purpose", "d")];
        let mut maker = city.server.connect_as("maker", &settings).await.unwrap();
        for statement in [
            "CREATE VIEW m.v AS SELECT id FROM o.t",
            "GRANT USAGE ON SCHEMA m TO an",
            "GRANT SELECT ON m.v TO an",
        ] {
            run(&mut maker, statement).await.unwrap();
        }
        let mut an = city.an().await;
        let rows = begin(&mut an, "SELECT id FROM m.v").await;
        run(&mut city.officer, "REVOKE SELECT ON o.t FROM maker").await.unwrap();
        assert!(end(rows).await.is_some());
    });
}

#[test]
fn a_membership_that_is_taken_ends_what_runs_by_it() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        run(&mut admin, "CREATE ROLE office").await.unwrap();
        run(&mut admin, "GRANT office TO an").await.unwrap();
        for statement in ["GRANT SELECT ON o.t TO office", "REVOKE SELECT ON o.t FROM an"] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let mut an = city.an().await;
        let rows = begin(&mut an, READ).await;
        run(&mut admin, "REVOKE office FROM an").await.unwrap();
        assert_eq!(end(rows).await.as_deref(), Some("42P01"));
    });
}

#[test]
fn a_block_goes_by_the_policies_of_what_its_role_is_now() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        run(&mut admin, "CREATE ROLE office").await.unwrap();
        run(&mut admin, "GRANT office TO an").await.unwrap();
        for statement in [
            "CREATE POLICY p ON o.t TO office USING (id < 10)",
            "CALL kho.set_mask('o.t', 'name', using => $$'x'$$, except_roles => 'office')",
            "ALTER TABLE o.t ENABLE ROW LEVEL SECURITY",
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let mut an = city.an().await;
        run(&mut an, "BEGIN").await.unwrap();
        let count = "SELECT count(*) FROM o.t WHERE name = 'secret'";
        let found = run(&mut an, count).await.unwrap();
        assert_eq!(found.rows[0][0].as_deref(), Some("9"));
        run(&mut admin, "REVOKE office FROM an").await.unwrap();
        let found = run(&mut an, count).await.unwrap();
        assert_eq!(found.rows[0][0].as_deref(), Some("0"));
    });
}

#[test]
fn policies_and_masks_that_change_end_what_was_planned_by_others() {
    play(|| async {
        let policied =
            ["CREATE POLICY p ON o.t USING (true)", "ALTER TABLE o.t ENABLE ROW LEVEL SECURITY"];
        let mask = "CALL kho.set_mask('o.t', 'name', using => $$'x'$$)";
        for (before, meanwhile) in [
            (&[][..], "ALTER TABLE o.t ENABLE ROW LEVEL SECURITY"),
            (&policied[..], "ALTER POLICY p ON o.t USING (id < 10)"),
            (&policied[..], "CREATE POLICY q ON o.t AS RESTRICTIVE USING (id < 10)"),
            (&policied[..], "DROP POLICY p ON o.t"),
            (&[][..], mask),
            (&[mask][..], "CALL kho.drop_mask('o.t', 'name')"),
        ] {
            let ended = ends_with(before, READ, meanwhile).await;
            assert_eq!(ended.as_deref(), Some("40001"), "{meanwhile}");
        }
    });
}

#[test]
fn what_concerns_others_ends_nothing() {
    play(|| async {
        let policied =
            ["CREATE POLICY p ON o.t USING (true)", "ALTER TABLE o.t ENABLE ROW LEVEL SECURITY"];
        for meanwhile in [
            "CREATE POLICY q ON o.t TO officer USING (id < 10)",
            "ALTER POLICY p ON o.t RENAME TO r",
            "CALL kho.set_mask('o.t', 'name', using => $$'x'$$, except_roles => 'an')",
            "GRANT SELECT ON o.t TO PUBLIC",
            "COMMENT ON TABLE o.t IS 'rows'",
            "ALTER TABLE o.t RENAME TO u",
        ] {
            assert_eq!(ends_with(&policied, READ, meanwhile).await, None, "{meanwhile}");
        }
    });
}

#[test]
fn an_attribute_that_changes_ends_what_is_policied() {
    play(|| async {
        let mut city = City::build().await;
        let mut admin = city.server.connect().await.unwrap();
        let attribute = |value| format!("CALL kho.set_role_attribute('an', 'name', '{value}')");
        run(&mut admin, &attribute("secret")).await.unwrap();
        for statement in [
            "CREATE POLICY p ON o.t USING (name = kho.role_attribute('name'))",
            "ALTER TABLE o.t ENABLE ROW LEVEL SECURITY",
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let mut an = city.an().await;
        let rows = begin(&mut an, READ).await;
        run(&mut admin, &attribute("other")).await.unwrap();
        assert_eq!(end(rows).await.as_deref(), Some("40001"));
    });
}

#[test]
fn a_cursor_goes_by_the_policies_of_now() {
    play(|| async {
        let mut city = City::build().await;
        let mut an = city.an().await;
        run(&mut an, "BEGIN").await.unwrap();
        run(&mut an, "DECLARE c CURSOR FOR SELECT id FROM o.t").await.unwrap();
        assert_eq!(run(&mut an, "FETCH 5 FROM c").await.unwrap().rows.len(), 5);
        run(&mut city.officer, "ALTER TABLE o.t ENABLE ROW LEVEL SECURITY").await.unwrap();
        assert_eq!(refusal(&mut an, "FETCH 5 FROM c").await, "40001");
        run(&mut an, "ROLLBACK").await.unwrap();
        let found = run(&mut an, "SELECT count(*) FROM o.t").await.unwrap();
        assert_eq!(found.rows[0][0].as_deref(), Some("0"));
    });
}

#[test]
fn what_is_written_is_committed_by_the_rights_of_then() {
    play(|| async {
        for (meanwhile, ended) in [
            ("REVOKE INSERT ON o.t FROM an", "42501"),
            ("ALTER TABLE o.t ENABLE ROW LEVEL SECURITY", "40001"),
        ] {
            let mut city = City::build().await;
            run(&mut city.officer, "GRANT INSERT ON o.t TO an").await.unwrap();
            let mut an = city.an().await;
            let copy = an.parse("COPY o.t FROM STDIN").unwrap();
            let begun = an.run(&copy[0], &[], &CancellationToken::new()).await.unwrap();
            let Outcome::CopyIn(mut copy) = begun else { panic!("no COPY") };
            let values: Vec<ArrayRef> =
                vec![Arc::new(Int64Array::from(vec![0])), Arc::new(StringArray::from(vec!["new"]))];
            let rows = RecordBatch::try_new(copy.schema().clone(), values).unwrap();
            copy.write(rows).await.unwrap();
            run(&mut city.officer, meanwhile).await.unwrap();
            let error = an.finish_copy(&mut copy).await.unwrap_err();
            assert_eq!(error.sqlstate(), ended, "{meanwhile}: {error:?}");
            let mut officer = city.server.connect_as("officer", &[]).await.unwrap();
            run(&mut officer, "ALTER TABLE o.t SET (requires_agreement = false)").await.unwrap();
            run(&mut officer, "SET kho.purpose = 'd'").await.unwrap();
            let found = run(&mut officer, "SELECT count(*) FROM o.t WHERE id = 0").await.unwrap();
            assert_eq!(found.rows[0][0].as_deref(), Some("0"));
        }
    });
}
