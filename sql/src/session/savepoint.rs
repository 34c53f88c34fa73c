//! `SAVEPOINT`, `ROLLBACK TO`, `RELEASE`: a part of a block that can be undone alone. Drivers put
//! one before each statement, so that an error costs that statement and not the block.
//!
//! What it guarantees: after `ROLLBACK TO` the block stands where it stood at the savepoint: what
//! it wrote, its settings, its cursors; a block that an error failed goes on from there.

use kho_catalog::error::{Error, Kind, Result};
use sqlparser::ast::Ident;

use super::block::Open;
use super::{Session, TransactionStatus};
use crate::bind::folded;
use crate::outcome::Tag;
use crate::settings::{Saved, Settings};
use crate::transaction::Mark;

/// The savepoints of an open block, the oldest first.
#[derive(Default)]
pub(super) struct Savepoints {
    points: Vec<Savepoint>,
    /// The block as it was when it failed: it goes on when it is rolled back to a savepoint.
    failed: Option<Open>,
}

struct Savepoint {
    name: String,
    /// `None` where the block had looked at nothing yet.
    mark: Option<Mark>,
    settings: Settings,
    saved: Option<Saved>,
}

impl Savepoints {
    pub(super) fn depth(&self) -> usize {
        self.points.len()
    }

    pub(super) fn keep_failed(&mut self, open: Option<Open>) {
        self.failed = open.or_else(|| self.failed.take());
    }

    /// The block is over; a failed one is given up.
    pub(super) fn clear(&mut self) {
        self.points.clear();
        if let Some(open) = self.failed.take() {
            open.give_up();
        }
    }

    fn find(&self, name: &Ident) -> Result<usize> {
        let name = folded(name);
        self.points.iter().rposition(|it| it.name == name).ok_or_else(|| {
            Error::new(Kind::InvalidSavepoint, format!("savepoint \"{name}\" does not exist"))
        })
    }
}

impl Session {
    pub(super) fn savepoint(&mut self, name: &Ident) -> Result<Tag> {
        self.refuse_outside_block("SAVEPOINT")?;
        self.savepoints.points.push(Savepoint {
            name: folded(name),
            mark: self.block.mark(),
            settings: self.settings.clone(),
            saved: self.saved.clone(),
        });
        Ok(Tag::new("SAVEPOINT"))
    }

    /// Its work stays, and can no longer be undone alone.
    pub(super) fn release_savepoint(&mut self, name: &Ident) -> Result<Tag> {
        self.refuse_outside_block("RELEASE SAVEPOINT")?;
        let index = self.savepoints.find(name)?;
        self.savepoints.points.truncate(index);
        self.cursors.merge_into(index);
        Ok(Tag::new("RELEASE"))
    }

    /// The savepoint itself stays. A block that cannot be undone in part has failed as a whole.
    pub(super) async fn roll_back_to(&mut self, name: &Ident) -> Result<Tag> {
        self.refuse_outside_block("ROLLBACK TO SAVEPOINT")?;
        let index = self.savepoints.find(name)?;
        if let Some(open) = self.savepoints.failed.take() {
            self.block.resume(open);
        }
        self.savepoints.points.truncate(index + 1);
        self.cursors.close_after(index);
        let Some(point) = self.savepoints.points.last() else { return Ok(Tag::new("ROLLBACK")) };
        if let Some(transaction) = self.block.transaction()
            && let Err(error) = transaction.rewind(point.mark.as_ref()).await
        {
            self.savepoints.clear();
            return Err(error);
        }
        self.settings.go_back_to(&point.settings);
        self.saved = point.saved.clone();
        Ok(Tag::new("ROLLBACK"))
    }

    fn refuse_outside_block(&self, command: &str) -> Result<()> {
        if self.status() == TransactionStatus::Idle {
            let message = format!("{command} can only be used in transaction blocks");
            return Err(Error::new(Kind::NoActiveTransaction, message));
        }
        Ok(())
    }
}
