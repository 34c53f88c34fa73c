//! Rights on schemas and relations.

use super::*;

const TABLE: (&str, &str, &str) = ("officer", "CREATE TABLE health.t (a int)", "ok");

#[test]
fn owners_give_and_take() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT, INSERT ON health.t TO reader, PUBLIC", "ok"),
        ("officer", "GRANT ALL PRIVILEGES ON TABLE t TO clerk", "ok"),
        ("officer", "REVOKE INSERT ON t FROM PUBLIC", "ok"),
        ("officer", "REVOKE DELETE ON t FROM reader", "ok"),
        ("officer", "REVOKE TRUNCATE, UPDATE, DELETE ON t FROM clerk", "ok"),
        ("officer", "GRANT SELECT ON t TO officer", "ok"),
        ("officer", "REVOKE SELECT ON t FROM officer", "0A000"),
        ("officer", "GRANT CREATE ON SCHEMA health TO reader", "ok"),
        ("officer", "REVOKE ALL ON SCHEMA health FROM clerk", "ok"),
    ]);
    assert_eq!(
        held(&state, &relation(&state, "health.t").grants),
        ["clerk:insert", "clerk:select", "public:select", "reader:insert", "reader:select"]
    );
    let schema = state.schema("health").unwrap();
    assert_eq!(held(&state, &schema.grants), ["reader:create", "reader:usage"]);
}

#[test]
fn what_is_not_supported_is_refused() {
    script(&[
        TABLE,
        ("officer", "GRANT SELECT (a) ON t TO reader", "0A000"),
        ("officer", "GRANT REFERENCES ON t TO reader", "0A000"),
        ("officer", "GRANT TRIGGER ON t TO reader", "0A000"),
        ("officer", "GRANT USAGE ON t TO reader", "0LP01"),
        ("officer", "GRANT SELECT ON SCHEMA health TO reader", "0LP01"),
        ("officer", "GRANT CONNECT ON DATABASE kho TO reader", "0A000"),
        ("officer", "GRANT USAGE ON SEQUENCE s TO reader", "0A000"),
        ("officer", "GRANT SELECT ON t TO reader GRANTED BY officer", "0A000"),
        ("officer", "GRANT SELECT ON t TO nobody", "42704"),
        ("officer", "GRANT SELECT ON nothing TO reader", "42P01"),
        ("officer", "GRANT USAGE ON SCHEMA nothing TO reader", "3F000"),
        ("officer", "GRANT SELECT ON t TO PUBLIC WITH GRANT OPTION", "0LP01"),
    ]);
}

#[test]
fn who_may_not_grant_is_refused_and_what_is_hidden_is_not_there() {
    script(&[
        TABLE,
        ("reader", "GRANT SELECT ON health.t TO stranger", "42P01"),
        ("stranger", "GRANT SELECT ON health.t TO stranger", "42P01"),
        ("stranger", "GRANT USAGE ON SCHEMA health TO stranger", "3F000"),
        ("admin", "GRANT USAGE ON SCHEMA health TO admin", "42501"),
        ("admin", "GRANT SELECT ON health.t TO admin", "42P01"),
        ("officer", "GRANT SELECT ON t TO reader", "ok"),
        ("reader", "GRANT SELECT ON t TO stranger", "42501"),
        ("reader", "REVOKE SELECT ON t FROM reader", "42501"),
    ]);
}

#[test]
fn a_right_lives_as_long_as_its_givers() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "GRANT SELECT, INSERT ON t TO clerk", "ok 01007"),
        ("reader", "GRANT ALL ON t TO clerk WITH GRANT OPTION", "ok 01007"),
        ("clerk", "GRANT SELECT ON t TO reader, stranger", "ok"),
        ("officer", "REVOKE SELECT ON t FROM reader", "2BP01"),
        ("officer", "REVOKE SELECT ON t FROM reader CASCADE", "ok"),
    ]);
    assert!(relation(&state, "health.t").grants.is_empty());
}

#[test]
fn the_grant_option_goes_alone() {
    let state = script(&[
        TABLE,
        ("officer", "GRANT SELECT ON t TO reader WITH GRANT OPTION", "ok"),
        ("reader", "GRANT SELECT ON t TO clerk", "ok"),
    ]);
    let without = |cascade: &str| {
        run(
            &state,
            "officer",
            &format!("REVOKE GRANT OPTION FOR SELECT ON t FROM reader {cascade}"),
        )
    };
    assert_eq!(without("").err().unwrap().sqlstate(), "2BP01");
    let after = without("CASCADE").unwrap().state;
    assert_eq!(held(&after, &relation(&after, "health.t").grants), ["reader:select"]);
    let after = run(&after, "officer", "GRANT SELECT ON t TO PUBLIC, clerk").unwrap().state;
    let grants = &relation(&after, "health.t").grants;
    assert_eq!(held(&after, grants), ["clerk:select", "public:select", "reader:select"]);
}

#[test]
fn all_tables_are_those_one_may_see() {
    let state = script(&[
        TABLE,
        ("clerk", "CREATE TABLE health.own (a int)", "ok"),
        ("clerk", "GRANT SELECT ON ALL TABLES IN SCHEMA health TO reader", "ok"),
        ("officer", "GRANT SELECT ON ALL TABLES IN SCHEMA health TO reader", "42501"),
    ]);
    assert_eq!(held(&state, &relation(&state, "health.own").grants), ["reader:select"]);
    assert!(relation(&state, "health.t").grants.is_empty());
}
