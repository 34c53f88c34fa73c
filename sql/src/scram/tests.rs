//! Verifiers of passwords: PostgreSQL's form, and what is refused.

use super::*;

/// The salt of RFC 7677's example.
const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

/// Computed by PostgreSQL 15 for the password and salt of RFC 7677's example.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

#[test]
fn the_verifier_of_a_password_is_postgresqls() {
    let salt = STANDARD.decode(SALT).unwrap();
    assert_eq!(make_verifier("pencil", &salt, 4096).unwrap(), VERIFIER);
}

#[test]
fn a_verifier_survives_its_text() {
    let verifier = Verifier::parse(VERIFIER).unwrap();
    assert_eq!(verifier.to_string(), VERIFIER);
    assert!(Verifier::is_verifier(VERIFIER));
    assert_eq!(format!("{verifier:?}"), "SCRAM-SHA-256$4096:…");
}

#[test]
fn texts_that_are_no_verifier_are_refused_without_quoting_them() {
    for text in ["", "hunter2", "SCRAM-SHA-256$0:YQ==$YQ==:YQ==", "SCRAM-SHA-256$4096:$a:b", "md5"]
    {
        let error = Verifier::parse(text).unwrap_err();
        assert_eq!(error.sqlstate(), "22023");
        assert!(text.is_empty() || !error.message().contains(text));
    }
}

#[test]
fn an_empty_password_has_no_verifier() {
    assert_eq!(make_verifier("", b"salt", 4096).unwrap_err().sqlstate(), "22023");
    assert_eq!(make_verifier("a", b"", 4096).unwrap_err().sqlstate(), "22023");
    assert_eq!(make_verifier("a", b"salt", 0).unwrap_err().sqlstate(), "22023");
}

#[test]
fn passwords_are_prepared_so_that_composed_and_decomposed_letters_agree() {
    let composed = make_verifier("Ph\u{fa} H\u{1ed9}i", b"0123456789abcdef", 4096).unwrap();
    let decomposed =
        make_verifier("Phu\u{301} Ho\u{323}\u{302}i", b"0123456789abcdef", 4096).unwrap();
    assert_eq!(composed, decomposed);
}
