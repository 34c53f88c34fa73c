//! Whose a call is.
//!
//! What it is: a call says it by `authorization`: `Basic` (a role and its password), or `Bearer`: what a
//! handshake gave, an API token, or a token of the identity provider; or its connection came with a
//! client certificate. `kho-role` names the role where that leaves it open, and with
//! `kho-authentication: token` what stands for the password of `Basic` is a token.
//! What it guarantees: nothing of a call is looked at before. What was proved once counts for as long as
//! that client is there. One whose password was changed meanwhile, or whose role may not log in any
//! more, is ended when its bearer token is to be renewed, which is when half of its lifetime is over; and
//! by its next call, where each call proves it anew. No bearer token holds longer than 24 times its
//! lifetime after the login it comes of.
//! What it does not: it decides nothing itself; [`crate::authenticate`] does, for all wires.
//! On failure: `28000` or `28P01`, in the ledger where a try was made.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use kho_catalog::error::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;

use super::Shared;
use super::client::{By, Client};
use super::listener::Peer;
use super::options;
use super::ticket::{self, Bearer, Use};

/// The metadata key of who a call is of, both ways.
pub const AUTHORIZATION: &str = "authorization";
const ROLE: &str = "kho-role";
const AUTHENTICATION: &str = "kho-authentication";
/// What a token of a handshake begins with, unlike all others.
const BEARER_PREFIX: &str = "flight.";
/// A login has bearer tokens for this many of their lifetimes.
const RENEWED_FOR: i64 = 24;
/// No credential is longer.
const LONGEST_BYTES: usize = 16 * 1024;

/// Go's client leaves the padding out.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a call says to prove whose it is.
enum Proof {
    Password { role: String, password: String },
    Token { role: Option<String>, text: String },
    Certificate { role: Option<String> },
}

/// What a call sends where a password is sent.
enum Secret {
    Password,
    Token,
}

/// The client of a call, and a bearer token that is to be used from now on, if it is time.
///
/// # Errors
/// `28000` where nothing is proved, or two roles are named; `22023` for an unknown way to prove it;
/// what [`Clients::admit`](super::client::Clients::admit) says.
pub async fn known(
    shared: &Shared,
    metadata: &MetadataMap,
    peer: &Peer,
) -> Result<(Arc<Client>, Option<String>)> {
    let said_bearer = said(metadata, AUTHORIZATION)?.and_then(bearer);
    if let Some(text) = said_bearer.and_then(|text| text.strip_prefix(BEARER_PREFIX)) {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let bearer = opened(shared, text).filter(|bearer| now_ms < bearer.until_ms);
        let client = bearer.as_ref().and_then(|bearer| ticket::id(&bearer.client));
        let client = client.and_then(|id| shared.clients.get(id));
        // One of before a restart, say: no try to guess anything.
        let Some((bearer, client)) = bearer.zip(client) else {
            return Err(nobody("the bearer token is over, or not of this server")
                .with_hint("Authenticate again, with a handshake."));
        };
        secret(metadata)?;
        if let Some(said) = said(metadata, ROLE)? {
            let account = shared.entrance.engine.account_of(client.role).await?;
            if account.is_none_or(|account| account.name != said) {
                return Err(two_roles());
            }
        }
        let is_old = bearer.until_ms - now_ms < lifetime_ms(shared) / 2;
        if is_old {
            // Until then it is a session like any other, which ends by a freeze and not by a password.
            still_let_in(shared, &client, peer).await?;
        }
        // At the end of all renewals it is the last one that holds.
        let is_longer = holds_until(shared, &client, now_ms) > bearer.until_ms;
        let renewed = (is_old && is_longer).then(|| bearer_of(shared, &client)).transpose()?;
        return Ok((client, renewed));
    }
    let proof = proof(metadata, peer)?;
    let digest = digest(shared, metadata, peer, &proof).await?;
    if let Some(client) = shared.clients.of_proof(&digest) {
        still_let_in(shared, &client, peer).await?;
        return Ok((client, None));
    }
    let client = admit(shared, proof, metadata, peer).await?;
    Ok((shared.clients.remember(digest, client), None))
}

/// A new client, and the bearer token that its calls are to have.
///
/// # Errors
/// `28000`, `28P01`; what [`Clients::admit`](super::client::Clients::admit) says.
pub async fn handshake(shared: &Shared, metadata: &MetadataMap, peer: &Peer) -> Result<String> {
    let client = admit(shared, proof(metadata, peer)?, metadata, peer).await?;
    bearer_of(shared, &client)
}

async fn admit(
    shared: &Shared,
    proof: Proof,
    metadata: &MetadataMap,
    peer: &Peer,
) -> Result<Arc<Client>> {
    let (role, by) = proved(shared, proof, peer).await?;
    let settings = options::said(metadata)?;
    shared.clients.admit(&role, by, peer, settings, &shared.deadline).await
}

/// Ends a client that would not be let in now.
async fn still_let_in(shared: &Shared, client: &Client, peer: &Peer) -> Result<()> {
    let authenticator = &shared.entrance.authenticator;
    let by = (client.role, client.password);
    let still = authenticator.still_admits("flight", by, Some(peer.address)).await;
    still.map(drop).inspect_err(|error| {
        if matches!(error.kind(), Kind::InvalidAuthorization | Kind::InvalidPassword) {
            shared.clients.end(client.id);
        }
    })
}

async fn proved(shared: &Shared, proof: Proof, peer: &Peer) -> Result<(String, By)> {
    let authenticator = &shared.entrance.authenticator;
    let address = Some(peer.address);
    match proof {
        Proof::Password { role, password } => {
            let attempt = authenticator.begin("flight", &role, address).await?;
            let mut credential = authenticator.decide_by_password(&attempt, password).await?;
            credential.came_with(peer.certificate.as_ref().map(|it| it.name()));
            Ok((role, (credential, attempt.verifier_digest())))
        }
        Proof::Token { role, text } => {
            let role = match role {
                Some(role) => Some(role),
                None => authenticator.role_of_token(&text).await?,
            };
            // Of nobody's token nobody is told more than of a wrong one.
            let role = role.unwrap_or_default();
            let attempt = authenticator.begin("flight", &role, address).await?;
            let credential = authenticator.decide_by_token(&attempt, &text).await?;
            Ok((role, (credential, None)))
        }
        Proof::Certificate { role } => {
            let certificate = peer.certificate.as_ref().ok_or_else(unproved)?;
            let role = match role {
                Some(role) => Some(role),
                None => authenticator.role_of_certificate(certificate).await?,
            };
            let role = role.ok_or_else(|| {
                nobody("the client certificate is not mapped to one role")
                    .with_hint("Name the role: kho-role.")
            })?;
            let attempt = authenticator.begin("flight", &role, address).await?;
            match authenticator.vouched(&attempt, certificate).await? {
                Some(credential) => Ok((role, (credential, None))),
                None => {
                    let reason = "a client certificate that is not mapped to the role";
                    authenticator.refused(&attempt, reason).await;
                    Err(nobody(reason))
                }
            }
        }
    }
}

fn proof(metadata: &MetadataMap, peer: &Peer) -> Result<Proof> {
    let secret = secret(metadata)?;
    let role = said(metadata, ROLE)?.map(str::to_owned);
    let Some(text) = said(metadata, AUTHORIZATION)? else {
        return match peer.certificate {
            Some(_) => Ok(Proof::Certificate { role }),
            None => Err(unproved()),
        };
    };
    if text.len() > LONGEST_BYTES {
        return Err(nobody("what authorization says is too long"));
    }
    if let Some(text) = bearer(text) {
        return Ok(Proof::Token { role, text: text.to_owned() });
    }
    let malformed = || nobody("what authorization says is neither Basic nor Bearer");
    let (scheme, encoded) = text.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = BASIC.decode(encoded.trim()).map_err(|_| malformed())?;
    let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
    let (name, password) = decoded.split_once(':').ok_or_else(malformed)?;
    if role.is_some_and(|role| role != name) {
        return Err(two_roles());
    }
    let (role, password) = (name.to_owned(), password.to_owned());
    match secret {
        Secret::Password if password.is_empty() && peer.certificate.is_some() => {
            Ok(Proof::Certificate { role: Some(role) })
        }
        Secret::Password => Ok(Proof::Password { role, password }),
        Secret::Token => Ok(Proof::Token { role: Some(role), text: password }),
    }
}

/// What `kho-authentication` says that stands for the password of `Basic`.
///
/// # Errors
/// `22023` for what is neither, whether or not there is a `Basic`.
fn secret(metadata: &MetadataMap) -> Result<Secret> {
    match said(metadata, AUTHENTICATION)? {
        None | Some("password") => Ok(Secret::Password),
        Some("token") => Ok(Secret::Token),
        Some(other) => {
            let message = format!("kho-authentication is \"{other}\"");
            Err(Error::new(Kind::InvalidParameterValue, message)
                .with_hint("It is password or token."))
        }
    }
}

/// What a proof is known by, over this connection: with the password's verifier and whether it may be
/// used, so that it is proved anew once that is otherwise.
async fn digest(
    shared: &Shared,
    metadata: &MetadataMap,
    peer: &Peer,
    proof: &Proof,
) -> Result<[u8; 32]> {
    let account = match proof {
        Proof::Password { role, .. } => shared.entrance.engine.account(role).await?,
        _ => None,
    };
    let now_ms = chrono::Utc::now().timestamp_millis();
    let is_usable = account
        .as_ref()
        .is_some_and(|it| it.login && it.valid_until_ms.is_none_or(|until_ms| now_ms < until_ms));
    let verifier = account.and_then(|it| it.verifier).unwrap_or_default();
    let mut digest = Sha256::new();
    let said = |name| metadata.get(name).map(|it| it.as_bytes()).unwrap_or_default();
    let connection = peer.number.to_be_bytes();
    let parts: [&[u8]; 6] = [
        &connection,
        said(AUTHORIZATION),
        said(ROLE),
        said(AUTHENTICATION),
        verifier.as_bytes(),
        &[u8::from(is_usable)],
    ];
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    Ok(digest.finalize().into())
}

fn bearer_of(shared: &Shared, client: &Client) -> Result<String> {
    let until_ms = holds_until(shared, client, chrono::Utc::now().timestamp_millis());
    let bearer = Bearer { client: client.id.as_bytes().to_vec(), until_ms };
    let sealed = shared.sealer.seal(Use::Bearer, &bearer)?;
    Ok(format!("Bearer {BEARER_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(sealed)))
}

/// When a bearer token of this client that is made now ends.
fn holds_until(shared: &Shared, client: &Client, now_ms: i64) -> i64 {
    until(now_ms, client.admitted_ms, lifetime_ms(shared))
}

fn until(now_ms: i64, admitted_ms: i64, lifetime_ms: i64) -> i64 {
    let last_ms = admitted_ms.saturating_add(lifetime_ms.saturating_mul(RENEWED_FOR));
    now_ms.saturating_add(lifetime_ms).min(last_ms)
}

fn lifetime_ms(shared: &Shared) -> i64 {
    i64::try_from(shared.limits.token_lifetime_ms).unwrap_or(i64::MAX)
}

fn opened(shared: &Shared, text: &str) -> Option<Bearer> {
    let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    shared.sealer.open(Use::Bearer, &sealed)
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, text) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(text.trim())
}

fn said<'a>(metadata: &'a MetadataMap, name: &str) -> Result<Option<&'a str>> {
    let mut values = metadata.get_all(name).iter();
    let value = values.next().map(|value| value.to_str());
    if values.next().is_some() {
        return Err(nobody(&format!("{name} is said more than once")));
    }
    value.transpose().map_err(|_| nobody(&format!("what {name} says is no text")))
}

fn unproved() -> Error {
    nobody("the call does not say whose it is")
        .with_hint("Send authorization: Basic or Bearer, or come with a client certificate.")
}

fn two_roles() -> Error {
    nobody("authorization and kho-role name two roles")
}

fn nobody(why: &str) -> Error {
    Error::new(Kind::InvalidAuthorization, why)
}

#[cfg(test)]
mod tests;
