//! Texts that may hold a person's data, kept beside the catalog's chain.
//!
//! A comment, a view's query or a `CHECK` can quote a name. The log entry therefore holds only a
//! salted commitment to the text; the text and its salt are an object of their own,
//! `catalog/body/<id>.json`, that can be erased without breaking the chain.
//! What it guarantees: a body that was changed is refused when it is read (`XX001`).
//! On failure: an erased body reads as `None`; the object that needs it says so.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

/// A text and what the chain says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The name of the body object.
    pub body: String,
    /// SHA-256 over salt and text, in hexadecimal.
    pub commitment: String,
    /// What the body says; `None` where it was erased. Never written to the log.
    #[serde(skip)]
    value: Option<Arc<str>>,
    /// Only in a text that was never written.
    #[serde(skip)]
    salt: Option<Arc<str>>,
}

/// The stored form of a body.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Body {
    format: u32,
    salt: String,
    text: String,
}

impl Text {
    /// A new text; its body is written when the change that holds it is committed.
    pub fn new(text: impl Into<Arc<str>>, id: String, salt: String) -> Text {
        let text = text.into();
        Text {
            commitment: commitment(&salt, &text),
            body: id,
            value: Some(text),
            salt: Some(Arc::from(salt)),
        }
    }

    /// The text; `None` where it was erased.
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// The text, or an error that says it was erased.
    pub fn required(&self) -> Result<&str> {
        self.value().ok_or_else(|| {
            Error::new(Kind::UndefinedObject, "the text of this definition was erased")
                .with_hint("Drop the object and create it again.")
        })
    }

    /// The document to store; `None` for a text that was read, or erased.
    pub(crate) fn to_body(&self) -> Option<Body> {
        let (salt, text) = (self.salt.as_ref()?, self.value.as_ref()?);
        Some(Body { format: 1, salt: salt.to_string(), text: text.to_string() })
    }

    /// Fills in what a stored body says, if it is what was committed to.
    pub(crate) fn fill(&mut self, body: &Body) -> Result<()> {
        if body.format != 1 || commitment(&body.salt, &body.text) != self.commitment {
            return Err(Error::new(
                Kind::DataCorrupted,
                format!("catalog body {} is not what the catalog log committed to", self.body),
            ));
        }
        self.value = Some(Arc::from(body.text.as_str()));
        Ok(())
    }

    /// Marks the body as written: from now on nothing writes it again, so that erasing it stays
    /// possible however long this value is kept and copied.
    pub(crate) fn set_stored(&mut self) {
        self.salt = None;
    }
}

fn commitment(salt: &str, text: &str) -> String {
    let digest = Sha256::new().chain_update(salt).chain_update([0]).chain_update(text).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
