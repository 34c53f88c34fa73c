//! What one statement sees, fixed when it starts: the catalog, who asks, the settings, and which
//! version of each table it has read.
//!
//! What it guarantees: a table read twice in one statement, or in one transaction block, is read
//! at one version.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::freeze;
use kho_catalog::privilege::{self, Action, Decision, Principal};
use kho_catalog::state::{Oid, Relation, State};
use kho_catalog::table::{Dependence, Load, Location, Snapshot, Stage, TableColumn};
use tokio::sync::OwnedMutexGuard;

use crate::authorize::rights::has;
use crate::bind::Read;
use crate::engine::Shared;
use crate::session::{Credential, Facts};
use crate::settings::Settings;
use crate::transaction::{Reads, View, pinned_snapshot};

/// Snapshots already taken, by relation and the version asked for (`None` is the newest).
pub(crate) type Pins = Arc<Mutex<HashMap<(Oid, Option<u64>), Snapshot>>>;

#[derive(Clone)]
pub(crate) struct Scope {
    pub shared: Arc<Shared>,
    pub state: Arc<State>,
    /// The newest catalog; in a block that is not the one that is seen, and it binds all the same.
    pub latest: Arc<State>,
    /// Whose rights count: the session's role, or within a view its owner.
    pub who: Principal,
    /// The session's role: masks and what policies ask of a session are its affair.
    pub session: Principal,
    /// What the session came by, and what that leaves of its role.
    pub credential: Arc<Credential>,
    /// The tables whose policies are being bound, one within the other.
    pub within_policies: Vec<Oid>,
    /// Whether a plan is made to be shown: then nothing in it may rest on rows that are hidden.
    pub explains: bool,
    /// The role's name, as `current_user` says it.
    pub role: String,
    pub settings: Settings,
    pub pins: Pins,
    /// What the open block has done, if there is one.
    pub block: View,
    /// What this statement has read so far.
    pub reads: Reads,
    /// What it was allowed so far, and of which roles; for a write, to be asked again.
    pub asked: Arc<Mutex<Vec<(Oid, Action)>>>,
    /// What it has read so far, by whose right; for a write, too.
    pub sources: Arc<Mutex<Vec<(Oid, Oid)>>>,
    /// The newest place in the order of commits before it read anything.
    pub order_seen: u64,
    /// The load that this statement's rows are.
    pub load: Option<Load>,
    /// What the statement may hold, shared by all plans it is made of.
    pub memory: Arc<RuntimeEnv>,
    /// `kho.as_of`, in milliseconds since the epoch.
    pub as_of_ms: Option<i64>,
    pub process_id: i32,
    /// The statement's id in the ledger and in commits.
    pub statement_id: String,
    /// What its record in the ledger will say of it.
    pub facts: Facts,
    pub now_ms: i64,
}

/// A relation, and who looks at it, as the catalog has them by which policies and masks are found.
pub(crate) struct Governing {
    pub state: Arc<State>,
    pub relation: Arc<Relation>,
    /// Whose policies hold.
    pub who: Principal,
    /// Whose masks hold.
    pub session: Principal,
}

impl Scope {
    /// Schemas that a name without one is looked for in, in order.
    pub(crate) fn search_path(&self) -> Vec<String> {
        let path = self.settings.search_path().into_iter();
        path.map(|name| if name == "$user" { self.role.clone() } else { name }).collect()
    }

    /// The same scope as another role sees it: what a view runs with.
    pub(crate) fn as_role(&self, role: Oid) -> Scope {
        Scope { who: Principal::of(&self.state, role), ..self.clone() }
    }

    /// By what the policies and masks of `relation` are found: the catalog of now, in an open block,
    /// too, that goes on with older rows; but a block that has changed the catalog goes by what it
    /// made of it.
    pub(crate) fn governing(&self, relation: &Relation) -> Governing {
        let dataset = |of: &Relation| of.table().map(|table| table.dataset.clone());
        let now = self.latest.relations.get(&relation.oid);
        let (state, relation) = match now.filter(|now| dataset(now) == dataset(relation)) {
            Some(now) if !self.block.changed_catalog() => (&self.latest, Arc::clone(now)),
            _ => (&self.state, Arc::new(relation.clone())),
        };
        Governing {
            who: self.principal(state, self.who.role()).into_owned(),
            session: self.principal(state, self.session.role()).into_owned(),
            state: Arc::clone(state),
            relation,
        }
    }

    /// What a role is by one of the statement's catalogs.
    fn principal(&self, state: &Arc<State>, role: Oid) -> Cow<'_, Principal> {
        match Arc::ptr_eq(state, &self.state) && role == self.who.role() {
            true => Cow::Borrowed(&self.who),
            false => Cow::Owned(Principal::of(state, role)),
        }
    }

    /// The same scope while the policies of `relation` are bound.
    ///
    /// # Errors
    /// `42P17` where they read the table itself.
    pub(crate) fn within_policy_of(&self, relation: &Relation) -> Result<Scope> {
        if self.within_policies.contains(&relation.oid) {
            let message =
                format!("infinite recursion detected in policy for relation \"{}\"", relation.name);
            return Err(Error::new(Kind::InvalidObjectDefinition, message));
        }
        let mut scope = self.clone();
        scope.within_policies.push(relation.oid);
        // What a policy looks up is not what the session asks for.
        scope.who = self.acting(&self.state, self.who.role()).into_owned();
        Ok(scope)
    }

    /// The snapshot of `relation` that this statement reads: the version asked for, else the one
    /// of `kho.as_of`, else the newest.
    pub(crate) async fn snapshot(
        &self,
        relation: &Relation,
        version: Option<u64>,
    ) -> Result<Snapshot> {
        let location = location(relation)?;
        let tables = &self.shared.tables;
        let version = match (version, self.as_of_ms) {
            (None, Some(time_ms)) => Some(self.version_at(relation, time_ms).await?),
            (version, _) => version,
        };
        if let (None, Some(head)) = (version, self.block.head(relation.oid)) {
            return head.snapshot().await;
        }
        let key = (relation.oid, version);
        if let Some(pinned) = lock(&self.pins).get(&key) {
            return Ok(pinned.clone());
        }
        let snapshot = match (version, self.block.began_ms(relation.oid)) {
            (Some(version), _) => tables.at_version(&location, version).await?,
            (None, Some(began_ms)) => pinned_snapshot(&self.shared, relation, began_ms).await?,
            (None, None) => tables.latest(&location).await?,
        };
        Ok(lock(&self.pins).entry(key).or_insert(snapshot).clone())
    }

    /// A version of `relation` with the columns that this statement sees, for rows that are added
    /// without looking at others; in a block that wrote it, its own rows need not be in it.
    pub(crate) async fn shape(&self, relation: &Relation) -> Result<Snapshot> {
        match (self.block.head(relation.oid), self.as_of_ms) {
            (Some(head), None) => Ok(head.shape().clone()),
            _ => self.snapshot(relation, None).await,
        }
    }

    /// Where the rows of a table that is there are written.
    pub(crate) fn stage(&self, relation: &Relation, columns: &[TableColumn]) -> Result<Stage> {
        let place = self.block.place(relation.oid);
        let location = location(relation)?;
        Ok(self.shared.tables.stage_at(place, &location, columns, &relation.searched()))
    }

    /// Whether `by` may do `action`, both by what the statement sees and by now. What a block made
    /// itself is not there yet for others, and is decided by what it sees.
    pub(crate) fn decide(&self, by: Oid, action: Action) -> Decision {
        let seen = privilege::decide(&self.state, &self.acting(&self.state, by), action);
        match self.later(action) {
            Some(now) if matches!(seen, Decision::Allowed(_)) => {
                privilege::decide(now, &self.acting(now, by), action)
            }
            _ => seen,
        }
    }

    /// The role `by`, in whose name something is asked that was found: of the session's own with no
    /// more than its credential leaves it. Which datasets there are was decided by their names.
    fn acting(&self, state: &Arc<State>, by: Oid) -> Cow<'_, Principal> {
        let who = self.principal(state, by);
        match self.credential.reach() {
            reach if by == self.session.role() && who.bounds() != reach.as_ref() => {
                Cow::Owned(who.into_owned().within(reach.as_ref()))
            }
            _ => who,
        }
    }

    /// [`Scope::decide`], with an error in PostgreSQL's words unless it is allowed.
    pub(crate) fn require(&self, by: Oid, action: Action) -> Result<()> {
        privilege::require(&self.state, &self.acting(&self.state, by), action)?;
        if let Some(now) = self.later(action) {
            privilege::require(now, &self.acting(now, by), action)?;
        }
        self.note_asked(by, action);
        Ok(())
    }

    /// Notes what was allowed, to be asked again when a write is committed.
    pub(crate) fn note_asked(&self, by: Oid, action: Action) {
        let mut asked = lock(&self.asked);
        if !asked.contains(&(by, action)) {
            asked.push((by, action));
        }
    }

    /// Whether anything was read so far.
    pub(crate) fn has_sources(&self) -> bool {
        !lock(&self.sources).is_empty()
    }

    /// Notes what was read, to be decided again when a write is committed.
    pub(crate) fn note_sources(&self, reads: &[Read]) {
        let mut sources = lock(&self.sources);
        for source in reads.iter().map(|read| (read.relation, read.by)) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
    }

    /// The catalog of now, where it is another one and has the object of `action`.
    fn later(&self, action: Action) -> Option<&Arc<State>> {
        let is_later = has(&self.latest, action) && !Arc::ptr_eq(&self.latest, &self.state);
        is_later.then_some(&self.latest)
    }

    /// The same scope, whose reads are not told to the block.
    pub(crate) fn apart(&self) -> Scope {
        Scope { reads: Reads::default(), ..self.clone() }
    }

    /// The same scope, whose writes are no load: those that change a table's shape.
    pub(crate) fn without_load(&self) -> Scope {
        Scope { load: None, ..self.clone() }
    }

    /// Refuses what would change a relation that is frozen by now.
    ///
    /// # Errors
    /// `55000`.
    pub(crate) fn refuse_frozen(&self, relation: Oid) -> Result<()> {
        match self.block.made_here(relation) {
            true => Ok(()),
            false => freeze::refuse_frozen_relation(&self.latest, relation),
        }
    }

    /// Notes that a plan reads a table; a block that writes looks at it when it commits.
    pub(crate) fn note_read(&self, read: &Read) {
        let relation = self.state.relations.get(&read.relation);
        let place = relation.and_then(|relation| location(relation).ok());
        // What was once does not change any more.
        let version = read.version.filter(|_| read.newest);
        if let (Some(place), Some(version)) = (place, version) {
            lock(&self.reads).entry(read.relation).or_insert((place, version));
        }
    }

    /// What a commit of this statement depends on besides the table it writes, of which `written`
    /// is the version; `None` where that is nothing.
    pub(crate) fn dependence(&self, written: Option<(Oid, &Snapshot)>) -> Option<Dependence> {
        let mut reads = lock(&self.reads).clone();
        if let Some((relation, _)) = written {
            reads.remove(&relation);
        }
        let written = written.map(|(_, it)| (it.location().clone(), it.version()));
        (!reads.is_empty()).then(|| Dependence {
            reads: reads.into_values().collect(),
            written,
            since: self.order_seen,
            all: self.settings.is_serializable(),
        })
    }

    /// Whether this statement reads rows of `relation`.
    pub(crate) fn has_read(&self, relation: Oid) -> bool {
        lock(&self.reads).contains_key(&relation)
    }

    /// The right to write a table, waited for no longer than `lock_timeout`.
    ///
    /// # Errors
    /// `55P03` where another writer of this server has it for longer.
    pub(crate) async fn lease(&self, location: &Location) -> Result<OwnedMutexGuard<()>> {
        let lease = self.shared.tables.lease(location);
        match self.settings.lock_timeout_ms() {
            0 => Ok(lease.await),
            limit_ms => {
                let limit = Duration::from_millis(limit_ms);
                tokio::time::timeout(limit, lease).await.map_err(|_| {
                    let message = "canceling statement due to lock timeout";
                    Error::new(Kind::LockNotAvailable, message)
                })
            }
        }
    }

    /// The version of `relation` that was the newest at `time_ms`.
    ///
    /// # Errors
    /// `22023` for a time before the table was made.
    pub(crate) async fn version_at(&self, relation: &Relation, time_ms: i64) -> Result<u64> {
        let version = self.shared.tables.version_at(&location(relation)?, time_ms).await?;
        version.ok_or_else(|| {
            Error::new(
                Kind::InvalidParameterValue,
                format!("relation \"{}\" did not exist at that time", relation.name),
            )
        })
    }
}

/// Where a table's files are.
pub(crate) fn location(relation: &Relation) -> Result<Location> {
    let table = relation.table().ok_or_else(|| {
        Error::new(Kind::WrongObjectType, format!("\"{}\" is not a table", relation.name))
    })?;
    Ok(Location { dataset: table.dataset.clone(), generation: table.generation })
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
