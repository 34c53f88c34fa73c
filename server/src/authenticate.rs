//! Who is connecting, for every protocol: SCRAM-SHA-256 against stored verifiers, API tokens, client
//! certificates, and tokens of an identity provider.
//!
//! What it guarantees: an unknown role, a role without a password, an expired password and a wrong
//! password cannot be told apart, neither by what is sent nor by how many messages; failures are
//! in the audit ledger before they are answered; who keeps failing is slowed down. A wrong token is
//! answered like a wrong password.
//! What it does not: it opens no session and checks no privilege. Tries that the throttle turns
//! away unheard are counted and not recorded, or anyone could fill the ledger.
//! On failure: `28P01` with PostgreSQL's text; `28000` for a role that may not log in, said only to
//! who knows its password; the wire closes the connection on either.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{IdentityKind, Oid};
use kho_sql::scram::{DEFAULT_ITERATIONS, SALT_BYTES, Verifier, hmac_sha256};
use kho_sql::session::{Account, Credential, Engine, How, Presented};
use sha2::{Digest as _, Sha256};

use tokio::sync::Semaphore;

use crate::authenticate::certificate::Certificate;
use crate::authenticate::oidc::Oidc;
use crate::authenticate::throttle::{Key, Throttle, Verdict};

pub mod certificate;
pub mod oidc;
pub mod scram;
mod throttle;

/// As many passwords are checked at a time: each takes a processor for a while.
const CHECKS: usize = 2;
/// Characters of a role's name that are recorded; strangers choose it.
const LONGEST_ROLE_SHOWN: usize = 64;

/// Checks who connects, for all connections of one server.
pub struct Authenticator {
    engine: Arc<Engine>,
    throttle: Throttle,
    mock_secret: [u8; 32],
    oidc: Option<Oidc>,
    /// Passwords that are checked here at one time.
    checks: Semaphore,
}

/// One try to log in: what must be proved, and what is then found out.
pub struct Attempt {
    protocol: &'static str,
    role: String,
    client: Option<SocketAddr>,
    account: Option<Account>,
    verifier: Verifier,
    standing: Standing,
}

/// What a password was checked against: once the password is changed, it is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifierDigest([u8; 32]);

/// Whether any password can be right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Usable,
    /// None can: no such role, none set, or it is past its time.
    Hopeless,
}

impl Authenticator {
    /// `mock_secret` makes up salts for roles that do not exist; it must outlive restarts, or a
    /// salt that changes tells that its role is not there.
    pub fn new(engine: Arc<Engine>, mock_secret: [u8; 32], oidc: Option<Oidc>) -> Authenticator {
        let checks = Semaphore::new(CHECKS);
        Authenticator { engine, throttle: Throttle::default(), mock_secret, oidc, checks }
    }

    /// Starts a try to log in over `protocol` as `role`, slower for those who have failed before.
    ///
    /// # Errors
    /// `28000` after too many failures; `58030` and the like where the catalog cannot be read.
    pub async fn begin(
        &self,
        protocol: &'static str,
        role: &str,
        client: Option<SocketAddr>,
    ) -> Result<Attempt> {
        for key in keys(role, client) {
            match self.throttle.admit(&key, Instant::now()) {
                Verdict::Now => {}
                Verdict::After(delay) => tokio::time::sleep(delay).await,
                Verdict::Refused(wait) => {
                    metrics::counter!("kho_throttled_logins_total").increment(1);
                    return Err(too_many(role, wait));
                }
            }
        }
        let account = self.engine.account(role).await?;
        let now_ms = chrono::Utc::now().timestamp_millis();
        let (verifier, standing) = match account.as_ref().and_then(|it| usable(it, now_ms)) {
            Some(verifier) => (verifier, Standing::Usable),
            None => (self.mock_verifier(role), Standing::Hopeless),
        };
        Ok(Attempt { protocol, role: role.to_owned(), client, account, verifier, standing })
    }

    /// Decides an attempt by an API token, or by one that the identity provider signed.
    ///
    /// # Errors
    /// `28P01` or `28000`; the refusal is in the ledger when this returns.
    pub async fn decide_by_token(&self, attempt: &Attempt, text: &str) -> Result<Credential> {
        let presented = match oidc::looks_like(text) {
            true => self.bearer(attempt, text).await?,
            false => self.engine.present_token(&attempt.role, text).await?,
        };
        match presented {
            Presented::Right(credential) => self.admit(attempt, credential).await,
            Presented::Wrong(reason) => {
                self.refused(attempt, reason).await;
                Err(wrong_password(&attempt.role))
            }
        }
    }

    /// Decides an attempt by the password itself, which came over a channel that nobody reads.
    ///
    /// # Errors
    /// `28P01` or `28000`; the refusal is in the ledger when this returns.
    pub async fn decide_by_password(&self, attempt: &Attempt, text: String) -> Result<Credential> {
        // A few at a time: so none of many at once gets past those before it that have failed.
        let place = self.checks.acquire().await;
        let _place = place.map_err(|_| Error::internal("passwords are not checked"))?;
        for key in keys(&attempt.role, attempt.client) {
            if let Some(wait) = self.throttle.is_shut(&key, Instant::now()) {
                metrics::counter!("kho_throttled_logins_total").increment(1);
                return Err(too_many(&attempt.role, wait));
            }
        }
        let verifier = attempt.verifier.clone();
        // It takes a while, in which the other clients of the thread would wait.
        let checked = tokio::task::spawn_blocking(move || verifier.matches(&text)).await;
        self.decide(attempt, checked.unwrap_or(false)).await
    }

    /// Decides an attempt whose proof was checked.
    ///
    /// # Errors
    /// `28P01` or `28000`; the refusal is in the ledger when this returns.
    pub async fn decide(&self, attempt: &Attempt, proof_is_right: bool) -> Result<Credential> {
        match (attempt.standing, &attempt.account) {
            (Standing::Usable, Some(account)) if proof_is_right => {
                self.admit(attempt, Credential::password(account.oid)).await
            }
            (Standing::Usable | Standing::Hopeless, _) => {
                self.refused(attempt, "wrong password").await;
                Err(wrong_password(&attempt.role))
            }
        }
    }

    /// Lets who has given a proof in, if its role may log in at all.
    async fn admit(&self, attempt: &Attempt, credential: Credential) -> Result<Credential> {
        if attempt.account.as_ref().is_some_and(|account| account.login) {
            // Whoever has a token still has to be slowed down when they guess the password.
            if matches!(credential.how, How::Password { .. }) {
                self.throttle.forget(&Key::role(&attempt.role));
            }
            return Ok(credential);
        }
        let error = no_login(&attempt.role);
        self.refused(attempt, error.message()).await;
        Err(error)
    }

    /// Whether a client of `role` that was let in before would be let in now, with the same password
    /// where it came by one; gives the name of the role.
    ///
    /// # Errors
    /// `28P01` where the password is another by now or past its time; `28000` where the role may not
    /// log in any more: in the ledger when this returns. `28000` also for a role that is gone.
    pub async fn still_admits(
        &self,
        protocol: &'static str,
        (role, password): (Oid, Option<VerifierDigest>),
        client: Option<SocketAddr>,
    ) -> Result<String> {
        let Some(account) = self.engine.account_of(role).await? else {
            // As its session says it.
            let message = "the role of this session was dropped";
            return Err(Error::new(Kind::InvalidAuthorization, message));
        };
        let now_ms = chrono::Utc::now().timestamp_millis();
        let is_over = account.valid_until_ms.is_some_and(|until_ms| until_ms <= now_ms);
        let (error, reason) = match password {
            Some(was) if is_over || VerifierDigest::of(&account) != Some(was) => {
                (wrong_password(&account.name), "a password that has expired or was changed")
            }
            _ if !account.login => (no_login(&account.name), "a role that may not log in"),
            _ => return Ok(account.name),
        };
        // No guess: nobody is slowed down for it.
        self.record_refused(protocol, &account.name, client, reason).await;
        Err(error)
    }

    /// What a certificate that was verified is worth; `None` where it is nobody's, or not this
    /// role's: then something else has to be given.
    ///
    /// # Errors
    /// `28000` for a role that may not log in.
    pub async fn vouched(
        &self,
        attempt: &Attempt,
        certificate: &Certificate,
    ) -> Result<Option<Credential>> {
        let identities = (IdentityKind::Certificate, certificate.identities.as_slice());
        let until_ms = certificate.until_ms;
        match self.engine.present_identity(&attempt.role, identities, until_ms).await? {
            Some(credential) => self.admit(attempt, credential).await.map(Some),
            None => Ok(None),
        }
    }

    /// The role that a token stands for, where the client names none.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn role_of_token(&self, text: &str) -> Result<Option<String>> {
        if !oidc::looks_like(text) {
            return self.engine.role_of_token(text).await;
        }
        let Some(oidc) = &self.oidc else { return Ok(None) };
        let Ok(bearer) = oidc.verify(text).await else { return Ok(None) };
        let identity = std::slice::from_ref(&bearer.identity);
        self.engine.role_of_identity(IdentityKind::Oidc, identity).await
    }

    /// The role that a certificate stands for, where the client names none.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn role_of_certificate(&self, certificate: &Certificate) -> Result<Option<String>> {
        self.engine.role_of_identity(IdentityKind::Certificate, &certificate.identities).await
    }

    /// What a token of the identity provider is worth, or why nothing.
    async fn bearer(&self, attempt: &Attempt, text: &str) -> Result<Presented> {
        let Some(oidc) = &self.oidc else { return Ok(Presented::Wrong("wrong token")) };
        let bearer = match oidc.verify(text).await {
            Ok(bearer) => bearer,
            Err(reason) => return Ok(Presented::Wrong(reason)),
        };
        let identities = (IdentityKind::Oidc, std::slice::from_ref(&bearer.identity));
        let until_ms = bearer.until_ms;
        let found = self.engine.present_identity(&attempt.role, identities, until_ms).await?;
        let stranger = "a bearer token of somebody who is not mapped to the role";
        Ok(found.map_or(Presented::Wrong(stranger), Presented::Right))
    }

    /// Records an attempt that ended without a proof: a broken exchange, a binding that is off.
    pub async fn refused(&self, attempt: &Attempt, reason: &str) {
        for key in keys(&attempt.role, attempt.client) {
            self.throttle.failed(&key, Instant::now());
        }
        self.audit(attempt, reason).await;
    }

    async fn audit(&self, attempt: &Attempt, reason: &str) {
        let Attempt { protocol, role, client, .. } = attempt;
        self.record_refused(protocol, role, *client, reason).await;
    }

    /// The login is refused whether or not the ledger can be written.
    async fn record_refused(
        &self,
        protocol: &str,
        role: &str,
        client: Option<SocketAddr>,
        reason: &str,
    ) {
        metrics::counter!("kho_refused_logins_total").increment(1);
        let shown: String = role.chars().take(LONGEST_ROLE_SHOWN).collect();
        let engine = &self.engine;
        if let Err(error) = engine.audit_refused_login(protocol, &shown, client, reason).await {
            tracing::error!(?error, "a refused login could not be written to the audit ledger");
        }
    }

    /// What the verifier of a role without one looks like, the same at every try. No password
    /// leads to its keys.
    fn mock_verifier(&self, role: &str) -> Verifier {
        let derive =
            |purpose: &[u8]| hmac_sha256(&hmac_sha256(&self.mock_secret, purpose), role.as_bytes());
        let salt = derive(b"salt").into_iter().take(SALT_BYTES).collect();
        Verifier {
            iterations: DEFAULT_ITERATIONS,
            salt,
            stored_key: derive(b"stored key"),
            server_key: derive(b"server key"),
        }
    }
}

impl Attempt {
    /// What the client's proof is checked against.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The same, to know it again; `None` where there is none.
    pub fn verifier_digest(&self) -> Option<VerifierDigest> {
        self.account.as_ref().and_then(VerifierDigest::of)
    }
}

impl VerifierDigest {
    fn of(account: &Account) -> Option<VerifierDigest> {
        account.verifier.as_ref().map(|it| VerifierDigest(Sha256::digest(it.as_bytes()).into()))
    }
}

/// The verifier that counts.
fn usable(account: &Account, now_ms: i64) -> Option<Verifier> {
    if account.valid_until_ms.is_some_and(|until| until <= now_ms) {
        return None;
    }
    Verifier::parse(account.verifier.as_deref()?)
        .inspect_err(|error| tracing::error!(role = account.name, ?error, "a verifier is damaged"))
        .ok()
}

fn wrong_password(role: &str) -> Error {
    Error::new(Kind::InvalidPassword, format!("password authentication failed for user \"{role}\""))
}

fn no_login(role: &str) -> Error {
    let message = format!("role \"{role}\" is not permitted to log in");
    Error::new(Kind::InvalidAuthorization, message)
}

fn too_many(role: &str, wait: Duration) -> Error {
    let seconds = wait.as_secs().max(1);
    Error::new(
        Kind::InvalidAuthorization,
        format!("too many failed logins for user \"{role}\" or from this address"),
    )
    .with_hint(format!("Try again in {seconds} seconds."))
}

/// Everyone on this machine has the same address, so that address is not held against anyone.
fn keys(role: &str, client: Option<SocketAddr>) -> Vec<Key> {
    let address = client.map(|client| client.ip().to_canonical());
    let remote = address.filter(|address: &IpAddr| !address.is_loopback());
    std::iter::once(Key::role(role)).chain(remote.map(Key::address)).collect()
}

#[cfg(test)]
mod tests;
