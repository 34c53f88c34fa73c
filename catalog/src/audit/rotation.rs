//! The key that signs a ledger's heads, replaced by another.
//!
//! What it is: a [`Rotation`] in the catalog log names the key before and the key after, and is signed
//! by both. So whoever trusts one key of a warehouse trusts all of them, those before it and those
//! after it, and what was signed by any stays verified, online and from the files alone.
//! What it guarantees: nobody gets a key into that line without holding the one that is in use.
//! What it does not: a key that was replaced is not void. Heads that it signs, of a server that was not
//! started anew, verify as before; and so would those of a thief. The key that hashes literals stays:
//! with another one, the same value would be another text from then on.
//! On failure: `F0000` where the key in use is another one than the caller's.

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::key::{Keys, PublicKey};
use crate::error::{Error, Kind, Result};
use crate::log::{Author, Catalog};
use crate::privilege::KHO_AUDITOR;
use crate::state::{Change, LedgerState, State};

const FORMAT: u32 = 1;

/// One key in place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    pub format: u32,
    /// Public keys, as text.
    pub before: String,
    pub after: String,
    /// Ed25519 by each of them over all of the above, in hexadecimal.
    pub signed_before: String,
    pub signed_after: String,
}

impl Rotation {
    fn of(before: &Keys, after: &Keys) -> Rotation {
        let (old, new) = (before.public().to_string(), after.public().to_string());
        let message = message(FORMAT, &old, &new);
        Rotation {
            format: FORMAT,
            signed_before: before.sign(&message),
            signed_after: after.sign(&message),
            before: old,
            after: new,
        }
    }

    /// The two keys, if both have signed.
    fn verified(&self) -> Option<[PublicKey; 2]> {
        let message = message(self.format, &self.before, &self.after);
        let before: PublicKey = self.before.parse().ok()?;
        let after: PublicKey = self.after.parse().ok()?;
        let is_signed = before.verifies(&message, &self.signed_before)
            && after.verifies(&message, &self.signed_after);
        (self.format == FORMAT && is_signed).then_some([before, after])
    }
}

/// What is signed: every field on a line of its own.
fn message(format: u32, before: &str, after: &str) -> Vec<u8> {
    format!("kho ledger key rotation {format}\n{before}\n{after}\n").into_bytes()
}

/// The keys of a warehouse, by the line that its catalog names, each signed for by the one before it.
///
/// # Errors
/// `XX001` for a key that came into the line otherwise.
pub(super) fn line(ledger: &LedgerState) -> Result<Vec<PublicKey>> {
    let keys: Vec<PublicKey> = ledger.keys.iter().map(|it| it.parse()).collect::<Result<_>>()?;
    let pairs: Vec<[PublicKey; 2]> =
        ledger.rotations.iter().filter_map(Rotation::verified).collect();
    match keys.windows(2).find(|step| !pairs.iter().any(|pair| pair.as_slice() == *step)) {
        None => Ok(keys),
        Some(step) => {
            let key = step.last().map(PublicKey::to_string).unwrap_or_default();
            let message = format!("the ledger's key {key} was put in place without a signature");
            Err(Error::new(Kind::DataCorrupted, message))
        }
    }
}

/// The keys that are a warehouse's if `key` is: the line that it stands in, or itself alone.
pub(super) fn trusted(key: &PublicKey, ledger: &LedgerState) -> Result<Vec<PublicKey>> {
    let line = line(ledger)?;
    Ok(if line.contains(key) { line } else { vec![key.clone()] })
}

/// Puts `after` into use in place of `before`; that it is in use already is no error.
///
/// # Errors
/// `F0000` where a third key is in use.
pub async fn rotate(catalog: &Catalog, before: &Keys, after: &Keys) -> Result<()> {
    let rotation = Rotation::of(before, after);
    let statement_id = catalog.environment().new_id();
    let action = "ROTATE LEDGER KEY".to_owned();
    let author = Author { role: KHO_AUDITOR, statement_id, action };
    let decide = |state: &State| match state.ledger.keys.last() {
        Some(known) if *known == rotation.after => Ok(Vec::new()),
        Some(known) if *known == rotation.before => {
            Ok(vec![Change::RotateLedgerKey(Box::new(rotation.clone()))])
        }
        known => {
            let message = "the warehouse's ledger is signed by another key";
            let named = known.map_or_else(|| "none".to_owned(), String::clone);
            Err(Error::new(Kind::ConfigFile, message)
                .with_detail(format!("The catalog names the public key {named}.")))
        }
    };
    catalog.commit(&author, decide).await?;
    Ok(())
}
