//! The one write path: authorized rows → conformed → staged in files → one commit.
//!
//! What it is: `INSERT`, `UPDATE`, `DELETE`, `TRUNCATE`, `COPY` and `CREATE TABLE AS` all end in a
//! [`Pending`] write: files that no version names, and the commit that will name them.
//! What it guarantees: nothing is visible before [`Pending::commit`]; a pending write that is
//! dropped or rolled back leaves nothing behind but orphans that maintenance removes. While a
//! statement writes, it holds the table's lease in this server; another server's commit in
//! between is `40001`. A `COPY` whose client is still sending rows holds it not: it takes the lease
//! when they are all in files, and what is asked of the table is asked then.

mod base;
pub(crate) mod change;
pub(crate) mod conform;
pub(crate) mod insert;
pub(crate) mod keys;
pub(crate) mod merge;
pub(crate) mod modify;
mod net;
mod positions;
pub(crate) mod removal;
pub(crate) mod reshaping;
mod returning;
pub(crate) mod rewrite;
pub(crate) mod rights;
pub(crate) mod target;
mod upsert;

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use kho_catalog::error::Result;
use kho_catalog::freeze;
use kho_catalog::log::Author;
use kho_catalog::state::{Change, Oid, State};
use kho_catalog::table::{Basis, Commit, CommitAuthor, Dependence, Snapshot, Tables};
use tokio::sync::OwnedMutexGuard;

pub(crate) use base::Base;
pub(crate) use net::net_changes;
pub(crate) use returning::Returning;

use self::keys::Recheck;
use self::removal::Words;
use crate::authorize::standing::Standing;
use crate::outcome::Tag;
use crate::scope::Scope;
use crate::session::Stated;

/// Decides, on whatever state the catalog has by then, what to change.
pub(crate) type Decide = Box<dyn FnMut(&State) -> Result<Vec<Change>> + Send>;

/// A write that is ready and not yet visible.
pub(crate) struct Pending {
    /// Kept until the end, so that no other writer of this server comes in between.
    pub lease: Option<OwnedMutexGuard<()>>,
    /// Committed before the table, where both change together.
    pub announcement: Option<CatalogCommit>,
    pub table: Option<TableCommit>,
    pub catalog: Option<CatalogCommit>,
    /// What it stands on until it is taken into its block or committed.
    pub standing: Option<Standing>,
    /// What it depends on besides the table it writes, outside a block.
    pub dependence: Option<(Dependence, CommitAuthor)>,
    pub tag: Tag,
    /// What the statement gives back once it is done.
    pub returning: Option<Returning>,
    /// The one row that a procedure answers with once it is done.
    pub reply: Option<RecordBatch>,
}

/// A commit of one table's log.
pub(crate) struct TableCommit {
    pub relation: Oid,
    pub snapshot: Snapshot,
    pub commit: Write,
}

/// How the commit of a table is made.
pub(crate) enum Write {
    /// As it is.
    Plain(Commit),
    /// Rows with keys, which were checked and are checked again behind other commits.
    Keyed(Box<Recheck>),
}

/// A commit of the catalog log.
pub(crate) struct CatalogCommit {
    pub decide: Decide,
    pub author: Author,
}

impl Pending {
    /// A write of rows behind `base`.
    pub(crate) fn rows(scope: &Scope, base: Base, commit: Commit, tag: Tag) -> Pending {
        let mut commit = match scope.load.clone() {
            Some(load) => commit.with_load(load),
            None => commit,
        };
        // Rows that are added because of what was read there are no blind append.
        if scope.has_read(base.relation) {
            commit.basis = Basis::Exact;
        }
        Pending::of(base, Write::Plain(commit), tag)
    }

    /// An append to a table with keys, checked against the version of `base`.
    pub(crate) fn keyed_rows(base: Base, rows: Recheck, tag: Tag) -> Pending {
        Pending::of(base, Write::Keyed(Box::new(rows)), tag)
    }

    fn of(base: Base, commit: Write, tag: Tag) -> Pending {
        let Base { relation, lease, snapshot, .. } = base;
        let table = Some(TableCommit { relation, snapshot, commit });
        Pending { lease, table, ..Pending::nothing(tag) }
    }

    /// A change of the catalog alone.
    pub(crate) fn catalog(decide: Decide, author: Author, tag: Tag) -> Pending {
        let catalog = Some(CatalogCommit { decide, author });
        Pending { catalog, ..Pending::nothing(tag) }
    }

    /// Nothing to do, successfully.
    pub(crate) fn nothing(tag: Tag) -> Pending {
        Pending {
            lease: None,
            announcement: None,
            table: None,
            catalog: None,
            standing: None,
            dependence: None,
            tag,
            returning: None,
            reply: None,
        }
    }

    /// Notes what the statement was allowed, where it writes rows, into a table that it makes, too: any
    /// other change of the catalog alone is decided anew by its own commit.
    pub(crate) fn stand_on(&mut self, scope: &Scope) -> Result<()> {
        if self.table.is_some() || scope.has_sources() {
            self.standing = Some(Standing::of_write(scope)?);
        }
        Ok(())
    }

    /// Whether anything is to be committed.
    pub(crate) fn changes_something(&self) -> bool {
        self.announcement.is_some() || self.table.is_some() || self.catalog.is_some()
    }

    /// Notes what the statement has read of other tables, where it is a commit of its own.
    pub(crate) fn depend(&mut self, scope: &Scope) {
        let written = self.table.as_ref().map(|table| (table.relation, &table.snapshot));
        if written.is_some() || self.catalog.is_some() {
            let dependence = scope.dependence(written);
            self.dependence = dependence.map(|it| (it, commit_author(scope)));
        }
    }

    /// Makes the write visible and durable; gives the table version it became.
    ///
    /// # Errors
    /// `40001` where another commit came first, of this table or of one that was read.
    pub(crate) async fn commit(
        mut self,
        shared: &crate::engine::Shared,
        stated: &Stated,
    ) -> Result<(Tag, Option<u64>)> {
        let turn = match self.dependence.take() {
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

    async fn commit_in_turn(
        self,
        shared: &crate::engine::Shared,
        stated: &Stated,
    ) -> Result<(Tag, Option<u64>)> {
        let mut version = None;
        if let Some(CatalogCommit { decide, author }) = self.announcement {
            shared.catalog.commit(&author, decide).await?;
        }
        if let Some(TableCommit { relation, snapshot, commit }) = self.table {
            refuse_frozen_now(shared, relation)?;
            version = Some(match commit {
                Write::Plain(commit) => {
                    let both = (&snapshot, &commit);
                    let words = Words::of_rows(shared, stated, relation, both).await?;
                    let committed = shared.tables.commit(&snapshot, commit).await;
                    words.end(committed.as_ref().map(|version| Some(*version)));
                    committed?
                }
                Write::Keyed(rows) => rows.commit(&shared.tables, snapshot).await?,
            });
        }
        if let Some(mut commit) = self.catalog {
            let words = Words::of_drop(shared, stated, &mut commit).await?;
            let CatalogCommit { decide, author } = commit;
            let committed = shared.catalog.commit(&author, decide).await;
            words.end(committed.as_ref().map(|_| None));
            committed?;
        }
        drop(self.lease);
        Ok((self.tag, version))
    }
}

/// The table may have been frozen while its rows were written.
pub(crate) fn refuse_frozen_now(shared: &crate::engine::Shared, relation: Oid) -> Result<()> {
    let states = shared.catalog.subscribe();
    let state = states.borrow();
    freeze::refuse_frozen_relation(&state, relation)
}

/// Who a commit to a table's log names.
pub(crate) fn commit_author(scope: &Scope) -> CommitAuthor {
    CommitAuthor { role: scope.role.clone(), statement: scope.statement_id.clone() }
}

/// Who a commit to the catalog log names.
pub(crate) fn author(scope: &Scope, action: &str) -> Author {
    Author {
        role: scope.who.role(),
        statement_id: scope.statement_id.clone(),
        action: action.to_owned(),
    }
}

pub(crate) fn tables(scope: &Scope) -> Tables {
    Arc::clone(&scope.shared).tables.clone()
}
