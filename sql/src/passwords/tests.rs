//! What is refused, and that no message quotes it.

use super::*;

fn refusal(rules: Rules, password: &str) -> Option<String> {
    rules.check("an_office", password).err().map(|error| {
        assert!(!error.message().contains(password), "{error}");
        error.message().to_owned()
    })
}

#[test]
fn without_rules_everything_is_good_enough() {
    assert_eq!(refusal(Rules::default(), "x"), None);
}

#[test]
fn short_ones_names_and_what_everyone_uses_are_refused() {
    let strict = |password| refusal(Rules::STRICT, password);
    assert_eq!(strict("d7x"), Some("password is too short".to_owned()));
    let named = Some("password must not contain user name".to_owned());
    assert_eq!(strict("my-AN_Office-77"), named);
    for weak in ["password1", "12345678", "qwertyuiop", "Password1!"] {
        assert_eq!(strict(weak), Some("password is easy to guess".to_owned()), "{weak}");
    }
    assert_eq!(strict("lúa chín ngoài đồng bãi"), None);
    assert_eq!(strict("turnip anvil seventeen"), None);
    // Characters, not bytes.
    assert_eq!(strict("đồng"), Some("password is too short".to_owned()));
}

#[test]
fn of_a_verifier_the_obvious_is_seen() {
    let verifier = |of| crate::scram::make_verifier(of, b"salt", 4096).unwrap();
    let check = |rules: Rules, of| rules.check_verifier("an", &verifier(of)).is_ok();
    assert!(check(Rules::default(), "an"));
    assert!(!check(Rules::STRICT, "an"));
    assert!(!check(Rules::STRICT, "123456"));
    assert!(check(Rules::STRICT, "turnip anvil"));
    assert!(!check(Rules { accept_verifiers: false, ..Rules::default() }, "turnip anvil"));
    let slow = verifier("x").replace("$4096:", "$2000000000:");
    assert!(Rules::default().check_verifier("an", &slow).is_err());
}
