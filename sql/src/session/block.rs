//! The transaction block: open, failed or none, and what an open one has seen and done.

use std::sync::Arc;

use kho_catalog::state::State;

use super::TransactionStatus;
use crate::engine::Shared;
use crate::transaction::{Mark, Transaction};

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
    /// There from the first statement on that looks at anything.
    transaction: Option<Box<Transaction>>,
}

impl Open {
    fn new(implicit: bool) -> Open {
        Open { implicit, transaction: None }
    }

    /// Undoes what the block did, without anyone waiting for it.
    pub(super) fn give_up(self) {
        if let (Some(transaction), Ok(runtime)) =
            (self.transaction, tokio::runtime::Handle::try_current())
        {
            runtime.spawn(transaction.roll_back());
        }
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

    /// Ends an implicit block; gives the transaction to be committed.
    pub(super) fn end_implicit(&mut self, failed: bool) -> Option<Transaction> {
        match self {
            Block::Open(Open { implicit: true, .. }) | Block::Failed { implicit: true } => {
                if failed {
                    self.fail();
                }
                match std::mem::replace(self, Block::None) {
                    Block::Open(open) => open.transaction.map(|it| *it),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Fails an open block that may go on from a savepoint; gives what it was.
    pub(super) fn suspend(&mut self) -> Option<Open> {
        match std::mem::replace(self, Block::None) {
            Block::Open(open) => {
                *self = Block::Failed { implicit: open.implicit };
                Some(open)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    pub(super) fn resume(&mut self, open: Open) {
        *self = Block::Open(open);
    }

    /// How far the block has come; `None` where it has looked at nothing yet.
    pub(super) fn mark(&self) -> Option<Mark> {
        match self {
            Block::Open(open) => open.transaction.as_deref().map(Transaction::mark),
            _ => None,
        }
    }

    /// Fails an open block. What it wrote is given up now, not when the client says so: others
    /// wait for its tables.
    pub(super) fn fail(&mut self) {
        if let Some(open) = self.suspend() {
            open.give_up();
        }
    }

    /// Whether nobody said `BEGIN`.
    pub(super) fn is_implicit(&self) -> bool {
        match self {
            Block::None => true,
            Block::Open(open) => open.implicit,
            Block::Failed { implicit } => *implicit,
        }
    }

    /// Ends the block, an implicit one, too: whether it had failed, and what it did. `None` outside
    /// a block.
    pub(super) fn end(&mut self) -> Option<(bool, Option<Transaction>)> {
        match std::mem::replace(self, Block::None) {
            Block::None => None,
            Block::Open(open) => Some((false, open.transaction.map(|it| *it))),
            Block::Failed { .. } => Some((true, None)),
        }
    }

    /// The open block's transaction; `None` outside a block.
    pub(super) fn transaction(&mut self) -> Option<&mut Transaction> {
        match self {
            Block::Open(open) => open.transaction.as_deref_mut(),
            _ => None,
        }
    }

    /// Whether a statement that looks at something is the block's first: then it begins the
    /// transaction.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Block::Open(Open { transaction: None, .. }))
    }

    /// Pins what the block sees.
    pub(super) fn begin_transaction(&mut self, shared: &Shared, state: Arc<State>) {
        if let Block::Open(open) = self {
            open.transaction = Some(Box::new(Transaction::begin(shared, state)));
        }
    }
}
