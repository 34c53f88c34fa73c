//! `PRIMARY KEY` and `UNIQUE`: no two rows agree on all columns of a key.
//!
//! What it guarantees: [`check`] passes only if no two staged rows share a key and none shares one
//! with a row that stays. A row with a NULL in a key shares it with no other. Text is compared by
//! its bytes, a time by its instant, a number by its value.
//! What it does not: it holds for the version it was given. The commit must land on that version,
//! or on one whose added files were checked too: see [`Recheck`].
//! On failure: `23505`, with the key's values as a detail.
//!
//! # How
//! The keys of a few new rows are looked for by a predicate on the key's columns, which passes
//! over files, row groups and pages by statistics and bloom filters. Those of many are joined
//! with the rows within their range; memory is the engine's, and a join that does not fit in it
//! is done again by sorting, which spills.

pub(crate) mod few;
mod many;
mod shown;
#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::privilege::{self, Action, ColumnAction};
use kho_catalog::state::{Column, Key, Relation};
use kho_catalog::table::{Basis, Commit, CommitAuthor, Load, Snapshot, Staged, Tables};
use kho_catalog::types::Type;
use std::sync::Arc;

use self::few::Keys;
use super::reshaping;
use crate::scope::Scope;
use crate::secure;

/// How often an append is tried again behind other servers' commits.
const ATTEMPTS: usize = 20;

/// `relation` with the rules it has by now. To be called with the table's lease (of rows that come
/// before it, once more with it): a key may have been added while it was waited for, by a statement
/// that did not see the rows of this one.
///
/// # Errors
/// `40001` where its columns are others, too.
pub(crate) async fn current(scope: &Scope, relation: &Relation) -> Result<Relation> {
    // Another server may have added a rule a moment ago, and whoever did was told that it holds. A
    // block that has the table already has looked.
    let catalog = &scope.shared.catalog;
    let state = match scope.block.head(relation.oid) {
        Some(_) => catalog.fresh().await?,
        None => catalog.refresh().await?,
    };
    // One that is announced is in force as soon as the table's log says so, which the rows' version
    // may be the first to come behind.
    let is_announced = state.announced.values().any(|it| it.relation == relation.oid);
    let state = match is_announced {
        true => reshaping::settle(&scope.shared, state).await,
        false => state,
    };
    // What the transaction itself makes is not there yet; its id may be another table's by then.
    let dataset = |of: &Relation| of.table().map(|table| table.dataset.clone());
    let now = state.relations.get(&relation.oid).filter(|now| dataset(now) == dataset(relation));
    let Some(now) = now else { return Ok(relation.clone()) };
    let shape = |of: &Relation| -> Vec<(u32, String, Type)> {
        of.columns.iter().map(|it| (it.id, it.name.clone(), it.data_type.clone())).collect()
    };
    match shape(now) == shape(relation) {
        true => Ok(Relation::clone(now)),
        false => Err(Error::new(
            Kind::SerializationFailure,
            "could not serialize access due to a concurrent change of the table",
        )
        .with_hint("Run the statement again.")),
    }
}

/// Checks `staged`, which is to replace the files `removed` of `snapshot` (by their places in
/// `Snapshot::files`), against every key of `relation`.
pub(crate) async fn check(
    tables: &Tables,
    session: &SessionState,
    relation: &Relation,
    staged: &Staged,
    snapshot: &Snapshot,
    (removed, told): (&[usize], Told),
) -> Result<()> {
    if staged.rows == 0 || relation.keys().is_empty() {
        return Ok(());
    }
    let others = snapshot.rows_outside(removed)?;
    let is_alone = snapshot.files().len() <= removed.len();
    for key in relation.keys() {
        let checked = Checked::new(session, relation, key, told)?;
        checked.among_staged(tables, staged).await?;
        if !is_alone {
            checked.against(tables, staged, &others).await?;
        }
    }
    Ok(())
}

/// Whether `rows` have the columns of every key of `relation`: one may be newer than they are.
pub(crate) fn are_told(relation: &Relation, rows: &[RecordBatch]) -> bool {
    let mut columns = relation.keys().iter().flat_map(|key| relation.key_columns(key));
    columns.all(|column| {
        rows.iter().all(|rows| rows.schema_ref().column_with_name(&column.name).is_some())
    })
}

/// Checks that no key of `staged`, whose keys are at hand, is among `others`, the key columns of
/// other rows.
pub(crate) fn check_among(
    session: &SessionState,
    relation: &Relation,
    staged: &Staged,
    others: &[RecordBatch],
    told: Told,
) -> Result<()> {
    let Some(batches) = staged.new_keys() else {
        return Err(Error::internal("keys are compared that are not at hand"));
    };
    for key in relation.keys() {
        let checked = Checked::new(session, relation, key, told)?;
        Keys::new(&checked, batches)?.refuse_among(&checked, others)?;
    }
    Ok(())
}

/// Checks the rows of `snapshot` against the keys of `relation` that have these names, because a
/// key is new or the rows are.
pub(crate) async fn check_stored(
    session: &SessionState,
    relation: &Relation,
    names: &[String],
    snapshot: &Snapshot,
) -> Result<()> {
    let rows = snapshot.rows_outside(&[])?;
    for key in relation.keys().iter().filter(|key| names.contains(&key.name)) {
        Checked::new(session, relation, key, Told::Building)?.duplicates(&rows).await?;
    }
    Ok(())
}

/// Checks all rows of a table, written anew, against the keys of `relation` that have these names.
pub(crate) async fn check_rewritten(
    tables: &Tables,
    session: &SessionState,
    relation: &Relation,
    names: &[String],
    staged: &Staged,
) -> Result<()> {
    let rows = staged.rows_staged(tables);
    for key in relation.keys().iter().filter(|key| names.contains(&key.name)) {
        Checked::new(session, relation, key, Told::Building)?.duplicates(&rows).await?;
    }
    Ok(())
}

/// Whether any of `columns` is in a key of `relation`.
pub(crate) fn concern<'a>(relation: &Relation, columns: impl IntoIterator<Item = &'a str>) -> bool {
    let in_key = |name: &str| {
        let id = relation.column(name).map(|column| column.id);
        relation.keys().iter().any(|key| id.is_some_and(|id| key.columns.contains(&id)))
    };
    columns.into_iter().any(in_key)
}

/// What it takes to commit checked rows behind other commits.
///
/// # Contract
/// The commit lands exactly on the version that was checked. Where another server's commit came
/// first, the rows are checked against the files added since, and committed on the version they
/// were added by; so an append to a table with keys is never blind.
pub(crate) struct Recheck {
    pub session: SessionState,
    pub relation: Relation,
    pub staged: Staged,
    pub author: CommitAuthor,
    pub load: Option<Load>,
    pub told: Told,
}

impl Recheck {
    /// Commits the rows, which were checked against `snapshot`.
    ///
    /// # Errors
    /// `23505` where a key was added meanwhile; `40001` where more than rows changed, or where
    /// others were faster too often.
    pub(crate) async fn commit(self, tables: &Tables, snapshot: Snapshot) -> Result<u64> {
        let mut checked_on = snapshot;
        let mut attempts = 0;
        loop {
            let lost = match tables.commit(&checked_on, self.on(&checked_on)).await {
                Err(error) if error.kind() == Kind::SerializationFailure => error,
                done => return done,
            };
            attempts += 1;
            let newest = tables.latest(checked_on.location()).await?;
            // A numbered load may have been applied by another, so its turn is looked at again.
            let moves = self.load.is_none() && newest.has_shape_of(&checked_on);
            if attempts >= ATTEMPTS || !moves {
                return Err(lost);
            }
            self.check_since(tables, &newest, &checked_on).await?;
            checked_on = newest;
        }
    }

    /// The commit of the rows on `snapshot` and no other version.
    pub(crate) fn on(&self, snapshot: &Snapshot) -> Commit {
        let mut commit = Commit::append(snapshot, self.staged.clone(), self.author.clone());
        commit.basis = Basis::Exact;
        match self.load.clone() {
            Some(load) => commit.with_load(load),
            None => commit,
        }
    }

    async fn check_since(
        &self,
        tables: &Tables,
        newest: &Snapshot,
        checked_on: &Snapshot,
    ) -> Result<()> {
        let added = newest.rows_since(checked_on)?;
        for key in self.relation.keys() {
            let checked = Checked::new(&self.session, &self.relation, key, self.told)?;
            checked.against(tables, &self.staged, &added).await?;
        }
        Ok(())
    }
}

/// How a violation is told: of a row that was to be written, or of rows that are there.
#[derive(Clone, Copy)]
pub(crate) enum Told {
    Write,
    /// To a role that may not read all of the table: without the key's values.
    WriteBlindly,
    Building,
}

impl Told {
    /// How the scope's role is told of a row that was to be written: with values where it may read
    /// the columns of every key.
    pub(crate) fn of_write(scope: &Scope, relation: &Relation) -> Told {
        let columns = relation.keys().iter().flat_map(|key| relation.key_columns(key));
        let columns: Vec<&Column> = columns.collect();
        let names: Vec<String> = columns.iter().map(|it| it.name.clone()).collect();
        let reads = |column: &Column| {
            let action = Action::Column(relation.oid, column.id, ColumnAction::Select);
            privilege::require(&scope.state, &scope.who, action).is_ok()
        };
        let hidden = secure::is_policied(scope, relation)
            || !secure::masked_columns(scope, relation, &names).is_empty();
        match !hidden && columns.into_iter().all(reads) {
            true => Told::Write,
            false => Told::WriteBlindly,
        }
    }
}

/// One key being checked.
struct Checked<'a> {
    session: &'a SessionState,
    key: &'a Key,
    columns: Vec<&'a Column>,
    told: Told,
}

impl<'a> Checked<'a> {
    fn new(
        session: &'a SessionState,
        relation: &'a Relation,
        key: &'a Key,
        told: Told,
    ) -> Result<Checked<'a>> {
        let columns: Vec<&Column> = relation.key_columns(key).collect();
        match columns.len() == key.columns.len() && !columns.is_empty() {
            true => Ok(Checked { session, key, columns, told }),
            false => Err(Error::internal("a key's column is not in its table")),
        }
    }

    /// That no two staged rows share the key.
    async fn among_staged(&self, tables: &Tables, staged: &Staged) -> Result<()> {
        let rows = staged.rows_staged(tables);
        let Some(batches) = staged.new_keys() else { return self.duplicates(&rows).await };
        let keys = Keys::new(self, batches)?;
        keys.refuse_twins(self)?;
        match staged.has_copied_rows() {
            // Each new key is there once as itself.
            true => keys.look_up(self, &rows, few::Expected::Once).await,
            false => Ok(()),
        }
    }

    /// That no staged row shares the key with one of `others`.
    async fn against(
        &self,
        tables: &Tables,
        staged: &Staged,
        others: &Arc<dyn TableProvider>,
    ) -> Result<()> {
        match staged.new_keys() {
            Some(batches) => {
                Keys::new(self, batches)?.look_up(self, others, few::Expected::Never).await
            }
            None => self.shared(&staged.rows_staged(tables), others).await,
        }
    }

    fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// The error for the key in row `row` of `keys`, whose columns are the key's.
    ///
    /// A table with row policies must not have the detail: here is the one place to leave it out.
    fn violation(&self, keys: &RecordBatch, row: usize) -> Result<Error> {
        let values = shown::values(self.session, keys, row)?.join(", ");
        let (names, name) = (self.names().join(", "), &self.key.name);
        Ok(match self.told {
            Told::Write => Error::new(
                Kind::UniqueViolation,
                format!("duplicate key value violates unique constraint \"{name}\""),
            )
            .with_detail(format!("Key ({names})=({values}) already exists.")),
            Told::WriteBlindly => Error::new(
                Kind::UniqueViolation,
                format!("duplicate key value violates unique constraint \"{name}\""),
            ),
            Told::Building => Error::new(
                Kind::UniqueViolation,
                format!("could not create unique index \"{name}\""),
            )
            .with_detail(format!("Key ({names})=({values}) is duplicated.")),
        })
    }
}
