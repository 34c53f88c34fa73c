//! Statements that are prepared once and run while everything around them changes: what each gives is
//! what the same text gives when it is new.

use std::time::Duration;

use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use kho_sql::outcome::Outcome;
use kho_sql::parse::Statement;
use kho_sql::session::Session;
use kho_tests::inside::{Reply, run};
use tokio_util::sync::CancellationToken;

use super::{City, HOUR, play};

/// What is prepared; `$1` is 2.
const TEXTS: &[&str] = &[
    "SELECT id, ward FROM o.p WHERE id = $1",
    "SELECT * FROM o.p WHERE id >= $1 ORDER BY id",
    "SELECT id, day::text FROM p ORDER BY id",
    "SELECT count(*), min(ward) FROM o.p",
    "SELECT q.note FROM o.p AS p JOIN o.q AS q ON p.id = q.id WHERE p.ward = 'west' ORDER BY 1",
    "SELECT ward FROM o.q AS q, o.p AS p WHERE q.id = p.id AND q.id = $1",
    "SELECT id, ward FROM o.v ORDER BY id",
    "SELECT current_user, kho.role_attribute('ward'), (SELECT max(id) FROM o.p)",
];

struct Kept {
    statement: Statement,
    parameters: Vec<ScalarValue>,
}

type Given = Result<(Vec<String>, Vec<Vec<Option<String>>>), (String, String)>;

async fn prepare(session: &mut Session) -> Vec<Kept> {
    let mut kept = Vec::new();
    for text in TEXTS {
        let statement = session.parse(text).unwrap().remove(0);
        let described = session.describe(&statement, &[], &CancellationToken::new()).await;
        let parameters = described.unwrap().parameters.len();
        kept.push(Kept { statement, parameters: vec![ScalarValue::Int64(Some(2)); parameters] });
    }
    kept
}

async fn given(session: &mut Session, statement: &Statement, values: &[ScalarValue]) -> Given {
    let told = |error: kho_catalog::error::Error| {
        (error.sqlstate().to_owned(), error.message().to_owned())
    };
    let outcome = session.run(statement, values, &CancellationToken::new()).await.map_err(told)?;
    let Outcome::Rows(mut rows) = outcome else { panic!("gives no rows") };
    let names = rows.schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut found = Vec::new();
    while let Some(batch) = rows.next().await {
        found.extend(Reply::texts(&batch.map_err(told)?));
    }
    Ok((names, found))
}

/// Each twice, so that what is kept is used, and beside it the same text anew.
async fn compare(session: &mut Session, kept: &[Kept], after: &str) -> Vec<Given> {
    let mut all = Vec::new();
    for (text, Kept { statement, parameters }) in TEXTS.iter().zip(kept) {
        let first = given(session, statement, parameters).await;
        let second = given(session, statement, parameters).await;
        let fresh = session.parse(text).unwrap().remove(0);
        let fresh = given(session, &fresh, parameters).await;
        assert_eq!(first, fresh, "{text}: after {after}");
        assert_eq!(second, fresh, "{text}: again, after {after}");
        all.push(fresh);
    }
    all
}

fn is_kept(statement: &Statement) -> bool {
    format!("{statement:?}").contains("Slot(kept)")
}

async fn city() -> (City, Session) {
    let mut city = City::build().await;
    let mut admin = city.server.connect().await.unwrap();
    run(&mut admin, "CREATE ROLE office").await.unwrap();
    for statement in [
        "CREATE TABLE o.p (id bigint PRIMARY KEY, ward text, day timestamptz)",
        "INSERT INTO o.p VALUES (1, 'east', '2026-01-01'), (2, 'west', '2026-01-02 23:00+00'), \
         (3, 'west', NULL)",
        "CREATE TABLE o.q (id bigint, note text)",
        "INSERT INTO o.q VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "CREATE VIEW o.v AS SELECT id, ward FROM o.p WHERE id > 1",
        "GRANT SELECT ON o.p, o.q, o.v TO an",
        "GRANT USAGE ON SCHEMA o TO office",
    ] {
        run(&mut city.officer, statement).await.unwrap();
    }
    let an = city.server.connect_as("an", &[("kho.purpose", "d"), ("search_path", "o")]);
    let an = an.await.unwrap();
    (city, an)
}

/// What the tables' owner does, one after the other.
const CHANGES: &[&str] = &[
    "UPDATE o.p SET ward = 'north' WHERE id = 2",
    "INSERT INTO o.p VALUES (4, 'west', '2026-03-01')",
    "DELETE FROM o.p WHERE id = 1",
    "REVOKE SELECT ON o.p FROM an",
    "GRANT SELECT (id) ON o.p TO an",
    "GRANT SELECT (id, ward) ON o.p TO an",
    "REVOKE SELECT (id) ON o.p FROM an",
    "GRANT SELECT ON o.p TO office",
    "GRANT SELECT ON o.p TO an",
    "CREATE POLICY west ON o.p FOR SELECT TO an USING (ward = 'west')",
    "ALTER TABLE o.p ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON o.p FOR SELECT TO an USING (ward = kho.role_attribute('ward'))",
    "DROP POLICY west ON o.p",
    "CREATE POLICY seen ON o.p FOR SELECT TO PUBLIC USING (id IN (SELECT id FROM o.q))",
    "DELETE FROM o.q WHERE id = 3",
    "CREATE POLICY few ON o.q FOR SELECT TO an USING (note <> 'two')",
    "ALTER TABLE o.q ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE o.q DISABLE ROW LEVEL SECURITY",
    "CREATE POLICY soon ON o.p AS RESTRICTIVE FOR SELECT TO an USING (now() > '2026-01-01')",
    "ALTER TABLE o.p DISABLE ROW LEVEL SECURITY",
    "CALL kho.add_tag('secret_of_o', 'A test''s.')",
    "CALL kho.tag_column('o.p', 'ward', 'personal')",
    "CALL kho.set_mask(tag => 'personal', using => $$'***'$$, except_roles => 'office')",
    "CALL kho.drop_mask(tag => 'personal')",
    "ALTER TABLE o.p ADD COLUMN extra integer DEFAULT 7",
    "ALTER TABLE o.p RENAME COLUMN day TO on_day",
    "ALTER TABLE o.p RENAME COLUMN on_day TO day",
    "ALTER TABLE o.p DROP COLUMN extra",
    "CALL kho.freeze(dataset => 'o.p', reason => 'a test')",
    "CALL kho.unfreeze(dataset => 'o.p')",
    "DROP VIEW o.v",
    "CREATE VIEW o.v AS SELECT id, 'new' AS ward FROM o.p",
    "GRANT SELECT ON o.v TO an",
    "ALTER TABLE o.p SET (allowed_purposes = 'c')",
    "ALTER TABLE o.p SET (allowed_purposes = 'c,d')",
    "ALTER TABLE o.p SET (requires_agreement = true)",
    "ALTER TABLE o.p SET (requires_agreement = false)",
    "DROP POLICY seen ON o.p",
    "DROP TABLE o.q",
    "CREATE TABLE o.q (id bigint, note text)",
    "INSERT INTO o.q VALUES (2, 'another')",
    "GRANT SELECT ON o.q TO an",
    "REVOKE USAGE ON SCHEMA o FROM an",
    "GRANT USAGE ON SCHEMA o TO an",
];

#[test]
fn what_is_prepared_gives_what_is_new_after_every_change() {
    play(|| async {
        let (mut city, mut an) = city().await;
        let kept = prepare(&mut an).await;
        let mut seen = vec![compare(&mut an, &kept, "nothing").await];
        assert!(kept[..7].iter().all(|it| is_kept(&it.statement)));
        assert!(!is_kept(&kept[7].statement), "it says what the session is");
        let mut admin = city.server.connect().await.unwrap();
        let mut took_effect = 0;
        for change in CHANGES {
            // What is not the owner's to do is the administrator's.
            let done = match run(&mut city.officer, change).await {
                Err(error) if error.sqlstate() == "42501" => run(&mut admin, change).await,
                done => done,
            };
            match done {
                Ok(_) => took_effect += 1,
                Err(error) => println!("{change}: {error:?}"),
            }
            let after = compare(&mut an, &kept, change).await;
            seen.push(after);
        }
        assert!(took_effect > CHANGES.len() - 2, "{took_effect} of {}", CHANGES.len());
        seen.dedup();
        assert!(seen.len() > CHANGES.len() / 2, "{} results differ", seen.len());
    });
}

#[test]
fn what_is_prepared_goes_by_the_session_of_now() {
    play(|| async {
        let (mut city, mut an) = city().await;
        run(&mut city.officer, "ALTER TABLE o.p SET (allowed_purposes = 'd')").await.unwrap();
        run(&mut city.officer, "CREATE TABLE o.r (id bigint)").await.unwrap();
        let mut admin = city.server.connect().await.unwrap();
        run(&mut admin, "CREATE SCHEMA other AUTHORIZATION officer").await.unwrap();
        for statement in [
            "CREATE TABLE other.p (id bigint, day text)",
            "GRANT USAGE ON SCHEMA other TO an",
            "GRANT SELECT ON other.p TO an",
            "INSERT INTO other.p VALUES (77, 'elsewhere')",
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let kept = prepare(&mut an).await;
        compare(&mut an, &kept, "nothing").await;
        for statement in [
            "SET kho.purpose = 'c'",
            "SET kho.purpose = 'd'",
            "SET TimeZone = 'Asia/Ho_Chi_Minh'",
            "SET search_path = other",
            "SET search_path = other, o",
            "SET search_path = o",
            "SET kho.expand_star = 'readable'",
            "BEGIN",
            "SET LOCAL TimeZone = 'Europe/Paris'",
            "COMMIT",
            "DISCARD ALL",
        ] {
            run(&mut an, statement).await.unwrap();
            compare(&mut an, &kept, statement).await;
        }
    });
}

#[test]
fn a_block_reads_its_own_rows_and_those_of_its_beginning() {
    play(|| async {
        let (mut city, mut an) = city().await;
        run(&mut city.officer, "GRANT INSERT, UPDATE, DELETE ON o.p TO an").await.unwrap();
        let kept = prepare(&mut an).await;
        let before = compare(&mut an, &kept, "nothing").await;
        run(&mut an, "BEGIN").await.unwrap();
        assert_eq!(compare(&mut an, &kept, "BEGIN").await, before);
        run(&mut city.officer, "INSERT INTO o.p VALUES (9, 'west', NULL)").await.unwrap();
        assert_eq!(compare(&mut an, &kept, "another's insert").await, before);
        run(&mut an, "INSERT INTO o.p VALUES (10, 'west', NULL)").await.unwrap();
        let own = compare(&mut an, &kept, "an own insert").await;
        assert_ne!(own, before);
        run(&mut city.officer, "REVOKE SELECT ON o.q FROM an").await.unwrap();
        let after = given(&mut an, &kept[4].statement, &kept[4].parameters).await;
        assert_eq!(after.unwrap_err().0, "42P01", "the catalog of now binds it, too");
        run(&mut an, "ROLLBACK").await.unwrap();
        compare(&mut an, &kept, "ROLLBACK").await;
    });
}

#[test]
fn an_agreement_that_ends_by_the_clock_ends_what_is_prepared() {
    play(|| async {
        let (city, mut an) = city().await;
        let text = "SELECT name FROM o.t WHERE id = $1";
        let statement = an.parse(text).unwrap().remove(0);
        an.describe(&statement, &[], &CancellationToken::new()).await.unwrap();
        let two = [ScalarValue::Int64(Some(2))];
        for _ in 0..2 {
            assert_eq!(given(&mut an, &statement, &two).await.unwrap().1.len(), 1);
        }
        assert!(is_kept(&statement));
        city.clock.advance(HOUR + Duration::from_secs(1));
        let refused = given(&mut an, &statement, &two).await.unwrap_err();
        assert_eq!(refused.0, super::refusal(&mut an, "SELECT name FROM o.t").await);
    });
}

/// One prepared statement in the hands of two sessions serves each its own.
#[test]
fn a_plan_serves_the_session_that_made_it() {
    play(|| async {
        let (mut city, mut an) = city().await;
        for statement in [
            "CREATE POLICY west ON o.p FOR SELECT TO an USING (ward = 'west')",
            "ALTER TABLE o.p ENABLE ROW LEVEL SECURITY",
        ] {
            run(&mut city.officer, statement).await.unwrap();
        }
        let statement = an.parse("SELECT id FROM o.p ORDER BY id").unwrap().remove(0);
        an.describe(&statement, &[], &CancellationToken::new()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(given(&mut an, &statement, &[]).await.unwrap().1.len(), 2);
            assert!(is_kept(&statement));
            assert_eq!(given(&mut city.officer, &statement, &[]).await.unwrap().1.len(), 3);
        }
        let mut stranger = city.server.connect().await.unwrap();
        assert_eq!(given(&mut stranger, &statement, &[]).await.unwrap_err().0, "42P01");
    });
}
