//! One connection, from its first byte to its last: who may do what when.
//!
//! What it guarantees: no statement before the login; one statement at a time; after an error in
//! the extended protocol nothing up to the next `Sync` is done; errors leave the connection usable
//! unless the stream of messages is lost; portals die with their transaction.
//! What it does not: it runs nothing itself; simple, extended and copy_in do.
//! On failure: an `ErrorResponse`; `FATAL` where the connection ends.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kho_catalog::error::{Error, Kind};
use kho_sql::outcome::{Outcome, Tag};
use kho_sql::parse::Statement;
use kho_sql::session::{Login, Session, TransactionStatus};
use pgwire::messages::copy::{CopyDone, CopyOutResponse};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};
use pgwire::messages::startup::{BackendKeyData, ParameterStatus, SecretKey};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::pgwire::backend::{Severity, error_response, notice_response, ready_for_query};
use crate::pgwire::cancel::Registration;
use crate::pgwire::extended::{Portal, Prepared};
use crate::pgwire::frontend::{Frame, Message, decode};
use crate::pgwire::greeting::{LOGIN_MESSAGE_BYTES, greet};
use crate::pgwire::wire::{Reader, Stop, Wire, Writer};
use crate::pgwire::{Limits, Shared, copy_in, rows};

/// A text that may take longer to parse than other connections should wait.
const LONG_TEXT_BYTES: usize = 16 * 1024;

/// How the server tells its connections to end.
#[derive(Clone)]
pub struct Ending {
    /// Who is at rest ends now.
    pub requested: CancellationToken,
    /// Who still runs a statement is cancelled now.
    pub deadline: CancellationToken,
}

/// A client that is logged in.
pub struct Connection {
    pub(super) wire: Wire,
    pub(super) session: Session,
    pub(super) limits: Limits,
    pub(super) statements: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    /// An implicit transaction of several statements is open.
    pub(super) implicit: bool,
    registration: Registration,
    ending: Ending,
    /// After an error in the extended protocol, until `Sync`.
    skipping: bool,
    /// The client was told that the server waits for it.
    at_rest: bool,
}

/// Serves one connection until it ends; `startup` is given back once the client is known.
pub(super) async fn serve(
    reader: Reader,
    writer: Writer,
    peer: SocketAddr,
    shared: &Shared,
    ending: Ending,
    startup: OwnedSemaphorePermit,
) {
    let mut wire = Wire::new(reader, writer, LOGIN_MESSAGE_BYTES);
    let opened = tokio::select! {
        opened = open(&mut wire, peer, shared) => opened,
        () = ending.requested.cancelled() => Err(Stop::Fatal(stopping())),
    };
    let (session, registration, permit) = match opened {
        Ok(opened) => opened,
        Err(stop) => return refuse(wire, stop).await,
    };
    drop(startup);
    let _counted = Counted::new();
    wire.set_limit(shared.limits.message_bytes);
    let mut connection = Connection {
        wire,
        session,
        limits: shared.limits.clone(),
        statements: HashMap::new(),
        portals: HashMap::new(),
        implicit: false,
        registration,
        ending,
        skipping: false,
        at_rest: false,
    };
    let stop = match connection.converse().await {
        Err(stop) => stop,
        Ok(never) => match never {},
    };
    // The session ends, and with it what it holds, before the client is told.
    let Connection { wire, session, portals, .. } = connection;
    drop((portals, session, permit));
    refuse(wire, stop).await;
}

/// Everything up to an open session.
async fn open(
    wire: &mut Wire,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<(Session, Registration, OwnedSemaphorePermit), Stop> {
    let limit = Duration::from_millis(shared.limits.startup_timeout_ms);
    let (startup, credential) = match tokio::time::timeout(limit, greet(wire, shared, peer)).await {
        Ok(known) => known?,
        Err(_) => {
            tracing::debug!("a client did not log in in time");
            return Err(Stop::Gone);
        }
    };
    let permit = shared.entrance.place(&startup.user).await.map_err(Stop::Fatal)?;
    let (minor, _) = startup.negotiate();
    let registration = shared.registry.register(minor);
    let login = Login {
        role: startup.user,
        protocol: "pgwire",
        client: Some(peer),
        settings: startup.settings,
        process_id: registration.process_id(),
        credential,
    };
    let session = shared.entrance.engine.connect(login).await.map_err(Stop::Fatal)?;
    let secret = SecretKey::Bytes(registration.secret().to_vec().into());
    wire.put(&BackendKeyData::new(registration.process_id(), secret))?;
    Ok((session, registration, permit))
}

/// Tells a client why its connection ends, if there is something to tell, and closes.
async fn refuse(mut wire: Wire, stop: Stop) {
    match stop {
        Stop::Failed(error) | Stop::Fatal(error) => {
            tracing::info!(?error, "a connection is closed");
            if wire.put(&error_response(Severity::Fatal, &error)).is_ok() {
                wire.close().await;
            }
        }
        Stop::Gone => {}
    }
}

impl Connection {
    /// Answers messages until there is a reason to end.
    async fn converse(&mut self) -> Result<Infallible, Stop> {
        self.ready()?;
        loop {
            let frame = self.next().await?;
            self.at_rest = false;
            self.handle(frame).await?;
        }
    }

    /// The next message. At rest, a stop of the server comes first, and a client can be silent for
    /// too long; in the middle of something, the client may end it until the deadline. Whose role is
    /// frozen, or whose credential has ended, is sent away, and what the session holds is free.
    async fn next(&mut self) -> Result<Frame, Stop> {
        let idle = self.session.idle_limit_ms().filter(|_| self.at_rest);
        tokio::select! {
            biased;
            () = self.ending.requested.cancelled(), if self.at_rest => {
                Err(Stop::Fatal(stopping()))
            }
            () = self.ending.deadline.cancelled() => Err(Stop::Fatal(stopping())),
            error = self.session.ended() => Err(Stop::Fatal(error)),
            frame = self.wire.next() => frame,
            error = silence(idle) => Err(Stop::Fatal(error)),
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Stop> {
        let tag = frame.tag;
        if self.skipping && !matches!(tag, b'S' | b'X') {
            return Ok(());
        }
        let done = match decode(frame) {
            Ok(message) => self.dispatch(message).await,
            Err(error) => Err(Stop::Failed(error)),
        };
        self.registration.rests();
        match (done, tag) {
            (Err(Stop::Failed(error)), b'Q' | b'F') => {
                self.fail(error)?;
                self.end_implicit_after_failure().await?;
                self.ready()
            }
            (Err(Stop::Failed(error)), b'S') => {
                self.fail(error)?;
                self.ready()
            }
            (Err(Stop::Failed(error)), _) => {
                self.skipping = true;
                self.fail(error)
            }
            (done, _) => done,
        }
    }

    async fn dispatch(&mut self, message: Message) -> Result<(), Stop> {
        match message {
            Message::Query(query) => {
                self.query(&query.query).await?;
                self.ready()
            }
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => self.bind(bind).await,
            Message::Describe(target) => self.describe(&target),
            Message::Execute(execute) => self.execute(execute).await,
            Message::Close(target) => self.close(&target),
            Message::Flush(_) => Ok(self.wire.flush().await?),
            Message::Sync(_) => self.sync().await,
            Message::FunctionCall => {
                Err(Error::unsupported("the function call protocol is not supported")
                    .with_hint("Call the function with SELECT.")
                    .into())
            }
            // What a client still sends of a COPY that has failed.
            Message::CopyData(_) | Message::CopyDone(_) | Message::CopyFail(_) => Ok(()),
            Message::Password => Err(Stop::Fatal(Error::new(
                Kind::ProtocolViolation,
                "invalid frontend message type 112",
            ))),
            Message::Terminate(_) => Err(Stop::Gone),
        }
    }

    /// Ends a sequence of the extended protocol, and the implicit transaction around it.
    async fn sync(&mut self) -> Result<(), Stop> {
        let failed = std::mem::take(&mut self.skipping);
        if failed {
            self.end_implicit_after_failure().await?;
        } else {
            self.end_implicit().await?;
        }
        self.ready()
    }

    /// Commits the implicit transaction if there is one.
    pub(super) async fn end_implicit(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.implicit) {
            let stop = self.starts();
            self.wire.attend(&stop, self.session.end_implicit(false)).await??;
        }
        Ok(())
    }

    /// Rolls the implicit transaction back if there is one. The client has its error already.
    async fn end_implicit_after_failure(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.implicit) {
            let stop = self.starts();
            let ended = self.wire.attend(&stop, self.session.end_implicit(true)).await?;
            if let Err(error) = ended {
                tracing::error!(?error, "a failed transaction could not be rolled back");
            }
        }
        Ok(())
    }

    /// Says that the server waits, in which state, and with which settings.
    fn ready(&mut self) -> Result<(), Stop> {
        self.registration.rests();
        let status = self.session.status();
        if status != TransactionStatus::InTransaction {
            self.portals.clear();
        }
        self.notices()?;
        for (name, value) in self.session.take_reported_settings() {
            self.wire.put(&ParameterStatus::new(name, value))?;
        }
        self.at_rest = true;
        self.wire.put(&ready_for_query(status))
    }

    /// Tells the client of an error, and the session, whose transaction is failed by it.
    fn fail(&mut self, error: Error) -> Result<(), Stop> {
        self.session.fail();
        if self.ending.deadline.is_cancelled() {
            return Err(Stop::Fatal(stopping()));
        }
        metrics::counter!("kho_pgwire_errors_total", "sqlstate" => error.sqlstate()).increment(1);
        match error.kind() {
            Kind::Internal | Kind::Io | Kind::DataCorrupted | Kind::DiskFull => {
                tracing::error!(?error, "a statement failed");
            }
            _ => tracing::debug!(?error, "a statement failed"),
        }
        self.notices()?;
        self.wire.put(&error_response(Severity::Error, &error))
    }

    fn notices(&mut self) -> Result<(), Stop> {
        for notice in self.session.take_notices() {
            self.wire.put(&notice_response(&notice))?;
        }
        Ok(())
    }

    /// The statements of `text`. Parsing does not wait for anything, so a long text is parsed apart
    /// from the other connections, which would wait for it.
    /// One that does not parse is in the ledger before that is answered.
    pub(super) async fn parsed(
        &mut self,
        text: &str,
    ) -> kho_catalog::error::Result<Vec<Statement>> {
        match self.parse_apart(text) {
            Ok(statements) => Ok(statements),
            Err(error) => Err(self.session.refuse(None, error).await),
        }
    }

    fn parse_apart(&self, text: &str) -> kho_catalog::error::Result<Vec<Statement>> {
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if text.len() > LONG_TEXT_BYTES && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            return tokio::task::block_in_place(|| self.session.parse(text));
        }
        self.session.parse(text)
    }

    /// A token that stops the statement that starts now: by a cancel request, by the end of the
    /// server, or because the client is gone.
    pub(super) fn starts(&self) -> CancellationToken {
        let stop = self.ending.deadline.child_token();
        self.registration.runs(&stop);
        stop
    }

    /// Goes on with a statement that was started before.
    pub(super) fn resumes(&self, stop: &CancellationToken) {
        self.registration.runs(stop);
    }

    /// Carries out an outcome that is not rows; gives its tag, or `None` for an empty statement.
    pub(super) async fn settle(
        &mut self,
        outcome: Outcome,
        stop: &CancellationToken,
    ) -> Result<Option<Tag>, Stop> {
        match outcome {
            Outcome::Rows(_) => Err(Error::internal("rows have no place to go").into()),
            Outcome::Done(tag) => {
                // The wire's own statements and portals are the session's, too.
                if matches!(tag.command.as_str(), "DISCARD ALL" | "DEALLOCATE ALL") {
                    self.statements.clear();
                }
                if matches!(tag.command.as_str(), "DISCARD ALL" | "CLOSE CURSOR ALL") {
                    self.portals.clear();
                }
                Ok(Some(tag))
            }
            Outcome::CopyIn(copy) => copy_in::receive(self, *copy, stop).await.map(Some),
            Outcome::CopyOut(rows, options) => {
                let format = self.session.value_format();
                let (overall, formats) = copy_in::formats(&options, rows.schema.fields().len())?;
                let columns = i16::try_from(formats.len()).unwrap_or(i16::MAX);
                self.wire.put(&CopyOutResponse::new(overall, columns, formats))?;
                let sent = rows::send_copy(&mut self.wire, rows, &options, &format, stop).await?;
                self.wire.put(&CopyDone::new())?;
                Ok(Some(Tag::with_rows("COPY", sent)))
            }
            Outcome::Empty => Ok(None),
        }
    }

    /// Runs `DEALLOCATE` of a statement that only the wire knows.
    pub(super) fn deallocate(&mut self, statement: &Statement) -> Option<Tag> {
        let name = statement.deallocates()?;
        let usable = self.session.status() != TransactionStatus::Failed;
        (usable && self.statements.remove(&name).is_some()).then(|| Tag::new("DEALLOCATE"))
    }

    /// Says that a statement is done.
    pub(super) fn complete(&mut self, tag: Option<&Tag>) -> Result<(), Stop> {
        metrics::counter!("kho_pgwire_statements_total").increment(1);
        self.notices()?;
        match tag {
            Some(tag) => self.wire.put(&CommandComplete::new(tag.to_string())),
            None => self.wire.put(&EmptyQueryResponse::new()),
        }
    }
}

/// Returns when the client was silent for too long, with what it is told.
async fn silence(limit: Option<(u64, Error)>) -> Error {
    match limit {
        Some((limit_ms, error)) => {
            tokio::time::sleep(Duration::from_millis(limit_ms)).await;
            error
        }
        None => std::future::pending().await,
    }
}

fn stopping() -> Error {
    Error::new(Kind::AdminShutdown, "terminating connection due to administrator command")
}

/// One more in the gauge of clients while it lives.
struct Counted;

impl Counted {
    fn new() -> Counted {
        metrics::gauge!("kho_pgwire_connections").increment(1);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("kho_pgwire_connections").decrement(1);
    }
}
