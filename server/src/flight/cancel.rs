//! Stopping what runs.
//!
//! What it guarantees: a client can stop what it was given tickets for, and nobody else's.
//! What it does not: it does not wait until the work has ended.
//! On failure: `42501` for a ticket of somebody else.

use arrow_flight::{CancelFlightInfoResult, CancelStatus, FlightInfo};
use kho_catalog::error::Result;

use super::service::Call;
use super::ticket;

impl Call {
    /// `CancelFlightInfo`, and the older `CancelQuery`.
    ///
    /// # Errors
    /// `42501` for a ticket of somebody else, or one that is none.
    pub async fn cancel(&self, info: &FlightInfo) -> Result<CancelFlightInfoResult> {
        let mut stopped = false;
        for endpoint in &info.endpoint {
            let Some(ticket) = &endpoint.ticket else { continue };
            let ticket = self.open(&ticket.ticket).await?;
            stopped |= ticket::id(&ticket.id).is_some_and(|id| self.client.cancel(id));
        }
        let status = match stopped {
            true => CancelStatus::Cancelled,
            false => CancelStatus::NotCancellable,
        };
        Ok(CancelFlightInfoResult { status: status as i32 })
    }
}
