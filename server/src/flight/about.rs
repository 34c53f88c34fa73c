//! Answers about what there is: by commands of Flight SQL, and by the paths of tables.
//!
//! What it guarantees: every answer comes of the caller's session.
//! What it does not: it knows no catalog; [`metadata`] and [`plain`] ask for it in SQL.
//! On failure: what the session says; `0A000` for a command that asks for nothing.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::FlightInfo;
use arrow_flight::sql::Command;
use kho_catalog::error::{Error, Result};
use uuid::Uuid;

use super::service::Call;
use super::stream::{Messages, Source, messages};
use super::{metadata, plain};

/// The columns of the answer to a command.
///
/// # Errors
/// `0A000` for one that is not answered with rows.
pub fn schema(command: &Command) -> Result<SchemaRef> {
    metadata::schema(command)
        .ok_or_else(|| Error::unsupported(format!("{} is not served here", command.type_url())))
}

impl Call {
    /// `DoGet` of a command's answer.
    ///
    /// # Errors
    /// What the session says.
    pub async fn get_answer(&self, command: Command) -> Result<Messages> {
        schema(&command)?;
        let told_by = (self.shared.limits.token_lifetime_ms, self.form);
        let answer = self.with_session(Uuid::new_v4(), None, move |session, stop| {
            Box::pin(metadata::answer(session, command, told_by, stop))
        });
        let (batch, running) = answer.await?;
        let source = Source::of(Arc::clone(batch.schema_ref()), vec![batch]);
        messages(source, self.form, running.stop.clone(), running)
    }

    /// `ListFlights`.
    ///
    /// # Errors
    /// What the session says.
    pub async fn list(&self) -> Result<Vec<FlightInfo>> {
        let form = self.form;
        let listed = self.with_session(Uuid::new_v4(), None, move |session, stop| {
            Box::pin(plain::list(session, form, stop))
        });
        listed.await.map(|(listed, _)| listed)
    }
}
