//! By what a session was let in, and so how far it goes and how long.
//!
//! What it guarantees: a session ends with what it came by: with the time, the revocation or the
//! removal of that, within a second also on another server. What the credential leaves of the
//! role's rights stays so for the whole session, whatever it sets or resets.
//! What it does not: it checks no proof but an API token's, which is a secret with an entry in the
//! catalog; the server checks the others and says so here.
//! On failure: `28000` once it has ended, `KH002` for a purpose that it is not for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kho_catalog::agreement::Stated;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{Principal, Within};
use kho_catalog::state::{IdentityKind, Oid, State};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::Engine;

/// What every API token begins with, so that one that lies about is known for what it is.
pub const TOKEN_PREFIX: &str = "kho_";

/// What a session was let in by.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    pub how: How,
    /// The role whose it is: one that is made anew under the same name is another. `None` where the
    /// name was all there was to go by.
    pub role: Option<Oid>,
    /// Milliseconds since the epoch: the end of it, and of its sessions.
    pub until_ms: Option<i64>,
    /// What it leaves of the role's rights; something for all but a password.
    pub within: Option<Arc<Within>>,
}

/// The kinds of proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// From inside the server, without any.
    #[default]
    Internal,
    Password {
        /// Of a client certificate that came along and is nobody's, or not this role's.
        unmapped: Option<String>,
    },
    Token {
        oid: Oid,
        name: String,
    },
    /// Somebody else vouches for it: the authority of certificates, the identity provider.
    Identity {
        kind: IdentityKind,
        /// As it is mapped to the role.
        identity: String,
    },
}

/// What became of a secret that was presented.
#[derive(Clone, Debug)]
pub enum Presented {
    Right(Credential),
    /// Why not, for the ledger: whoever presented it is told of a wrong password.
    Wrong(&'static str),
}

impl Engine {
    /// The credential of `role` that one of `identities` is, which somebody else has vouched for
    /// until that time; `None` where none of them is mapped to it.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn present_identity(
        &self,
        role: &str,
        (kind, identities): (IdentityKind, &[String]),
        until_ms: i64,
    ) -> Result<Option<Credential>> {
        let state = self.catalog().fresh().await?;
        let Some(role) = state.role(role).map(|role| role.oid) else { return Ok(None) };
        let is_its = |identity: &&String| state.mapped(kind, identity).any(|it| it.role == role);
        Ok(identities.iter().find(is_its).map(|identity| Credential {
            how: How::Identity { kind, identity: identity.clone() },
            role: Some(role),
            until_ms: Some(until_ms),
            within: Some(Arc::default()),
        }))
    }

    /// The role that a token is of, whether or not it still holds, for a client that names none.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn role_of_token(&self, text: &str) -> Result<Option<String>> {
        let state = self.catalog().fresh().await?;
        let hash = token_hash(text);
        let mut found = None;
        for token in state.access.tokens.values() {
            if bool::from(token.hash.as_bytes().ct_eq(hash.as_bytes())) {
                found = state.roles.get(&token.role).map(|role| role.name.clone());
            }
        }
        Ok(found)
    }

    /// The role that one of `identities` is mapped to, where it is one alone.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn role_of_identity(
        &self,
        kind: IdentityKind,
        identities: &[String],
    ) -> Result<Option<String>> {
        let state = self.catalog().fresh().await?;
        let mapped = identities.iter().flat_map(|it| state.mapped(kind, it));
        let roles: BTreeSet<Oid> = mapped.map(|it| it.role).collect();
        let mut roles = roles.into_iter();
        let (Some(role), None) = (roles.next(), roles.next()) else { return Ok(None) };
        Ok(state.roles.get(&role).map(|role| role.name.clone()))
    }

    /// What `text`, presented as an API token of `role`, is worth. It takes the same time whether
    /// there is such a role or not.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn present_token(&self, role: &str, text: &str) -> Result<Presented> {
        let state = self.catalog().fresh().await?;
        let hash = token_hash(text);
        let role = state.role(role).map(|role| role.oid);
        let mut found = None;
        for token in state.access.tokens.values() {
            let same = bool::from(token.hash.as_bytes().ct_eq(hash.as_bytes()));
            if same && Some(token.role) == role {
                found = Some(token);
            }
        }
        let Some(token) = found else { return Ok(Presented::Wrong("wrong token")) };
        let now_ms = self.catalog().environment().now_ms();
        Ok(match token.standing(now_ms) {
            "live" => Presented::Right(Credential {
                how: How::Token { oid: token.oid, name: token.name.clone() },
                role: Some(token.role),
                until_ms: Some(token.valid_until_ms),
                within: Some(token.within()),
            }),
            "revoked" => Presented::Wrong("a token that was revoked"),
            _ => Presented::Wrong("a token that has expired"),
        })
    }
}

/// What the catalog keeps of a token.
pub(crate) fn token_hash(text: &str) -> String {
    use fmt::Write as _;
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        // Writing to a text does not fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

impl Credential {
    /// A password, which was right.
    pub fn password(role: Oid) -> Credential {
        let how = How::Password { unmapped: None };
        Credential { how, role: Some(role), ..Credential::default() }
    }

    /// Notes, with a password, a certificate that was not the proof.
    pub fn came_with(&mut self, certificate: Option<&str>) {
        if let How::Password { unmapped } = &mut self.how {
            *unmapped = certificate.map(str::to_owned);
        }
    }

    /// Whether it still holds.
    ///
    /// # Errors
    /// `28000` where it has come to its end.
    pub(crate) fn check(&self, state: &State, now_ms: i64) -> Result<()> {
        let ended = match &self.how {
            How::Token { oid, .. } => {
                let token = state.access.tokens.get(oid);
                token.is_none_or(|token| token.revoked.is_some()).then_some("was revoked")
            }
            How::Identity { kind, identity } => {
                let mut roles = state.mapped(*kind, identity).map(|it| Some(it.role));
                (!roles.any(|role| role == self.role)).then_some("is no longer mapped to its role")
            }
            How::Internal | How::Password { .. } => None,
        };
        let expired = self.until_ms.filter(|until_ms| *until_ms <= now_ms);
        let Some(ended) = ended.or(expired.map(|_| "has expired")) else { return Ok(()) };
        let message = format!("the {} of this session {ended}", self.how.noun());
        Err(Error::new(Kind::InvalidAuthorization, message))
    }

    /// # Errors
    /// `KH002` for a purpose that it is not for.
    pub(crate) fn refuse_purpose(&self, stated: &Stated) -> Result<()> {
        let purposes = self.within.as_ref().and_then(|within| within.purposes.as_ref());
        match purposes {
            Some(purposes) if !stated.purpose.is_empty() && !purposes.contains(&stated.purpose) => {
                let message = format!(
                    "the {} of this session is not for the purpose \"{}\"",
                    self.how.noun(),
                    stated.purpose
                );
                let listed: Vec<&str> = purposes.iter().map(String::as_str).collect();
                Err(Error::new(Kind::PurposeNotAllowed, message)
                    .with_hint(format!("It is for: {}.", listed.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// What it leaves of the role's rights where datasets were found by others': behind a view, or
    /// in a policy.
    pub(crate) fn reach(&self) -> Option<Arc<Within>> {
        let within = self.within.as_ref()?;
        Some(Arc::new(Within { datasets: None, ..Within::clone(within) }))
    }

    /// `role` with what it leaves of it.
    pub(crate) fn principal(&self, state: &State, role: Oid) -> Principal {
        Principal::of(state, role).within(self.within.as_ref())
    }
}

impl How {
    fn noun(&self) -> String {
        match self {
            How::Internal | How::Password { .. } => "password".to_owned(),
            How::Token { name, .. } => format!("API token \"{name}\""),
            How::Identity { kind: IdentityKind::Certificate, .. } => "certificate".to_owned(),
            How::Identity { kind: IdentityKind::Oidc, .. } => "bearer token".to_owned(),
        }
    }
}

/// As the ledger and `kho.authentication` say it.
impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Internal => f.write_str("internal"),
            How::Password { unmapped: None } => f.write_str("password"),
            How::Password { unmapped: Some(subject) } => {
                write!(f, "password; certificate not mapped: {subject}")
            }
            How::Token { name, .. } => write!(f, "token {name}"),
            How::Identity { kind, identity } => write!(f, "{} {identity}", kind.name()),
        }
    }
}
