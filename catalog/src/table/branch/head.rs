//! The newest version of a branch, read when somebody needs it.
//!
//! # Why
//! Adding rows needs the table's columns and none of its files; a transaction of a thousand
//! `INSERT`s would otherwise list all files a thousand times.

use tokio::sync::OnceCell;

use super::super::Snapshot;
use crate::error::{Error, Result};

/// One version of a branch.
pub struct Head {
    /// An earlier version of the same shape.
    known: Snapshot,
    version: u64,
    whole: OnceCell<Snapshot>,
}

impl Head {
    pub(super) fn new(known: Snapshot, version: u64) -> Head {
        Head { known, version, whole: OnceCell::new() }
    }

    /// The head behind one entry more.
    pub(super) fn next(&self, version: u64) -> Head {
        Head::new(self.shape().clone(), version)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The table with all rows.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let read = async || {
            if self.known.version() == self.version {
                return Ok(self.known.clone());
            }
            let head = self.known.clone().refreshed_to(self.version).await?;
            match head.version() == self.version {
                true => Ok(head),
                false => Err(Error::internal("a branch did not take its commit")),
            }
        };
        self.whole.get_or_try_init(read).await.cloned()
    }

    /// A version with the columns that the table has now, for rows to be added by.
    pub fn shape(&self) -> &Snapshot {
        self.whole.get().unwrap_or(&self.known)
    }
}
