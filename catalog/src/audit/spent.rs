//! What was released of datasets since a moment, by role and by agreement: quotas of a day rest on it.
//!
//! What it is: [`Spent`] adds up the completions of all servers, and of acts that have none what they
//! put down before they released it ([`Ledger::releasing`]).
//! What it guarantees: a kill or a power cut makes what is found more than was released, never less,
//! where it was put down. What this run of this server does is left out: it counts that itself.
//! Each link counts once; memory is bounded by the acts that are open, and by who did anything.
//! What it does not: of servers on other disks it finds what they have sealed.
//! On failure: of the storage; what was added stays added, and the next reading goes on from there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;

use super::record::{Event, Line, Released};
use super::sealed;
use super::stored::Linked;
use super::{Ledger, Message, Source, anchor, closed, journal, stopped};
use crate::error::Result;
use crate::state::Oid;

/// Rows, and the bytes of their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub rows: u64,
    pub bytes: u64,
}

/// What was released by everything but this run of this server.
pub struct Spent {
    source: Source,
    own: Arc<str>,
    /// The first link that is this run's.
    own_from: u64,
    since_ms: i64,
    /// The next link of each server.
    next: BTreeMap<String, u64>,
    sums: Sums,
}

#[derive(Default)]
struct Sums {
    roles: HashMap<Oid, Used>,
    agreements: HashMap<Oid, Used>,
    /// What acts without an end put down last.
    open: HashMap<String, Released>,
}

impl Used {
    #[must_use]
    pub fn plus(self, other: Used) -> Used {
        Used {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Released {
    /// What counts against the quotas of its agreements.
    pub fn under_agreements(&self) -> Used {
        self.given().plus(Used { rows: self.kept_rows, bytes: self.kept_bytes })
    }

    /// What counts against the limits of its role.
    pub fn given(&self) -> Used {
        Used { rows: self.rows, bytes: self.bytes }
    }
}

impl Ledger {
    /// To be asked before this run has done anything.
    pub fn spent(&self) -> Spent {
        Spent {
            source: self.source.clone(),
            own: Arc::clone(&self.server),
            own_from: self.head.borrow().next,
            since_ms: i64::MAX,
            next: BTreeMap::new(),
            sums: Sums::default(),
        }
    }

    /// Puts down that the act `id` is about to have released so much altogether, and returns once
    /// that is durable.
    pub async fn releasing(&self, id: &str, released: Released) -> Result<()> {
        if self.discards {
            return Ok(());
        }
        let (reply, written) = tokio::sync::oneshot::channel();
        let event = Event::Releasing(released);
        let item = super::Item { time_ms: self.environment.now_ms(), id: id.to_owned(), event };
        self.begins.send(Message::Begin { item, reply }).await.map_err(|_| closed())?;
        written.await.map_err(|_| stopped())?
    }
}

impl Spent {
    /// Reads what is new; for another moment than before, all since then.
    pub async fn read_on(&mut self, since_ms: i64) -> Result<()> {
        if self.since_ms != since_ms {
            // Some of what is new enough was read before, and counted for the moment before.
            (self.since_ms, self.sums) = (since_ms, Sums::default());
            self.next.clear();
        }
        let mut servers: BTreeSet<String> =
            anchor::servers(self.source.tables.environment()).await?.into_iter().collect();
        servers.extend(journal::segments(&self.source.journal).await?.into_keys());
        for server in servers {
            self.read_server(&server).await?;
        }
        Ok(())
    }

    pub fn by_role(&self) -> HashMap<Oid, Used> {
        let mut sums = self.sums.roles.clone();
        for released in self.sums.open.values() {
            add(&mut sums, released.role, released.given());
        }
        sums
    }

    pub fn by_agreement(&self) -> HashMap<Oid, Used> {
        let mut sums = self.sums.agreements.clone();
        for released in self.sums.open.values() {
            for agreement in &released.agreements {
                add(&mut sums, *agreement, released.under_agreements());
            }
        }
        sums
    }

    async fn read_server(&mut self, server: &str) -> Result<()> {
        let until = if server == &*self.own { self.own_from } else { u64::MAX };
        let next = match self.next.get(server) {
            Some(next) => *next,
            None => self.read_sealed(server, until).await?,
        };
        self.next.insert(server.to_owned(), next);
        if next >= until {
            return Ok(());
        }
        let mut links = Box::pin(self.source.links_from(server, next));
        while let Some(some) = links.next().await {
            let some = some?;
            let Some(last) = some.last().map(|link| link.sequence) else { continue };
            for link in some.iter().filter(|link| link.sequence < until) {
                self.sums.take(link, server, self.since_ms)?;
            }
            self.next.insert(server.to_owned(), last.saturating_add(1));
            if last >= until {
                break;
            }
        }
        Ok(())
    }

    /// Begins with a server: of what it sealed, only the files that may hold something new enough
    /// are read. Gives the number of the first link behind that.
    async fn read_sealed(&mut self, server: &str, until: u64) -> Result<u64> {
        let Some(snapshot) = sealed::snapshot(&self.source.tables).await? else { return Ok(0) };
        let next = sealed::count(&snapshot, server).await?;
        let mut links = sealed::since(&snapshot, server, self.since_ms).await?;
        let mut sums = Sums::default();
        while let Some(some) = links.next().await {
            for link in some?.iter().filter(|link| link.sequence < until.min(next)) {
                sums.take(link, server, self.since_ms)?;
            }
        }
        // All of it at once, so that it is not added twice where reading failed half way.
        self.sums.open.extend(sums.open);
        for (into, from) in
            [(&mut self.sums.roles, sums.roles), (&mut self.sums.agreements, sums.agreements)]
        {
            from.into_iter().for_each(|(of, used)| add(into, of, used));
        }
        Ok(next)
    }
}

impl Sums {
    fn take(&mut self, link: &Linked, server: &str, since_ms: i64) -> Result<()> {
        // Most links are none of these, and have no place here that would be worth parsing them.
        let Some(Line { time_ms, id, event, .. }) = link.of_release(server)? else { return Ok(()) };
        match event {
            Event::Releasing(released) if time_ms >= since_ms => {
                self.open.insert(id, released);
            }
            Event::Complete(completion) => {
                self.open.remove(&id);
                let Some(released) = completion.released.filter(|_| time_ms >= since_ms) else {
                    return Ok(());
                };
                add(&mut self.roles, released.role, released.given());
                for agreement in &released.agreements {
                    add(&mut self.agreements, *agreement, released.under_agreements());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn add(sums: &mut HashMap<Oid, Used>, of: Oid, used: Used) {
    let sum = sums.entry(of).or_default();
    *sum = sum.plus(used);
}
