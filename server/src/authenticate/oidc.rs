//! Tokens that an identity provider signed (OpenID Connect, RFC 7519), and its keys (RFC 7517).
//!
//! What it guarantees: a token is good by a signature of one of the provider's public keys, with an
//! algorithm of that very key: never `none`, never one with a shared secret. Issuer, audience and
//! end must be there and right. A token names its key by an id and nothing else: what it says of
//! addresses, certificates or keys is not looked at. Keys are fetched rarely however many tokens name
//! unknown ones; where the address is away, the keys that are known go on being good.
//! What it does not: it asks nobody whether a token was revoked; it is good until its end.
//! On failure: why, for the ledger; whoever presented it is told of a wrong password.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use kho_catalog::error::{Error, Kind, Result};
use serde_json::Value;
use url::Url;

/// Clocks differ; a token may begin so much later. Its end is its end.
const LEEWAY_S: u64 = 30;
/// Keys that were fetched are looked at again after so long,
const FRESH: Duration = Duration::from_secs(300);
/// and for a key that is not among them after so long, whoever asks how often.
const ASKED_AGAIN: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 1 << 20;
const MOST_KEYS: usize = 100;
/// No name of a role's owner is longer.
const LONGEST_IDENTITY: usize = 1000;

type Refused<T> = std::result::Result<T, &'static str>;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    Address(Url),
}

/// One identity provider.
pub struct Oidc {
    issuer: String,
    audience: String,
    claim: String,
    source: KeySource,
    client: reqwest::Client,
    keys: Mutex<Keys>,
    /// Held by the one who fetches keys.
    fetching: tokio::sync::Mutex<()>,
}

struct Keys {
    known: Arc<JwkSet>,
    fetched: Option<Instant>,
    /// When that was last tried, and was over.
    asked: Option<Instant>,
}

/// What a good token says.
#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    pub identity: String,
    /// Milliseconds since the epoch.
    pub until_ms: i64,
}

/// Whether a text has the form of such a token: an API token never has.
pub fn looks_like(text: &str) -> bool {
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl Oidc {
    /// # Errors
    /// `F0000` for a file without keys.
    pub async fn open(
        (issuer, audience, claim): (String, String, String),
        source: KeySource,
    ) -> Result<Oidc> {
        let mut client =
            reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        // Plain text is for this machine alone, whatever proxy it has.
        if matches!(&source, KeySource::Address(address) if address.scheme() == "http") {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| Error::internal("there is no HTTP client").with_source(error))?;
        let known = Arc::new(JwkSet { keys: Vec::new() });
        let keys = Mutex::new(Keys { known, fetched: None, asked: None });
        let fetching = tokio::sync::Mutex::new(());
        let oidc = Oidc { issuer, audience, claim, source, client, keys, fetching };
        match (oidc.fetch().await, &oidc.source) {
            (Ok(known), _) => {
                let fetched = Some(Instant::now());
                *oidc.keys() = Keys { known, fetched, asked: None };
            }
            (Err(why), KeySource::File(path)) => {
                let message = format!("oidc.jwks: file {} cannot be used: {why}", path.display());
                return Err(Error::new(Kind::ConfigFile, message));
            }
            (Err(why), KeySource::Address(address)) => {
                let host = address.host_str();
                tracing::warn!(host, why, "the keys of the identity provider are not there yet");
            }
        }
        Ok(oidc)
    }

    /// What the token says, if it is good.
    pub async fn verify(&self, token: &str) -> Refused<Bearer> {
        let header = decode_header(token).map_err(|_| "a bearer token that is malformed")?;
        if header.crit.is_some() || header.enc.is_some() || header.zip.is_some() {
            return Err("a bearer token that demands what is not known here");
        }
        let key = self.key(&header).await?;
        let decoding = DecodingKey::from_jwk(&key).map_err(|_| "a bearer token of a broken key")?;
        let mut validation = Validation::new(header.alg);
        validation.algorithms = algorithms(&key);
        validation.leeway = LEEWAY_S;
        // Together: at its end, by the clock of this machine, it has ended.
        validation.reject_tokens_expiring_in_less_than = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = decode::<Value>(token, &decoding, &validation).map_err(|error| match error
            .kind()
        {
            ErrorKind::ExpiredSignature => "a bearer token that has expired",
            ErrorKind::ImmatureSignature => "a bearer token that is not good yet",
            ErrorKind::InvalidIssuer => "a bearer token of another issuer",
            ErrorKind::InvalidAudience => "a bearer token for another audience",
            ErrorKind::InvalidAlgorithm => "a bearer token with another algorithm than its key's",
            _ => "a bearer token that is not good",
        })?;
        self.said(&claims.claims)
    }

    fn said(&self, claims: &Value) -> Refused<Bearer> {
        // A time that is no number must not pass for one that is not there.
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(time) => match time.as_f64().filter(|time| (0.0..1e15).contains(time)) {
                Some(time) => Ok(Some(time)),
                None => Err("a bearer token with a time that is none"),
            },
        };
        time("nbf")?;
        time("iat")?;
        let until_s = time("exp")?.ok_or("a bearer token without an end")?;
        let identity = match claims.get(&self.claim) {
            Some(Value::String(identity)) => identity.as_str(),
            _ => "",
        };
        if self.claim == "email" && claims.get("email_verified") == Some(&Value::Bool(false)) {
            return Err("a bearer token of an address that was not verified");
        }
        if identity.is_empty() || identity.len() > LONGEST_IDENTITY {
            return Err("a bearer token that does not say whose it is");
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is below 1e18")]
        let until_ms = (until_s * 1000.0) as i64;
        Ok(Bearer { identity: identity.to_owned(), until_ms })
    }

    /// The key that a token names, fetched if it has to be. Nobody waits for that who has one.
    async fn key(&self, header: &Header) -> Refused<Jwk> {
        let unknown = "a bearer token of an unknown key";
        let known = |keys: &Keys| (chosen(&keys.known, header), keys.is_settled());
        let (found, is_settled) = known(&self.keys());
        if is_settled(found.is_some()) {
            return found.ok_or(unknown);
        }
        let _place = match (self.fetching.try_lock(), found) {
            (Ok(place), _) => place,
            (Err(_), Some(found)) => return Ok(found),
            (Err(_), None) => self.fetching.lock().await,
        };
        // Somebody else may have fetched them meanwhile.
        let (found, is_settled) = known(&self.keys());
        if is_settled(found.is_some()) {
            return found.ok_or(unknown);
        }
        let fetched = self.fetch().await;
        let mut keys = self.keys();
        keys.asked = Some(Instant::now());
        match fetched {
            Ok(known) => {
                keys.known = known;
                keys.fetched = keys.asked;
            }
            Err(why) => tracing::warn!(why, "the keys of the identity provider: the old ones hold"),
        }
        chosen(&keys.known, header).ok_or(unknown)
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Refused<Arc<JwkSet>> {
        let bytes = match &self.source {
            KeySource::File(path) => {
                let read = tokio::fs::read(path).await;
                read.map_err(|_| "it cannot be read")?
            }
            KeySource::Address(address) => self.download(address).await?,
        };
        if bytes.len() > MOST_BYTES {
            return Err("it is too large");
        }
        let known: JwkSet = serde_json::from_slice(&bytes).map_err(|_| "it is no set of keys")?;
        match known.keys.len() {
            0 => Err("it holds no key"),
            1..=MOST_KEYS => Ok(Arc::new(known)),
            _ => Err("it holds too many keys"),
        }
    }

    async fn download(&self, address: &Url) -> Refused<Vec<u8>> {
        let away = "the address does not answer";
        let response = self.client.get(address.clone()).send().await.map_err(|_| away)?;
        let mut response = response.error_for_status().map_err(|_| "the address refuses")?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| away)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_BYTES {
                return Err("it is too large");
            }
        }
        Ok(bytes)
    }
}

impl Keys {
    /// Whether they need not be fetched, for a key that is among them or not.
    fn is_settled(&self) -> impl Fn(bool) -> bool + use<> {
        let is_fresh = self.fetched.is_some_and(|at| at.elapsed() < FRESH);
        let was_asked = self.asked.is_some_and(|at| at.elapsed() < ASKED_AGAIN);
        move |is_found| (is_found && is_fresh) || was_asked
    }
}

/// The key that the header names by its id, or without one the only key that it can be.
fn chosen(keys: &JwkSet, header: &Header) -> Option<Jwk> {
    let fits = |key: &&Jwk| algorithms(key).contains(&header.alg);
    match &header.kid {
        // A key of that id with which the token cannot be signed is refused as such.
        Some(id) => keys.keys.iter().find(|key| key.common.key_id.as_ref() == Some(id)).cloned(),
        None => {
            let mut fitting = keys.keys.iter().filter(fits);
            fitting.next().filter(|_| fitting.next().is_none()).cloned()
        }
    }
}

/// What a key may verify: by what it is, and by what it says of itself.
fn algorithms(key: &Jwk) -> Vec<Algorithm> {
    use Algorithm as A;
    if !matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Vec::new();
    }
    let by_kind: &[Algorithm] = match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            &[A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512]
        }
        AlgorithmParameters::EllipticCurve(it) => match it.curve {
            EllipticCurve::P256 => &[A::ES256],
            EllipticCurve::P384 => &[A::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(_) => &[A::EdDSA],
        // A secret that is published is none.
        _ => &[],
    };
    let said = key.common.key_algorithm;
    by_kind.iter().copied().filter(|it| said.is_none_or(|said| said == (*it).into())).collect()
}

#[cfg(test)]
mod tests;
