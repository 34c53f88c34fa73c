//! The calls of the protocol, and which room answers each.
//!
//! What it guarantees: a call gets to its room as a [`Call`], made of what the [`gate`](super::gate) has
//! found out about it; a ticket is opened here, and only for the role it is of.
//! What it does not: it answers nothing itself.
//! On failure: a status with the SQLSTATE; what is not served is `0A000`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionEndSavepointRequest, ActionEndTransactionRequest, Any, Command, ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, Criteria, Empty, FlightData, FlightDescriptor,
    FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult,
    Ticket as FlightTicket,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use kho_catalog::error::{Error, Kind, Result};
use prost::Message;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Extensions, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::authenticate::{self, AUTHORIZATION};
use super::client::{Busy, Client};
use super::error::{bug, status};
use super::gate::Known;
use super::ingest::LoadName;
use super::listener::Peer;
use super::options::{self, CloseSessionResult, Form, SetSessionOptionsRequest};
use super::put::{Put, no_substrait};
use super::statement::info;
use super::stream::{Messages, shown};
use super::ticket::{self, Rows, Ticket, Use};
use super::transaction::End;
use super::{Shared, about, plain};

/// The protocol's service.
pub struct Service {
    shared: Arc<Shared>,
}

/// A call whose client is known.
#[derive(Clone)]
pub struct Call {
    pub shared: Arc<Shared>,
    pub client: Arc<Client>,
    /// How it wants its rows.
    pub form: Form,
    /// What it says of its session.
    pub settings: Vec<(String, String)>,
    /// The load that it says its rows are.
    pub load: Option<LoadName>,
    /// A bearer token that its client is to use from now on.
    renewed: Option<String>,
    _busy: Arc<Busy>,
}

/// The actions there are, and what each does.
const ACTIONS: &[(&str, &str)] = &[
    ("CreatePreparedStatement", "Prepares a statement."),
    ("ClosePreparedStatement", "Forgets a prepared statement."),
    ("BeginTransaction", "Begins a transaction."),
    ("EndTransaction", "Commits a transaction, or rolls it back."),
    ("BeginSavepoint", "Sets a savepoint."),
    ("EndSavepoint", "Releases a savepoint, or goes back to it."),
    ("CancelFlightInfo", "Stops a statement."),
    ("CancelQuery", "Stops a statement."),
    ("SetSessionOptions", "Sets options of the session."),
    ("GetSessionOptions", "Tells the options of the session."),
    ("CloseSession", "Ends the session."),
];

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub fn new(shared: Arc<Shared>) -> Service {
        Service { shared }
    }

    /// Who calls, and what they want of the answer.
    fn call(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Call> {
        let peer = peer(extensions)?;
        let Known { client, renewed } = extensions.get().cloned().ok_or_else(bug)?;
        let busy = Arc::new(client.busy(Some(peer)));
        metrics::counter!("kho_flight_calls_total").increment(1);
        Ok(Call {
            shared: Arc::clone(&self.shared),
            form: options::form(metadata)?,
            settings: options::said(metadata)?,
            load: options::load(metadata)?,
            client,
            renewed,
            _busy: busy,
        })
    }

    /// Answers a call with what `work` gives.
    async fn answer<M, T, F>(
        &self,
        request: Request<M>,
        work: impl FnOnce(Call, M) -> F,
    ) -> Result<Response<T>, Status>
    where
        F: Future<Output = Result<T>>,
    {
        let (metadata, extensions, message) = request.into_parts();
        let answered = async {
            let call = self.call(&metadata, &extensions)?;
            let renewed = call.renewed.clone();
            Ok((work(call, message).await?, renewed))
        };
        let (answer, renewed) = answered.await.map_err(|error: Error| status(&error))?;
        let mut response = Response::new(answer);
        if let Some(renewed) = renewed {
            tell(&mut response, &renewed)?;
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Messages;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Messages;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let peer = peer(request.extensions()).map_err(|error| status(&error))?;
        let bearer = authenticate::handshake(&self.shared, request.metadata(), peer).await;
        let bearer = bearer.map_err(|error| status(&error))?;
        peer.is_known.store(true, Ordering::Relaxed);
        let payload = Bytes::from(bearer.clone());
        let answer = HandshakeResponse { protocol_version: 0, payload };
        let answers: Self::HandshakeStream = one(answer);
        let mut response = Response::new(answers);
        tell(&mut response, &bearer)?;
        Ok(response)
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.answer(request, |call, criteria| async move {
            if !criteria.expression.is_empty() {
                return Err(Error::unsupported("what is listed cannot be narrowed down"));
            }
            let listed = call.list().await?.into_iter().map(Ok);
            Ok(Box::pin(futures::stream::iter(listed)) as Self::ListFlightsStream)
        })
        .await
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.answer(request, |call, descriptor| async move { call.info(descriptor).await }).await
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        // What can be fetched can be fetched at once: there is nothing to come back for.
        self.answer(request, |call, descriptor| async move {
            let info = call.info(descriptor).await?;
            let (flight_descriptor, expiration_time) = (None, None);
            Ok(PollInfo {
                info: Some(info),
                flight_descriptor,
                progress: Some(1.0),
                expiration_time,
            })
        })
        .await
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        self.answer(request, |call, descriptor| async move {
            Ok(SchemaResult { schema: call.schema(descriptor).await? })
        })
        .await
    }

    async fn do_get(
        &self,
        request: Request<FlightTicket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        self.answer(request, |call, ticket| async move { call.get(&ticket.ticket).await }).await
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let put = self.answer(request, |call, stream| async move { call.put(stream).await });
        let (mut metadata, Put { result, told }, extensions) = put.await?.into_parts();
        for (name, value) in told {
            let value = AsciiMetadataValue::try_from(value).map_err(|_| status(&bug()))?;
            metadata.insert(name, value);
        }
        Ok(Response::from_parts(metadata, one(result), extensions))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.answer(request, |_, _| async { Err(Error::unsupported("DoExchange is not served")) })
            .await
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        self.answer(request, |call, action| async move {
            let results = match call.act(action).await? {
                Some(body) => one(arrow_flight::Result { body }),
                None => Box::pin(futures::stream::empty()) as Self::DoActionStream,
            };
            Ok(results)
        })
        .await
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        self.answer(request, |_, _| async {
            let all = ACTIONS.iter().map(|(name, what)| {
                Ok(ActionType { r#type: (*name).to_owned(), description: (*what).to_owned() })
            });
            Ok(Box::pin(futures::stream::iter(all)) as Self::ListActionsStream)
        })
        .await
    }
}

impl Call {
    /// `GetFlightInfo`.
    async fn info(&self, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        if let Some(table) = plain::named(&descriptor)? {
            return self.info_of_statement(plain::query(&table), None, descriptor).await;
        }
        match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(query) => {
                let transaction = transaction(query.transaction_id.as_deref())?;
                self.info_of_statement(query.query, transaction, descriptor).await
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.info_of_prepared(&query.prepared_statement_handle, descriptor).await
            }
            Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
            other => {
                let schema = about::schema(&other)?;
                let rows = Rows::Command(descriptor.cmd.to_vec());
                let ticket = self.ticket(Uuid::new_v4(), None, rows, &schema)?;
                info(&shown(&schema, self.form), [ticket], descriptor)
            }
        }
    }

    /// `DoGet`.
    async fn get(&self, sealed: &[u8]) -> Result<Messages> {
        let ticket = self.open(sealed).await?;
        let id = ticket::id(&ticket.id).ok_or_else(bug)?;
        match ticket.rows.ok_or_else(bug)? {
            Rows::Query(query) => {
                let transaction = transaction(ticket.transaction.as_deref())?;
                self.get_query(id, transaction, query, ticket.schema).await
            }
            Rows::Held(_) => self.get_held(id).await,
            Rows::Nothing(_) => self.get_nothing(),
            Rows::Command(said) => self.get_answer(command(&said)?).await,
        }
    }

    /// What a ticket says, which must be of this call's role.
    ///
    /// # Errors
    /// `42704` for one of this role whose time is over; `42501` for any other: a try to reach somebody
    /// else's rows, in the ledger before it is answered.
    pub async fn open(&self, sealed: &[u8]) -> Result<Ticket> {
        let ticket: Option<Ticket> = self.shared.sealer.open(Use::Ticket, sealed);
        let hint = "Ask for the rows again, with GetFlightInfo.";
        if let Some(ticket) = ticket.filter(|it| it.role == self.client.role) {
            return match chrono::Utc::now().timestamp_millis() < ticket.until_ms {
                true => Ok(ticket),
                false => Err(Error::new(Kind::UndefinedObject, "the time of the ticket is over")
                    .with_hint(hint)),
            };
        }
        let error = Error::new(Kind::InsufficientPrivilege, "the ticket is not one of this role");
        Err(self.refuse(None, error.with_hint(hint)).await)
    }

    /// `GetSchema`: what an INSERT would give is not found out by inserting.
    async fn schema(&self, descriptor: FlightDescriptor) -> Result<Bytes> {
        let schema = match plain::named(&descriptor)? {
            Some(table) => self.schema_of_statement(plain::query(&table), None).await?,
            None => self.schema_of(command(&descriptor.cmd)?).await?,
        };
        Ok(info(&shown(&schema, self.form), [], descriptor)?.schema)
    }

    async fn schema_of(&self, command: Command) -> Result<SchemaRef> {
        match command {
            Command::CommandStatementQuery(query) => {
                let transaction = transaction(query.transaction_id.as_deref())?;
                self.schema_of_statement(query.query, transaction).await
            }
            Command::CommandPreparedStatementQuery(query) => {
                self.schema_of_prepared(&query.prepared_statement_handle).await
            }
            Command::CommandStatementSubstraitPlan(_) => Err(no_substrait()),
            other => about::schema(&other),
        }
    }

    /// `DoAction`.
    async fn act(&self, action: Action) -> Result<Option<Bytes>> {
        let body = action.body;
        match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let asked: ActionCreatePreparedStatementRequest = unpacked(&body)?;
                let transaction = transaction(asked.transaction_id.as_deref())?;
                packed(&self.prepare(asked.query, transaction).await?)
            }
            "ClosePreparedStatement" => {
                let asked: ActionClosePreparedStatementRequest = unpacked(&body)?;
                self.close_prepared(&asked.prepared_statement_handle);
                Ok(None)
            }
            "CreatePreparedSubstraitPlan" => Err(no_substrait()),
            "BeginTransaction" => {
                let _: ActionBeginTransactionRequest = unpacked(&body)?;
                let transaction_id = Bytes::copy_from_slice(self.begin().await?.as_bytes());
                packed(&ActionBeginTransactionResult { transaction_id })
            }
            "EndTransaction" => {
                let asked: ActionEndTransactionRequest = unpacked(&body)?;
                let id = named(&asked.transaction_id)?;
                self.end_transaction(id, End::of(asked.action)?).await?;
                Ok(None)
            }
            "BeginSavepoint" => {
                let asked: ActionBeginSavepointRequest = unpacked(&body)?;
                let transaction = named(&asked.transaction_id)?;
                let id = self.begin_savepoint(transaction).await?;
                packed(&ActionBeginSavepointResult { savepoint_id: id.into() })
            }
            "EndSavepoint" => {
                let asked: ActionEndSavepointRequest = unpacked(&body)?;
                self.end_savepoint(&asked.savepoint_id, End::of(asked.action)?).await?;
                Ok(None)
            }
            "CancelFlightInfo" => {
                let asked = CancelFlightInfoRequest::decode(body).map_err(malformed)?;
                let result = self.cancel(&asked.info.unwrap_or_default()).await?;
                Ok(Some(result.encode_to_vec().into()))
            }
            "CancelQuery" => {
                let asked: ActionCancelQueryRequest = unpacked(&body)?;
                let info = FlightInfo::decode(asked.info).map_err(malformed)?;
                let result = self.cancel(&info).await?.status;
                packed(&ActionCancelQueryResult { result })
            }
            "SetSessionOptions" => {
                let asked = SetSessionOptionsRequest::decode(body).map_err(malformed)?;
                let set = self.with_session(Uuid::new_v4(), None, move |session, stop| {
                    Box::pin(async move { Ok(options::set_all(session, asked, stop).await) })
                });
                Ok(Some(set.await?.0.encode_to_vec().into()))
            }
            "GetSessionOptions" => {
                let all = self.with_session(Uuid::new_v4(), None, |session, stop| {
                    Box::pin(options::all(session, stop))
                });
                Ok(Some(all.await?.0.encode_to_vec().into()))
            }
            "CloseSession" => {
                self.shared.clients.end(self.client.id);
                Ok(Some(CloseSessionResult { status: 1 }.encode_to_vec().into()))
            }
            other => Err(Error::unsupported(format!("there is no action \"{other}\""))),
        }
    }
}

/// The command of Flight SQL that some bytes are.
///
/// # Errors
/// `08P01` for bytes that are none, `0A000` for one that is not known.
pub fn command(bytes: &[u8]) -> Result<Command> {
    let any = Any::decode(bytes).map_err(malformed)?;
    match Command::try_from(any) {
        Ok(Command::Unknown(any)) => {
            Err(Error::unsupported(format!("there is no command \"{}\"", any.type_url)))
        }
        Ok(command) => Ok(command),
        Err(error) => Err(malformed(error)),
    }
}

/// The transaction that a command names, if it names one.
///
/// # Errors
/// `25P01` for what is no id.
pub fn transaction(id: Option<&[u8]>) -> Result<Option<Uuid>> {
    id.filter(|id| !id.is_empty()).map(named).transpose()
}

fn named(id: &[u8]) -> Result<Uuid> {
    ticket::id(id).ok_or_else(|| {
        Error::new(Kind::NoActiveTransaction, "there is no such transaction of this client")
    })
}

fn unpacked<M: ProstMessageExt + Message + Default>(body: &[u8]) -> Result<M> {
    let any = Any::decode(body).map_err(malformed)?;
    let message = any.unpack::<M>().map_err(malformed)?;
    message.ok_or_else(|| malformed(format!("{} is another action's", any.type_url)))
}

fn packed(message: &impl ProstMessageExt) -> Result<Option<Bytes>> {
    Ok(Some(message.as_any().encode_to_vec().into()))
}

fn malformed(why: impl ToString) -> Error {
    Error::new(Kind::ProtocolViolation, "the call holds a message that is none")
        .with_detail(why.to_string())
}

fn peer(extensions: &Extensions) -> Result<&Peer> {
    extensions.get::<Peer>().ok_or_else(bug)
}

fn one<T: Send + 'static>(answer: T) -> Answers<T> {
    futures::stream::once(std::future::ready(Ok(answer))).boxed()
}

fn tell<T>(response: &mut Response<T>, bearer: &str) -> Result<(), Status> {
    let bearer = AsciiMetadataValue::try_from(bearer);
    let bearer = bearer.map_err(|_| status(&bug()))?;
    response.metadata_mut().insert(AUTHORIZATION, bearer);
    Ok(())
}
