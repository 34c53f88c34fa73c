//! The ledger's keys: one that signs the heads of chains, one that hashes literals.
//!
//! What it is: [`Keys`], made once for a warehouse and shared by its servers; the text they are
//! kept as; the [`PublicKey`] by which anybody verifies.
//! What it guarantees: neither is shown by `Debug`, nor written anywhere by this module.
//! What it does not: it knows no file. Where the text lies is the business of whoever starts a
//! server; never under the data, since a copy of that would carry what protects it.
//! On failure: `F0000` for a text that holds no keys.

use std::fmt;
use std::str::FromStr;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

const FORMAT: u32 = 1;
/// Hexadecimal digits of a literal's hash: 64 bits, far beyond what one warehouse asks for.
const HASH_DIGITS: usize = 16;

/// The secret keys of a warehouse's ledger.
pub struct Keys {
    signing: Ed25519KeyPair,
    hashing: hmac::Key,
}

/// The key that heads are verified by; 64 hexadecimal digits as text.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The form in which keys are kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    /// PKCS #8 (RFC 8410), in hexadecimal.
    signing: String,
    /// 32 random bytes, in hexadecimal.
    hashing: String,
}

impl Keys {
    /// New keys, as the text they are to be kept as.
    pub fn generate() -> Result<String> {
        let random = SystemRandom::new();
        let none = |_| Error::internal("the system has no random bytes");
        let signing = Ed25519KeyPair::generate_pkcs8(&random).map_err(none)?;
        let mut hashing = [0; 32];
        random.fill(&mut hashing).map_err(none)?;
        let document = Document {
            format: FORMAT,
            signing: hex::encode(signing.as_ref()),
            hashing: hex::encode(hashing),
        };
        Ok(serde_json::to_string(&document)?)
    }

    /// The text of keys whose heads another key signs, and whose hashes are those of `text`.
    ///
    /// # Errors
    /// As [`Keys::parse`].
    pub fn successor(text: &str) -> Result<String> {
        Keys::parse(text)?;
        let unusable = |_| unusable("it is not in their form");
        let mut document: Document = serde_json::from_str(text.trim()).map_err(unusable)?;
        let next: Document = serde_json::from_str(&Keys::generate()?).map_err(unusable)?;
        document.signing = next.signing;
        Ok(serde_json::to_string(&document)?)
    }

    /// Keys for as long as they are held: for warehouses that do not outlive the process.
    pub fn passing() -> Result<Keys> {
        Keys::parse(&Keys::generate()?)
    }

    /// # Errors
    /// `F0000`; the text is never quoted.
    pub fn parse(text: &str) -> Result<Keys> {
        let document: Document =
            serde_json::from_str(text.trim()).map_err(|_| unusable("it is not in their form"))?;
        if document.format != FORMAT {
            return Err(unusable("its format is not known"));
        }
        let bytes = |text: &str| hex::decode(text).map_err(|_| unusable("a key is not in hex"));
        let signing = Ed25519KeyPair::from_pkcs8(&bytes(&document.signing)?)
            .map_err(|_| unusable("it holds no Ed25519 key"))?;
        let hashing = bytes(&document.hashing)?;
        if hashing.len() < 32 {
            return Err(unusable("the key for hashing is too short"));
        }
        Ok(Keys { signing, hashing: hmac::Key::new(hmac::HMAC_SHA256, &hashing) })
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        // An Ed25519 public key has this length.
        bytes.copy_from_slice(self.signing.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The keyed hash (HMAC-SHA-256, its first 64 bits) of a literal's value: the same value is the
    /// same text in every record, and nobody without the key can try values out.
    pub fn hash(&self, value: &str) -> String {
        let mut text = hex::encode(hmac::sign(&self.hashing, value.as_bytes()));
        text.truncate(HASH_DIGITS);
        text
    }

    /// The keyed hash of `value` in a context of its own, 64 hexadecimal digits: hashes of other
    /// contexts, and those of [`Keys::hash`], tell nothing of it.
    pub fn keyed_hash(&self, context: &str, value: &str) -> String {
        let mut signed = hmac::Context::with_key(&self.hashing);
        // A length in front keeps contexts apart from each other, and a zero from plain hashes.
        signed.update(&[0]);
        signed.update(&(context.len() as u64).to_be_bytes());
        signed.update(context.as_bytes());
        signed.update(value.as_bytes());
        hex::encode(signed.sign())
    }

    /// The Ed25519 signature (RFC 8032) of `message`, in hexadecimal.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        hex::encode(self.signing.sign(message))
    }
}

impl PublicKey {
    /// Whether `signature`, in hexadecimal, is this key's over `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        // One signature has one spelling.
        let plain = signature.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
        let bytes = hex::decode(signature);
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        plain && bytes.is_ok_and(|bytes| key.verify(message, &bytes).is_ok())
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<PublicKey> {
        let bytes = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(PublicKey).ok_or_else(|| {
            Error::new(Kind::InvalidParameterValue, "a public key is 64 hexadecimal digits")
                .with_hint("\"kho keys show\" prints it.")
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("public", &self.public()).finish_non_exhaustive()
    }
}

fn unusable(why: &str) -> Error {
    Error::new(Kind::ConfigFile, format!("the ledger's keys cannot be used: {why}"))
}
