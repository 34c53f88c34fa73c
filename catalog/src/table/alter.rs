//! Commits that change a table's shape, or bring an old version back.

use std::collections::HashSet;

use deltalake_core::kernel::Action;

use super::commit::{Basis, Commit, CommitAuthor, Metrics};
use super::create::{metadata_with, protocol};
use super::schema::TableColumn;
use super::{Snapshot, Staged};
use crate::error::Result;

impl Commit {
    /// Gives the table other columns. `rows` are all its rows in the new shape; `None` where the
    /// old files fit, because a column without a value was added.
    ///
    /// The rows are the same rows, so readers of changes see none.
    pub fn reshape(
        operation: &'static str,
        snapshot: &Snapshot,
        columns: &[TableColumn],
        rows: Option<Staged>,
        author: CommitAuthor,
    ) -> Result<Commit> {
        snapshot.refuse_foreign_layout()?;
        let mut actions = shape_actions(snapshot, columns)?;
        let staged_after = rows.as_ref().map(|rows| rows.after);
        if let Some(rows) = rows {
            let files: Vec<usize> = (0..snapshot.files().len()).collect();
            actions.extend(snapshot.remove_actions(&files, false)?);
            actions.extend(rows.without_data_change().into_actions());
        }
        Ok(Commit {
            operation,
            basis: Basis::Exact,
            read_version: Some(snapshot.version()),
            actions,
            staged_after,
            author,
            metrics: Metrics::default(),
        })
    }

    /// Makes the rows and columns of `then` those of the newest version, `now`.
    pub fn restore(now: &Snapshot, then: &Snapshot, author: CommitAuthor) -> Result<Commit> {
        now.refuse_foreign_layout()?;
        then.refuse_foreign_layout()?;
        let mut actions = match now.columns()? == then.columns()? {
            true => Vec::new(),
            false => shape_actions(now, &then.columns()?)?,
        };
        let live: HashSet<String> = now.files().into_iter().map(|file| file.path).collect();
        let wanted: HashSet<String> = then.files().into_iter().map(|file| file.path).collect();
        let gone: Vec<usize> = (now.files().iter().enumerate())
            .filter(|(_, file)| !wanted.contains(&file.path))
            .map(|(index, _)| index)
            .collect();
        actions.extend(now.remove_actions(&gone, true)?);
        actions.extend(then.add_actions(|path| !live.contains(path)));
        Ok(Commit {
            operation: "RESTORE",
            basis: Basis::Exact,
            read_version: Some(now.version()),
            actions,
            // Its files are those of an older version, which names them.
            staged_after: None,
            author,
            metrics: Metrics::default(),
        })
    }
}

fn shape_actions(snapshot: &Snapshot, columns: &[TableColumn]) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    let needed = protocol(columns)?;
    // A table never gives a feature up: old versions still use it.
    if needed.min_reader_version() > snapshot.eager().protocol().min_reader_version() {
        actions.push(Action::Protocol(needed));
    }
    actions.push(Action::Metadata(metadata_with(snapshot.eager().metadata(), columns)?));
    Ok(actions)
}
