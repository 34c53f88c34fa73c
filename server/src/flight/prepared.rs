//! Prepared statements.
//!
//! What it guarantees: a handle is good for the client that made it alone; nothing is decided ahead:
//! each run is authorized anew. A statement that changes something is run once for each row of
//! parameters, all of them in one transaction. What `GetFlightInfo` tells of a query's columns is what
//! comes: it knows the types of the parameters that were bound.
//! What it does not: parameters are gathered, up to the size of one message. What is told of columns when
//! a statement is prepared is the best guess: they may be of the types of its parameters.
//! On failure: `26000` for a handle of nobody, `08P01` for parameters that do not fit.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow::record_batch::RecordBatch;
use arrow_flight::sql::ActionCreatePreparedStatementResult;
use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt as _};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::types::Type;
use kho_sql::outcome::{Deadline, Description, Outcome, Rows};
use kho_sql::parse::Statement;
use kho_sql::session::{Session, TransactionStatus};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::canceled;
use super::ingest::Arriving;
use super::service::Call;
use super::statement::{Bound, Held, counted, info, no_schema, none, one};
use super::stream::{Messages, Source, in_time, relaxed, shown};
use super::ticket;

/// A statement that was parsed and described.
pub struct Prepared {
    statement: Statement,
    description: Description,
    transaction: Option<Uuid>,
    /// What it was bound to last.
    given: Mutex<Option<Arc<Given>>>,
    /// Of its text.
    bytes: usize,
}

/// Rows of parameters, and their types.
struct Given {
    rows: Arc<Vec<Vec<ScalarValue>>>,
    types: Vec<Option<Type>>,
    bytes: usize,
}

impl Call {
    /// `CreatePreparedStatement`.
    ///
    /// # Errors
    /// What the session says, `54000` for one too many.
    pub async fn prepare(
        &self,
        text: String,
        transaction: Option<Uuid>,
    ) -> Result<ActionCreatePreparedStatementResult> {
        let bytes = text.len();
        let described = self.with_session(Uuid::new_v4(), transaction, move |session, stop| {
            Box::pin(async move {
                let statement = one(session, &text).await?;
                let description = session.describe(&statement, &[], stop).await?;
                Ok((statement, description))
            })
        });
        let ((statement, description), _) = described.await?;
        let fields = description.parameters.iter().enumerate();
        let fields = fields.map(|(index, of)| of.to_field(&format!("${}", index + 1), true));
        let parameters = Schema::new(fields.collect::<Vec<_>>());
        let dataset = description.columns.as_ref().map(relaxed);
        let dataset = dataset.map(|columns| shown(&columns, self.form));
        let id = Uuid::new_v4();
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: Bytes::copy_from_slice(id.as_bytes()),
            dataset_schema: dataset.map(|it| encoded(&it)).transpose()?.unwrap_or_default(),
            parameter_schema: encoded(&parameters)?,
        };
        let given = Mutex::default();
        let prepared = Prepared { statement, description, transaction, given, bytes };
        self.client.prepared.put(id, bytes, Arc::new(prepared))?;
        Ok(result)
    }

    /// `ClosePreparedStatement`; one that is not there is closed.
    pub fn close_prepared(&self, handle: &[u8]) {
        if let Some(id) = ticket::id(handle) {
            self.client.prepared.take(id);
        }
    }

    /// `DoPut` of parameters, for the next run.
    ///
    /// # Errors
    /// `26000`, `08P01`, `22P02` and the like for what is no value of the parameter's type.
    pub async fn bind(&self, handle: &[u8], arriving: Option<Arriving>) -> Result<()> {
        let prepared = self.prepared(handle)?;
        let given = self.rows_of(&prepared, arriving).await?;
        if let Some(id) = ticket::id(handle) {
            let bytes = given.as_ref().map_or(0, |given| given.bytes);
            let bytes = bytes.saturating_add(prepared.bytes);
            self.client.prepared.put(id, bytes, Arc::clone(&prepared))?;
        }
        let mut bound = prepared.given.lock().unwrap_or_else(PoisonError::into_inner);
        *bound = given.map(Arc::new);
        Ok(())
    }

    /// `DoPut` of an update, with its parameters: how many rows it concerned in all.
    ///
    /// # Errors
    /// As [`Call::bind`]; what the session says.
    pub async fn update_prepared(&self, handle: &[u8], arriving: Option<Arriving>) -> Result<i64> {
        self.refuse_load()?;
        let prepared = self.prepared(handle)?;
        let rows = match self.rows_of(&prepared, arriving).await? {
            Some(given) => given.rows,
            None => prepared.rows(prepared.given().as_deref())?,
        };
        // It is run as many times as there are rows.
        if rows.is_empty() {
            return Ok(0);
        }
        let transaction = prepared.transaction;
        let counted = self.with_session(Uuid::new_v4(), transaction, move |session, stop| {
            Box::pin(run_all(session, prepared, rows, stop))
        });
        counted.await.map(|(count, _)| count)
    }

    /// `GetFlightInfo` of a prepared statement.
    ///
    /// # Errors
    /// `26000`; what the session says.
    pub async fn info_of_prepared(
        &self,
        handle: &[u8],
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let prepared = self.prepared(handle)?;
        let given = prepared.given();
        let parameters = prepared.rows(given.as_deref())?;
        let id = Uuid::new_v4();
        if prepared.statement.is_query() {
            let schema = self.columns_of(&prepared, given.as_deref()).await?;
            let shown = shown(&schema, self.form);
            let statement = prepared.statement.clone();
            let transaction = prepared.transaction;
            let bytes = given.as_ref().map_or(0, |given| given.bytes);
            let ticket = self.ticket(id, None, ticket::Rows::Held(true), &schema)?;
            let bound = Bound { statement, schema, transaction, parameters };
            self.client.held.put(id, bytes, Held::Bound(Box::new(bound)))?;
            return info(&shown, [ticket], descriptor);
        }
        self.refuse_load()?;
        if parameters.len() > 1 && prepared.description.columns.is_some() {
            let message = "a statement that changes something and gives rows is run for one row of \
                           parameters at a time";
            return Err(Error::unsupported(message));
        }
        let transaction = prepared.transaction;
        let places = self.places(id)?;
        if parameters.is_empty() {
            let nothing = |columns| Outcome::Rows(Rows::new(columns, "", futures::stream::empty()));
            let outcome = prepared.description.columns.clone().map_or(Outcome::Empty, nothing);
            let ran = (self.client.runs(id), self.client.session(transaction)?);
            return self.info_of_outcome(outcome, ran, &places, descriptor);
        }
        let ran = self.with_session(id, transaction, move |session, stop| {
            Box::pin(async move {
                if parameters.len() > 1 {
                    return run_all(session, prepared, parameters, stop)
                        .await
                        .map(|_| Outcome::Empty);
                }
                let row = parameters.first().map(Vec::as_slice).unwrap_or_default();
                session.run(&prepared.statement, row, stop).await
            })
        });
        let (outcome, running) = ran.await?;
        let session = self.client.session(transaction)?;
        self.info_of_outcome(outcome, (running, session), &places, descriptor)
    }

    /// The schema of a prepared query.
    ///
    /// # Errors
    /// `26000`; `0A000` for what would have to be run for it; what the session says.
    pub async fn schema_of_prepared(&self, handle: &[u8]) -> Result<SchemaRef> {
        let prepared = self.prepared(handle)?;
        match prepared.statement.is_query() {
            true => self.columns_of(&prepared, prepared.given().as_deref()).await,
            false => Err(no_schema()),
        }
    }

    /// The columns of a query for parameters of the types that were given: where those are not what it
    /// was described with, its columns may be others, too.
    async fn columns_of(&self, prepared: &Prepared, given: Option<&Given>) -> Result<SchemaRef> {
        let described = &prepared.description;
        let are_told = |types: &[Option<Type>]| {
            types.iter().map(Option::as_ref).eq(described.parameters.iter().map(Some))
        };
        let columns = match given.map(|given| given.types.clone()).filter(|it| !are_told(it)) {
            None => described.columns.clone(),
            Some(types) => {
                let statement = prepared.statement.clone();
                let described = self.with_session(
                    Uuid::new_v4(),
                    prepared.transaction,
                    move |session, stop| {
                        Box::pin(async move { session.describe(&statement, &types, stop).await })
                    },
                );
                described.await?.0.columns
            }
        };
        Ok(relaxed(&columns.unwrap_or_else(none)))
    }

    /// `DoGet` of a prepared query: for each row of parameters, one after the other.
    ///
    /// # Errors
    /// What the session says.
    pub async fn get_bound(&self, id: Uuid, bound: Bound) -> Result<Messages> {
        let Bound { statement, schema, transaction, parameters } = bound;
        let Some(first) = parameters.first().cloned() else {
            return self.send(Source::of(schema, Vec::new()), self.client.runs(id));
        };
        let started = statement.clone();
        let (outcome, running) = self
            .with_session(id, transaction, move |session, stop| {
                Box::pin(async move { session.run(&started, &first, stop).await })
            })
            .await?;
        let Outcome::Rows(rows) = outcome else {
            return Err(Error::internal("a query gave no rows"));
        };
        refuse_other_columns(&rows, &schema)?;
        if parameters.len() <= 1 {
            let session = self.client.session(transaction)?;
            let source = Source { schema, ..Source::from(rows) };
            return self.send(source.of_session(session), running);
        }
        let session = self.client.session(transaction)?;
        let (call, stop, told) = (self.clone(), running.stop.clone(), Arc::clone(&schema));
        let rest = futures::stream::iter(1..parameters.len()).then(move |number| {
            let row = parameters.get(number).cloned().unwrap_or_default();
            let (call, statement) = (call.clone(), statement.clone());
            let (stop, schema) = (stop.clone(), Arc::clone(&told));
            async move {
                let run = call.with_session(Uuid::new_v4(), transaction, move |session, _| {
                    Box::pin(async move {
                        if stop.is_cancelled() {
                            return Err(canceled());
                        }
                        session.run(&statement, &row, &stop).await
                    })
                });
                match run.await {
                    Ok((Outcome::Rows(rows), _)) => match refuse_other_columns(&rows, &schema) {
                        Ok(()) => in_time(rows).left_stream(),
                        Err(error) => failed(error).right_stream(),
                    },
                    Ok(_) => failed(Error::internal("a query gave no rows")).right_stream(),
                    Err(error) => failed(error).right_stream(),
                }
            }
        });
        let batches = Box::pin(in_time(rows).chain(rest.flatten()));
        // Each run has a time of its own.
        let source = Source { schema, batches, deadline: Deadline::default(), block: None };
        self.send(source.of_session(session), running)
    }

    fn prepared(&self, handle: &[u8]) -> Result<Arc<Prepared>> {
        let prepared = ticket::id(handle).and_then(|id| self.client.prepared.get(id));
        prepared.ok_or_else(|| {
            let message = "there is no such prepared statement of this client";
            Error::new(Kind::InvalidStatementName, message)
        })
    }

    /// Rows of parameters; `None` where the client sends none, or the statement has none.
    ///
    /// # Errors
    /// `08P01` for more or fewer than the statement has; what a stream that breaks off ends with.
    async fn rows_of(
        &self,
        prepared: &Arc<Prepared>,
        arriving: Option<Arriving>,
    ) -> Result<Option<Given>> {
        let Some(mut arriving) = arriving else { return Ok(None) };
        let has_none = prepared.description.parameters.is_empty();
        let (schema, described) = (Arc::clone(arriving.schema()), Arc::clone(prepared));
        let fit = self.with_session(Uuid::new_v4(), None, move |session, _| {
            let fit = session.fit_parameters(&schema, &described.description);
            Box::pin(std::future::ready(fit))
        });
        let (fit, running) = fit.await?;
        if has_none {
            // Drivers bind a batch without columns where there are none: it is one run, unless what
            // they send breaks off.
            while arriving.next_until(&running.stop).await?.is_some() {}
            return Ok(None);
        }
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        while let Some(batch) = arriving.next_until(&running.stop).await? {
            for piece in fit.pieces(&batch) {
                let piece = piece?;
                for row in 0..piece.num_rows() {
                    let row = (piece.columns().iter())
                        .map(|column| ScalarValue::try_from_array(column, row))
                        .collect::<Result<Vec<_>, _>>();
                    let row = row.map_err(|error| {
                        Error::internal("a parameter cannot be read").with_source(error.to_string())
                    })?;
                    let size = row.iter().map(ScalarValue::size).sum::<usize>();
                    bytes = bytes.saturating_add(size.saturating_add(size_of_val(&row)));
                    rows.push(row);
                }
                if bytes > self.shared.limits.message_bytes {
                    let message = "the parameters take more than one message may";
                    return Err(Error::new(Kind::ProgramLimitExceeded, message)
                        .with_hint("Load many rows with CommandStatementIngest."));
                }
            }
        }
        fit.settle(&mut rows)?;
        Ok(Some(Given { rows: Arc::new(rows), types: fit.types(), bytes }))
    }
}

impl Prepared {
    fn given(&self) -> Option<Arc<Given>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rows that it is run for: one without values where it takes none.
    fn rows(&self, given: Option<&Given>) -> Result<Arc<Vec<Vec<ScalarValue>>>> {
        match (given, self.description.parameters.len()) {
            (Some(given), _) => Ok(Arc::clone(&given.rows)),
            (None, 0) => Ok(Arc::new(vec![Vec::new()])),
            (None, wanted) => {
                let message = format!(
                    "no parameters are given, but the prepared statement requires {wanted}"
                );
                Err(Error::new(Kind::ProtocolViolation, message))
            }
        }
    }
}

/// Runs a statement for each row of parameters, all of them in one transaction.
async fn run_all(
    session: &mut Session,
    prepared: Arc<Prepared>,
    rows: Arc<Vec<Vec<ScalarValue>>>,
    stop: &CancellationToken,
) -> Result<i64> {
    let implicit = rows.len() > 1 && session.status() == TransactionStatus::Idle;
    if implicit {
        session.begin_implicit();
    }
    let mut count = 0_i64;
    let mut failed = None;
    for row in rows.iter() {
        let ran = match session.run(&prepared.statement, row, stop).await {
            Ok(outcome) => counted(session, outcome).await,
            Err(error) => Err(error),
        };
        match ran {
            Ok(rows) => count = count.saturating_add(rows),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if implicit {
        session.end_implicit(failed.is_some()).await?;
    }
    failed.map_or(Ok(count), Err)
}

/// A table may have changed since the client was told the columns.
fn refuse_other_columns(rows: &Rows, told: &Schema) -> Result<()> {
    let come = relaxed(&rows.schema);
    let other = match come.fields().len() == told.fields().len() {
        true => come.fields().iter().zip(told.fields()).find(|(come, told)| !becomes(come, told)),
        false => return Err(changed_type()),
    };
    match other {
        Some((come, told)) => Err(changed_type().with_detail(format!(
            "Column \"{}\" was of type {}, and is of type {}.",
            told.name(),
            told.data_type(),
            come.data_type()
        ))),
        None => Ok(()),
    }
}

fn changed_type() -> Error {
    Error::unsupported("cached plan must not change result type")
        .with_hint("Prepare the statement again.")
}

/// Whether every value that comes is one of what was told. How many digits a numeric has behind the
/// point may depend on the value of a parameter, as in `round(price, $1)`: what has fewer is written
/// with more.
fn becomes(come: &Field, told: &Field) -> bool {
    match (come.data_type(), told.data_type()) {
        (DataType::Decimal128(_, come), DataType::Decimal128(_, told)) => come <= told,
        (DataType::List(come), DataType::List(told)) => {
            becomes(come, told) && (told.is_nullable() || !come.is_nullable())
        }
        (come, told) => come == told,
    }
}

fn failed(error: Error) -> impl Stream<Item = Result<RecordBatch>> + Send {
    futures::stream::once(std::future::ready(Err(error)))
}

/// A schema as the protocol has it: an encapsulated IPC message.
fn encoded(schema: &Schema) -> Result<Bytes> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|error| Error::internal("a schema cannot be told").with_source(error))?;
    Ok(message.0)
}
