//! `DoPut`: what a client sends, by what it says first that it is.
//!
//! What it guarantees: nothing is taken before the call is known to be of somebody; batches are taken as
//! they come, and the client is held up when they cannot be; a stream that breaks off is an error of
//! whoever was to take it.
//! What it does not: it takes no Substrait plan.
//! On failure: `08P01` for a stream that is none; what the command says.

use std::time::Duration;

use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use futures::StreamExt as _;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::{Held, TransactionStatus};
use prost::Message as _;
use serde_json::json;
use tonic::Streaming;
use uuid::Uuid;

use super::client::Turn;
use super::error::canceled;
use super::ingest::{Arriving, Loaded, Target, broken_off, ingest};
use super::plain;
use super::run;
use super::service::{Call, command, transaction};

/// How long a client that loads may send nothing.
const SILENCE: Duration = Duration::from_secs(300);

impl Call {
    /// Takes a stream.
    ///
    /// # Errors
    /// What its command says.
    pub async fn put(&self, mut stream: Streaming<FlightData>) -> Result<Put> {
        let first = self.message(&mut stream).await?.ok_or_else(|| {
            Error::new(Kind::ProtocolViolation, "a stream without a message")
                .with_hint("Of a load without rows the schema must be sent, or an empty batch.")
        })?;
        let descriptor = first.flight_descriptor.clone().ok_or_else(|| {
            Error::new(Kind::ProtocolViolation, "a stream whose first message has no descriptor")
        })?;
        if let Some(table) = plain::named(&descriptor)? {
            let target = Ok(Target::append(table));
            return Put::by_path(self.load(target, None, first, stream).await?);
        }
        match command(&descriptor.cmd)? {
            Command::CommandStatementIngest(ingest) => {
                let transaction = transaction(ingest.transaction_id.as_deref())?;
                let target = Target::of_command(&ingest);
                Ok(Put::by_command(self.load(target, transaction, first, stream).await?))
            }
            Command::CommandStatementUpdate(update) => {
                let transaction = transaction(update.transaction_id.as_deref())?;
                Ok(Put::updated(self.update(update.query, transaction).await?))
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let arriving = self.parameters(first, stream).await?;
                let handle = &update.prepared_statement_handle;
                Ok(Put::updated(self.update_prepared(handle, arriving).await?))
            }
            Command::CommandPreparedStatementQuery(query) => {
                let handle = query.prepared_statement_handle;
                self.bind(&handle, self.parameters(first, stream).await?).await?;
                let result =
                    DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
                Ok(Put::of(result.encode_to_vec(), Vec::new()))
            }
            Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
            other => Err(Error::unsupported(format!("{} is not put", other.type_url()))),
        }
    }

    /// The next message of a client that may not be silent for ever.
    async fn message(&self, stream: &mut Streaming<FlightData>) -> Result<Option<FlightData>> {
        tokio::select! {
            message = stream.message() => message.map_err(|status| broken_off(&status)),
            () = self.client.ended.cancelled() => Err(canceled()),
            () = tokio::time::sleep(SILENCE) => Err(canceled()),
        }
    }

    /// What comes of a stream whose first message was taken; of one that has only that message, which
    /// says what it is, nothing does.
    async fn parameters(
        &self,
        first: FlightData,
        mut stream: Streaming<FlightData>,
    ) -> Result<Option<Arriving>> {
        let first = match first.data_header.is_empty() {
            true => self.message(&mut stream).await?,
            false => Some(first),
        };
        let Some(first) = first else { return Ok(None) };
        let messages = futures::stream::once(std::future::ready(Ok(first))).chain(stream);
        Arriving::open(messages, SILENCE, self.held()).await.map(Some)
    }

    fn held(&self) -> Held {
        self.shared.entrance.engine.held()
    }

    /// Loads what comes, in a session of its own: a client that stalls keeps none of its other calls
    /// waiting. In an open block the load is part of that.
    async fn load(
        &self,
        target: Result<Target>,
        transaction: Option<Uuid>,
        first: FlightData,
        stream: Streaming<FlightData>,
    ) -> Result<Loaded> {
        let messages = futures::stream::once(std::future::ready(Ok(first))).chain(stream);
        let arriving = Arriving::open(messages, SILENCE, self.held()).await;
        let (target, arriving) = match target.and_then(|target| Ok((target, arriving?))) {
            Ok(both) => both,
            Err(error) => return Err(self.refuse(transaction, error).await),
        };
        let may_wait_for_itself = transaction.is_none() && !self.client.transactions.is_empty();
        let own = self.with_session(Uuid::new_v4(), transaction, move |session, stop| {
            Box::pin(async move {
                if session.status() != TransactionStatus::Idle {
                    return Ok(None);
                }
                let mut beside = session.beside().await?;
                if may_wait_for_itself && beside.setting("lock_timeout")? == "0" {
                    run::done(&mut beside, WAIT_FOR_ITSELF, stop).await?;
                }
                Ok(Some(beside))
            })
        });
        let load = self.load.clone();
        let (session, is_transaction) = match own.await?.0 {
            Some(session) => (Turn::of(session), false),
            None => (self.client.session(transaction)?, transaction.is_some()),
        };
        let loaded = self.with(session, Uuid::new_v4(), is_transaction, move |session, stop| {
            Box::pin(async move { ingest(session, &target, load.as_ref(), arriving, stop).await })
        });
        let told = |error: Error| match error.kind() {
            Kind::LockNotAvailable if may_wait_for_itself => error.with_hint(
                "A transaction of this client may have the table: end it, or name it in the load.",
            ),
            _ => error,
        };
        loaded.await.map(|(loaded, _)| loaded).map_err(told)
    }
}

/// A driver that begins transactions by itself sends its loads without their ids: such a load may wait
/// for a transaction that waits for the load.
const WAIT_FOR_ITSELF: &str = "SET lock_timeout = '10s'";

pub fn no_substrait() -> Error {
    Error::unsupported("Substrait plans are not supported").with_hint("Send SQL.")
}

/// What became of a load. To a client that knows Flight SQL alone it is an update's result.
#[derive(Clone, PartialEq, prost::Message)]
struct LoadResult {
    #[prost(int64, tag = "1")]
    record_count: i64,
    /// The table's version with the rows in it; none in a transaction that goes on.
    #[prost(uint64, optional, tag = "1001")]
    version: Option<u64>,
    #[prost(uint64, tag = "1002")]
    duration_ms: u64,
}

/// What a client is told of what it put.
pub struct Put {
    pub result: PutResult,
    /// The same of a load in metadata, for clients that see nothing of results.
    pub told: Vec<(&'static str, String)>,
}

impl Put {
    fn of(app_metadata: Vec<u8>, told: Vec<(&'static str, String)>) -> Put {
        Put { result: PutResult { app_metadata: app_metadata.into() }, told }
    }

    fn updated(record_count: i64) -> Put {
        Put::of(DoPutUpdateResult { record_count }.encode_to_vec(), Vec::new())
    }

    fn by_command(loaded: Loaded) -> Put {
        let Loaded { rows, version, duration_ms } = loaded;
        let record_count = i64::try_from(rows).unwrap_or(i64::MAX);
        let result = LoadResult { record_count, version, duration_ms };
        Put::of(result.encode_to_vec(), told(loaded))
    }

    /// A loader that knows no SQL is told in JSON.
    fn by_path(loaded: Loaded) -> Result<Put> {
        let Loaded { rows, version, duration_ms } = loaded;
        let result = json!({ "rows": rows, "version": version, "duration_ms": duration_ms });
        Ok(Put::of(serde_json::to_vec(&result)?, told(loaded)))
    }
}

fn told(loaded: Loaded) -> Vec<(&'static str, String)> {
    let Loaded { rows, version, duration_ms } = loaded;
    let version = version.map(|version| ("kho-version", version.to_string()));
    let others = [("kho-rows", rows.to_string()), ("kho-duration-ms", duration_ms.to_string())];
    version.into_iter().chain(others).collect()
}
