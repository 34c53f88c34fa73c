//! SCRAM-SHA-256 verifiers in PostgreSQL's form (RFC 5802, RFC 7677):
//! `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, all but the number in base64.
//!
//! What it guarantees: a verifier made here lets in exactly who knows the password, through any
//! client that normalises it as PostgreSQL's do; the password itself is kept nowhere.
//! What it does not: it chooses no salt; the caller brings one that is random.
//! On failure: a text that is no verifier is said to be none; nothing is guessed.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use kho_catalog::error::{Error, Result};
use sha2::{Digest, Sha256};

/// PostgreSQL's number of rounds.
pub const ITERATIONS: u32 = 4096;

const MECHANISM: &str = "SCRAM-SHA-256$";
const KEY_BYTES: usize = 32;

/// The verifier to keep in place of `password`.
///
/// # Errors
/// `XX000` if the hash functions refuse their input, which none of them does.
pub fn make_verifier(password: &str, salt: &[u8], iterations: u32) -> Result<String> {
    let mut salted = [0; KEY_BYTES];
    let rounds = iterations.max(1);
    pbkdf2::pbkdf2_hmac::<Sha256>(normalized(password).as_bytes(), salt, rounds, &mut salted);
    let stored = Sha256::digest(keyed(&salted, b"Client Key")?);
    let server = keyed(&salted, b"Server Key")?;
    let [salt, stored, server] =
        [salt, stored.as_slice(), server.as_slice()].map(|bytes| BASE64_STANDARD.encode(bytes));
    Ok(format!("{MECHANISM}{rounds}:{salt}${stored}:{server}"))
}

/// Whether `text` is a verifier, which is kept as it is given.
pub fn is_verifier(text: &str) -> bool {
    parts(text).is_some()
}

fn parts(text: &str) -> Option<()> {
    let (head, keys) = text.strip_prefix(MECHANISM)?.split_once('$')?;
    let (iterations, salt) = head.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let rounds: u32 = iterations.parse().ok()?;
    let salted = !BASE64_STANDARD.decode(salt).ok()?.is_empty();
    let is_key = |text| BASE64_STANDARD.decode(text).is_ok_and(|key| key.len() == KEY_BYTES);
    (rounds > 0 && salted && is_key(stored) && is_key(server)).then_some(())
}

/// The password as both sides hash it: by SASLprep, or as it is where SASLprep refuses it.
fn normalized(password: &str) -> Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password))
}

fn keyed(key: &[u8], text: &[u8]) -> Result<[u8; KEY_BYTES]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| Error::internal("a key has a wrong length").with_source(error))?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().into())
}
