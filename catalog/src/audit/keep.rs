//! What keeps a server's ledger: heads signed every second, segments sealed every so often.
//!
//! What it guarantees: nothing is sealed that was not signed for; cut off between any two steps,
//! the next round goes on where this one was ([`super::sealed`] says why nothing comes twice).
//! What it does not: it seals this server's chain alone. A server that is gone for good leaves its
//! last minute in its journal, where it is read from as long as the disk is there.
//! On failure: a warning, and the next round; statements go on. What is not anchored meanwhile is
//! what could be cut off unseen, and what is not sealed is what a lost disk takes with it.

use std::time::Duration;

use super::anchor::{self, Newest};
use super::journal::{self, Stored};
use super::record::Opening;
use super::sealed;
use super::stored::{Head, Linked, corrupted};
use super::writer::Closed;
use super::{Ledger, Source};
use crate::error::{Error, Kind, Result};
use crate::log::{Author, Catalog};
use crate::state::{Change, Oid, State};

/// How often the head is signed while there is traffic.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(1);
/// How long until an anchor is copied into the catalog log.
const CATALOG_INTERVAL_MS: i64 = 60 * 60 * 1000;
/// As whom the ledger writes into the catalog log.
const KHO_AUDITOR: Oid = 11;

/// The work of keeping one server's ledger.
pub struct Keeping {
    ledger: Ledger,
    catalog: Catalog,
    newest: Newest,
    /// When the catalog log got an anchor last, by the monotonic clock.
    in_catalog_ms: i64,
}

impl Ledger {
    /// Prepares the keeping of this ledger: puts its public key into the catalog log, if there is
    /// none yet.
    ///
    /// # Errors
    /// `F0000` where the warehouse's ledger is signed by another key.
    pub async fn keep(&self, catalog: &Catalog) -> Result<Keeping> {
        let public = self.keys.public().to_string();
        let author = self.author("PUT LEDGER KEY");
        let decide = |state: &State| -> Result<Vec<Change>> {
            match state.ledger.keys.last() {
                None => Ok(vec![Change::PutLedgerKey(public.clone())]),
                Some(known) if *known == public => Ok(Vec::new()),
                Some(known) => {
                    let message = "the warehouse's ledger is signed by another key";
                    Err(Error::new(Kind::ConfigFile, message)
                        .with_detail(format!("The catalog names the public key {known}."))
                        .with_hint("Servers of one warehouse share the file of the ledger's keys."))
                }
            }
        };
        decide(catalog.fresh().await?.as_ref())?;
        catalog.commit(&author, decide).await?;
        let newest = anchor::newest(self.source.tables.environment(), &self.server).await?;
        let (ledger, catalog) = (self.clone(), catalog.clone());
        let in_catalog_ms = self.environment.monotonic_ms();
        Ok(Keeping { ledger, catalog, newest, in_catalog_ms })
    }

    fn author(&self, action: &str) -> Author {
        let statement_id = self.environment.new_id();
        Author { role: KHO_AUDITOR, statement_id, action: action.to_owned() }
    }
}

impl Keeping {
    /// Signs and seals until `stop`.
    pub async fn run(&mut self, seal_every: Duration, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut anchors = tokio::time::interval(ANCHOR_INTERVAL);
        let mut seals = tokio::time::interval(seal_every);
        anchors.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        seals.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                biased;
                () = &mut stop => return,
                _ = anchors.tick() => self.anchor().await,
                _ = seals.tick() => self.seal().await,
            };
            if let Err(error) = outcome {
                tracing::warn!(?error, "the audit ledger is kept less well for now");
            }
        }
    }

    /// Signs the last head and seals everything, of a ledger that is closed.
    pub async fn finish(mut self) -> Result<()> {
        self.seal().await?;
        self.copy_to_catalog().await
    }

    /// Signs the head, if it has moved.
    pub async fn anchor(&mut self) -> Result<()> {
        let head = self.ledger.head.borrow().clone();
        self.anchor_at(&head).await?;
        let now_ms = self.ledger.environment.monotonic_ms();
        if now_ms.saturating_sub(self.in_catalog_ms) > CATALOG_INTERVAL_MS {
            self.copy_to_catalog().await?;
            self.in_catalog_ms = now_ms;
        }
        Ok(())
    }

    async fn anchor_at(&mut self, head: &Head) -> Result<()> {
        // Two rounds at most: an anchor whose answer was lost may be there with an earlier head.
        for _ in 0..2 {
            let signed = self.newest.anchor.as_ref().map(|it| it.links);
            if signed.unwrap_or_default() >= head.next {
                return Ok(());
            }
            let state = self.catalog.fresh().await?;
            let Ledger { source, keys, server, .. } = &self.ledger;
            let catalog = (state.version, state.head.clone());
            let warehouse = source.tables.environment();
            self.newest = anchor::put(warehouse, keys, server, &self.newest, head, catalog).await?;
        }
        Ok(())
    }

    /// Closes the segment that is written, and seals all that is closed.
    pub async fn seal(&mut self) -> Result<()> {
        let closed = self.ledger.rotate().await?;
        self.anchor_at(&closed.head).await?;
        let Ledger { source, server, moving, .. } = &self.ledger;
        let _turn = moving.lock().await;
        source.seal(server, &closed).await?;
        sealed::tend(&source.tables).await?;
        anchor::prune(source.tables.environment(), server).await
    }

    /// Copies the newest anchor into the catalog log, unless it has that one.
    async fn copy_to_catalog(&mut self) -> Result<()> {
        let Some(anchor) = self.newest.anchor.clone() else { return Ok(()) };
        let author = self.ledger.author("ANCHOR LEDGER");
        let decide = |state: &State| {
            let known = state.ledger.anchors.get(&anchor.server);
            let is_known = known.is_some_and(|known| known.links >= anchor.links);
            Ok(if is_known { vec![] } else { vec![Change::PutAnchor(Box::new(anchor.clone()))] })
        };
        self.catalog.commit(&author, decide).await.map(drop)
    }
}

impl Source {
    /// Where a server's chain goes on, and how its next run begins; `local` is what its journal
    /// says.
    pub(super) async fn whole_head(
        &self,
        server: &str,
        local: Option<Head>,
    ) -> Result<(Head, Opening)> {
        let sealed = sealed::head(&self.tables, server).await?;
        let held = [local, sealed].into_iter().flatten().max_by_key(|head| head.next);
        let held = held.unwrap_or_else(|| Head::genesis(server));
        let signed = anchor::newest(self.tables.environment(), server).await?.anchor;
        match signed.filter(|signed| signed.links > held.next) {
            None => Ok((held, Opening::default())),
            Some(signed) => {
                let lost = Some((held.next, signed.links.saturating_sub(1)));
                Ok((signed.chain(), Opening { lost }))
            }
        }
    }

    /// Moves what a server's closed segments hold into the sealed table, and removes them.
    pub(super) async fn seal(&self, server: &str, closed: &Closed) -> Result<()> {
        let numbers = journal::segments(&self.journal).await?.remove(server).unwrap_or_default();
        let numbers: Vec<u64> = numbers.into_iter().filter(|it| *it < closed.number).collect();
        let mut sealed = match sealed::snapshot(&self.tables).await? {
            Some(snapshot) => sealed::count(&snapshot, server).await?,
            None => 0,
        };
        let (mut gathered, mut gathered_bytes) = (Vec::new(), 0);
        let mut ahead = None;
        for (at, number) in numbers.iter().enumerate() {
            let current = match ahead.take() {
                Some(stored) => Some(stored),
                None => journal::read_segment(&self.journal, server, *number).await?,
            };
            if let Some(following) = numbers.get(at + 1) {
                ahead = journal::read_segment(&self.journal, server, *following).await?;
            }
            let Some(Stored { mut links, bytes, .. }) = current else { continue };
            let void_from = ahead.as_ref().map_or(u64::MAX, |it| it.header.first_sequence);
            links.retain(|it| it.sequence >= sealed && it.sequence < void_from);
            gathered_bytes += bytes;
            gathered.append(&mut links);
            // Batches on an object store are small: they are sealed together.
            if gathered_bytes as u64 >= journal::SEGMENT_BYTES_MAX {
                sealed = self.seal_links(server, sealed, std::mem::take(&mut gathered)).await?;
                gathered_bytes = 0;
            }
        }
        self.seal_links(server, sealed, gathered).await?;
        for number in numbers {
            journal::remove_segment(&self.journal, server, number).await?;
        }
        Ok(())
    }

    /// Seals links that follow the last sealed one, number `sealed` being the next; gives the number
    /// of the next then.
    async fn seal_links(
        &self,
        server: &str,
        mut sealed: u64,
        mut links: Vec<Linked>,
    ) -> Result<u64> {
        while let Some(first) = links.first() {
            if first.sequence != sealed && !first.read(server)?.tells_of_loss(sealed) {
                return Err(corrupted(server, sealed, "is missing"));
            }
            let rest = links.split_off(sealed::portion(&links));
            sealed::append(&self.tables, server, &links).await?;
            sealed = links.last().map_or(sealed, |link| link.sequence.saturating_add(1));
            links = rest;
        }
        Ok(sealed)
    }
}
