//! What has the form of a token, and which key may verify what.

use super::*;

#[test]
fn an_api_token_is_no_bearer_token() {
    assert!(looks_like("eyJhbGciOiJub25lIn0.e30."));
    assert!(!looks_like("kho_eyJ.x.y"));
    assert!(!looks_like("eyJhbGciOiJub25lIn0.e30"));
}

#[test]
fn a_key_verifies_only_what_it_is_for() {
    let key = |text: &str| serde_json::from_str::<Jwk>(text).unwrap();
    let rsa = r#"{"kty":"RSA","n":"AQAB","e":"AQAB""#;
    assert_eq!(algorithms(&key(&format!("{rsa}}}"))).len(), 6);
    assert_eq!(algorithms(&key(&format!(r#"{rsa},"alg":"RS256"}}"#))), [Algorithm::RS256]);
    assert!(algorithms(&key(&format!(r#"{rsa},"alg":"HS256"}}"#))).is_empty());
    assert!(algorithms(&key(&format!(r#"{rsa},"use":"enc"}}"#))).is_empty());
    assert!(algorithms(&key(r#"{"kty":"oct","k":"AQAB"}"#)).is_empty());
    assert!(algorithms(&key(r#"{"kty":"oct","k":"AQAB","alg":"HS256"}"#)).is_empty());
}
