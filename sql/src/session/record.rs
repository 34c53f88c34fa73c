//! The ledger's record of a statement, from its opening to its end.

use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use kho_catalog::audit::{Completion, Opened, Record, RecordKind, TableVersion};
use kho_catalog::error::{Error, Result};
use kho_catalog::state::State;

use super::Login;
use crate::bind::Read;
use crate::outcome::Tag;

pub(super) fn of_session(kind: RecordKind, login: &Login, session: &str) -> Record {
    Record {
        kind,
        role: login.role.clone(),
        protocol: login.protocol.to_owned(),
        client: login.client.map(|client| client.to_string()).unwrap_or_default(),
        session: session.to_owned(),
        statement: None,
        datasets: Vec::new(),
    }
}

/// Closes a record with success.
pub(super) fn succeed(opened: Opened, tag: &Tag, versions_read: Vec<TableVersion>) {
    opened.complete(Completion {
        outcome: "00000".to_owned(),
        tag: tag.command.clone(),
        rows: tag.rows.unwrap_or_default(),
        versions_read,
        version_written: None,
    });
}

/// Closes a record with the error's SQLSTATE.
pub(super) fn failed(opened: Opened, error: &Error) {
    opened.complete(Completion { outcome: error.sqlstate().to_owned(), ..Completion::default() });
}

/// The datasets and versions that a plan reads.
pub(super) fn versions(state: &State, reads: &[Read]) -> Vec<TableVersion> {
    let read = |read: &Read| {
        let relation = state.relations.get(&read.relation)?;
        let schema = state.schemas.get(&relation.schema)?;
        Some(TableVersion {
            dataset: format!("{}.{}", schema.name, relation.name),
            version: read.version?,
        })
    };
    reads.iter().filter_map(read).collect()
}

/// Counts the rows as they go out and closes the record at their end. Rows that are dropped
/// unread close it as abandoned.
pub(super) fn counted(
    rows: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
    opened: Opened,
    command: &'static str,
    versions_read: Vec<TableVersion>,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let state = (Box::pin(rows), Some(opened), 0_u64, versions_read);
    futures::stream::unfold(state, move |(mut rows, mut opened, mut count, versions)| async move {
        match rows.next().await {
            Some(Ok(batch)) => {
                count += batch.num_rows() as u64;
                Some((Ok(batch), (rows, opened, count, versions)))
            }
            Some(Err(error)) => {
                if let Some(opened) = opened.take() {
                    failed(opened, &error);
                }
                Some((Err(error), (rows, None, count, versions)))
            }
            None => {
                if let Some(opened) = opened.take() {
                    succeed(opened, &Tag::with_rows(command, count), versions);
                }
                None
            }
        }
    })
}
