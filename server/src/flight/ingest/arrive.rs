//! The batches of a client's stream of Flight data.
//!
//! What it guarantees: no message makes us take more memory than the limits here, whatever it says
//! of itself, nor more than the server has for it; one schema holds for the whole stream; a stream that broke off is told from one that
//! ended.
//! What it does not: the size of one message is the listener's limit.
//! On failure: `22P04` for what is no Arrow data, `42804` for a schema that changes, `54000` for too
//! much at once, `53200` where memory is scarce, `08006` for a stream that breaks off, `57014` for a client that falls silent.

mod check;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use futures::{FutureExt, Stream, StreamExt};
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::Held;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use check::Checked;

use crate::flight::error::{DETAIL, HINT, SQLSTATE, canceled};

/// The SQLSTATE of what the transport refuses to take for want of memory.
const OUT_OF_MEMORY: &str = "53200";

/// What a client sends, as batches.
pub struct Arriving {
    decoder: FlightDataDecoder,
    schema: SchemaRef,
    silence: Duration,
}

impl Arriving {
    /// Waits for the schema. `silence` is how long the client may send nothing; what a batch takes is
    /// held by `held` until the next one is asked for.
    pub async fn open(
        messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
        silence: Duration,
        held: Held,
    ) -> Result<Arriving> {
        let mut checked = Checked::new(held);
        let messages = messages.filter_map(move |message| {
            let checked = match message {
                Ok(message) => checked.check(message),
                Err(status) => Err(broken_off(&status)),
            };
            let checked = checked.map_err(|error| FlightError::ExternalError(Box::new(error)));
            std::future::ready(checked.transpose())
        });
        let mut decoder = FlightDataDecoder::new(messages);
        let schema = match next_payload(&mut decoder, silence).await? {
            Some(DecodedPayload::Schema(schema)) => schema,
            Some(_) => return Err(no_data("there is no schema before the rows")),
            None => return Err(no_data("there is no schema")),
        };
        Ok(Arriving { decoder, schema, silence })
    }

    /// What all batches have.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, unless `stop` comes first.
    ///
    /// # Errors
    /// As [`Arriving::next`]; `57014` when stopped.
    pub async fn next_until(&mut self, stop: &CancellationToken) -> Result<Option<RecordBatch>> {
        let next = stop.run_until_cancelled(self.next()).await;
        next.unwrap_or_else(|| Err(canceled()))
    }

    /// The next batch; `None` when the client said that it is all.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            match next_payload(&mut self.decoder, self.silence).await? {
                Some(DecodedPayload::RecordBatch(batch)) => return Ok(Some(batch)),
                Some(DecodedPayload::None) => {}
                Some(DecodedPayload::Schema(_)) => {
                    return Err(Error::new(
                        Kind::DatatypeMismatch,
                        "the schema of a load cannot change in mid-stream",
                    )
                    .with_hint("Send rows of another schema as a load of their own."));
                }
                None => return Ok(None),
            }
        }
    }
}

/// # Why a panic is caught
/// The decoder asserts what it expects of a message, and not all of that can be checked before.
async fn next_payload(
    decoder: &mut FlightDataDecoder,
    silence: Duration,
) -> Result<Option<DecodedPayload>> {
    let next = AssertUnwindSafe(decoder.next()).catch_unwind();
    match tokio::time::timeout(silence, next).await {
        Err(_) => Err(Error::new(
            Kind::QueryCanceled,
            format!("canceling the load: nothing was sent for {} s", silence.as_secs()),
        )),
        Ok(Err(_)) => Err(no_data("a message is malformed")),
        Ok(Ok(None)) => Ok(None),
        Ok(Ok(Some(Ok(decoded)))) => Ok(Some(decoded.payload)),
        Ok(Ok(Some(Err(FlightError::ExternalError(inner))))) => match inner.downcast::<Error>() {
            Ok(ours) => Err(*ours),
            Err(other) => Err(no_data(&other.to_string())),
        },
        Ok(Ok(Some(Err(error)))) => Err(no_data(&error.to_string())),
    }
}

fn no_data(why: &str) -> Error {
    let line: String = why.lines().next().unwrap_or_default().chars().take(200).collect();
    Error::new(Kind::BadCopyFormat, "the load is no stream of Arrow data")
        .with_detail(format!("{}.", line.trim_end_matches('.')))
}

/// As it was told to the transport.
fn out_of_memory(status: &Status) -> Error {
    let text = |name| {
        let value = status.metadata().get_bin(name).and_then(|it| it.to_bytes().ok());
        value.map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default()
    };
    Error::new(Kind::OutOfMemory, status.message()).with_detail(text(DETAIL)).with_hint(text(HINT))
}

/// What it means that the transport gives no more messages.
pub(in crate::flight) fn broken_off(status: &Status) -> Error {
    if status.metadata().get(SQLSTATE).is_some_and(|it| it == OUT_OF_MEMORY) {
        return out_of_memory(status);
    }
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => {
            Error::new(Kind::ProgramLimitExceeded, "a message of the load is too large")
                .with_hint("Send smaller batches.")
        }
        Code::Internal if status.message().contains("decode") => {
            no_data("a message is no Flight data")
        }
        _ => Error::new(Kind::ConnectionFailure, "the client's stream broke off"),
    }
}
