//! What an open transaction block has seen and done, and how it becomes visible at once.
//!
//! What it is: the catalog and the table versions pinned by the block's first statement, the
//! catalog as the block itself has changed it, and a [`Branch`] for each table it wrote.
//! What it guarantees: statements of the block see one snapshot, and their own writes; nothing is
//! visible to others before [`Transaction::commit`], and then all of it. That is one commit: of the
//! one table that was there before, or of the catalog, which makes new tables visible, too. What
//! would be two is refused (`0A000`), see [`View::refuse_second`].
//! What it does not: a block that only reads is not checked; see `kho_catalog::table`'s order.
//! On failure: a block that is dropped has changed nothing; its files are removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Author;
use kho_catalog::state::{Change, Key, Oid, Relation, RelationKind, State};
use kho_catalog::table::{
    Basis, Branch, Changes, CommitAuthor, Dependence, Head, Location, Place, Snapshot,
};
use tokio::sync::OwnedMutexGuard;

use crate::engine::Shared;
use crate::maintenance::ROLE;
use crate::outcome::Tag;
use crate::scope::{Pins, location, lock};
use crate::session::Stated;
use crate::write::removal::Words;
use crate::write::{CatalogCommit, Pending, TableCommit, Write, net_changes, refuse_frozen_now};

/// The tables a statement read: where they are, and at which version.
pub(crate) type Reads = Arc<Mutex<BTreeMap<Oid, (Location, u64)>>>;

pub(crate) struct Transaction {
    began: Arc<State>,
    state: Arc<State>,
    pins: Pins,
    began_ms: i64,
    reads: BTreeMap<Oid, (Location, u64)>,
    /// The newest place in the order of commits before anything was read.
    order_seen: u64,
    /// Names the block where its commit shuts out another server's.
    id: String,
    written: Vec<Written>,
    catalog: Vec<Decided>,
    /// Loads that came whole, as whoever takes them names them.
    loads: Vec<String>,
}

/// A change of the catalog, and the ids of the objects that it put as the block sees them.
struct Decided {
    commit: CatalogCommit,
    put: Vec<Oid>,
}

/// How far a transaction had come at a savepoint.
pub(crate) struct Mark {
    state: Arc<State>,
    /// The statements that had written each table.
    steps: BTreeMap<Oid, usize>,
    catalog: usize,
    loads: usize,
}

/// A table that the block wrote.
struct Written {
    relation: Oid,
    branch: Branch,
    /// What its commit may assume of others' commits behind the pinned version.
    basis: Basis,
    _lease: Option<OwnedMutexGuard<()>>,
}

/// A table that the block has written, as its next statement sees it.
#[derive(Clone)]
struct Seen {
    head: Arc<Head>,
    /// The version that the block's writes go on from.
    base: Snapshot,
    place: Place,
}

/// The block as its next statement sees it. Outside of a block it is empty.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// The tables that the block has written.
    heads: HashMap<Oid, Seen>,
    /// The catalog before the block; `None` outside of one.
    began: Option<Arc<State>>,
    began_ms: Option<i64>,
    /// The table that was there before and that the block has written.
    sole: Option<Oid>,
    catalog_changed: bool,
}

impl View {
    /// The table as the block has changed it; `None` where it has not.
    pub(crate) fn head(&self, relation: Oid) -> Option<&Arc<Head>> {
        self.heads.get(&relation).map(|seen| &seen.head)
    }

    /// Where files of the table are to go; `None` where the block has not written it yet.
    pub(crate) fn place(&self, relation: Oid) -> Option<&Place> {
        self.heads.get(&relation).map(|seen| &seen.place)
    }

    /// The version that the block's writes of a table go on from; `None` where it wrote none.
    pub(crate) fn base(&self, relation: Oid) -> Option<&Snapshot> {
        self.heads.get(&relation).map(|seen| &seen.base)
    }

    /// The time of the block's snapshot, for a table that was there before it.
    pub(crate) fn began_ms(&self, relation: Oid) -> Option<i64> {
        let began = self.began.as_ref()?;
        self.began_ms.filter(|_| began.relations.contains_key(&relation))
    }

    /// Whether the block has changed the catalog.
    pub(crate) fn changed_catalog(&self) -> bool {
        self.catalog_changed
    }

    /// Whether the block made the relation.
    pub(crate) fn made_here(&self, relation: Oid) -> bool {
        self.began.as_ref().is_some_and(|began| !began.relations.contains_key(&relation))
    }

    /// Whether rows of `relation` can be written in one commit with what the block has done.
    pub(crate) fn refuse_second(&self, relation: Oid) -> Result<()> {
        let before = self.began.as_ref().is_some_and(|it| it.relations.contains_key(&relation));
        if before && self.sole.is_some_and(|sole| sole != relation) {
            return Err(not_one_commit("a second written table in a transaction is not supported"));
        }
        if before && self.catalog_changed {
            return Err(not_one_commit(
                "writing a table that was there before is not supported in a transaction that \
                 changed the catalog",
            ));
        }
        Ok(())
    }

    /// Whether the catalog can be changed in one commit with what the block has done; `table` is
    /// the one whose shape changes with it.
    pub(crate) fn refuse_catalog_change(&self, table: Option<Oid>) -> Result<()> {
        let before = |it: &Oid| self.began.as_ref().is_some_and(|at| at.relations.contains_key(it));
        if table.as_ref().is_some_and(before) {
            return Err(not_one_commit(
                "changing the shape of a table that was there before is not supported in a \
                 transaction",
            ));
        }
        match self.sole {
            Some(_) => Err(not_one_commit(
                "changing the catalog is not supported in a transaction that wrote a table",
            )),
            None => Ok(()),
        }
    }
}

fn not_one_commit(message: &str) -> Error {
    Error::unsupported(message)
        .with_detail(
            "A transaction is one commit: of one table, or of the catalog with the tables that \
             were made in it.",
        )
        .with_hint("COMMIT first, or send the statements outside a block.")
}

impl Transaction {
    pub(crate) fn begin(shared: &Shared, state: Arc<State>) -> Transaction {
        Transaction {
            began: Arc::clone(&state),
            state,
            pins: Pins::default(),
            began_ms: shared.tables.begin_snapshot(),
            reads: BTreeMap::new(),
            order_seen: shared.tables.order_seen(),
            id: shared.catalog.environment().new_id(),
            written: Vec::new(),
            catalog: Vec::new(),
            loads: Vec::new(),
        }
    }

    /// Whether the block has taken this load.
    pub(crate) fn has_taken(&self, load: &str) -> bool {
        self.loads.iter().any(|taken| taken == load)
    }

    /// Notes a load that the block has taken.
    pub(crate) fn note_load(&mut self, load: String) {
        self.loads.push(load);
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    pub(crate) fn pins(&self) -> Pins {
        Arc::clone(&self.pins)
    }

    pub(crate) fn view(&self) -> View {
        let seen = |it: &Written| Seen {
            head: Arc::clone(it.branch.head()),
            base: it.branch.base().clone(),
            place: it.branch.place(),
        };
        let heads = self.written.iter().map(|it| (it.relation, seen(it)));
        let before = |it: &&Written| self.began.relations.contains_key(&it.relation);
        View {
            heads: heads.collect(),
            began: Some(Arc::clone(&self.began)),
            began_ms: Some(self.began_ms),
            sole: self.written.iter().find(before).map(|it| it.relation),
            catalog_changed: !self.catalog.is_empty(),
        }
    }

    /// Notes what a statement read.
    pub(crate) fn note_reads(&mut self, reads: &Reads) {
        for (relation, read) in lock(reads).iter() {
            self.reads.entry(*relation).or_insert_with(|| read.clone());
        }
    }

    pub(crate) fn has_written(&self) -> bool {
        !self.written.is_empty() || !self.catalog.is_empty()
    }

    /// Takes what a statement did; others see it when the block commits.
    pub(crate) async fn take(&mut self, shared: &Shared, pending: Pending) -> Result<Tag> {
        let Pending { lease, table, catalog, tag, .. } = pending;
        if let Some(TableCommit { relation, snapshot, commit }) = table {
            let (commit, rows) = match commit {
                Write::Plain(commit) => (commit, None),
                // The keys hold on this version, so the block's commit is to land on it.
                Write::Keyed(rows) => (rows.on(&snapshot), Some(rows)),
            };
            let written = match self.written.iter_mut().find(|it| it.relation == relation) {
                Some(written) => written,
                None => {
                    let branch = shared.tables.branch(snapshot)?;
                    let basis = Basis::Append;
                    self.written.push(Written { relation, branch, basis, _lease: lease });
                    self.written.last_mut().ok_or_else(|| Error::internal("a write was lost"))?
                }
            };
            if commit.basis != Basis::Append {
                written.basis = Basis::Exact;
            }
            let new_keys = rows.as_ref().and_then(|rows| rows.staged.new_keys());
            written.branch.add(commit, new_keys).await?;
            let keys = searched(&self.state, relation);
            written.branch.gather_many(&keys).await?;
        }
        if let Some(mut commit) = catalog {
            let changes = (commit.decide)(&self.state)?;
            self.state = Arc::new(self.state.apply(&changes));
            self.catalog.push(Decided { commit, put: put(&changes) });
        }
        Ok(tag)
    }

    /// Makes everything visible and durable; gives the version that the written table became.
    ///
    /// # Errors
    /// `40001` where another commit came first; then nothing of the block is visible.
    pub(crate) async fn commit(
        self,
        shared: &Shared,
        stated: &Stated,
        serializable: bool,
    ) -> Result<Option<u64>> {
        if !self.has_written() {
            return Ok(None);
        }
        let turn = match self.dependence(serializable) {
            Some((dependence, author)) => {
                Some(shared.tables.take_turn(&dependence, &author).await?)
            }
            None => None,
        };
        let committed = self.commit_in_turn(shared, stated).await;
        if let Some(turn) = turn {
            turn.give_up().await;
        }
        committed
    }

    async fn commit_in_turn(mut self, shared: &Shared, stated: &Stated) -> Result<Option<u64>> {
        let mut leases = Vec::new();
        let mut version = None;
        for Written { relation, mut branch, basis, _lease } in std::mem::take(&mut self.written) {
            leases.push(_lease);
            let is_new = !self.began.relations.contains_key(&relation);
            if !is_new && let Err(error) = refuse_frozen_now(shared, relation) {
                branch.discard(&HashSet::new()).await;
                return Err(error);
            }
            if is_new && !self.state.relations.contains_key(&relation) {
                branch.discard(&HashSet::new()).await;
                continue;
            }
            branch.gather(&searched(&self.state, relation)).await?;
            // Rows were added because of others that were read: those may not have changed.
            let basis = match self.reads.contains_key(&relation) {
                true => Basis::Exact,
                false => basis,
            };
            version = commit_branch(shared, stated, relation, branch, (basis, is_new)).await?;
        }
        if let Some(CatalogCommit { decide, author }) = folded(self.catalog) {
            let is_gone = |oid: &Oid| !self.state.relations.contains_key(oid);
            let gone: Vec<Oid> = self.began.relations.keys().copied().filter(is_gone).collect();
            let words = Words::of_tables(shared, stated, &self.began, &author, gone).await?;
            let committed = shared.catalog.commit(&author, decide).await;
            words.end(committed.as_ref().map(|_| None));
            committed?;
        }
        drop(leases);
        Ok(version)
    }

    /// What the commit depends on besides what it writes; `None` where that is nothing.
    fn dependence(&self, serializable: bool) -> Option<(Dependence, CommitAuthor)> {
        // What was written, too, is compared by its own commit.
        let mut others = self.reads.clone();
        others.retain(|relation, _| self.written.iter().all(|it| it.relation != *relation));
        let before = |it: &&Written| self.began.relations.contains_key(&it.relation);
        let written = self.written.iter().find(before).map(|it| it.branch.base());
        let author = CommitAuthor { role: ROLE.to_owned(), statement: self.id.clone() };
        let dependence = Dependence {
            reads: others.into_values().collect(),
            written: written.map(|base| (base.location().clone(), base.version())),
            since: self.order_seen,
            all: serializable,
        };
        (!dependence.reads.is_empty()).then_some((dependence, author))
    }

    /// How far it has come.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            state: Arc::clone(&self.state),
            steps: self.written.iter().map(|it| (it.relation, it.branch.steps())).collect(),
            catalog: self.catalog.len(),
            loads: self.loads.len(),
        }
    }

    /// Undoes what was written since `mark`, or everything. What was read stays pinned.
    ///
    /// # Errors
    /// Of the storage; the transaction can then only be rolled back.
    pub(crate) async fn rewind(&mut self, mark: Option<&Mark>) -> Result<()> {
        self.state = Arc::clone(mark.map_or(&self.began, |mark| &mark.state));
        self.catalog.truncate(mark.map_or(0, |mark| mark.catalog));
        self.loads.truncate(mark.map_or(0, |mark| mark.loads));
        for mut written in std::mem::take(&mut self.written) {
            match mark.and_then(|mark| mark.steps.get(&written.relation)) {
                Some(steps) => {
                    written.branch.undo(*steps).await?;
                    self.written.push(written);
                }
                None => written.branch.discard(&HashSet::new()).await,
            }
        }
        Ok(())
    }

    /// Gives everything up.
    pub(crate) async fn roll_back(self) {
        for written in self.written {
            written.branch.discard(&HashSet::new()).await;
        }
    }
}

/// Makes what a block did to one table visible; gives the version that it became.
async fn commit_branch(
    shared: &Shared,
    stated: &Stated,
    relation: Oid,
    branch: Branch,
    (basis, is_new): (Basis, bool),
) -> Result<Option<u64>> {
    let changes = match branch.must_net_changes() {
        // All rows of a new table came with it.
        _ if is_new => Changes::OfFiles,
        true => Changes::Netted(net_changes(shared, &branch).await?),
        false => Changes::Recorded,
    };
    let Some(commit) = branch.squash(basis, changes) else {
        branch.discard(&HashSet::new()).await;
        return Ok(None);
    };
    branch.persist(&commit).await?;
    let named = commit.files();
    // What a new table lost again was never there.
    let words = match is_new {
        true => Words::default(),
        false => Words::of_rows(shared, stated, relation, (branch.base(), &commit)).await?,
    };
    let committed = shared.tables.commit(branch.base(), commit).await;
    words.end(committed.as_ref().map(|version| Some(*version)));
    match &committed {
        Ok(_) => branch.discard(&named).await,
        // Only this answer means that no version names the files.
        Err(error) if error.kind() == Kind::SerializationFailure => {
            branch.discard(&HashSet::new()).await;
        }
        Err(_) => {}
    }
    committed.map(Some)
}

/// What the files of a table are made to be searched by.
fn searched(state: &State, relation: Oid) -> Vec<Key> {
    state.relations.get(&relation).map(|relation| relation.searched()).unwrap_or_default()
}

/// One commit of several, each decided on what those before it left.
///
/// What the block made may have other ids by now, since others made things, too: what refers to it
/// by its id is made to refer to the new one.
fn folded(mut commits: Vec<Decided>) -> Option<CatalogCommit> {
    if commits.len() < 2 {
        return commits.pop().map(|decided| decided.commit);
    }
    let author = commits.first().map(|it| it.commit.author.clone())?;
    let author = Author { action: "TRANSACTION".to_owned(), ..author };
    let decide = move |state: &State| {
        let mut state = state.clone();
        let mut all = Vec::new();
        let mut ids: HashMap<Oid, Oid> = HashMap::new();
        for Decided { commit, put: then } in &mut commits {
            let mut changes = (commit.decide)(&state)?;
            ids.extend(then.iter().copied().zip(put(&changes)));
            for change in &mut changes {
                let now = |id: &mut Oid| *id = ids.get(id).copied().unwrap_or(*id);
                if let Change::PutRelation(relation) = change
                    && let RelationKind::View(view) = &mut relation.kind
                {
                    view.depends_on.iter_mut().for_each(now);
                }
                if let Change::Access(change) = change {
                    change.references_mut().into_iter().for_each(now);
                }
            }
            state = state.apply(&changes);
            all.extend(changes);
        }
        Ok(all)
    };
    Some(CatalogCommit { decide: Box::new(decide), author })
}

/// The ids of the objects that changes put, in order.
fn put(changes: &[Change]) -> Vec<Oid> {
    let id = |change: &Change| match change {
        Change::PutRole(role) => Some(role.oid),
        Change::PutSchema(schema) => Some(schema.oid),
        Change::PutRelation(relation) => Some(relation.oid),
        Change::Access(change) => change.put(),
        Change::RemoveRole(_)
        | Change::RemoveSchema(_)
        | Change::RemoveRelation(_)
        | Change::Announce(_)
        | Change::Withdraw(_)
        | Change::PutTag(_)
        | Change::RemoveTag(_)
        | Change::PutLedgerKey(_)
        | Change::RotateLedgerKey(_)
        | Change::PutAnchor(_) => None,
    };
    changes.iter().filter_map(id).collect()
}

/// The table of `relation` as a block that began at `began_ms` sees it.
pub(crate) async fn pinned_snapshot(
    shared: &Shared,
    relation: &Relation,
    began_ms: i64,
) -> Result<Snapshot> {
    shared.tables.as_of(&location(relation)?, began_ms).await
}
