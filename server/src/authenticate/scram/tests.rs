//! The SCRAM exchange against RFC 7677 and against forgeries.

use super::*;

const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn verifier() -> Verifier {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    Verifier::derive("pencil", &salt, 4096).unwrap()
}

fn start(mechanism: &str, message: &[u8], binding: Option<&[u8]>) -> Result<Exchange> {
    begin(mechanism, message, binding, verifier(), SERVER_NONCE)
}

#[test]
fn the_example_of_rfc_7677() {
    let exchange = start(SCRAM_SHA_256, CLIENT_FIRST, None).unwrap();
    assert_eq!(exchange.server_first(), SERVER_FIRST);
    assert_eq!(exchange.finish(CLIENT_FINAL).unwrap().as_deref(), Some(SERVER_FINAL));
}

#[test]
fn a_proof_of_another_password_is_wrong() {
    let other = Verifier::derive("pencils", &verifier().salt, 4096).unwrap();
    let exchange = begin(SCRAM_SHA_256, CLIENT_FIRST, None, other, SERVER_NONCE).unwrap();
    assert_eq!(exchange.finish(CLIENT_FINAL).unwrap(), None);
}

#[test]
fn a_proof_cannot_be_used_twice() {
    let exchange = begin(SCRAM_SHA_256, CLIENT_FIRST, None, verifier(), "another nonce?").unwrap();
    assert_eq!(exchange.finish(CLIENT_FINAL).unwrap_err().sqlstate(), "08P01");
}

#[test]
fn a_client_that_does_not_see_the_offered_binding_is_refused() {
    let message = b"y,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    let error = start(SCRAM_SHA_256, message, Some(b"hash")).err().unwrap();
    assert_eq!(error.sqlstate(), "28000");
    assert!(start(SCRAM_SHA_256, message, None).is_ok());
}

#[test]
fn the_binding_is_to_this_certificate() {
    let message = b"p=tls-server-end-point,,n=,r=abc";
    let exchange = start(SCRAM_SHA_256_PLUS, message, Some(b"hash")).unwrap();
    let last = |bound: &[u8]| {
        let without_proof = format!("c={},r=abc{SERVER_NONCE}", STANDARD.encode(bound));
        let signed = format!("n=,r=abc,{},{without_proof}", exchange.server_first());
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"pencil", &verifier().salt, 4096);
        let client_key = hmac_sha256(&salted, b"Client Key");
        let signature = hmac_sha256(&verifier().stored_key, signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    };
    let good = exchange.finish(&last(b"p=tls-server-end-point,,hash"));
    assert!(good.unwrap().is_some_and(|message| message.starts_with("v=")));
    let other = exchange.finish(&last(b"p=tls-server-end-point,,other"));
    assert_eq!(other.unwrap_err().sqlstate(), "28000");
    let none = exchange.finish(&last(b"p=tls-server-end-point,,"));
    assert_eq!(none.unwrap_err().sqlstate(), "28000");
}

#[test]
fn mechanism_and_flag_must_fit() {
    let binding: Option<&[u8]> = Some(b"hash");
    assert_eq!(mechanisms(None), [SCRAM_SHA_256]);
    assert_eq!(mechanisms(binding), [SCRAM_SHA_256_PLUS, SCRAM_SHA_256]);
    assert!(start(SCRAM_SHA_256_PLUS, CLIENT_FIRST, binding).is_err());
    assert!(start(SCRAM_SHA_256_PLUS, b"p=tls-unique,,n=,r=abc", binding).is_err());
    assert!(start(SCRAM_SHA_256, b"p=tls-server-end-point,,n=,r=abc", binding).is_err());
    assert!(start(SCRAM_SHA_256_PLUS, b"p=tls-server-end-point,,n=,r=abc", None).is_err());
    assert!(start("SCRAM-SHA-1", CLIENT_FIRST, binding).is_err());
}

#[test]
fn broken_messages_are_errors() {
    for message in [
        &b""[..],
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,n=user,r=",
        b"n,,n=user,r=a b",
        b"n,,m=x,n=user,r=a",
        b"n,a=root,n=user,r=a",
        b"\xff,,n=user,r=a",
    ] {
        assert!(start(SCRAM_SHA_256, message, None).is_err(), "{message:?}");
    }
    let exchange = start(SCRAM_SHA_256, CLIENT_FIRST, None).unwrap();
    for message in [&b""[..], b"c=biws", b"c=biws,r=x,p=YQ==", b",p=", b"p="] {
        assert!(exchange.finish(message).is_err(), "{message:?}");
    }
}
