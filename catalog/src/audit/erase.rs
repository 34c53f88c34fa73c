//! Erasing bodies: what lets a destroyed person leave the ledger.
//!
//! What it guarantees: after it returns, no body that was to go is in an object of the warehouse or
//! in a segment of a journal; the chains hold as before, and a mark says that something was erased.
//! What it does not: it decides nothing; who may ask for it, and why, is checked before. A journal
//! that another server writes right now on a disk of its own is out of its reach.
//! On failure: of the storage. Some may be erased; calling it again is right.

use std::collections::BTreeSet;

use super::{Ledger, bodies, journal, stored};
use crate::error::Result;

impl Ledger {
    /// Erases the bodies of records of `server`, by their numbers; says how many there were.
    pub async fn erase(&self, server: &str, sequences: &BTreeSet<u64>) -> Result<u64> {
        let _turn = self.moving.lock().await;
        // Nothing is appended to what is closed; a segment that is written cannot be replaced.
        let closed = match server == &*self.server {
            true => self.rotate().await?.number,
            false => u64::MAX,
        };
        let mut erased = 0;
        let places = journal::segments(&self.source.journal).await?.remove(server);
        for number in places.unwrap_or_default().into_iter().filter(|it| *it < closed) {
            let journal = &self.source.journal;
            let Some(mut segment) = journal::read_segment(journal, server, number).await? else {
                continue;
            };
            let mut changed = false;
            for link in segment.links.iter_mut().filter(|it| sequences.contains(&it.sequence)) {
                let mark = stored::erased(link.sequence)?;
                if let Some(body) = link.body.as_mut().filter(|body| **body != mark) {
                    (*body, changed) = (mark, true);
                    erased += 1;
                }
            }
            if changed {
                journal::replace_segment(journal, server, number, &segment).await?;
            }
        }
        Ok(erased + bodies::erase(self.source.tables.environment(), server, sequences).await?)
    }
}
