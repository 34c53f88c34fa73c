//! The newest version of a branch, read when somebody needs it.
//!
//! # Why
//! Adding rows needs the table's columns and none of its files, and keys are looked for in an
//! earlier version and among the few added since. A transaction of a thousand `INSERT`s would
//! otherwise list all files a thousand times.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use tokio::sync::OnceCell;

use super::super::Snapshot;
use super::super::stage::KEPT_KEYS;
use crate::error::{Error, Result};

/// One version of a branch.
pub struct Head {
    /// An earlier version of the same shape.
    known: Snapshot,
    /// The keys of all rows that came since, where nothing else did and they are few.
    since: Option<Keys>,
    version: u64,
    whole: OnceCell<Snapshot>,
}

/// The key columns of rows.
type Keys = Arc<Vec<RecordBatch>>;

/// What an entry of the branch does to those who know the version before it.
pub(super) enum Brings<'a> {
    /// No row that was not there.
    Nothing,
    /// Rows with these keys; `None` where they are not known, or where there is more.
    Rows(Option<&'a [RecordBatch]>),
}

impl Head {
    /// A version of the branch behind `known`, with whatever is between.
    pub(super) fn new(known: Snapshot, version: u64) -> Head {
        let since = (known.version() == version).then(Keys::default);
        Head { known, since, version, whole: OnceCell::new() }
    }

    /// The head behind one entry more.
    pub(super) fn next(&self, version: u64, brings: Brings<'_>) -> Head {
        let (known, since) = self.keyed();
        let since = match (since, brings) {
            (Some(since), Brings::Nothing) => Some(Arc::clone(since)),
            (Some(since), Brings::Rows(Some(keys))) => joined(since, keys),
            _ => None,
        };
        Head { known: known.clone(), since, version, whole: OnceCell::new() }
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

    /// A version, and the keys of all rows that came since; `None` where they are not at hand.
    pub fn with_keys_since(&self) -> Option<(&Snapshot, &[RecordBatch])> {
        let (known, since) = self.keyed();
        since.map(|since| (known, since.as_slice()))
    }

    fn keyed(&self) -> (&Snapshot, Option<&Keys>) {
        static NONE: std::sync::LazyLock<Keys> = std::sync::LazyLock::new(Keys::default);
        match self.whole.get() {
            Some(whole) => (whole, Some(&NONE)),
            None => (&self.known, self.since.as_ref()),
        }
    }
}

/// Both, while they are few.
fn joined(since: &Keys, more: &[RecordBatch]) -> Option<Keys> {
    let rows = |keys: &[RecordBatch]| keys.iter().map(RecordBatch::num_rows).sum::<usize>();
    if rows(since) + rows(more) > KEPT_KEYS {
        return None;
    }
    Some(Arc::new(since.iter().chain(more).cloned().collect()))
}
