//! The simple protocol: a text of one or more statements, results as text.
//!
//! What it guarantees: several statements in one text are one transaction, unless they say
//! otherwise themselves; nothing runs if one of them does not parse; after an error the rest is not
//! run; the last tag is sent only when the transaction is committed.

use kho_catalog::error::Error;
use kho_sql::outcome::{Outcome, Rows, Tag};
use kho_sql::parse::Statement;
use kho_sql::session::TransactionStatus;
use pgwire::messages::response::EmptyQueryResponse;
use tokio_util::sync::CancellationToken;

use crate::pgwire::backend::row_description;
use crate::pgwire::connection::Connection;
use crate::pgwire::rows::{Cursor, Reached, tag};
use crate::pgwire::value::FormatCode;
use crate::pgwire::wire::Stop;

impl Connection {
    /// Runs what a `Query` holds; the caller reports the error and says that the server is ready.
    pub(super) async fn query(&mut self, text: &str) -> Result<(), Stop> {
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.parsed(text).await?;
        if statements.is_empty() {
            return self.wire.put(&EmptyQueryResponse::new());
        }
        let stop = self.starts();
        let several = statements.len() > 1;
        let last = statements.len() - 1;
        for (index, statement) in statements.iter().enumerate() {
            if several && !self.implicit && self.session.status() == TransactionStatus::Idle {
                self.session.begin_implicit();
                self.implicit = true;
            }
            let tag = self.run_as_text(statement, &stop).await?;
            if index == last {
                self.end_implicit().await?;
            }
            self.complete(tag.as_ref())?;
        }
        Ok(())
    }

    async fn run_as_text(
        &mut self,
        statement: &Statement,
        stop: &CancellationToken,
    ) -> Result<Option<Tag>, Stop> {
        if let Some(tag) = self.deallocate(statement) {
            return Ok(Some(tag));
        }
        let work = self.session.run(statement, &[], stop);
        match self.wire.attend(stop, work).await?? {
            Outcome::Rows(rows) => self.send_as_text(rows, stop).await.map(Some),
            other => self.settle(other, stop).await,
        }
    }

    async fn send_as_text(&mut self, rows: Rows, stop: &CancellationToken) -> Result<Tag, Stop> {
        let formats = vec![FormatCode::Text; rows.schema.fields().len()];
        let description = row_description(&rows.schema, &formats);
        let mut cursor = Cursor::try_new(rows, &formats, &self.session.value_format())?;
        self.wire.put(&description)?;
        match cursor.send(&mut self.wire, 0, stop).await? {
            Reached::End(sent) => Ok(tag(cursor.command(), sent)),
            Reached::Limit => Err(Error::internal("a result without a limit reached one").into()),
        }
    }
}
