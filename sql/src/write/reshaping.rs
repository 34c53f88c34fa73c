//! Columns that change in two logs: announced in the catalog's, done by the table's, settled in the
//! catalog's again.
//!
//! What it guarantees: the table's commit alone decides. A server that ends between the commits
//! leaves an announcement, and the next statement anywhere that finds one settles it: does in the
//! catalog what the table's log says was done, or takes it back where another commit has its place.
//! What it does not: while the place is free the announcement stays, for its writer may be alive;
//! the table is as it was, until somebody writes to it.
//! On failure: a log that cannot be read settles nothing; the next statement tries again.

use std::sync::Arc;

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Author;
use kho_catalog::state::{Change, Column, Oid, Relation, RelationKind, Reshaping, State};
use kho_catalog::table::{Location, Snapshot, TableColumn};

use super::rewrite::table_columns;
use super::{CatalogCommit, Decide, Pending};
use crate::engine::Shared;
use crate::scope::{Scope, location};

const ACTION: &str = "ALTER TABLE";

/// Makes `pending`, which changes the columns of the relation `oid` to those of `after`, change the
/// catalog with them. `decide` gives that change, on whatever the catalog's state is by then.
pub(crate) fn announce(
    scope: &Scope,
    mut pending: Pending,
    oid: Oid,
    after: &[Column],
    decide: Decide,
) -> Pending {
    if scope.block.made_here(oid) {
        // One commit of the catalog makes the table visible, whatever its shape came to be.
        pending.catalog = Some(CatalogCommit { decide, author: super::author(scope, ACTION) });
        return pending;
    }
    let Some(table) = &pending.table else { return pending };
    let author = super::author(scope, ACTION);
    let announced = Announced {
        oid,
        role: author.role,
        statement: scope.statement_id.clone(),
        version: table.snapshot.version() + 1,
        shape: table_columns(after),
    };
    let statement = announced.statement.clone();
    let settle: Decide = Box::new(move |state| Ok(settled(state, &statement)));
    pending.catalog = Some(CatalogCommit { decide: settle, author: author.clone() });
    pending.announcement = Some(CatalogCommit { decide: announced.decide(decide), author });
    pending
}

/// What was planned for the columns of `relation` does not fit a table that has others by now.
///
/// # Errors
/// `40001`; not for columns that another tool made, of which the catalog knows nothing.
pub(crate) fn refuse_reshaped(relation: &Relation, snapshot: &Snapshot) -> Result<()> {
    let columns = snapshot.columns()?;
    let ours = columns.iter().all(|column| column.id.is_some());
    if ours && columns != table_columns(&relation.columns) {
        return Err(changed_meanwhile());
    }
    Ok(())
}

/// The catalog's state with every announcement settled that can be.
pub(crate) async fn settle(shared: &Shared, state: Arc<State>) -> Arc<State> {
    let mut newest = Arc::clone(&state);
    for reshaping in state.announced.values() {
        match settle_one(shared, &state, reshaping).await {
            Ok(Some(state)) => newest = state,
            Ok(None) => {}
            Err(error) => tracing::warn!(?error, "an announced change of columns is not settled"),
        }
    }
    newest
}

async fn settle_one(
    shared: &Shared,
    state: &State,
    reshaping: &Reshaping,
) -> Result<Option<Arc<State>>> {
    let of_table = |relation: &Arc<Relation>| location(relation);
    let location: Option<Location> =
        state.relations.get(&reshaping.relation).map(of_table).transpose()?;
    let came_true = match location {
        Some(location) => {
            let record = shared.tables.commit_record(&location, reshaping.version).await?;
            match record {
                Some(record) => record.statement.as_ref() == Some(&reshaping.statement),
                None => return Ok(None),
            }
        }
        // The table was dropped.
        None => false,
    };
    let statement = reshaping.statement.clone();
    let author =
        Author { role: reshaping.role, statement_id: statement.clone(), action: ACTION.to_owned() };
    let settled = shared.catalog.commit(&author, |state| {
        Ok(match came_true {
            true => settled(state, &statement),
            false if state.announced.contains_key(&statement) => {
                vec![Change::Withdraw(statement.clone())]
            }
            false => Vec::new(),
        })
    });
    settled.await.map(Some)
}

/// What is to be announced.
struct Announced {
    oid: Oid,
    role: Oid,
    statement: String,
    version: u64,
    shape: Vec<TableColumn>,
}

impl Announced {
    fn decide(self, mut decide: Decide) -> Decide {
        Box::new(move |state| {
            let (mut after, mut removed) = (None, Vec::new());
            for change in decide(state)? {
                match change {
                    Change::PutRelation(relation) if relation.oid == self.oid => {
                        after = Some(relation);
                    }
                    Change::RemoveRelation(oid) => removed.push(oid),
                    _ => return Err(Error::internal("new columns change another object")),
                }
            }
            // The files were written for these columns and no others.
            let after = after.filter(|after| table_columns(&after.columns) == self.shape);
            let (Some(after), Some(before)) = (after, state.relations.get(&self.oid)) else {
                return Err(changed_meanwhile());
            };
            let (Some(table), Some(table_before)) = (after.table(), before.table()) else {
                return Err(changed_meanwhile());
            };
            let checks = table_before.checks.iter().map(|check| check.name.clone());
            let names = checks.chain(table_before.keys.iter().map(|key| key.name.clone()));
            Ok(vec![Change::Announce(Box::new(Reshaping {
                relation: self.oid,
                role: self.role,
                statement: self.statement.clone(),
                version: self.version,
                columns: after.columns.clone(),
                next_column: table.next_column,
                checks: table.checks.clone(),
                keys: table.keys.clone(),
                rules_before: names.collect(),
                removed: removed.clone(),
            }))])
        })
    }
}

/// The changes that do what was announced; none where somebody was faster.
fn settled(state: &State, statement: &str) -> Vec<Change> {
    let Some(reshaping) = state.announced.get(statement) else { return Vec::new() };
    let mut changes = vec![Change::Withdraw(statement.to_owned())];
    let Some(now) = state.relations.get(&reshaping.relation) else { return changes };
    let mut next = Relation::clone(now);
    next.columns = reshaping.columns.iter().map(|column| merged(column, &now.columns)).collect();
    if let RelationKind::Table(table) = &mut next.kind {
        table.next_column = table.next_column.max(reshaping.next_column);
        let now = std::mem::take(&mut table.checks);
        let before = |name: &String| reshaping.rules_before.contains(name);
        let is_now = |name: &String| now.iter().any(|check| check.name == *name);
        // Dropped or added since it was announced, they stay so.
        let kept = reshaping.checks.iter().filter(|it| !before(&it.name) || is_now(&it.name));
        table.checks = kept.cloned().collect();
        table.checks.extend(now.iter().filter(|it| !before(&it.name)).cloned());
        let now = std::mem::take(&mut table.keys);
        let is_now = |name: &String| now.iter().any(|key| key.name == *name);
        let kept = reshaping.keys.iter().filter(|it| !before(&it.name) || is_now(&it.name));
        table.keys = kept.cloned().collect();
        table.keys.extend(now.iter().filter(|it| !before(&it.name)).cloned());
    }
    next.drop_lost_indexes();
    next.drop_lost_grants();
    changes.push(Change::PutRelation(Box::new(next)));
    let there = reshaping.removed.iter().filter(|oid| state.relations.contains_key(oid));
    changes.extend(there.map(|oid| Change::RemoveRelation(*oid)));
    changes
}

/// An announced column, with what was said meanwhile of one that was there before.
fn merged(column: &Column, now: &[Column]) -> Column {
    let mut merged = column.clone();
    if let Some(now) = now.iter().find(|now| now.id == column.id) {
        merged.default.clone_from(&now.default);
        merged.comment.clone_from(&now.comment);
        merged.mask.clone_from(&now.mask);
        merged.inherited.clone_from(&now.inherited);
        merged.tags.clone_from(&now.tags);
    }
    merged
}

pub(super) fn changed_meanwhile() -> Error {
    Error::new(
        Kind::SerializationFailure,
        "could not serialize access due to a concurrent change of the table",
    )
    .with_hint("Run the statement again.")
}
