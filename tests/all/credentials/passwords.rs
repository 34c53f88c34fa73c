//! What the operator asks of passwords.

use std::time::Duration;

use kho_tests::kho::{Folders, Kho, serve};
use kho_tests::output::run;
use kho_tests::wire::Wire;

const STRONG: &str = "turnip anvil seventeen";

/// A Kho that asks as much as one off loopback does.
fn strict(more: &[(&str, &str)]) -> Kho {
    let mut environment = vec![
        ("KHO_ADMIN_PASSWORD", STRONG),
        ("KHO_PASSWORDS__MINIMUM_LENGTH", "8"),
        ("KHO_PASSWORDS__MINIMUM_SCORE", "2"),
        ("KHO_PASSWORDS__REFUSE_ROLE_NAME", "true"),
    ];
    environment.extend_from_slice(more);
    Kho::start_with(Folders::new(), &environment)
}

#[test]
fn weak_passwords_are_refused_wherever_one_is_set() {
    let kho = strict(&[]);
    let mut admin = Wire::connect(&kho.target("admin", STRONG)).unwrap();
    for (password, message) in [
        ("short", "password is too short"),
        ("my officer's own", "password must not contain user name"),
        ("Password1!", "password is easy to guess"),
    ] {
        let password = password.replace('\'', "''");
        for statement in [
            format!("CREATE ROLE officer LOGIN PASSWORD '{password}'"),
            format!("ALTER ROLE admin PASSWORD '{}'", password.replace("officer", "admin")),
        ] {
            let refused = admin.refusal(&statement);
            assert_eq!((refused.sqlstate.as_str(), refused.message.as_str()), ("22023", message));
        }
    }
    admin.run("CREATE ROLE officer LOGIN PASSWORD 'anvil turnip eighteen'");
    assert!(Wire::connect(&kho.target("officer", "anvil turnip eighteen")).is_ok());
    // A verifier shows only whether it is the obvious.
    let verifier = |password| kho_sql::scram::make_verifier(password, b"salt", 4096).unwrap();
    let alter = |password| format!("ALTER ROLE officer PASSWORD '{}'", verifier(password));
    assert_eq!(admin.refusal(&alter("officer")).sqlstate, "22023");
    assert_eq!(admin.refusal(&alter("123456")).sqlstate, "22023");
    admin.run(&alter("x"));
}

#[test]
fn ready_made_verifiers_can_be_refused() {
    let kho = strict(&[("KHO_PASSWORDS__ACCEPT_VERIFIERS", "false")]);
    let mut admin = Wire::connect(&kho.target("admin", STRONG)).unwrap();
    let verifier = kho_sql::scram::make_verifier(STRONG, b"salt", 4096).unwrap();
    let refused = admin.refusal(&format!("CREATE ROLE officer LOGIN PASSWORD '{verifier}'"));
    assert_eq!(refused.sqlstate, "22023");
}

#[test]
fn a_password_is_good_until_its_time() {
    let kho = Kho::start();
    let mut admin = kho.admin();
    admin.run("CREATE ROLE an LOGIN PASSWORD 'an' VALID UNTIL '2099-01-01'");
    assert!(Wire::connect(&kho.target("an", "an")).is_ok());
    admin.run("ALTER ROLE an VALID UNTIL '2020-01-01'");
    let refused = Wire::connect(&kho.target("an", "an")).err().unwrap();
    assert_eq!(refused.sqlstate(), Some("28P01"));
    admin.run("ALTER ROLE an VALID UNTIL 'infinity'");
    assert!(Wire::connect(&kho.target("an", "an")).is_ok());
}

/// Off loopback the rules are there without being asked for.
#[test]
fn a_server_for_others_takes_no_weak_password_for_its_first_role() {
    let folders = Folders::new();
    let mut command = serve(&folders.data(), &folders.keys());
    command.env("KHO_PG__LISTEN", "0.0.0.0:0").env("KHO_ADMIN_PASSWORD", "admin");
    let output = run(&mut command, "", Duration::from_secs(120));
    assert!(!output.success);
    assert!(output.stderr.contains("KHO_ADMIN_PASSWORD: password is too short"), "{}", output.stderr);
    assert!(!folders.data().join("catalog").exists(), "it made a warehouse");
    let loose = [
        ("KHO_PG__LISTEN", "0.0.0.0:0"),
        ("KHO_PASSWORDS__MINIMUM_LENGTH", "0"),
        ("KHO_PASSWORDS__MINIMUM_SCORE", "0"),
        ("KHO_PASSWORDS__REFUSE_ROLE_NAME", "false"),
    ];
    drop(Kho::start_with(Folders::new(), &loose));
}
