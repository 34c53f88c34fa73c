//! The sessions of this server and what each is running now.
//!
//! What it guarantees: a statement is here from before its first act until its last row was given
//! or dropped; its text is the ledger's, without literals; a cancellation stops what runs when it
//! comes, all of it, never what comes later.
//! What it does not: of several statements of one session it shows the one that began last; it knows
//! nothing of other servers' sessions, and keeps no past.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::Principal;
use kho_catalog::state::{Oid, State};
use tokio_util::sync::CancellationToken;

use crate::session::{Login, TransactionStatus};

/// The wire whose sessions give the rows of several statements at once.
const OF_SEVERAL: &str = "flight";
/// Roles that see, and may stop, what everyone runs.
const KEEPERS: &[&str] = &["kho_admin", "kho_operator"];

/// The sessions of one server, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Mutex<Sessions>>);

#[derive(Debug, Default)]
struct Sessions {
    last: i64,
    open: BTreeMap<i64, SessionEntry>,
}

/// A session as others may see it.
#[derive(Clone, Debug)]
pub(crate) struct SessionEntry {
    pub id: i64,
    pub role: Oid,
    pub process_id: i32,
    pub client: Option<SocketAddr>,
    pub protocol: &'static str,
    pub application: Option<String>,
    pub connected_ms: i64,
    /// When it began to do what it does now, or to rest.
    pub changed_ms: i64,
    /// Of those that run the one that began last; where none does, the one that ended last.
    pub statement: Option<String>,
    transaction: TransactionStatus,
    /// By their numbers; no more than one, but of a session that gives the rows of several at once.
    running: BTreeMap<u64, Run>,
    statements: u64,
}

/// A statement that runs.
#[derive(Clone, Debug)]
struct Run {
    statement: String,
    since_ms: i64,
    stop: CancellationToken,
}

/// A session's place; dropping it takes the session off.
#[derive(Debug)]
pub(crate) struct Present {
    activity: Activity,
    id: i64,
}

/// A statement that runs as long as this is kept.
#[derive(Debug)]
pub(crate) struct Running {
    activity: Activity,
    session: i64,
    statement: u64,
}

impl SessionEntry {
    /// PostgreSQL's words.
    pub(crate) fn state(&self) -> &'static str {
        match (self.running.is_empty(), self.transaction) {
            (false, _) => "active",
            (true, TransactionStatus::Idle) => "idle",
            (true, TransactionStatus::InTransaction) => "idle in transaction",
            (true, TransactionStatus::Failed) => "idle in transaction (aborted)",
        }
    }

    /// When the statement that runs was begun.
    pub(crate) fn running_since_ms(&self) -> Option<i64> {
        (!self.running.is_empty()).then_some(self.changed_ms)
    }
}

impl Activity {
    pub(crate) fn open(&self, login: &Login, role: Oid, now_ms: i64) -> Present {
        let mut sessions = self.lock();
        sessions.last += 1;
        let id = sessions.last;
        let application =
            login.settings.iter().find(|(name, _)| name.eq_ignore_ascii_case("application_name"));
        let entry = SessionEntry {
            id,
            role,
            process_id: login.process_id,
            client: login.client,
            protocol: login.protocol,
            application: application.map(|(_, name)| name.clone()),
            connected_ms: now_ms,
            changed_ms: now_ms,
            statement: None,
            transaction: TransactionStatus::Idle,
            running: BTreeMap::new(),
            statements: 0,
        };
        sessions.open.insert(id, entry);
        Present { activity: self.clone(), id }
    }

    /// The sessions that `who` may see: those of roles it acts with, or all. What they run is not
    /// shown to a session that is bound to some datasets.
    pub(crate) fn visible(&self, state: &State, who: &Principal) -> Vec<SessionEntry> {
        let all = is_keeper(state, who);
        let sessions = self.lock();
        let seen = sessions.open.values().filter(|it| all || who.is(it.role)).cloned();
        match who.may_know_all() {
            true => seen.collect(),
            false => seen.map(|it| SessionEntry { statement: None, ..it }).collect(),
        }
    }

    /// Stops all that the wanted ones of the visible sessions run; false where they run nothing.
    ///
    /// # Errors
    /// `42704` for a session that does not exist for `who`.
    pub(crate) fn cancel(
        &self,
        state: &State,
        who: &Principal,
        wanted: impl Fn(&SessionEntry) -> bool,
    ) -> Result<bool> {
        let mut found = self.visible(state, who);
        found.retain(|it| wanted(it));
        if found.is_empty() {
            return Err(Error::new(Kind::UndefinedObject, "there is no such session")
                .with_hint("kho.activity shows the sessions of this server."));
        }
        let running: Vec<&Run> = found.iter().flat_map(|it| it.running.values()).collect();
        running.iter().for_each(|run| run.stop.cancel());
        Ok(!running.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// The session begins to run `statement`, which `stop` ends.
    pub(crate) fn runs(&self, statement: &str, stop: &CancellationToken, now_ms: i64) -> Running {
        let mut number = 0;
        if let Some(entry) = self.activity.lock().open.get_mut(&self.id) {
            entry.statements += 1;
            number = entry.statements;
            // Elsewhere a portal that was left open rests.
            if entry.protocol != OF_SEVERAL {
                entry.running.clear();
            }
            let (statement, stop) = (statement.to_owned(), stop.clone());
            entry.statement = Some(statement.clone());
            entry.changed_ms = now_ms;
            entry.running.insert(number, Run { statement, since_ms: now_ms, stop });
        }
        Running { activity: self.activity.clone(), session: self.id, statement: number }
    }

    /// The session stands like this in its transaction.
    pub(crate) fn stands(&self, transaction: TransactionStatus) {
        if let Some(entry) = self.activity.lock().open.get_mut(&self.id) {
            entry.transaction = transaction;
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.activity.lock().open.remove(&self.id);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut sessions = self.activity.lock();
        let Some(entry) = sessions.open.get_mut(&self.session) else { return };
        // The session may be at a later statement: a portal is dropped when it is dropped.
        if entry.running.remove(&self.statement).is_none() {
            return;
        }
        if let Some(left) = entry.running.values().next_back() {
            entry.statement = Some(left.statement.clone());
            entry.changed_ms = left.since_ms;
        }
    }
}

/// Whether `who` sees what everyone does.
pub(crate) fn is_keeper(state: &State, who: &Principal) -> bool {
    KEEPERS.iter().filter_map(|name| state.role(name)).any(|role| who.serves(role.oid))
}
