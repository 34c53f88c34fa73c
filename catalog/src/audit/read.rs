//! Reading the ledger up to the present moment: what is sealed, and behind it the journal.
//!
//! What it is: a [`Source`] knows both places; [`Source::links`] gives one server's links in order.
//! What it guarantees: no link comes twice; one that is sealed and taken out of the journal while
//! it is read is found where it went. Memory is bounded by two segments, or one sealing.
//! What it does not: it verifies nothing. A gap is a gap: the number of the next link tells.
//! On failure: of the storage; `XX001` for what does not parse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::{Stream, StreamExt, stream};

use super::anchor;
use super::bodies;
use super::journal::{self, Stored};
use super::record::Line;
use super::sealed::{self, Sealed};
use super::stored::Linked;
use crate::environment::Environment;
use crate::error::Result;
use crate::table::Tables;

/// Where a ledger lies.
#[derive(Clone)]
pub struct Source {
    /// The warehouse: sealed records, bodies, anchors.
    pub(super) tables: Tables,
    /// Where the journals are; the same place, or a disk beside it.
    pub(super) journal: Environment,
}

/// What snapshots of the sealed ledger may take in memory.
const CACHE_BYTES: usize = 16 << 20;

impl Source {
    pub fn new(warehouse: &Environment, journal: &Environment) -> Source {
        let tables = Tables::with_cache(warehouse.clone(), CACHE_BYTES);
        Source { tables, journal: journal.clone() }
    }

    /// Everyone who has written into the ledger.
    pub async fn servers(&self) -> Result<BTreeSet<String>> {
        let warehouse = self.tables.environment();
        let mut servers: BTreeSet<String> = anchor::servers(warehouse).await?.into_iter().collect();
        servers.extend(bodies::objects(warehouse).await?.into_keys());
        servers.extend(journal::segments(&self.journal).await?.into_keys());
        Ok(servers)
    }

    /// The lines of one server, in order, with their bodies where these were not erased.
    pub fn lines(&self, server: &str) -> impl Stream<Item = Result<Line>> + Send + use<> {
        let server = server.to_owned();
        let links = self.links(&server);
        let read = move |links: Result<Vec<Linked>>| {
            let read = |link: Linked| link.read(&server).map(|read| read.line);
            let lines: Vec<Result<Line>> = match links {
                Ok(links) => links.into_iter().map(read).collect(),
                Err(error) => vec![Err(error)],
            };
            stream::iter(lines)
        };
        links.flat_map(read)
    }

    /// The links of one server, in order, some at a time.
    pub(super) fn links(
        &self,
        server: &str,
    ) -> impl Stream<Item = Result<Vec<Linked>>> + Send + use<> {
        self.links_from(server, 0)
    }

    /// The same from the number `next` on.
    pub(super) fn links_from(
        &self,
        server: &str,
        next: u64,
    ) -> impl Stream<Item = Result<Vec<Linked>>> + Send + use<> {
        let reader = Reader {
            source: self.clone(),
            server: server.to_owned(),
            next,
            asked_sealed_at: None,
            phase: Phase::Sealed(None),
        };
        stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.more().await?.map(|links| (links, reader)))
        })
    }
}

struct Reader {
    source: Source,
    server: String,
    next: u64,
    /// The link that was looked for among the sealed ones last.
    asked_sealed_at: Option<u64>,
    phase: Phase,
}

enum Phase {
    /// `None` where the table is to be opened (again).
    Sealed(Option<Sealed>),
    Journal {
        left: VecDeque<u64>,
        ahead: Option<Stored>,
    },
    End,
}

impl Reader {
    /// The next links; `None` at the end.
    async fn more(&mut self) -> Result<Option<Vec<Linked>>> {
        loop {
            let links = match std::mem::replace(&mut self.phase, Phase::End) {
                Phase::End => return Ok(None),
                Phase::Sealed(None) => {
                    self.open().await?;
                    continue;
                }
                Phase::Sealed(Some(mut sealed)) => match sealed.next().await? {
                    Some(links) => {
                        self.phase = Phase::Sealed(Some(sealed));
                        links
                    }
                    None => {
                        self.phase = self.journal().await?;
                        continue;
                    }
                },
                Phase::Journal { left, ahead } => match self.segment(left, ahead).await? {
                    Some(links) => links,
                    None => continue,
                },
            };
            if let Some(last) = links.last() {
                self.next = last.sequence.saturating_add(1);
                return Ok(Some(links));
            }
        }
    }

    /// Begins with what is sealed.
    async fn open(&mut self) -> Result<()> {
        self.asked_sealed_at = Some(self.next);
        let Source { tables, .. } = &self.source;
        self.phase = match sealed::snapshot(tables).await? {
            Some(snapshot) if sealed::count(&snapshot, &self.server).await? > self.next => {
                let rows = sealed::rows(tables, &snapshot, &self.server, self.next).await?;
                Phase::Sealed(Some(rows))
            }
            _ => self.journal().await?,
        };
        Ok(())
    }

    async fn journal(&mut self) -> Result<Phase> {
        let mut segments: BTreeMap<_, _> = journal::segments(&self.source.journal).await?;
        let left = segments.remove(&self.server).unwrap_or_default().into();
        Ok(Phase::Journal { left, ahead: None })
    }

    /// What one segment adds; `None` where it adds nothing.
    async fn segment(
        &mut self,
        mut left: VecDeque<u64>,
        mut ahead: Option<Stored>,
    ) -> Result<Option<Vec<Linked>>> {
        let journal = &self.source.journal;
        let mut is_gone = false;
        let mut take = async |left: &mut VecDeque<u64>| -> Result<Option<Stored>> {
            while let Some(number) = left.pop_front() {
                match journal::read_segment(journal, &self.server, number).await? {
                    Some(stored) => return Ok(Some(stored)),
                    None => is_gone = true,
                }
            }
            Ok(None)
        };
        let current = match ahead.take() {
            Some(stored) => Some(stored),
            None => take(&mut left).await?,
        };
        let following = take(&mut left).await?;
        let Some(Stored { mut links, .. }) = current else {
            // Was all of it sealed since it was listed?
            if is_gone && self.asked_sealed_at != Some(self.next) {
                self.phase = Phase::Sealed(None);
            }
            return Ok(None);
        };
        let void_from = following.as_ref().map_or(u64::MAX, |it| it.header.first_sequence);
        links.retain(|link| link.sequence >= self.next && link.sequence < void_from);
        let begins_late = links.first().is_some_and(|first| first.sequence > self.next);
        if begins_late && self.asked_sealed_at != Some(self.next) {
            // What lies between was perhaps sealed meanwhile; then the journal is read again.
            self.phase = Phase::Sealed(None);
            return Ok(None);
        }
        self.phase = Phase::Journal { left, ahead: following };
        Ok(Some(links).filter(|links| !links.is_empty()))
    }
}
