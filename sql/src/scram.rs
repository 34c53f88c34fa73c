//! SCRAM-SHA-256 verifiers: what is kept of a password (RFC 5802, RFC 7677).
//!
//! What it is: a [`Verifier`] proves that a client knows the password and proves the server to the
//! client, but lets nobody log in. Its text is PostgreSQL's,
//! `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, so that `pg_dumpall` output can be used.
//! What it guarantees: text to verifier and back is the identity; `Debug` shows no key.
//! What it does not: it judges no password's strength (`crate::passwords` does), and holds no
//! exchange; the wire does.
//! On failure: a text that is no verifier is `22023`; the text itself is never quoted.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use kho_catalog::error::{Error, Kind, Result};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// What PostgreSQL uses, and the least RFC 7677 allows.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// The salt of a new verifier, in bytes.
pub const SALT_BYTES: usize = 16;

const PREFIX: &str = "SCRAM-SHA-256$";

/// What a server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// The text of a verifier for `password`.
///
/// # Errors
/// `22023` for an empty password, an empty salt or no iterations.
pub fn make_verifier(password: &str, salt: &[u8], iterations: u32) -> Result<String> {
    Ok(Verifier::derive(password, salt, iterations)?.to_string())
}

impl Verifier {
    /// The verifier for `password`, prepared by SASLprep where SASLprep accepts it, as PostgreSQL
    /// and libpq do.
    ///
    /// # Errors
    /// `22023` for an empty password, an empty salt or no iterations.
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Result<Verifier> {
        if password.is_empty() {
            return Err(Error::new(Kind::InvalidParameterValue, "a password must not be empty"));
        }
        if salt.is_empty() || iterations == 0 {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                "a SCRAM verifier needs a salt and at least one iteration",
            ));
        }
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(prepared.as_bytes(), salt, iterations);
        let client_key = hmac_sha256(&salted, b"Client Key");
        Ok(Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(client_key).into(),
            server_key: hmac_sha256(&salted, b"Server Key"),
        })
    }

    /// Whether `password` is the one that it was made of.
    pub fn matches(&self, password: &str) -> bool {
        let derived = Verifier::derive(password, &self.salt, self.iterations);
        derived.is_ok_and(|it| bool::from(it.stored_key.ct_eq(&self.stored_key)))
    }

    /// Reads PostgreSQL's form.
    ///
    /// # Errors
    /// `22023`, without quoting the text: it may be a password put in the wrong place.
    pub fn parse(text: &str) -> Result<Verifier> {
        parse(text).ok_or_else(|| {
            Error::new(Kind::InvalidParameterValue, "the text is no SCRAM-SHA-256 verifier")
                .with_hint("It reads SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.")
        })
    }

    /// Whether `text` has the form of a verifier, rather than being a password.
    pub fn is_verifier(text: &str) -> bool {
        parse(text).is_some()
    }
}

/// HMAC-SHA-256 of `data` under `key`.
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length; were that ever to change, a random answer would match
    // nothing, and nobody would get in.
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(data).finalize().into_bytes().into(),
        Err(_) => Sha256::digest(uuid::Uuid::new_v4().as_bytes()).into(),
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PREFIX}{}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}:…", self.iterations)
    }
}

fn parse(text: &str) -> Option<Verifier> {
    let (cost, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let verifier = Verifier {
        iterations: iterations.parse().ok().filter(|count| *count > 0)?,
        salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
        stored_key: STANDARD.decode(stored_key).ok()?.try_into().ok()?,
        server_key: STANDARD.decode(server_key).ok()?.try_into().ok()?,
    };
    Some(verifier)
}

#[cfg(test)]
mod tests;
