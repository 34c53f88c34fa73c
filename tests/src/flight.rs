//! A Flight SQL client at the level of calls: what it asks is what the test says.
//!
//! What it guarantees: an answer has the form that [`crate::wire`] gives it, so that the two can be
//! compared: values as the text PostgreSQL would write, columns with PostgreSQL's numbers of types.
//! A refusal keeps its SQLSTATE, message and detail.
//! What it does not: no retry, no pool. Real drivers are in `clients/`.
//! On failure: an [`Error`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::array_value_to_string;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionBeginTransactionResult, Any, CommandStatementQuery,
    CommandStatementUpdate, DoPutUpdateResult, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, Ticket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use kho_server::pgwire::value::{FormatCode, RowEncoder, field_oid};
use kho_sql::session::ValueFormat;
use prost::Message as _;
use tokio::runtime::Runtime;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::wire::{Answer, Error, ServerError};

/// No answer of a healthy server takes this long, on the slowest machine we test on.
const TIMEOUT: Duration = Duration::from_secs(120);
const MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// One client that has logged in.
pub struct Flight {
    runtime: Runtime,
    client: FlightServiceClient<Channel>,
    authorization: AsciiMetadataValue,
    headers: Vec<(&'static str, String)>,
    transaction: Option<Bytes>,
}

impl Flight {
    /// Connects without TLS and logs in by password.
    ///
    /// # Errors
    /// What the server refuses the login with.
    pub fn connect(address: SocketAddr, role: &str, password: &str) -> Result<Flight, Error> {
        let basic = BASE64_STANDARD.encode(format!("{role}:{password}"));
        let mut flight = Flight::calling(address, &format!("Basic {basic}"))?;
        let handshake = futures::stream::iter([HandshakeRequest::default()]);
        let request = flight.request(handshake)?;
        flight.authorization = flight.runtime.block_on(async {
            let answer = flight.client.handshake(request).await.map_err(refused)?;
            let bearer = answer.metadata().get("authorization").cloned();
            answer.into_inner().try_collect::<Vec<_>>().await.map_err(refused)?;
            bearer.ok_or_else(|| broken("no bearer token came"))
        })?;
        Ok(flight)
    }

    /// Connects, and says this of itself with every call, without a handshake.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn calling(address: SocketAddr, authorization: &str) -> Result<Flight, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(broken)?;
        let endpoint = endpoint.timeout(TIMEOUT);
        let channel = runtime.block_on(endpoint.connect()).map_err(broken)?;
        let client = FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let (authorization, headers) = (value(authorization)?, Vec::new());
        Ok(Flight { runtime, client, authorization, headers, transaction: None })
    }

    /// What it says of itself.
    pub fn authorization(&self) -> String {
        self.authorization.to_str().unwrap_or_default().to_owned()
    }

    /// The same client, which says `value` under `name` with every call.
    #[must_use]
    pub fn saying(mut self, name: &'static str, value: &str) -> Flight {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Runs a statement and gives all that comes of it.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn run(&mut self, statement: &str) -> Result<Answer, Error> {
        let (schema, batches) = self.query(statement)?;
        let Some(schema) = schema.filter(|schema| !schema.fields().is_empty()) else {
            return Ok(Answer::default());
        };
        let has_times = schema.fields().iter().any(|field| has_time(field.data_type()));
        let time_zone = if has_times { self.time_zone() } else { None };
        answer(&schema, &batches, time_zone)
    }

    /// Runs a statement that gives a count of rows.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn count(&mut self, statement: &str) -> Result<Answer, Error> {
        let tag = self.update(statement)?.to_string();
        Ok(Answer { tag, ..Answer::default() })
    }

    /// What moments are shown in; `None` in a failed block.
    fn time_zone(&mut self) -> Option<String> {
        let (_, batches) = self.query("SHOW TimeZone").ok()?;
        let batch = batches.first()?;
        array_value_to_string(batch.column(0), 0).ok()
    }

    /// `GetFlightInfo`, then `DoGet` of each endpoint; `None` for a statement without rows.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn query(
        &mut self,
        statement: &str,
    ) -> Result<(Option<SchemaRef>, Vec<RecordBatch>), Error> {
        let command = CommandStatementQuery {
            query: statement.to_owned(),
            transaction_id: self.transaction.clone(),
        };
        let info = self.info(&command)?;
        let told = info.clone().try_decode_schema().map_err(broken)?;
        let mut all = Vec::new();
        let mut schema = None;
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.ok_or_else(|| broken("an endpoint without a ticket"))?;
            let (came, batches) = self.get(ticket)?;
            schema = came;
            all.extend(batches);
        }
        match &schema {
            Some(schema) if **schema != told => {
                Err(broken(format!("{told:?} was told, {schema:?} came")))
            }
            _ => Ok((schema, all)),
        }
    }

    /// What a command's rows will be, and where they are.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn info(&mut self, command: &impl ProstMessageExt) -> Result<FlightInfo, Error> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let request = self.request(descriptor)?;
        let info = self.runtime.block_on(self.client.get_flight_info(request)).map_err(refused)?;
        Ok(info.into_inner())
    }

    /// The rows of a ticket.
    ///
    /// # Errors
    /// What the server refuses it with, also behind some rows.
    pub fn get(&mut self, ticket: Ticket) -> Result<(Option<SchemaRef>, Vec<RecordBatch>), Error> {
        let request = self.request(ticket)?;
        self.runtime.block_on(async {
            let stream = self.client.do_get(request).await.map_err(refused)?.into_inner();
            let stream = stream.map_err(|status| FlightError::Tonic(Box::new(status)));
            let mut stream = FlightRecordBatchStream::new_from_flight_data(stream);
            let mut batches = Vec::new();
            while let Some(batch) = stream.next().await {
                batches.push(batch.map_err(failed)?);
            }
            Ok((stream.schema().cloned(), batches))
        })
    }

    /// All bytes of the messages of a ticket's rows, as they come.
    ///
    /// # Errors
    /// What the server refuses it with, also behind some rows.
    pub fn bytes(&mut self, ticket: Ticket) -> Result<Vec<u8>, Error> {
        let request = self.request(ticket)?;
        self.runtime.block_on(async {
            let mut stream = self.client.do_get(request).await.map_err(refused)?.into_inner();
            let mut bytes = Vec::new();
            while let Some(message) = stream.message().await.map_err(refused)? {
                bytes.extend_from_slice(&message.data_header);
                bytes.extend_from_slice(&message.data_body);
            }
            Ok(bytes)
        })
    }

    /// `DoPut` of a statement that counts rows.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn update(&mut self, statement: &str) -> Result<i64, Error> {
        let command = CommandStatementUpdate {
            query: statement.to_owned(),
            transaction_id: self.transaction.clone(),
        };
        self.put(&command, Vec::new())
    }

    /// `DoPut` of a command, and of what comes with it; gives the count of rows.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn put(
        &mut self,
        command: &impl ProstMessageExt,
        mut data: Vec<FlightData>,
    ) -> Result<i64, Error> {
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        if data.is_empty() {
            data.push(FlightData::default());
        }
        if let Some(first) = data.first_mut() {
            first.flight_descriptor = Some(descriptor);
        }
        let request = self.request(futures::stream::iter(data))?;
        self.runtime.block_on(async {
            let stream = self.client.do_put(request).await.map_err(refused)?.into_inner();
            let results: Vec<_> = stream.try_collect().await.map_err(refused)?;
            let last = results.last().ok_or_else(|| broken("no result came"))?;
            let result = DoPutUpdateResult::decode(last.app_metadata.as_ref()).map_err(broken)?;
            Ok(result.record_count)
        })
    }

    /// `DoAction`; gives the bodies of its results.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn act(&mut self, kind: &str, body: impl Into<Bytes>) -> Result<Vec<Bytes>, Error> {
        let action = Action { r#type: kind.to_owned(), body: body.into() };
        let request = self.request(action)?;
        self.runtime.block_on(async {
            let results = self.client.do_action(request).await.map_err(refused)?.into_inner();
            let results: Vec<_> = results.try_collect().await.map_err(refused)?;
            Ok(results.into_iter().map(|result| result.body).collect())
        })
    }

    /// Begins a transaction, in which it is from now on; gives its id.
    ///
    /// # Errors
    /// What the server refuses it with.
    pub fn begin(&mut self) -> Result<Bytes, Error> {
        let body = ActionBeginTransactionRequest {}.as_any().encode_to_vec();
        let results = self.act("BeginTransaction", body)?;
        let result = results.first().ok_or_else(|| broken("no transaction came"))?;
        let any = Any::decode(result.as_ref()).map_err(broken)?;
        let begun: Option<ActionBeginTransactionResult> = any.unpack().map_err(broken)?;
        let id = begun.ok_or_else(|| broken("no transaction came"))?.transaction_id;
        self.transaction = Some(id.clone());
        Ok(id)
    }

    /// Is in this transaction, or in none, from now on.
    pub fn is_in(&mut self, transaction: Option<Bytes>) {
        self.transaction = transaction;
    }

    /// The first batch of a ticket's rows, and then what `meanwhile` comes to, and how the rows end: with
    /// the number of those that came, or an error.
    ///
    /// # Errors
    /// What the server refuses the ticket with.
    pub fn get_while<T: Send>(
        &mut self,
        ticket: Ticket,
        meanwhile: impl FnOnce() -> T + Send,
    ) -> Result<(T, Result<usize, Error>), Error> {
        let request = self.request(ticket)?;
        self.runtime.block_on(async {
            let stream = self.client.do_get(request).await.map_err(refused)?.into_inner();
            let stream = stream.map_err(|status| FlightError::Tonic(Box::new(status)));
            let mut stream = FlightRecordBatchStream::new_from_flight_data(stream);
            let mut rows = match stream.next().await {
                Some(batch) => batch.map_err(failed)?.num_rows(),
                None => 0,
            };
            // On a thread of its own: this one is busy with the rows.
            let came = std::thread::scope(|scope| scope.spawn(meanwhile).join());
            let came = came.map_err(|_| broken("what was to be done meanwhile panicked"))?;
            while let Some(batch) = stream.next().await {
                match batch {
                    Ok(batch) => rows += batch.num_rows(),
                    Err(error) => return Ok((came, Err(failed(error)))),
                }
            }
            Ok((came, Ok(rows)))
        })
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Error> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        for (name, said) in &self.headers {
            request.metadata_mut().append(*name, value(said)?);
        }
        Ok(request)
    }
}

/// Rows as the PostgreSQL wire would write them in text.
fn answer(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    time_zone: Option<String>,
) -> Result<Answer, Error> {
    let time_zone = time_zone.unwrap_or_else(|| "UTC".to_owned());
    let format = ValueFormat { time_zone, extra_float_digits: 1 };
    let formats = vec![FormatCode::Text; schema.fields().len()];
    let encoder = RowEncoder::try_new(schema, &formats, &format).map_err(broken)?;
    let mut rows = Vec::new();
    for batch in batches {
        let mut out = BytesMut::new();
        encoder.encode(batch, &mut out).map_err(broken)?;
        rows.extend(crate::wire::rows_of(&out)?);
    }
    let column =
        |field: &Arc<arrow::datatypes::Field>| (field.name().clone(), field_oid(field).oid);
    Ok(Answer {
        columns: schema.fields().iter().map(column).collect(),
        has_rows: true,
        tag: format!("SELECT {}", rows.len()),
        rows,
        ..Answer::default()
    })
}

/// Whether there are moments among the values.
fn has_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(_, zone) => zone.is_some(),
        DataType::List(field) => has_time(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_time(field.data_type())),
        _ => false,
    }
}

fn value(text: &str) -> Result<AsciiMetadataValue, Error> {
    text.parse().map_err(broken)
}

/// A refusal, with what its metadata says of it.
fn refused(status: Status) -> Error {
    let said = |name: &str| {
        let value = status.metadata().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let told = |name: &str| {
        let value = status.metadata().get_bin(name)?.to_bytes().ok()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    };
    match said("sqlstate") {
        Some(sqlstate) => Error::Server(Box::new(ServerError {
            severity: "ERROR".to_owned(),
            sqlstate,
            message: status.message().to_owned(),
            detail: told("kho-detail-bin"),
            hint: told("kho-hint-bin"),
            ..ServerError::default()
        })),
        None => broken(status),
    }
}

fn failed(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => refused(*status),
        other => broken(other),
    }
}

fn broken(why: impl ToString) -> Error {
    Error::Io(io::Error::other(why.to_string()))
}
