//! The statements that change the catalog, as pure functions.
//!
//! What it is: each takes the state, who asks and the parsed statement, and gives the changes to
//! be committed. Data files are not its business: where a statement has a side in the data, it
//! says what is to be done there.
//! What it guarantees: the same input gives the same changes, so that a commit can be tried again
//! on a newer state; what may not be seen is refused as what does not exist; every option is
//! obeyed or refused.
//! What it does not: it commits nothing and binds no expression.

pub(crate) mod access;
pub(crate) mod comment;
pub(crate) mod depend;
pub(crate) mod grant;
pub(crate) mod mask;
pub(crate) mod name;
pub(crate) mod options;
pub(crate) mod owned;
pub(crate) mod policy;
pub(crate) mod relation;
pub(crate) mod role;
pub(crate) mod schema;
pub(crate) mod table;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use kho_catalog::privilege::Principal;
use kho_catalog::state::{Change, State};
use kho_catalog::text::Text;

use crate::outcome::Notice;
use crate::passwords::Rules;

/// What a command knows besides its statement. Ids, time and randomness come in as values.
pub(crate) struct Context<'a> {
    pub state: &'a State,
    pub who: &'a Principal,
    /// Schemas in which names without one are looked for, `$user` already replaced.
    pub search_path: &'a [String],
    pub now_ms: i64,
    /// The folder of a table that this statement makes.
    pub dataset: &'a str,
    /// Random; for the verifier of a password.
    pub salt: [u8; 16],
    pub passwords: &'a Rules,
    /// Makes a new text with an id and a salt of its own.
    pub text: &'a mut dyn FnMut(&str) -> Text,
}

/// What is to be committed, and what the client is told. No changes: there was nothing to do.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub changes: Vec<Change>,
    pub tag: &'static str,
    pub notices: Vec<Notice>,
}

impl Planned {
    fn new(tag: &'static str) -> Planned {
        Planned { changes: Vec::new(), tag, notices: Vec::new() }
    }
}

/// A `NOTICE` without a condition of its own.
fn notice(message: impl Into<String>) -> Notice {
    Notice { severity: "NOTICE", sqlstate: "00000", message: message.into() }
}

/// A `NOTICE` that has the SQLSTATE of what was passed over.
fn notice_of(sqlstate: &'static str, message: impl Into<String>) -> Notice {
    Notice { severity: "NOTICE", sqlstate, message: message.into() }
}

fn warning(sqlstate: &'static str, message: impl Into<String>) -> Notice {
    Notice { severity: "WARNING", sqlstate, message: message.into() }
}
