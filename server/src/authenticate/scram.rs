//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).
//!
//! What it is: a pure exchange of four messages; whoever uses it carries the bytes.
//! What it guarantees: proofs are compared in constant time; a client that was made to believe that
//! there is no channel binding is refused; a binding is checked whenever it is claimed.
//! What it does not: it knows no roles and keeps no counts.
//! On failure: `08P01` for a message that is not SCRAM, `28000` for a binding that does not hold.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::scram::{Verifier, hmac_sha256};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding to the server's certificate.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

const BINDING_TYPE: &str = "tls-server-end-point";

/// An exchange whose first client message was read and answered.
pub struct Exchange {
    verifier: Verifier,
    /// What the client must send back as `c=`: its own header, and the binding if it claimed one.
    bound: String,
    client_first_bare: String,
    nonce: String,
    server_first: String,
}

/// The mechanisms to offer, best first; `binding` is the connection's `tls-server-end-point`.
pub fn mechanisms(binding: Option<&[u8]>) -> Vec<String> {
    let plus = binding.map(|_| SCRAM_SHA_256_PLUS.to_owned());
    plus.into_iter().chain([SCRAM_SHA_256.to_owned()]).collect()
}

/// Reads the client's first message and prepares the answer to it.
///
/// `server_nonce` must be fresh and random, of printable characters other than the comma.
pub fn begin(
    mechanism: &str,
    message: &[u8],
    binding: Option<&[u8]>,
    verifier: Verifier,
    server_nonce: &str,
) -> Result<Exchange> {
    let plus = match (mechanism, binding) {
        (SCRAM_SHA_256, _) => None,
        (SCRAM_SHA_256_PLUS, Some(binding)) => Some(binding),
        _ => return Err(malformed("the client chose a mechanism that was not offered")),
    };
    let message = text(message)?;
    let mut parts = message.splitn(3, ',');
    let (Some(flag), Some(authorization), Some(bare)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("the first message is too short"));
    };
    check_flag(flag, plus.is_some(), binding.is_some())?;
    if !authorization.is_empty() {
        return Err(Error::unsupported("an authorization identity in SCRAM is not supported"));
    }
    let client_nonce = client_nonce(bare)?;
    let nonce = format!("{client_nonce}{server_nonce}");
    let mut bound = format!("{flag},{authorization},").into_bytes();
    bound.extend_from_slice(plus.unwrap_or_default());
    let salt = STANDARD.encode(&verifier.salt);
    let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
    Ok(Exchange {
        verifier,
        bound: STANDARD.encode(bound),
        client_first_bare: bare.to_owned(),
        nonce,
        server_first,
    })
}

impl Exchange {
    /// The answer to the client's first message.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's proof: the server's last message if it is right, `None` if it is not.
    ///
    /// # Errors
    /// `08P01` for a message that is not SCRAM or belongs to another exchange, `28000` for a
    /// channel binding that does not hold.
    pub fn finish(&self, message: &[u8]) -> Result<Option<String>> {
        let message = text(message)?;
        let Some((without_proof, proof)) = message.rsplit_once(",p=") else {
            return Err(malformed("the last message has no proof"));
        };
        let mut parts = without_proof.split(',');
        let binding = attribute(parts.next(), 'c')?;
        let nonce = attribute(parts.next(), 'r')?;
        if nonce != self.nonce {
            return Err(malformed("the nonce is not the one of this exchange"));
        }
        if binding != self.bound {
            return Err(Error::new(
                Kind::InvalidAuthorization,
                "the channel binding of the login does not hold",
            )
            .with_detail("The client is connected to another certificate than this server's."));
        }
        let proof: [u8; 32] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or_else(|| malformed("the proof is not 32 bytes in base64"))?;
        let signed = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let signature = hmac_sha256(&self.verifier.stored_key, signed.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let stored_key = Sha256::digest(client_key);
        if !bool::from(stored_key.as_slice().ct_eq(&self.verifier.stored_key)) {
            return Ok(None);
        }
        let signature = hmac_sha256(&self.verifier.server_key, signed.as_bytes());
        Ok(Some(format!("v={}", STANDARD.encode(signature))))
    }
}

/// RFC 5802, section 6: what the client says of channel binding must fit what was offered.
fn check_flag(flag: &str, plus: bool, offered: bool) -> Result<()> {
    match (flag.strip_prefix("p="), flag) {
        (Some(BINDING_TYPE), _) if plus => Ok(()),
        (Some(_), _) if plus => Err(malformed("only tls-server-end-point can be bound to")),
        (None, "n") if !plus => Ok(()),
        // The client could bind but thinks that the server cannot: somebody between them cut the
        // offer out.
        (None, "y") if !plus && offered => Err(Error::new(
            Kind::InvalidAuthorization,
            "the channel binding of the login was negotiated away",
        )
        .with_detail("The client did not see that this server supports channel binding.")),
        (None, "y") if !plus => Ok(()),
        _ => Err(malformed("the channel binding flag does not fit the mechanism")),
    }
}

/// The nonce of `n=user,r=nonce[,extensions]`. The user name there is ignored, as in PostgreSQL:
/// the startup packet names the role.
fn client_nonce(bare: &str) -> Result<&str> {
    if bare.starts_with("m=") {
        return Err(Error::unsupported("the client requires a SCRAM extension"));
    }
    let mut parts = bare.split(',');
    attribute(parts.next(), 'n')?;
    let nonce = attribute(parts.next(), 'r')?;
    if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("the nonce is empty or not printable"));
    }
    Ok(nonce)
}

fn attribute(part: Option<&str>, name: char) -> Result<&str> {
    part.and_then(|part| part.strip_prefix(name)?.strip_prefix('='))
        .ok_or_else(|| malformed(&format!("attribute {name} is missing")))
}

fn text(message: &[u8]) -> Result<&str> {
    std::str::from_utf8(message).map_err(|_| malformed("it is not UTF-8"))
}

fn malformed(detail: &str) -> Error {
    Error::new(Kind::ProtocolViolation, format!("malformed SCRAM message: {detail}"))
}

#[cfg(test)]
mod tests;
