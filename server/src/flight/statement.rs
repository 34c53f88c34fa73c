//! Statements: what they give is told first and fetched then.
//!
//! What it is: a query is described by `GetFlightInfo` and run by `DoGet`, which can be had again as
//! long as the ticket holds; one that was prepared, with the values that were bound, can be had once.
//! Every other statement is run by `GetFlightInfo`, once, since clients send whatever they are given
//! that way, and nobody should have to fetch the rows of an INSERT for it to happen; what it gives, if
//! it gives rows, is held until it is fetched.
//! What it guarantees: nothing is run before the session allows it; a call that is given up stops what
//! it runs, and its session is left in order.
//! What it does not: `COPY` has no place in this protocol.
//! On failure: the status of what the session says.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo};
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::outcome::{Outcome, Rows};
use kho_sql::parse::Statement;
use kho_sql::session::{Session, TransactionStatus};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::{Client, HELD_FOR, Running, Shared};
use super::error::{bug, canceled};
use super::options;
use super::service::Call;
use super::stream::{Messages, Source, messages, relaxed, shown};
use super::ticket::{self, Ticket, Use};
use super::together::Together;

/// Longer than anybody reads one result.
const TICKET_OF_HELD: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rows that were promised.
pub enum Held {
    /// Of a statement that was run.
    Rows(Box<(Rows, Running, Shared)>),
    /// Of a statement that was run, for several to take from.
    Shared(Box<Together>, Arc<Running>, Shared),
    /// Of a query that is to be run for each of these parameters.
    Bound(Box<Bound>),
    /// Of a statement that is being run.
    Coming,
}

impl Held {
    /// Whether it is still to come, or some of it is being fetched just now.
    pub fn is_used(&self) -> bool {
        match self {
            Held::Coming => true,
            Held::Shared(rows, ..) => rows.is_read(),
            Held::Rows(_) | Held::Bound(_) => false,
        }
    }
}

/// A prepared query and what it is to be run for.
pub struct Bound {
    pub statement: Statement,
    pub schema: SchemaRef,
    pub transaction: Option<Uuid>,
    /// It is run once for each of these rows.
    pub parameters: Arc<Vec<Vec<ScalarValue>>>,
}

/// Where a statement's rows will be held; given back where none come.
pub struct Places {
    client: Arc<Client>,
    ids: Vec<Uuid>,
}

impl Drop for Places {
    fn drop(&mut self) {
        let is_empty =
            |id: &Uuid, held: &Held| self.ids.contains(id) && matches!(held, Held::Coming);
        self.client.held.retain(|id, held, _| !is_empty(id, held));
    }
}

/// What a statement will give.
enum Told {
    Query(SchemaRef, String),
    Ran(Box<Outcome>),
}

impl Call {
    /// Does `work` with a session, under an id by which it can be cancelled. It goes on by itself: when
    /// the call is given up, the work is told to stop, and ends in order.
    ///
    /// # Errors
    /// What the work says, `XX000` where it panics.
    pub async fn with_session<T: Send + 'static>(
        &self,
        id: Uuid,
        transaction: Option<Uuid>,
        work: impl for<'a> FnOnce(&'a mut Session, &'a CancellationToken) -> BoxFuture<'a, Result<T>>
        + Send
        + 'static,
    ) -> Result<(T, Running)> {
        let session = self.client.session(transaction)?;
        self.with(session, id, transaction.is_some(), work).await
    }

    /// The same with this session, which is a transaction's or is not.
    ///
    /// # Errors
    /// What the work says, `XX000` where it panics.
    pub async fn with<T: Send + 'static>(
        &self,
        turn: Shared,
        id: Uuid,
        is_transaction: bool,
        work: impl for<'a> FnOnce(&'a mut Session, &'a CancellationToken) -> BoxFuture<'a, Result<T>>
        + Send
        + 'static,
    ) -> Result<(T, Running)> {
        let running = self.client.runs(id);
        let given_up = running.stop.clone().drop_guard();
        let (settings, busy) = (self.settings.clone(), self.client.busy(None));
        let done = self.shared.tasks.spawn(async move {
            let stop = running.stop.clone();
            let waited = stop.run_until_cancelled(turn.take()).await;
            let mut session = waited.ok_or_else(canceled)?;
            let before = session.status();
            if is_transaction && session.status() == TransactionStatus::Idle {
                return Err(Error::new(Kind::NoActiveTransaction, "the transaction is over"));
            }
            options::apply(&mut session, &settings, &stop).await?;
            let done = work(&mut session, &stop).await;
            turn.has_begun(before, &session);
            drop(busy);
            Ok((done?, running))
        });
        let done = done.await;
        given_up.disarm();
        done.unwrap_or_else(|panic| {
            tracing::error!(%panic, "a call ended by a bug");
            // What the session was in the middle of is not known.
            self.shared.clients.end(self.client.id);
            Err(bug())
        })
    }

    /// An error that no statement has met: it is in the ledger before it is told, and fails the
    /// transaction that it was met in.
    pub async fn refuse(&self, transaction: Option<Uuid>, error: Error) -> Error {
        let refused = self.with_session(Uuid::new_v4(), transaction, |session, _| {
            Box::pin(async move {
                session.fail();
                Ok(session.refuse(None, error).await)
            })
        });
        refused.await.map_or_else(|error| error, |(error, _)| error)
    }

    /// Refuses the name of a load where there is none: it would not be obeyed.
    ///
    /// # Errors
    /// `22023`.
    pub fn refuse_load(&self) -> Result<()> {
        match self.load {
            None => Ok(()),
            Some(_) => Err(Error::new(
                Kind::InvalidParameterValue,
                "kho-load-stream and kho-load-sequence are for loads",
            )
            .with_hint("For a statement, SET kho.load_stream and kho.load_sequence.")),
        }
    }

    /// `GetFlightInfo` of a statement.
    ///
    /// # Errors
    /// What the session says; `0A000` for a `COPY`, `54000` where too little was fetched.
    pub async fn info_of_statement(
        &self,
        text: String,
        transaction: Option<Uuid>,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let id = Uuid::new_v4();
        let is_query = kho_sql::parse::is_query(&text);
        if !is_query {
            self.refuse_load()?;
        }
        let places =
            if is_query && self.form.endpoints == 1 { None } else { Some(self.places(id)?) };
        let (sent, endpoints) = (text.clone(), self.form.endpoints);
        let client = Arc::clone(&self.client);
        let told = self.with_session(id, transaction, move |session, stop| {
            Box::pin(async move {
                let statement = match is_query {
                    true => query(session, &client, sent).await?,
                    false => one(session, &sent).await?,
                };
                let shares = endpoints > 1 && !statement.is_ordered();
                if is_query && !shares {
                    let described = session.describe(&statement, &[], stop).await?;
                    let schema = relaxed(&described.columns.unwrap_or_else(none));
                    return Ok(Told::Query(schema, search_path(session)?));
                }
                session.run(&statement, &[], stop).await.map(|it| Told::Ran(Box::new(it)))
            })
        });
        match told.await? {
            (Told::Query(schema, search_path), _) => {
                let query = ticket::Query { text, search_path };
                let ticket = self.ticket(id, transaction, ticket::Rows::Query(query), &schema)?;
                info(&shown(&schema, self.form), [ticket], descriptor)
            }
            (Told::Ran(outcome), running) => {
                let session = self.client.session(transaction)?;
                let places = places.ok_or_else(bug)?;
                self.info_of_outcome(*outcome, (running, session), &places, descriptor)
            }
        }
    }

    /// `GetSchema` of a statement, which is not run for it.
    ///
    /// # Errors
    /// `0A000` for what would have to be run; what the session says.
    pub async fn schema_of_statement(
        &self,
        text: String,
        transaction: Option<Uuid>,
    ) -> Result<SchemaRef> {
        let described = self.with_session(Uuid::new_v4(), transaction, move |session, stop| {
            Box::pin(async move {
                let statement = one(session, &text).await?;
                if !statement.is_query() {
                    return Err(session.refuse(Some(&statement), no_schema()).await);
                }
                let described = session.describe(&statement, &[], stop).await?;
                Ok(relaxed(&described.columns.unwrap_or_else(none)))
            })
        });
        described.await.map(|(schema, _)| schema)
    }

    /// Places for what a statement will give, the first of them under its own id: where there are none
    /// it is not run.
    ///
    /// # Errors
    /// `54000` where the client has not fetched enough of what there is.
    pub fn places(&self, id: Uuid) -> Result<Places> {
        let more = (1..self.form.endpoints).map(|_| Uuid::new_v4());
        let ids = std::iter::once(id).chain(more).collect();
        let places = Places { client: Arc::clone(&self.client), ids };
        for id in &places.ids {
            self.client.held.put(*id, 0, Held::Coming)?;
        }
        Ok(places)
    }

    /// What was run already, to be fetched, in the places that it was given.
    ///
    /// # Errors
    /// `XX000` for a schema that cannot be told.
    pub fn info_of_outcome(
        &self,
        outcome: Outcome,
        (mut running, session): (Running, Shared),
        places: &Places,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let Outcome::Rows(rows) = outcome else {
            let id = places.ids.first().copied().ok_or_else(bug)?;
            let ticket = self.ticket(id, None, ticket::Rows::Nothing(true), &none())?;
            return info(&none(), [ticket], descriptor);
        };
        let schema = relaxed(&rows.schema);
        if let [id] = places.ids.as_slice() {
            self.client.held.put(*id, 0, Held::Rows(Box::new((rows, running, session))))?;
        } else {
            running = places.ids.iter().fold(running, |running, id| running.also_as(*id));
            let (rows, running) = (Together::new(rows), Arc::new(running));
            for id in &places.ids {
                let (rows, running) = (rows.clone(), Arc::clone(&running));
                let shared = Held::Shared(Box::new(rows), running, Arc::clone(&session));
                self.client.held.put(*id, 0, shared)?;
            }
        }
        let held = |id: &Uuid| self.ticket(*id, None, ticket::Rows::Held(true), &schema);
        let tickets = places.ids.iter().map(held).collect::<Result<Vec<_>>>()?;
        info(&shown(&schema, self.form), tickets, descriptor)
    }

    /// `DoGet` of a query.
    ///
    /// # Errors
    /// What the session says.
    pub async fn get_query(
        &self,
        id: Uuid,
        transaction: Option<Uuid>,
        ticket::Query { text, search_path: told_by }: ticket::Query,
        told: Vec<u8>,
    ) -> Result<Messages> {
        let client = Arc::clone(&self.client);
        let (outcome, running) = self
            .with_session(id, transaction, move |session, stop| {
                Box::pin(async move {
                    let statement = query(session, &client, text).await?;
                    if search_path(session)? != told_by {
                        session.fail();
                        return Err(session.refuse(Some(&statement), told_otherwise()).await);
                    }
                    session.run(&statement, &[], stop).await
                })
            })
            .await?;
        match outcome {
            Outcome::Rows(rows) if fingerprint(&relaxed(&rows.schema)) == told => {
                let session = self.client.session(transaction)?;
                self.send(Source::from(rows).of_session(session), running)
            }
            Outcome::Rows(_) => Err(told_otherwise()),
            _ => Err(Error::internal("a query gave no rows")),
        }
    }

    /// `DoGet` of nothing.
    ///
    /// # Errors
    /// `XX000` where not even that can be told.
    pub fn get_nothing(&self) -> Result<Messages> {
        let stop = self.client.ended.child_token();
        messages(Source::of(none(), Vec::new()), self.form, stop, ())
    }

    /// `DoGet` of what is held.
    ///
    /// # Errors
    /// `42704` where it was fetched, or is held no longer.
    pub async fn get_held(&self, id: Uuid) -> Result<Messages> {
        let held = self.client.held.take(id).ok_or_else(|| {
            Error::new(Kind::UndefinedObject, "the rows of this ticket were fetched, or are gone")
                .with_hint("Send the statement again.")
        })?;
        match held {
            Held::Rows(rows) => {
                let (rows, running, session) = *rows;
                self.send(Source::from(rows).of_session(session), running)
            }
            Held::Shared(rows, running, session) => {
                let (schema, deadline) = (relaxed(&rows.schema), rows.deadline.clone());
                let batches = Box::pin(rows.batches());
                let source = Source { schema, deadline, batches, block: None }.of_session(session);
                // One that goes away does not end the others.
                let stop = running.stop.child_token();
                messages(source, self.form, stop, (running, self.client.busy(None)))
            }
            Held::Bound(bound) => self.get_bound(id, *bound).await,
            Held::Coming => Err(Error::internal("rows were fetched before they were told of")),
        }
    }

    /// The messages of rows whose statement runs until they end.
    pub fn send(&self, source: Source, running: Running) -> Result<Messages> {
        let stop = running.stop.clone();
        messages(source, self.form, stop, (running, self.client.busy(None)))
    }

    /// `DoPut` of a statement: how many rows it concerned.
    ///
    /// # Errors
    /// What the session says; `0A000` for a `COPY`.
    pub async fn update(&self, text: String, transaction: Option<Uuid>) -> Result<i64> {
        self.refuse_load()?;
        let counted = self.with_session(Uuid::new_v4(), transaction, move |session, stop| {
            Box::pin(async move {
                let statement = one(session, &text).await?;
                let outcome = session.run(&statement, &[], stop).await?;
                counted(session, outcome).await
            })
        });
        counted.await.map(|(count, _)| count)
    }

    /// A sealed ticket of this client's role.
    pub fn ticket(
        &self,
        id: Uuid,
        transaction: Option<Uuid>,
        rows: ticket::Rows,
        schema: &SchemaRef,
    ) -> Result<Vec<u8>> {
        // What is held goes when nobody fetches it; its ticket need not go before.
        let lifetime = match rows {
            ticket::Rows::Held(_) => TICKET_OF_HELD,
            _ => HELD_FOR,
        };
        let lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let ticket = Ticket {
            id: id.as_bytes().to_vec(),
            role: self.client.role,
            until_ms: chrono::Utc::now().timestamp_millis().saturating_add(lifetime_ms),
            transaction: transaction.map(|id| id.as_bytes().to_vec()),
            rows: Some(rows),
            schema: fingerprint(schema),
        };
        self.shared.sealer.seal(Use::Ticket, &ticket)
    }
}

/// What is told of rows with this schema, which these tickets give.
///
/// # Errors
/// `XX000` for a schema that cannot be told.
pub fn info(
    schema: &SchemaRef,
    tickets: impl IntoIterator<Item = Vec<u8>>,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo> {
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|error| Error::internal("a schema cannot be told").with_source(error))?;
    let tickets = tickets.into_iter().map(arrow_flight::Ticket::new);
    let endpoints = tickets.map(|ticket| FlightEndpoint::new().with_ticket(ticket));
    Ok(endpoints.fold(info.with_descriptor(descriptor), FlightInfo::with_endpoint))
}

/// What tells one schema from another.
fn fingerprint(schema: &SchemaRef) -> Vec<u8> {
    let mut digest = Sha256::new();
    for field in schema.fields() {
        digest.update(format!("{:?}\n", (field.name(), field.data_type(), field.is_nullable())));
    }
    digest.finalize().to_vec()
}

/// The one statement of a client's text; what is not run is in the ledger before that is answered.
///
/// # Errors
/// `42601` for several, or none, `0A000` for a `COPY`.
pub async fn one(session: &mut Session, text: &str) -> Result<Statement> {
    let statement = parsed(session, text).await?;
    if !statement.is_copy() {
        return Ok(statement);
    }
    session.fail();
    Err(session.refuse(Some(&statement), no_copy()).await)
}

/// What decides which tables a query's names are.
fn search_path(session: &Session) -> Result<String> {
    session.setting("search_path").map(str::to_owned)
}

fn told_otherwise() -> Error {
    Error::unsupported("what was told of the rows is no longer so")
        .with_hint("Ask for them again, with GetFlightInfo.")
}

/// [`one`] of a query, which its client may have sent before.
async fn query(session: &mut Session, client: &Client, text: String) -> Result<Statement> {
    if let Some(statement) = client.recent.get(&text) {
        return Ok(statement);
    }
    let statement = one(session, &text).await?;
    client.recent.put(text, statement.clone());
    Ok(statement)
}

/// The one statement of a text; what does not parse is in the ledger before that is answered.
///
/// # Errors
/// `42601` for several, or none.
pub async fn parsed(session: &mut Session, text: &str) -> Result<Statement> {
    let parsed = session.parse(text).and_then(|statements| {
        let mut statements = statements.into_iter();
        match (statements.next(), statements.next()) {
            (Some(statement), None) => Ok(statement),
            (Some(_), Some(_)) => Err(Error::new(
                Kind::Syntax,
                "cannot insert multiple commands into a prepared statement",
            )),
            (None, _) => Err(Error::new(Kind::Syntax, "there is no statement in the text")),
        }
    });
    match parsed {
        Ok(statement) => Ok(statement),
        Err(error) => {
            session.fail();
            Err(session.refuse(None, error).await)
        }
    }
}

/// How many rows an outcome concerned, once all of it is done.
///
/// # Errors
/// What the rows end with; `0A000` for a `COPY`.
pub async fn counted(session: &mut Session, outcome: Outcome) -> Result<i64> {
    match outcome {
        Outcome::Done(tag) => Ok(tag.rows.map_or(0, |rows| i64::try_from(rows).unwrap_or(-1))),
        Outcome::Empty => Ok(0),
        Outcome::Rows(rows) => {
            let drained = drain(rows).await;
            if drained.is_err() {
                session.fail();
            }
            drained
        }
        Outcome::CopyIn(_) | Outcome::CopyOut(..) => {
            session.fail();
            Err(no_copy())
        }
    }
}

/// Takes all rows, and counts them.
///
/// # Errors
/// What they end with.
pub async fn drain(mut rows: Rows) -> Result<i64> {
    let mut count = 0_i64;
    while let Some(batch) = rows.next().await {
        count = count.saturating_add(i64::try_from(batch?.num_rows()).unwrap_or(i64::MAX));
    }
    Ok(count)
}

/// The schema of no columns.
pub fn none() -> SchemaRef {
    Arc::new(Schema::empty())
}

pub fn no_schema() -> Error {
    Error::unsupported("only a query has a schema before it is run")
}

pub fn no_copy() -> Error {
    Error::unsupported("COPY between client and server is not supported over Flight SQL")
        .with_hint("Load with CommandStatementIngest or DoPut; read with a query.")
}
