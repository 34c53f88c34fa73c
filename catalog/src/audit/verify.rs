//! Finding out whether the ledger is what it was.
//!
//! What it is: [`Source::verify`] goes through every chain from its first link, and through the
//! anchors and the catalog log beside it. It needs the files and the public key, no running server.
//! What it guarantees: a byte changed, a record left out, put elsewhere or cut off, up to the last
//! signed head, is found, and the first such record is named.
//! What it does not: behind the last signed head (a second of traffic) only what does not fit
//! together is found. Erased bodies, and records that were signed for and declared lost by the
//! server that missed them, are counted, not refused.
//! On failure: `XX001` names the record; `58030` where the storage failed, which proves nothing.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::TryStreamExt;

use super::anchor::{self, Anchor};
use super::key::PublicKey;
use super::read::Source;
use super::rotation;
use super::stored::{Head, Linked, Read, corrupted, digest};
use crate::error::{Error, Kind, Result};
use crate::log::Catalog;
use crate::state::State;

/// What was found whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub servers: u64,
    pub records: u64,
    /// Bodies that were erased.
    pub erased: u64,
    /// Records that a disk took with it, first and last, by server.
    pub lost: Vec<(String, u64, u64)>,
    /// The newest anchor of each server: what to keep elsewhere.
    pub anchors: Vec<Anchor>,
}

impl Source {
    /// Verifies the whole ledger against `key` and those that it was rotated from and to, or against
    /// the keys that the catalog log names.
    ///
    /// # Errors
    /// `XX001` that names the first bad record (or anchor, or catalog entry).
    pub async fn verify(&self, catalog: &Catalog, key: Option<&PublicKey>) -> Result<Verified> {
        catalog.verify().await?;
        let state = catalog.refresh().await?;
        let keys = match key {
            Some(key) => rotation::trusted(key, &state.ledger)?,
            None => rotation::line(&state.ledger)?,
        };
        let mut servers = self.servers().await?;
        servers.extend(state.ledger.anchors.keys().cloned());
        let mut found = Verified::default();
        for server in servers {
            let anchors = self.anchors(&server, &keys, &state, catalog).await?;
            self.verify_chain(&server, &anchors, &mut found).await?;
            found.servers += 1;
            found.anchors.extend(anchors.into_values().next_back());
        }
        Ok(found)
    }

    /// The anchors of a server by the number of links they sign for, those of the catalog included.
    async fn anchors(
        &self,
        server: &str,
        keys: &[PublicKey],
        state: &State,
        catalog: &Catalog,
    ) -> Result<BTreeMap<u64, Anchor>> {
        let mut anchors = anchor::verified(self.tables.environment(), server, keys).await?;
        if let Some(known) = state.ledger.anchors.get(server) {
            if !known.is_signed_by(keys) || known.server != *server {
                let message = format!("the catalog's anchor of server {server} is not signed");
                return Err(Error::new(Kind::DataCorrupted, message));
            }
            if anchors.last().is_none_or(|newest| newest.number < known.number) {
                let message = format!("audit anchor {} of server {server} is gone", known.number);
                return Err(Error::new(Kind::DataCorrupted, message));
            }
            anchors.push(Anchor::clone(known));
        }
        // The end of the catalog log, too, was signed for.
        let newest = anchors.iter().max_by_key(|it| it.catalog_version);
        if let Some(newest) = newest {
            let head = catalog.head_at(newest.catalog_version).await?;
            if head.as_ref() != Some(&newest.catalog_head) {
                let version = newest.catalog_version;
                let message = format!("catalog entry {version} is gone or another");
                return Err(Error::new(Kind::DataCorrupted, message));
            }
        }
        Ok(anchors.into_iter().map(|anchor| (anchor.links, anchor)).collect())
    }

    async fn verify_chain(
        &self,
        server: &str,
        anchors: &BTreeMap<u64, Anchor>,
        found: &mut Verified,
    ) -> Result<()> {
        let head = Head::genesis(server);
        let mut chain = Chain { server, anchors, head, doubt: None };
        let mut links = pin!(self.links(server));
        while let Some(some) = links.try_next().await? {
            for link in some {
                chain.take(link, found)?;
            }
        }
        chain.end()
    }
}

/// A chain as far as it was found whole.
struct Chain<'a> {
    server: &'a str,
    anchors: &'a BTreeMap<u64, Anchor>,
    /// What the next link must follow.
    head: Head,
    /// A link that does not name the hash of the one before: one of the two was changed.
    doubt: Option<u64>,
}

impl Chain<'_> {
    fn take(&mut self, link: Linked, found: &mut Verified) -> Result<()> {
        let bad = |sequence, what: &str| corrupted(self.server, sequence, what);
        let read: Read = link.read(self.server)?;
        let follows = read.previous == self.head.hash;
        if let Some(doubted) = self.doubt {
            return Err(self.blame(doubted, follows));
        }
        if link.sequence < self.head.next {
            return Err(bad(link.sequence, "is there twice"));
        }
        if link.sequence > self.head.next {
            if !read.tells_of_loss(self.head.next) {
                return Err(bad(self.head.next, "is missing"));
            }
            let signed = self.anchors.get(&link.sequence);
            if signed.is_some_and(|signed| signed.head != read.previous) {
                return Err(bad(link.sequence, "follows from what was not signed"));
            }
            let (first, last) = (self.head.next, link.sequence - 1);
            found.lost.push((self.server.to_owned(), first, last));
        } else if !follows {
            self.doubt = Some(link.sequence);
        }
        let confirmed = self.is_signed();
        self.head = Head { next: link.sequence.saturating_add(1), hash: digest(&link.link) };
        match (self.doubt, self.is_signed()) {
            // What was signed tells which of the two it was.
            (Some(doubted), Some(is_whole)) => return Err(self.blame(doubted, is_whole)),
            (Some(doubted), None) if confirmed == Some(true) => {
                return Err(self.blame(doubted, false));
            }
            (None, Some(false)) => {
                return Err(bad(link.sequence, "is not the one that was signed for"));
            }
            _ => {}
        }
        found.records += 1;
        found.erased += u64::from(read.erased);
        Ok(())
    }

    /// Whether the head is the one that an anchor states; `None` where no anchor is about it.
    fn is_signed(&self) -> Option<bool> {
        self.anchors.get(&self.head.next).map(|signed| signed.head == self.head.hash)
    }

    /// A link that does not follow was changed itself, or else the one before it was.
    fn blame(&self, doubted: u64, is_whole: bool) -> Error {
        let sequence = doubted.saturating_sub(u64::from(is_whole));
        corrupted(self.server, sequence, "was changed, or another was put in its place")
    }

    fn end(self) -> Result<()> {
        if let Some(doubted) = self.doubt {
            return Err(self.blame(doubted, false));
        }
        match self.anchors.keys().next_back() {
            Some(signed) if *signed > self.head.next => {
                Err(corrupted(self.server, self.head.next, "is missing: the end was cut off"))
            }
            _ => Ok(()),
        }
    }
}
