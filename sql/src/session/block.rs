//! The transaction block: one snapshot of the catalog and of what was read, and at most one write.

use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::State;

use super::TransactionStatus;
use crate::scope::Pins;
use crate::write::Pending;

/// Where a session stands.
pub(super) enum Block {
    /// Each statement is its own transaction.
    None,
    Open(Open),
    Failed {
        implicit: bool,
    },
}

/// A block that has not failed.
pub(super) struct Open {
    /// Opened for the statements of one simple query, not by `BEGIN`.
    implicit: bool,
    read_only: bool,
    seen: Option<(Arc<State>, Pins)>,
    held: Option<Box<Pending>>,
}

impl Open {
    fn new(implicit: bool) -> Open {
        Open { implicit, read_only: false, seen: None, held: None }
    }
}

impl Block {
    pub(super) fn status(&self) -> TransactionStatus {
        match self {
            Block::None | Block::Open(Open { implicit: true, .. }) => TransactionStatus::Idle,
            Block::Open(_) => TransactionStatus::InTransaction,
            Block::Failed { implicit: true } => TransactionStatus::Idle,
            Block::Failed { implicit: false } => TransactionStatus::Failed,
        }
    }

    /// `BEGIN`; false where a block was already open.
    pub(super) fn begin(&mut self) -> bool {
        match self {
            Block::None => {
                *self = Block::Open(Open::new(false));
                true
            }
            Block::Open(open) if open.implicit => {
                open.implicit = false;
                true
            }
            _ => false,
        }
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Block::None)
    }

    pub(super) fn begin_implicit(&mut self) {
        if matches!(self, Block::None) {
            *self = Block::Open(Open::new(true));
        }
    }

    /// Ends an implicit block; gives the write to be committed.
    pub(super) fn end_implicit(&mut self, failed: bool) -> Option<Pending> {
        match self {
            Block::Open(Open { implicit: true, .. }) | Block::Failed { implicit: true } => {
                let ended = std::mem::replace(self, Block::None);
                match ended {
                    Block::Open(open) if !failed => open.held.map(|held| *held),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn fail(&mut self) {
        if let Block::Open(open) = self {
            *self = Block::Failed { implicit: open.implicit };
        }
    }

    /// Ends the block: whether it had failed, and what it held. `None` outside a block.
    pub(super) fn end(&mut self) -> Option<(bool, Option<Pending>)> {
        match std::mem::replace(self, Block::None) {
            Block::None => None,
            Block::Open(open) if open.implicit => {
                *self = Block::Open(open);
                None
            }
            Block::Open(open) => Some((false, open.held.map(|held| *held))),
            Block::Failed { .. } => Some((true, None)),
        }
    }

    /// What the block's earlier statements saw.
    pub(super) fn pinned(&self) -> Option<(Arc<State>, Pins)> {
        match self {
            Block::Open(open) => open.seen.clone(),
            _ => None,
        }
    }

    /// Keeps what this statement sees for the block's later ones.
    pub(super) fn pin(&mut self, state: Arc<State>) -> (Arc<State>, Pins) {
        let seen = (state, Pins::default());
        if let Block::Open(open) = self {
            open.seen = Some(seen.clone());
        }
        seen
    }

    /// Whether writes are held until the block ends.
    pub(super) fn holds_writes(&self) -> bool {
        matches!(self, Block::Open(_))
    }

    /// A statement that reads after the block's write would not see it.
    pub(super) fn refuse_read_after_write(&self) -> Result<()> {
        match self {
            Block::Open(Open { held: Some(_), .. }) => Err(one_write(
                "reading after a write in the same transaction block is not supported",
            )),
            _ => Ok(()),
        }
    }

    /// The block promises to write nothing.
    pub(super) fn set_read_only(&mut self) {
        if let Block::Open(open) = self {
            open.read_only = true;
        }
    }

    /// Whether the block can take a write.
    pub(super) fn refuse_write(&self) -> Result<()> {
        match self {
            Block::Open(Open { read_only: true, .. }) => Err(Error::new(
                Kind::ReadOnlyTransaction,
                "cannot execute a statement that writes in a read-only transaction",
            )),
            Block::Open(Open { held: Some(_), .. }) => {
                Err(one_write("a second write in a transaction block is not supported"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn hold(&mut self, pending: Pending) {
        if let Block::Open(open) = self {
            open.held = Some(Box::new(pending));
        }
    }
}

fn one_write(message: &str) -> Error {
    Error::unsupported(message)
        .with_detail("A block may read, or hold one write.")
        .with_hint("COMMIT first, or send the statements outside a block.")
}
