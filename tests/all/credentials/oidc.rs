//! Tokens of an identity provider, which the test plays: keys on loopback, tokens of every kind.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use kho_tests::kho::{Folders, Kho};
use kho_tests::wire::Wire;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::{BY_TOKEN, by_token, refused_token};

const ISSUER: &str = "https://login.hue.vn";

/// An identity provider: its keys, and an address that tells them.
struct Provider {
    told: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    address: String,
}

struct Key {
    id: &'static str,
    pair: KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Key {
        Key { id, pair: KeyPair::generate().unwrap() }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key_raw();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": part(1), "y": part(33)})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, &EncodingKey::from_ec_der(&self.pair.serialize_der())).unwrap()
    }
}

impl Provider {
    fn start(keys: &[&Key]) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/keys", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(set(keys)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (body, count) = (told.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 4096];
                drop(stream.read(&mut request));
                count.fetch_add(1, Ordering::SeqCst);
                let body = body.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                drop(stream.write_all(format!("{head}{body}").as_bytes()));
            }
        });
        Provider { told, asked, address }
    }

    fn serve(&self, more: &[(&str, &str)]) -> Kho {
        let mut environment = vec![
            ("KHO_OIDC__ISSUER", ISSUER),
            ("KHO_OIDC__AUDIENCE", "kho"),
            ("KHO_OIDC__JWKS", self.address.as_str()),
        ];
        environment.extend_from_slice(more);
        let kho = Kho::start_with(Folders::new(), &environment);
        let mut admin = kho.admin();
        admin.run("CREATE ROLE an LOGIN PASSWORD 'an'");
        admin.run("CREATE ROLE other LOGIN");
        admin.run("CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE kho_auditor");
        admin.run("CALL kho.map_identity('oidc', 'an@hue.vn', 'an')");
        kho
    }
}

fn set(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()}).to_string()
}

fn in_s(seconds: i64) -> i64 {
    chrono::Utc::now().timestamp() + seconds
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "kho", "sub": "an@hue.vn", "exp": in_s(3600), "iat": in_s(0)})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn a_token_of_the_provider_lets_the_role_in_that_its_subject_is_mapped_to() {
    let key = Key::new("k1");
    let kho = Provider::start(&[&key]).serve(&[]);
    let mut wire = by_token(&kho, "an", &key.sign(&claims())).unwrap();
    assert_eq!(wire.value("SELECT current_user"), "an");
    assert_eq!(wire.value("SHOW kho.authentication"), "oidc an@hue.vn");
    let several = with("aud", json!(["other", "kho"]));
    assert!(by_token(&kho, "an", &key.sign(&several)).is_ok());
    let call = "CALL kho.create_api_token('x', null, now() + interval '1 day', 'read')";
    assert_eq!(wire.refusal(call).sqlstate, "42501");
    assert_eq!(wire.refusal("ALTER ROLE an PASSWORD 'turnip-anvil'").sqlstate, "42501");
    let how = "SELECT DISTINCT authentication FROM kho.audit_log \
               WHERE role = 'an' AND kind = 'login'";
    assert_eq!(kho.connect("auditor").value(how), "oidc an@hue.vn");
    assert_eq!(refused_token(&kho, "other", &key.sign(&claims())).0, "28P01");
}

#[test]
fn what_a_token_says_wrongly_is_refused_and_the_ledger_says_why() {
    let key = Key::new("k1");
    let kho = Provider::start(&[&key]).serve(&[]);
    let gone = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    for (what, claims) in [
        ("expired", with("exp", json!(in_s(-1)))),
        ("no end", gone("exp")),
        ("an end that is none", with("exp", json!("never"))),
        ("not yet", with("nbf", json!(in_s(600)))),
        ("a beginning that is none", with("nbf", json!("soon"))),
        ("another issuer", with("iss", json!("https://evil"))),
        ("no issuer", gone("iss")),
        ("another audience", with("aud", json!("wiki"))),
        ("no audience", gone("aud")),
        ("somebody else", with("sub", json!("binh@hue.vn"))),
        ("nobody", gone("sub")),
        ("a list of names", with("sub", json!(["an@hue.vn"]))),
    ] {
        let refused = refused_token(&kho, "an", &key.sign(&claims));
        let told = "password authentication failed for user \"an\"".to_owned();
        assert_eq!(refused, ("28P01".to_owned(), told), "{what}");
    }
    let why = "SELECT count(DISTINCT command) FROM kho.audit_log \
               WHERE kind = 'login_refused' AND command LIKE 'a bearer token%'";
    assert!(kho.connect("auditor").value(why).parse::<u32>().unwrap() >= 6);
    // A clock that is a little late.
    assert!(by_token(&kho, "an", &key.sign(&with("nbf", json!(in_s(10))))).is_ok());
}

/// The header is the attacker's.
#[test]
fn no_header_makes_a_token_good() {
    let key = Key::new("k1");
    let provider = Provider::start(&[&key]);
    let kho = provider.serve(&[]);
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let by_secret = |secret: &[u8]| {
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(), &EncodingKey::from_secret(secret).unwrap()).unwrap()
    };
    let mut tokens = vec![
        format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&claims())),
        format!("{}.{}.x", encoded(&json!({"alg": "None", "kid": "k1"})), encoded(&claims())),
        // The public key as a shared secret, in each of its forms.
        by_secret(key.pair.public_key_raw()),
        by_secret(key.pair.public_key_pem().as_bytes()),
        by_secret(key.public().to_string().as_bytes()),
        by_secret(&key.pair.public_key_raw()[1..]),
    ];
    let thief = Key::new("k1");
    tokens.push(thief.sign(&claims()));
    for kid in ["k2", "", "../../dev/null", "k1' OR '1'='1", "http://evil/keys"] {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        let secret = EncodingKey::from_ec_der(&thief.pair.serialize_der());
        tokens.push(encode(&header, &claims(), &secret).unwrap());
    }
    // A key that comes along, or the place of one.
    let jwk = serde_json::from_value(thief.public()).unwrap();
    let mut header = Header { jwk: Some(jwk), ..Header::new(Algorithm::ES256) };
    header.jku = Some(provider.address.clone());
    let secret = EncodingKey::from_ec_der(&thief.pair.serialize_der());
    tokens.push(encode(&header, &claims(), &secret).unwrap());
    let own = EncodingKey::from_ec_der(&key.pair.serialize_der());
    let header = Header {
        kid: Some("k1".to_owned()),
        crit: Some(vec!["b64".to_owned()]),
        ..Header::new(Algorithm::ES256)
    };
    tokens.push(encode(&header, &claims(), &own).unwrap());
    // A right one with other claims under its signature.
    let right = key.sign(&claims());
    let parts: Vec<&str> = right.split('.').collect();
    let other = encoded(&with("sub", json!("admin")));
    tokens.push(format!("{}.{other}.{}", parts[0], parts[2]));
    tokens.push(format!("{}.{}.", parts[0], parts[1]));
    // Fewer than what is turned away unheard.
    for (turn, token) in tokens.iter().enumerate() {
        let refused = Wire::connect_with(&kho.target("an", token), &[BY_TOKEN]);
        assert!(refused.is_err(), "token {turn} is let in");
    }
    assert!(provider.asked.load(Ordering::SeqCst) <= 1 + 1 + 8, "the provider is asked too often");
    let asked = Instant::now();
    while by_token(&kho, "an", &right).is_err() {
        assert!(asked.elapsed() < Duration::from_secs(60), "the throttle never ends");
    }
}

#[test]
fn a_new_key_is_fetched_and_old_ones_hold_while_the_provider_is_away() {
    let (first, second) = (Key::new("k1"), Key::new("k2"));
    let provider = Provider::start(&[&first]);
    let kho = provider.serve(&[]);
    assert!(by_token(&kho, "an", &first.sign(&claims())).is_ok());
    *provider.told.lock().unwrap() = set(&[&first, &second]);
    assert!(by_token(&kho, "an", &second.sign(&claims())).is_ok());
    let asked = provider.asked.load(Ordering::SeqCst);
    assert_eq!(asked, 2);
    // From now on it tells nothing of use.
    *provider.told.lock().unwrap() = "away".to_owned();
    for _ in 0..3 {
        assert_eq!(refused_token(&kho, "an", &Key::new("k3").sign(&claims())).0, "28P01");
    }
    assert!(provider.asked.load(Ordering::SeqCst) <= asked + 1, "once in some seconds");
    assert!(by_token(&kho, "an", &first.sign(&claims())).is_ok());
    assert!(by_token(&kho, "an", &second.sign(&claims())).is_ok());
}

#[test]
fn the_end_of_a_token_is_the_end_of_its_sessions() {
    let key = Key::new("k1");
    let kho = Provider::start(&[&key]).serve(&[]);
    let short = key.sign(&with("exp", json!(in_s(5))));
    let mut wire = by_token(&kho, "an", &short).unwrap();
    let asked = Instant::now();
    assert_eq!(wire.wait_for_close().unwrap().sqlstate, "28000");
    assert!(asked.elapsed() < Duration::from_secs(20));
    let mut wire = by_token(&kho, "an", &key.sign(&claims())).unwrap();
    kho.admin().run("CALL kho.unmap_identity('oidc', 'an@hue.vn', 'an')");
    assert_eq!(wire.wait_for_close().unwrap().sqlstate, "28000");
}

#[test]
fn another_claim_can_be_mapped_and_keys_can_be_in_a_file() {
    let key = Key::new("k1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&[&key])).unwrap();
    let file = file.to_str().unwrap();
    let provider = Provider::start(&[&key]);
    let kho = provider.serve(&[("KHO_OIDC__JWKS", file), ("KHO_OIDC__CLAIM", "email")]);
    assert_eq!(refused_token(&kho, "an", &key.sign(&claims())).0, "28P01");
    assert!(by_token(&kho, "an", &key.sign(&with("email", json!("an@hue.vn")))).is_ok());
    assert_eq!(provider.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn without_a_provider_no_token_of_one_is_taken() {
    let kho = super::city();
    kho.admin().run("CALL kho.map_identity('oidc', 'an@hue.vn', 'an')");
    assert_eq!(refused_token(&kho, "an", &Key::new("k1").sign(&claims())).0, "28P01");
}
