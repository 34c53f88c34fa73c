//! The known answer is RFC 7677's: user `user`, password `pencil`.

use super::*;

#[test]
fn the_example_of_the_rfc_comes_out() {
    let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = make_verifier("pencil", &salt, 4096).unwrap();
    assert_eq!(
        verifier,
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
         WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    );
    assert!(is_verifier(&verifier));
}

#[test]
fn passwords_that_look_alike_are_one_password() {
    let salt = [7; 16];
    let nfc = make_verifier("mật khẩu", &salt, 1).unwrap();
    let nfd = make_verifier("ma\u{323}t kha\u{302}\u{309}u", &salt, 1).unwrap();
    assert_eq!(nfc, nfd);
    assert!(make_verifier("\u{7}bell", &salt, 1).is_ok());
}

#[test]
fn what_only_looks_like_a_verifier_is_a_password() {
    for text in ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", "md5abc"] {
        assert!(!is_verifier(text), "{text}");
    }
}
