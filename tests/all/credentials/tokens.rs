//! API tokens: what they let in, what they leave of a role, and how they end.

use std::time::{Duration, Instant};

use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::{Error, Wire, bind};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::{BY_TOKEN, by_token, city, refused_token, token};

/// An end holds within a second; beyond this it is not the machine that is slow.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const ENDLESS: &str = "SELECT count(*), sum(sin(a.x * b.x)) FROM generate_series(1, 50000) AS a (x) \
     CROSS JOIN generate_series(1, 300000000) AS b (x)";

#[test]
fn a_token_lets_its_role_in_and_the_ledger_says_so() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'read'");
    assert!(text.starts_with("kho_") && text.len() > 40, "{text}");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    assert_eq!(wire.value("SELECT current_user"), "an");
    assert_eq!(wire.value("SHOW kho.authentication"), "token etl");
    assert_eq!(wire.value("SELECT count(*) FROM o.t"), "2");
    let mut auditor = kho.connect("auditor");
    let how = "SELECT DISTINCT authentication FROM kho.audit_log \
               WHERE role = 'an' AND statement LIKE '%o.t%'";
    assert_eq!(auditor.value(how), "token etl");
    let how = "SELECT count(*) > 0 FROM kho.audit_log WHERE role = 'an' AND kind = 'login' \
               AND authentication = 'password'";
    assert_eq!(auditor.value(how), "t");
    // Both protocols describe the answer.
    let call = "CALL kho.create_api_token('other', null, '2099-01-01'::timestamptz, 'read')";
    let refused = kho.connect("an").extended(call).unwrap_err();
    assert_eq!(refused.sqlstate(), Some("22023"), "it is bounded: {refused}");
    let call = format!(
        "CALL kho.create_api_token('other', null, '{}', 'read')",
        (chrono::Utc::now() + chrono::Duration::days(3)).to_rfc3339()
    );
    let answer = kho.connect("an").extended(&call).unwrap();
    assert_eq!(answer.columns.first().map(|it| it.0.as_str()), Some("token"));
    assert_eq!(answer.tag, "CALL");
    assert!(by_token(&kho, "an", answer.rows[0][0].as_deref().unwrap()).is_ok());
}

#[test]
fn a_wrong_token_is_refused_like_a_wrong_password_whoever_it_is_for() {
    let kho = city();
    kho.admin().run("CREATE ROLE silent LOGIN");
    let text = token(&kho, "an", "etl", "scope => 'read'");
    let wrong = |role: &str| {
        ("28P01".to_owned(), format!("password authentication failed for user \"{role}\""))
    };
    let invented = format!("kho_{}", "A".repeat(43));
    for (role, given) in [
        ("an", invented.as_str()),
        ("an", "an"),
        ("an", ""),
        ("nobody", text.as_str()),
        ("nobody", invented.as_str()),
        ("silent", text.as_str()),
        ("officer", text.as_str()),
        ("silent", ""),
    ] {
        assert_eq!(refused_token(&kho, role, given), wrong(role), "{role} with {given}");
    }
    // A token is no password where a password is asked for.
    let refused = Wire::connect(&kho.target("an", &text)).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("28P01"));
    let count = "SELECT count(*) FROM kho.audit_log WHERE kind = 'login_refused' \
                 AND command = 'wrong token'";
    assert_eq!(kho.connect("auditor").value(count), "8");
}

/// What a server asks for must not tell what there is.
#[test]
fn a_password_in_clear_is_asked_for_only_where_the_client_said_so() {
    let kho = city();
    kho.admin().run("CREATE ROLE silent LOGIN");
    let asked = |role: &str, more: &[(&str, &str)]| {
        let mut wire = Wire::raw(kho.pg).unwrap();
        let mut parameters = vec![("user", role), ("database", "kho")];
        parameters.extend_from_slice(more);
        wire.send(|buffer| frontend::startup_message(parameters, buffer)).unwrap();
        match wire.receive().unwrap() {
            Message::AuthenticationSasl(_) => "scram",
            Message::AuthenticationCleartextPassword => "clear",
            _ => "something else",
        }
    };
    for role in ["an", "silent", "nobody", "admin"] {
        assert_eq!(asked(role, &[]), "scram", "{role}");
        assert_eq!(asked(role, &[("kho.authentication", "password")]), "scram", "{role}");
        assert_eq!(asked(role, &[BY_TOKEN]), "clear", "{role}");
        assert_eq!(asked(role, &[("options", "-c kho.authentication=token")]), "clear", "{role}");
        assert_eq!(asked(role, &[("kho.authentication", "trust")]), "something else", "{role}");
    }
}

#[test]
fn a_token_to_read_changes_nothing() {
    let kho = city();
    let text = token(&kho, "officer", "reader", "scope => 'read'");
    let mut wire = by_token(&kho, "officer", &text).unwrap();
    assert_eq!(wire.value("SELECT count(*) FROM o.t"), "2");
    wire.run("SET statement_timeout = '1min'");
    for statement in [
        "INSERT INTO o.t VALUES (3)",
        "UPDATE o.t SET id = 3",
        "DELETE FROM o.t",
        "MERGE INTO o.t USING o.secret ON false WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "TRUNCATE o.t",
        "COPY o.t FROM STDIN",
        "CREATE TABLE o.u (id bigint)",
        "CREATE TABLE o.u AS SELECT * FROM o.t",
        "CREATE VIEW o.w AS SELECT * FROM o.t",
        "ALTER TABLE o.t ADD COLUMN ward text",
        "DROP TABLE o.t",
        "COMMENT ON TABLE o.t IS 'x'",
        "GRANT SELECT ON o.t TO an",
        "CREATE POLICY p ON o.t USING (true)",
        "ALTER ROLE officer PASSWORD 'changed-by-a-token'",
        "CALL kho.compact_table('o.t')",
        "CALL kho.restore_table('o.t', version => 0)",
        "CALL kho.request_access('o.t', purposes => 'd', until => '2099-01-01', basis => 'x')",
        "CALL kho.cancel(1)",
        "SELECT pg_cancel_backend(1)",
        "CALL kho.revoke_api_token('reader')",
        "REASSIGN OWNED BY officer TO an",
        "BEGIN; INSERT INTO o.t VALUES (3); COMMIT",
    ] {
        let refused = wire.refusal(statement);
        assert_eq!(refused.sqlstate, "42501", "{statement}: {refused}");
        wire.run("ROLLBACK");
    }
    for statement in ["DISCARD ALL", "RESET ALL", "RESET kho.authentication"] {
        drop(wire.simple(statement));
        assert_eq!(wire.refusal("INSERT INTO o.t VALUES (3)").sqlstate, "42501", "{statement}");
        assert_eq!(wire.value("SHOW kho.authentication"), "token reader", "{statement}");
    }
    assert_eq!(kho.connect("officer").value("SELECT count(*) FROM o.t"), "2");
}

#[test]
fn a_token_for_some_datasets_sees_no_others() {
    let kho = city();
    let text = token(&kho, "an", "some", "scope => 'write', datasets => 'o.t, o.view'");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    assert_eq!(wire.value("SELECT count(*) FROM o.t"), "2");
    wire.run("INSERT INTO o.t VALUES (3)");
    // The view is named, and shows what its owner made of it.
    assert_eq!(wire.value("SELECT id FROM o.view"), "7");
    for statement in [
        "SELECT * FROM o.secret",
        "INSERT INTO o.secret VALUES (1)",
        "INSERT INTO o.t SELECT id FROM o.secret",
        "DELETE FROM o.secret",
        "COPY o.secret TO STDOUT",
        "COPY (SELECT * FROM o.secret) TO STDOUT",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM o.secret",
        "PREPARE p AS SELECT * FROM o.secret",
        "EXPLAIN SELECT * FROM o.secret",
        "SELECT * FROM kho.table_history('o.secret')",
        "SELECT * FROM kho.table_changes('o.secret', 0)",
        "SELECT (SELECT max(id) FROM o.secret)",
    ] {
        assert_eq!(wire.refusal(statement).sqlstate, "42P01", "{statement}");
    }
    let listed = "SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class c \
                  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'o'";
    assert_eq!(wire.value(listed), "t,view");
    assert_eq!(wire.value("SELECT string_agg(name, ',') FROM kho.datasets"), "t");
    let whole = token(&kho, "officer", "whole", "scope => 'write', datasets => 'o.*'");
    let mut wire = by_token(&kho, "officer", &whole).unwrap();
    wire.run("CREATE TABLE o.made (id bigint)");
    assert_eq!(wire.value("SELECT count(*) FROM o.secret"), "1");
    for statement in ["REASSIGN OWNED BY officer TO an", "ALTER ROLE officer PASSWORD 'x-y-z-1-2'"]
    {
        assert_eq!(wire.refusal(statement).sqlstate, "42501", "{statement}");
    }
}

/// Who says what a policy looks up is the owner of the table, not who holds the token.
#[test]
fn policies_hold_for_a_token_for_some_datasets_whatever_they_look_up() {
    let kho = city();
    let mut officer = kho.connect("officer");
    officer.run("INSERT INTO o.t VALUES (7)");
    officer.run("CREATE POLICY known ON o.t USING (id IN (SELECT id FROM o.secret))");
    officer.run("ALTER TABLE o.t ENABLE ROW LEVEL SECURITY");
    let text = token(&kho, "an", "some", "scope => 'read', datasets => 'o.t'");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    assert_eq!(wire.value("SELECT string_agg(id::text, ',') FROM o.t"), "7");
    assert_eq!(wire.refusal("SELECT * FROM o.secret").sqlstate, "42P01");
}

/// What a session sets itself it must know itself: else its own table would read another for it.
#[test]
fn a_token_for_some_datasets_cannot_look_others_up_by_a_policy_it_writes() {
    let kho = city();
    let mut officer = kho.connect("officer");
    officer.run("CREATE POLICY all_of_it ON o.t USING (true)");
    let text = token(&kho, "officer", "some", "scope => 'write', datasets => 'o.t'");
    let mut wire = by_token(&kho, "officer", &text).unwrap();
    wire.run("CREATE POLICY own ON o.t USING (id IN (SELECT t.id FROM o.t))");
    for statement in [
        "CREATE POLICY p ON o.t USING (id IN (SELECT id FROM o.secret))",
        "CREATE POLICY p ON o.t FOR INSERT WITH CHECK (id IN (SELECT id FROM o.secret))",
        "ALTER POLICY all_of_it ON o.t USING (id IN (SELECT id FROM o.secret))",
        "CALL kho.set_mask(dataset => 'o.t', column => 'id', using => '(SELECT max(id) FROM o.secret)')",
        "CALL kho.grant_agreement(dataset => 'o.t', role => 'an', purposes => 'c', valid_until => '2999-01-01', \
         basis => 'x', row_predicate => 'id IN (SELECT id FROM o.secret)')",
    ] {
        assert_eq!(wire.refusal(statement).sqlstate, "42P01", "{statement}");
    }
}

/// What others run, and what was done to other datasets, does not exist for such a token either.
#[test]
fn a_token_for_some_datasets_reads_nothing_of_others_in_what_is_kept_about_them() {
    let kho = city();
    let mut officer = kho.connect("officer");
    officer.run("SELECT * FROM o.secret");
    officer.run("SELECT * FROM o.t");
    let text = token(&kho, "officer", "some", "scope => 'read', datasets => 'o.t'");
    let mut wire = by_token(&kho, "officer", &text).unwrap();
    let told = |what: &str| format!("SELECT count(*) FROM {what} LIKE '%secret%'");
    assert_eq!(wire.value(&told("kho.audit_log WHERE statement")), "0");
    assert_eq!(wire.value(&told("pg_stat_activity WHERE query")), "0");
    assert_eq!(wire.value(&told("kho.activity WHERE statement")), "0");
    assert_ne!(
        wire.value("SELECT count(*) FROM kho.audit_log WHERE statement LIKE '%FROM o.t'"),
        "0"
    );
}

/// libpq takes the option from the environment, so that every program that uses it can.
#[test]
fn libpq_logs_in_by_token() {
    let kho = city();
    let text = token(&kho, "an", "bi", "scope => 'read'");
    let mut command = kho_tests::psql::psql(&kho, "an");
    command
        .args(["--quiet", "--no-align", "--tuples-only", "-c", "SHOW kho.authentication"])
        .env("PGPASSWORD", &text)
        .env("PGOPTIONS", "-c kho.authentication=token");
    let output = kho_tests::output::run(&mut command, "", Duration::from_secs(120));
    assert_eq!(output.stdout.trim(), "token bi", "{}", output.stderr);
}

#[test]
fn a_token_of_who_administers_for_some_datasets_administers_nothing() {
    let kho = city();
    kho.connect("officer").run("GRANT USAGE ON SCHEMA o TO admin");
    kho.connect("officer").run("GRANT SELECT ON o.t TO admin");
    let text = token(&kho, "admin", "some", "scope => 'write', datasets => 'o.t'");
    let mut wire = by_token(&kho, "admin", &text).unwrap();
    assert_eq!(wire.value("SELECT count(*) FROM o.t"), "2");
    for statement in [
        "CREATE ROLE thief LOGIN PASSWORD 'thief-of-data'",
        "CREATE SCHEMA mine",
        "DROP ROLE an",
        "GRANT kho_auditor TO an",
        "CALL kho.freeze(role => 'an', reason => 'x')",
        "CALL kho.add_purpose('x', 'y')",
        "CALL kho.revoke_api_token(name => 'x', role => 'an')",
        "CALL kho.set_role_attribute(role => 'an', name => 'ward', value => 'x')",
    ] {
        assert_eq!(wire.refusal(statement).sqlstate, "42501", "{statement}");
    }
}

#[test]
fn a_token_for_some_purposes_states_no_other() {
    let kho = city();
    kho.connect("officer").run("ALTER TABLE o.t SET (allowed_purposes = 'c,d')");
    let text = token(&kho, "an", "p", "scope => 'read', purposes => 'd'");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    assert_eq!(wire.refusal("SELECT * FROM o.t").sqlstate, "KH001");
    assert_eq!(wire.refusal("SET kho.purpose = 'c'").sqlstate, "KH002");
    wire.run("SET kho.purpose = 'd'");
    assert_eq!(wire.value("SELECT count(*) FROM o.t"), "2");
    let other = [BY_TOKEN, ("kho.purpose", "c")];
    let refused = Wire::connect_with(&kho.target("an", &text), &other).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("KH002"));
}

fn closes(wire: &mut Wire) {
    let asked = Instant::now();
    let said = wire.wait_for_close().unwrap();
    assert_eq!(said.sqlstate, "28000", "{said}");
    assert!(asked.elapsed() < ENDS_WITHIN);
}

#[test]
fn a_revoked_token_ends_its_sessions_and_what_they_run() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'read'");
    let mut at_rest = by_token(&kho, "an", &text).unwrap();
    let mut running = by_token(&kho, "an", &text).unwrap();
    let mut portal = by_token(&kho, "an", &text).unwrap();
    portal.run("BEGIN");
    portal
        .send(|buffer| {
            frontend::parse("s", "SELECT x FROM generate_series(1, 100000) AS g (x)", [], buffer)?;
            bind("p", "s", &[], buffer)?;
            frontend::execute("p", 1, buffer)?;
            frontend::flush(buffer);
            Ok(())
        })
        .unwrap();
    while !matches!(portal.receive().unwrap(), Message::PortalSuspended) {}
    let ended = std::thread::spawn(move || {
        let refused = running.simple(ENDLESS).map(drop).unwrap_err();
        refused.sqlstate().map(str::to_owned)
    });
    let active = "SELECT count(*) FROM kho.activity WHERE role = 'an' AND state = 'active'";
    let mut admin = kho.admin();
    while admin.value(active) == "0" {}
    assert_eq!(
        kho.connect("officer").refusal("CALL kho.revoke_api_token('etl', 'an')").sqlstate,
        "42501"
    );
    admin.run("CALL kho.revoke_api_token(name => 'etl', role => 'an')");
    let asked = Instant::now();
    assert_eq!(ended.join().unwrap().as_deref(), Some("28000"));
    assert!(asked.elapsed() < ENDS_WITHIN);
    closes(&mut at_rest);
    closes(&mut portal);
    assert_eq!(refused_token(&kho, "an", &text).0, "28P01");
    assert_eq!(admin.value("SELECT state FROM kho.api_tokens WHERE name = 'etl'"), "revoked");
}

#[test]
fn a_token_that_expires_ends_its_sessions() {
    let kho = city();
    let until = (chrono::Utc::now() + chrono::Duration::seconds(4)).to_rfc3339();
    let call = format!("CALL kho.create_api_token('short', null, '{until}', 'read')");
    let text = kho.connect("an").value(&call);
    let mut at_rest = by_token(&kho, "an", &text).unwrap();
    let mut running = by_token(&kho, "an", &text).unwrap();
    let refused = running.simple(ENDLESS).map(drop).unwrap_err();
    assert_eq!(refused.sqlstate(), Some("28000"), "{refused}");
    closes(&mut at_rest);
    assert_eq!(refused_token(&kho, "an", &text).0, "28P01");
}

#[test]
fn what_one_server_revokes_ends_on_another() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'read'");
    let second = beside(&kho);
    let mut there = by_token(&second, "an", &text).unwrap();
    assert_eq!(there.value("SELECT 1"), "1");
    kho.connect("an").run("CALL kho.revoke_api_token('etl')");
    closes(&mut there);
}

/// Another server on the same warehouse, with keys of its own.
fn beside(kho: &Kho) -> Kho {
    let folders = Folders::new();
    let data = kho.data().to_string_lossy().into_owned();
    let ledger = format!("file:{}", kho.keys().join("ledger.key").display());
    Kho::start_with(folders, &[("KHO_DATA", &data), ("KHO_KEYS__LEDGER", &ledger)])
}

#[test]
fn a_token_is_nowhere_in_clear() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'read'");
    drop(by_token(&kho, "an", &text).unwrap());
    assert_eq!(refused_token(&kho, "officer", &text).0, "28P01");
    let data = kho.data();
    let (ended, folders) = kho.stop();
    assert!(!ended.log.contains(&text), "the log holds a token");
    let found = crate::files::files_with(&data, text.as_bytes());
    assert!(found.is_empty(), "the warehouse holds a token: {found:?}");
    drop(folders);
}

#[test]
fn a_session_that_came_by_a_token_makes_no_other_and_changes_no_password() {
    let kho = city();
    let text = token(&kho, "an", "etl", "scope => 'write'");
    let mut wire = by_token(&kho, "an", &text).unwrap();
    let call = "CALL kho.create_api_token('more', null, now() + interval '1 day', 'read')";
    assert_eq!(wire.refusal(call).sqlstate, "42501");
    assert_eq!(wire.refusal("ALTER ROLE an PASSWORD 'changed-by-a-token'").sqlstate, "42501");
    wire.run("INSERT INTO o.t VALUES (9)");
    match wire.simple("SELECT 1") {
        Ok(_) => {}
        Err(Error::Server(error)) => panic!("{error}"),
        Err(Error::Io(error)) => panic!("{error}"),
    }
}
