//! `[passwords]` and `[oidc]`: what is asked of passwords, and whose tokens are taken.

use std::path::PathBuf;
use std::str::FromStr;

use kho_catalog::error::Result;
use kho_sql::passwords::Rules;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use url::{Host, Url};

use super::invalid;
use crate::authenticate::oidc::{self, KeySource};

/// What is asked of a password when it is set. Of what says nothing the default depends on where the
/// server listens: on loopback, which is a developer's machine, nothing is asked; off it, eight characters,
/// a score of 2, and not the role's name. Behind a proxy on the same machine, set them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passwords {
    /// In characters.
    #[serde(deserialize_with = "given")]
    pub minimum_length: Option<usize>,
    /// How hard it is to guess, from 0 (anybody's first) to 4, as zxcvbn estimates it.
    #[serde(deserialize_with = "given")]
    pub minimum_score: Option<u8>,
    /// Whether one that contains the role's name is refused.
    #[serde(deserialize_with = "given")]
    pub refuse_role_name: Option<bool>,
    /// Whether a role can be given a ready-made verifier, of which hardly anything can be checked.
    /// psql's `\password` sends one.
    pub accept_verifiers: bool,
}

/// The identity provider whose tokens are taken; without an issuer none are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// What tokens must say in `iss`.
    pub issuer: Option<String>,
    /// What they must say in `aud`, among others.
    pub audience: Option<String>,
    /// Where the provider's keys are (a JWKS): a file, or an address, `https` unless on loopback.
    pub jwks: Option<String>,
    /// The claim whose value `kho.map_identity` maps to a role.
    pub claim: String,
}

/// A value that may be left out; from the environment it comes as text.
fn given<'de, D, T>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + FromStr,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given<T> {
        Value(T),
        Text(String),
    }
    match Option::<Given<T>>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Given::Value(value)) => Ok(Some(value)),
        Some(Given::Text(text)) => match text.trim().parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(D::Error::custom(format!("invalid value \"{text}\""))),
        },
    }
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords {
            minimum_length: None,
            minimum_score: None,
            refuse_role_name: None,
            accept_verifiers: true,
        }
    }
}

impl Default for Oidc {
    fn default() -> Oidc {
        Oidc { issuer: None, audience: None, jwks: None, claim: "sub".to_owned() }
    }
}

impl Passwords {
    pub(super) fn check(&self) -> Result<()> {
        match self.minimum_score {
            Some(5..) => Err(invalid("passwords.minimum_score must be at most 4")),
            _ => Ok(()),
        }
    }

    /// The rules of a server that listens `on_loopback`, or elsewhere.
    pub fn rules(&self, on_loopback: bool) -> Rules {
        let default = if on_loopback { Rules::default() } else { Rules::STRICT };
        Rules {
            minimum_length: self.minimum_length.unwrap_or(default.minimum_length),
            minimum_score: self.minimum_score.unwrap_or(default.minimum_score),
            refuse_role_name: self.refuse_role_name.unwrap_or(default.refuse_role_name),
            accept_verifiers: self.accept_verifiers,
        }
    }
}

impl Oidc {
    pub(super) fn check(&self) -> Result<()> {
        let given = [&self.issuer, &self.audience, &self.jwks];
        if given.iter().all(|it| it.is_none()) {
            return Ok(());
        }
        if given.iter().any(|it| it.as_ref().is_none_or(|it| it.trim().is_empty())) {
            return Err(invalid("oidc.issuer, oidc.audience and oidc.jwks must be set together"));
        }
        if self.claim.trim().is_empty() {
            return Err(invalid("oidc.claim must name a claim"));
        }
        self.source().map(drop)
    }

    /// # Errors
    /// `F0000` for a file that holds no keys. An address that is away now is asked again later.
    pub async fn open(&self) -> Result<Option<oidc::Oidc>> {
        let (Some(issuer), Some(audience)) = (&self.issuer, &self.audience) else {
            return Ok(None);
        };
        let names = (issuer.clone(), audience.clone(), self.claim.clone());
        oidc::Oidc::open(names, self.source()?).await.map(Some)
    }

    fn source(&self) -> Result<KeySource> {
        let written = self.jwks.as_deref().unwrap_or_default();
        if !written.contains("://") {
            return Ok(KeySource::File(PathBuf::from(written)));
        }
        let url = Url::parse(written).map_err(|_| invalid("oidc.jwks is no address"))?;
        let on_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(KeySource::Address(url)),
            "http" if on_loopback => Ok(KeySource::Address(url)),
            _ => Err(invalid("oidc.jwks must be a file or an https:// address")
                .with_hint("Who can change the keys on their way can log in as anybody.")),
        }
    }
}
