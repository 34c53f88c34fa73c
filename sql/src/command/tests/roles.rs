//! Roles and memberships.

use super::*;

#[test]
fn only_who_manages_accounts_makes_roles_and_everyone_has_a_password() {
    let state = script(&[
        ("admin", "CREATE ROLE an LOGIN PASSWORD 'bí mật' CONNECTION LIMIT 3", "ok"),
        ("admin", "CREATE USER an", "42710"),
        ("admin", "CREATE ROLE IF NOT EXISTS an", "ok 42710"),
        ("reader", "CREATE ROLE binh", "42501"),
        ("admin", "CREATE ROLE pg_x", "42939"),
        ("admin", "CREATE ROLE kho_x", "42939"),
        ("admin", "CREATE ROLE public", "42939"),
        ("admin", "CREATE ROLE none", "42939"),
        ("admin", "CREATE ROLE s SUPERUSER", "0A000"),
        ("admin", "CREATE ROLE m PASSWORD 'md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "0A000"),
        ("admin", "CREATE ROLE m CONNECTION LIMIT -2", "22023"),
        ("admin", "CREATE ROLE m VALID UNTIL 'soon'", "22007"),
        ("admin", "CREATE ROLE m VALID UNTIL '2027-12-31 00:00:00+07:00' PASSWORD ''", "ok 00000"),
        ("an", "ALTER ROLE an PASSWORD 'mới'", "ok"),
        ("an", "ALTER ROLE current_user PASSWORD 'mới'", "ok"),
        ("an", "ALTER ROLE an CONNECTION LIMIT 9", "42501"),
        ("an", "ALTER ROLE an PASSWORD 'x' LOGIN", "42501"),
        ("an", "ALTER ROLE reader PASSWORD 'x'", "42501"),
        ("an", "ALTER ROLE nobody PASSWORD 'x'", "42501"),
        ("admin", "ALTER ROLE nobody LOGIN", "42704"),
        ("admin", "ALTER ROLE kho_admin LOGIN", "42939"),
        ("admin", "ALTER ROLE an IN ROLE reader", "42601"),
        ("admin", "ALTER ROLE m VALID UNTIL 'infinity' CONNECTION LIMIT -1", "ok"),
        ("admin", "ALTER ROLE m RENAME TO reader", "42710"),
        ("admin", "ALTER ROLE m RENAME TO minh", "ok"),
        ("admin", "ALTER ROLE admin RENAME TO boss", "0A000"),
    ]);
    let an = state.role("an").unwrap();
    assert!(an.login && an.connection_limit == Some(3));
    assert!(crate::scram::Verifier::is_verifier(an.verifier.as_deref().unwrap()));
    let minh = state.role("minh").unwrap();
    assert!(minh.verifier.is_none() && minh.valid_until_ms.is_none());
    assert!(minh.connection_limit.is_none() && !minh.login);
}

#[test]
fn a_verifier_is_kept_as_it_is_given() {
    let verifier = crate::scram::make_verifier("x", &[1; 16], 1).unwrap();
    let create = format!("CREATE ROLE an PASSWORD '{verifier}'");
    let state = script(&[("admin", create.as_str(), "ok")]);
    assert_eq!(state.role("an").unwrap().verifier.as_deref(), Some(verifier.as_str()));
}

#[test]
fn roles_with_objects_or_rights_stay() {
    let state = script(&[
        ("admin", "DROP ROLE officer", "2BP01"),
        ("admin", "DROP ROLE reader", "2BP01"),
        ("admin", "DROP ROLE kho_auditor", "2BP01"),
        ("admin", "DROP ROLE admin", "55006"),
        ("reader", "DROP ROLE stranger", "42501"),
        ("admin", "DROP ROLE nobody", "42704"),
        ("admin", "DROP ROLE IF EXISTS nobody, stranger", "ok 00000"),
        ("admin", "CREATE ROLE groups", "ok"),
        ("admin", "GRANT groups TO reader", "ok"),
        ("admin", "DROP ROLE groups", "ok"),
    ]);
    assert!(state.role("stranger").is_none());
    assert!(state.role("reader").unwrap().member_of.is_empty());
}

#[test]
fn a_refused_drop_names_only_what_the_actor_may_see() {
    let state = script(&[("officer", "CREATE TABLE health.secret (a int)", "ok")]);
    let error = run(&state, "admin", "DROP ROLE officer").err().unwrap();
    assert_eq!(error.detail(), Some("owner of schema health\nother objects"));
}

#[test]
fn memberships_follow_the_rules() {
    let state = script(&[
        ("admin", "GRANT kho_auditor TO reader", "ok"),
        ("admin", "GRANT kho_auditor TO reader", "ok 00000"),
        ("admin", "GRANT kho_auditor TO reader WITH ADMIN OPTION", "ok"),
        ("reader", "GRANT kho_auditor TO stranger", "ok"),
        ("stranger", "GRANT kho_auditor TO clerk", "42501"),
        ("admin", "REVOKE ADMIN OPTION FOR kho_auditor FROM reader", "ok"),
        ("reader", "GRANT kho_auditor TO clerk", "42501"),
        ("reader", "REVOKE kho_auditor FROM stranger", "42501"),
        ("admin", "REVOKE kho_auditor FROM stranger", "ok"),
        ("admin", "REVOKE kho_auditor FROM stranger", "ok 01000"),
        ("admin", "GRANT officer TO admin", "KH014"),
        ("admin", "GRANT reader TO clerk", "ok"),
        ("admin", "GRANT clerk TO reader", "0LP01"),
        ("admin", "GRANT reader TO reader", "0LP01"),
        ("admin", "GRANT officer TO kho_operator", "0LP01"),
        ("admin", "GRANT nobody TO reader", "42704"),
        ("admin", "CREATE ROLE bridge IN ROLE officer ROLE admin", "KH014"),
        ("admin", "CREATE ROLE team IN ROLE kho_operator ROLE clerk ADMIN reader", "ok"),
        ("admin", "REVOKE kho_admin FROM admin", "2BP01"),
        ("admin", "ALTER ROLE admin NOLOGIN", "2BP01"),
        ("admin", "GRANT kho_admin TO stranger", "ok"),
        ("admin", "REVOKE kho_admin FROM admin", "ok"),
    ]);
    let team = state.role("team").unwrap();
    assert_eq!(team.member_of.keys().copied().collect::<Vec<_>>(), [12]);
    let option = |name: &str| state.role(name).unwrap().member_of[&team.oid];
    assert_eq!(option("clerk"), MembershipOption::Member);
    assert_eq!(option("reader"), MembershipOption::Admin);
}
