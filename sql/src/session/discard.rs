//! `DISCARD`: a session as if it had just begun, for a pool that lends it to the next client.

use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::DiscardObject;

use super::Session;
use crate::outcome::Tag;
use crate::parse::Statement;

impl Session {
    /// There are no temporary tables, no sequences and no plans that are kept: of those, `DISCARD`
    /// has nothing to drop.
    ///
    /// # Errors
    /// `25001` for `DISCARD ALL` in a transaction block.
    pub(super) fn discard(&mut self, what: &DiscardObject) -> Result<Tag> {
        if matches!(what, DiscardObject::ALL) {
            if !self.block.is_none() {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(Error::new(Kind::ActiveTransaction, message));
            }
            self.cursors.clear();
            self.prepared.clear();
            self.settings.reset_all();
        }
        Ok(Tag::new(format!("DISCARD {what}")))
    }

    /// What the ledger says of a statement; of an `EXECUTE`, with what it executes.
    pub(super) fn recorded(&self, statement: &Statement) -> String {
        let keys = self.engine.shared.ledger.keys();
        let hash = |literal: &str| keys.hash(literal);
        let text = statement.with_literals_as(hash);
        match self.prepared.executed(statement) {
            Some((executed, _)) => format!("{text}: {}", executed.with_literals_as(hash)),
            None => text,
        }
    }
}
