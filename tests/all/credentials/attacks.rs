//! What one would try who has a token, or had one.

use kho_tests::wire::Wire;

use super::{BY_TOKEN, by_token, city, refused_token, token};

#[test]
fn a_token_does_not_outlive_its_role_and_follows_its_name() {
    let kho = city();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE temp LOGIN PASSWORD 'temp'");
    let text = token(&kho, "temp", "etl", "scope => 'read'");
    admin.run("ALTER ROLE temp RENAME TO other");
    assert_eq!(refused_token(&kho, "temp", &text).0, "28P01");
    assert!(by_token(&kho, "other", &text).is_ok());
    // Another role under the old name is another role.
    admin.run("CREATE ROLE temp LOGIN PASSWORD 'temp'");
    assert_eq!(refused_token(&kho, "temp", &text).0, "28P01");
    let mut session = by_token(&kho, "other", &text).unwrap();
    admin.run("DROP ROLE other");
    admin.run("CREATE ROLE other LOGIN PASSWORD 'other'");
    assert_eq!(refused_token(&kho, "other", &text).0, "28P01");
    assert!(session.simple("SELECT 1").is_err());
    assert_eq!(admin.value("SELECT count(*) FROM kho.api_tokens"), "0");
}

#[test]
fn a_token_of_a_frozen_role_or_of_one_that_may_not_log_in_lets_nobody_in() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'read'");
    let mut admin = kho.admin();
    admin.run("CALL kho.freeze(role => 'an', reason => 'x')");
    assert_eq!(refused_token(&kho, "an", &text).0, "28000");
    admin.run("CALL kho.unfreeze(role => 'an')");
    assert!(by_token(&kho, "an", &text).is_ok());
    admin.run("ALTER ROLE an NOLOGIN");
    assert_eq!(refused_token(&kho, "an", &text).0, "28000");
    // Only who has a right one is told.
    assert_eq!(refused_token(&kho, "an", "kho_wrong").0, "28P01");
}

#[test]
fn no_setting_and_no_role_lifts_a_scope() {
    let kho = city();
    let text = token(&kho, "an", "some", "scope => 'read', datasets => 'o.t'");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    for statement in [
        "SET ROLE officer",
        "SET ROLE an",
        "SET SESSION AUTHORIZATION an",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET ROLE",
        "RESET SESSION AUTHORIZATION",
        "RESET ALL",
        "DISCARD ALL",
        "SET kho.authentication = 'password'",
        "SET search_path = o",
        "SET default_transaction_read_only = off",
    ] {
        drop(wire.simple(statement));
        assert_eq!(wire.refusal("SELECT * FROM o.secret").sqlstate, "42P01", "{statement}");
        assert_eq!(wire.refusal("INSERT INTO o.t VALUES (3)").sqlstate, "42501", "{statement}");
        assert_eq!(wire.value("SELECT count(*) FROM o.t"), "2", "{statement}");
    }
}

#[test]
fn tokens_are_slowed_down_like_passwords_and_together_with_them() {
    let kho = city();
    // Mixed, so that each kind alone would stay below what is free.
    let asked = std::time::Instant::now();
    for turn in 0..10 {
        if turn % 2 == 0 {
            assert_eq!(refused_token(&kho, "an", "kho_wrong").0, "28P01");
        } else {
            assert!(Wire::connect(&kho.target("an", "wrong")).is_err());
        }
    }
    assert!(asked.elapsed() >= std::time::Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[test]
fn what_is_said_twice_is_taken_as_the_last_says() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'read'");
    let both = [("options", "-c kho.authentication=password"), BY_TOKEN];
    assert!(Wire::connect_with(&kho.target("an", &text), &both).is_ok());
}

#[test]
fn names_of_datasets_are_those_that_exist_for_who_makes_the_token() {
    let kho = city();
    kho.connect("officer").run("CREATE TABLE o.hidden (id bigint)");
    let mut an = kho.connect("an");
    let make = |datasets: &str| {
        format!(
            "CALL kho.create_api_token('x', null, now() + interval '1 day', 'read', '{datasets}')"
        )
    };
    assert_eq!(an.refusal(&make("o.hidden")).sqlstate, "42P01");
    assert_eq!(an.refusal(&make("o.nothing")).sqlstate, "42P01");
    assert_eq!(an.refusal(&make("nowhere.*")).sqlstate, "3F000");
    assert_eq!(an.refusal(&make("")).sqlstate, "42601");
    // By its id: one that is made anew under the name is another one.
    let text = token(&kho, "an", "by-id", "scope => 'read', datasets => 'o.t'");
    let mut officer = kho.connect("officer");
    officer.run("ALTER TABLE o.t RENAME TO moved");
    officer.run("CREATE TABLE o.t (id bigint)");
    officer.run("GRANT SELECT ON o.t TO an");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    assert_eq!(wire.refusal("SELECT * FROM o.t").sqlstate, "42P01");
    assert_eq!(wire.value("SELECT count(*) FROM o.moved"), "2");
}
