//! Which accounts may log in, and who is held back.

use super::*;

fn account(verifier: Option<&str>, valid_until_ms: Option<i64>) -> Account {
    Account {
        oid: 20_000,
        name: "an".to_owned(),
        login: true,
        verifier: verifier.map(str::to_owned),
        valid_until_ms,
        connection_limit: None,
        administers: false,
    }
}

#[test]
fn only_a_verifier_within_its_time_counts() {
    let verifier = kho_sql::scram::make_verifier("secret", b"salt", 4096).unwrap();
    let usable = |text, until| usable(&account(text, until), 1_000);
    assert!(usable(Some(&verifier), None).is_some_and(|it| it.matches("secret")));
    assert!(usable(Some(&verifier), None).is_some_and(|it| !it.matches("Secret")));
    assert!(usable(Some(&verifier), Some(1_001)).is_some());
    assert!(usable(Some(&verifier), Some(1_000)).is_none());
    assert!(usable(None, None).is_none());
    assert!(usable(Some("damaged"), None).is_none());
}

#[test]
fn this_machine_is_not_held_against_anyone() {
    assert_eq!(keys("an", None).len(), 1);
    assert_eq!(keys("an", Some("127.0.0.1:5".parse().unwrap())).len(), 1);
    assert_eq!(keys("an", Some("[::ffff:127.0.0.1]:5".parse().unwrap())).len(), 1);
    assert_eq!(keys("an", Some("192.0.2.7:5".parse().unwrap())).len(), 2);
}
