//! The word, durable in the ledger, that rows are about to leave a dataset.
//!
//! What it guarantees: every commit that takes rows out of a table, or a table out of the catalog,
//! has its word before it is made: outside of a block ([`super::Pending::commit`]) and at the end of
//! one ([`crate::transaction::Transaction::commit`]), the only two places that commit. Without the
//! word there is no commit.
//! What it does not: an `UPDATE` takes no row out. A `restore_table` counts the rows of the files
//! that go, of which some may come back in other files.
//! On failure: of the commit, the word is taken back where it is known that nothing was done;
//! otherwise the table's own log is asked when the deletion log is read.

use kho_catalog::audit::{Removal, Removing};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::log::Author;
use kho_catalog::state::{Change, Oid, State};
use kho_catalog::table::{Commit, Snapshot};

use super::CatalogCommit;
use crate::engine::Shared;
use crate::scope::location;
use crate::session::Stated;

/// The words of one commit.
#[derive(Default)]
pub(crate) struct Words(Vec<Removing>);

impl Words {
    /// For a commit to the table of `relation`, behind `snapshot`.
    pub(crate) async fn of_rows(
        shared: &Shared,
        stated: &Stated,
        relation: Oid,
        (snapshot, commit): (&Snapshot, &Commit),
    ) -> Result<Words> {
        let rows = match commit.operation {
            "RESTORE" => commit.rows_taken_out(snapshot),
            _ => commit.metrics.rows_deleted,
        };
        if rows == 0 {
            return Ok(Words::default());
        }
        let state = shared.catalog.fresh().await?;
        let removal = Removal {
            act: commit.author.statement.clone(),
            role: commit.author.role.clone(),
            role_id: state.role(&commit.author.role).map(|role| role.oid),
            purpose: stated.purpose.clone(),
            order_number: stated.order_number.clone(),
            operation: commit.operation.to_owned(),
            dataset: name(&state, relation),
            relation,
            location: snapshot.location().to_string(),
            rows,
            version_before: snapshot.version(),
        };
        Ok(Words(vec![shared.ledger.remove(removal).await?]))
    }

    /// For a commit to the catalog that drops something.
    pub(crate) async fn of_drop(
        shared: &Shared,
        stated: &Stated,
        commit: &mut CatalogCommit,
    ) -> Result<Words> {
        if !commit.author.action.starts_with("DROP") {
            return Ok(Words::default());
        }
        let state = shared.catalog.fresh().await?;
        // What it refuses it will refuse again, and say so itself.
        let changes = (commit.decide)(&state).unwrap_or_default();
        let removed = changes.iter().filter_map(|change| match change {
            Change::RemoveRelation(oid) => Some(*oid),
            _ => None,
        });
        let removed: Vec<Oid> = removed.collect();
        Words::of_tables(shared, stated, &state, &commit.author, removed).await
    }

    /// For tables that go out of the catalog; views among them hold no rows.
    pub(crate) async fn of_tables(
        shared: &Shared,
        stated: &Stated,
        state: &State,
        author: &Author,
        removed: Vec<Oid>,
    ) -> Result<Words> {
        let mut words = Words::default();
        let role = state.roles.get(&author.role).map(|role| role.name.clone());
        for oid in removed {
            let Some(relation) = state.relations.get(&oid) else { continue };
            let Ok(location) = location(relation) else { continue };
            // A table whose files are broken can be dropped all the same.
            let snapshot = shared.tables.latest(&location).await.ok();
            let removal = Removal {
                act: author.statement_id.clone(),
                role: role.clone().unwrap_or_default(),
                role_id: Some(author.role),
                purpose: stated.purpose.clone(),
                order_number: stated.order_number.clone(),
                operation: "DROP TABLE".to_owned(),
                dataset: name(state, oid),
                relation: oid,
                location: location.to_string(),
                rows: snapshot.as_ref().map_or(0, |snapshot| snapshot.size().rows),
                version_before: snapshot.as_ref().map_or(0, Snapshot::version),
            };
            words.0.push(shared.ledger.remove(removal).await?);
        }
        Ok(words)
    }

    /// Says how the commit ended: the version it became, or none where the table is gone.
    pub(crate) fn end(self, outcome: Result<Option<u64>, &Error>) {
        for word in self.0 {
            match outcome {
                Ok(version) => word.done(version),
                Err(error) if is_clear(error) => word.kept(),
                // Left open: who reads the log looks.
                Err(_) => drop(word),
            }
        }
    }
}

/// Whether an error means that nothing was committed.
fn is_clear(error: &Error) -> bool {
    !matches!(error.kind(), Kind::Io | Kind::Internal)
}

fn name(state: &State, relation: Oid) -> String {
    let Some(relation) = state.relations.get(&relation) else { return String::new() };
    let schema = state.schemas.get(&relation.schema);
    format!("{}.{}", schema.map_or("?", |schema| schema.name.as_str()), relation.name)
}
