//! Statements that a Flight command is made of, through the one way in.
//!
//! What it guarantees: the text is a constant or made of quoted names; values are bound.
//! What it does not: rows are gathered here, so it is for the catalog's rows, not for data.

pub mod values;

use arrow::array::RecordBatch;
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;
use kho_catalog::error::{Error, Result};
use kho_sql::outcome::{Outcome, Tag};
use kho_sql::session::Session;
use tokio_util::sync::CancellationToken;

use super::statement;

/// Runs one statement.
pub async fn one(
    session: &mut Session,
    text: &str,
    parameters: &[ScalarValue],
    stop: &CancellationToken,
) -> Result<Outcome> {
    let statement = statement::parsed(session, text).await?;
    session.run(&statement, parameters, stop).await
}

/// The rows of one query, all of them.
pub async fn rows(
    session: &mut Session,
    text: &str,
    parameters: &[ScalarValue],
    stop: &CancellationToken,
) -> Result<Vec<RecordBatch>> {
    let Outcome::Rows(rows) = one(session, text, parameters, stop).await? else {
        return Err(Error::internal("a query gives no rows"));
    };
    let deadline = rows.deadline.clone();
    let gathered = tokio::select! {
        biased;
        error = deadline.passed() => Err(error),
        gathered = rows.try_collect() => gathered,
    };
    gathered.inspect_err(|_| session.fail())
}

/// Runs one statement that gives nothing back.
pub async fn done(session: &mut Session, text: &str, stop: &CancellationToken) -> Result<Tag> {
    match one(session, text, &[], stop).await? {
        Outcome::Done(tag) => Ok(tag),
        _ => Err(Error::internal("a statement that changes something gives rows")),
    }
}
