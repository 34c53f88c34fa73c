//! One connection's state, and the only way in: [`Session::run`].
//!
//! What it is: settings, the transaction block, cursors, prepared statements, notices. Sessions
//! share nothing but the [`Engine`].
//! What it guarantees: a record of the statement is durable before anything of it is done or
//! given; in a failed block only its end is taken (`25P02`); what a block writes is one commit.
//! On failure: an error fails an open block and nothing else; the session stays usable.

mod block;
mod credential;
mod cursor;
mod discard;
mod dispatch;
mod prepared;
mod record;
mod savepoint;
mod seat;
mod set_config;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, FieldRef, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use kho_catalog::agreement::refuse_login_without;
use kho_catalog::audit::{Completion, Ledger, Opened, Record, RecordKind};
use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::freeze;
use kho_catalog::log::Catalog;
use kho_catalog::privilege::{KHO_ADMIN, Principal};
use kho_catalog::state::{Oid, Role, State};
use kho_catalog::types::Type;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

pub use crate::engine::Limits;

use crate::activity::{Present, Running};
use crate::authorize::purpose;
use crate::authorize::standing::SessionWatch;
use crate::bind;
use crate::copy::CopyIn;
use crate::engine::Shared;
use crate::errors::from_engine;
use crate::execute;
use crate::limit::running::Place;
use crate::maintenance::Maintenance;
pub use crate::memory::held::Held;
use crate::outcome::{Description, Notice, Outcome, Tag};
use crate::parse::{self, Ast, Statement};
use crate::passwords::Rules;
use crate::scope::{Pins, Scope};
use crate::settings::{Saved, Settings};
use crate::transaction::{Reads, View};
use crate::write::reshaping::settle;
use block::Block;
pub(crate) use credential::token_hash;
pub use credential::{Credential, How, Presented, TOKEN_PREFIX};
use cursor::Cursors;
pub(crate) use dispatch::query;
use prepared::Prepared;
pub(crate) use record::{Facts, Found, Stated, note_datasets, note_rights, qualified};
use savepoint::Savepoints;
use seat::Seat;
pub(crate) use seat::Seats;

/// The one database of a warehouse.
pub const DATABASE: &str = "kho";

/// What all sessions of one server share: the catalog, the ledger, memory.
pub struct Engine {
    shared: Arc<Shared>,
}

/// Who is connecting, from where, over what; the wire has checked that it is true.
#[derive(Clone, Debug)]
pub struct Login {
    pub role: String,
    /// `pgwire`, `flight`, `http`, `internal`.
    pub protocol: &'static str,
    pub client: Option<SocketAddr>,
    /// Settings from the startup packet, as if `SET` by the client first thing.
    pub settings: Vec<(String, String)>,
    /// A number that names the connection for `pg_backend_pid()` and cancel requests.
    pub process_id: i32,
    /// By what it was proved.
    pub credential: Credential,
}

/// What a wire needs to know of a role to let it in.
#[derive(Clone, Debug)]
pub struct Account {
    pub oid: Oid,
    pub name: String,
    pub login: bool,
    /// PostgreSQL's form, `SCRAM-SHA-256$…`.
    pub verifier: Option<String>,
    /// Milliseconds since the epoch.
    pub valid_until_ms: Option<i64>,
    pub connection_limit: Option<u32>,
    /// Whether it has the rights of `kho_admin`, for whom a few connections are kept.
    pub administers: bool,
}

/// Where the session stands in a transaction, as `ReadyForQuery` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

/// How values are to be written as text, from the session's settings.
#[derive(Clone, Debug)]
pub struct ValueFormat {
    /// IANA name, `UTC` by default.
    pub time_zone: String,
    /// PostgreSQL's `extra_float_digits`, 1 by default (shortest exact).
    pub extra_float_digits: i32,
}

/// One connection.
pub struct Session {
    engine: Arc<Engine>,
    login: Login,
    id: String,
    role: Oid,
    credential: Arc<Credential>,
    settings: Settings,
    block: Block,
    /// Whether the statements of one query of several are being run.
    of_several: bool,
    /// There while a block is open, explicit or implicit.
    saved: Option<Saved>,
    notices: Vec<Notice>,
    cursors: Cursors,
    savepoints: Savepoints,
    prepared: Prepared,
    /// Open as long as the session is.
    record: Option<Opened>,
    /// The id of the statement that is run, and what is found out about it, for its record.
    act: Option<(String, Facts)>,
    /// Kept as long as the session is.
    seat: Seat,
    present: Present,
    /// The `COPY … FROM STDIN` that is being fed.
    copying: Option<(Running, Option<Place>)>,
    /// What the last commit made of the table it wrote.
    version: Option<u64>,
}

impl Engine {
    /// Joins a catalog and a ledger to an engine.
    pub fn open(catalog: Catalog, ledger: Ledger, limits: &Limits) -> Result<Engine> {
        Engine::open_with(catalog, ledger, limits, Rules::default())
    }

    /// The same, where passwords must be good enough.
    pub fn open_with(
        catalog: Catalog,
        ledger: Ledger,
        limits: &Limits,
        passwords: Rules,
    ) -> Result<Engine> {
        Ok(Engine { shared: Arc::new(Shared::open(catalog, ledger, limits, passwords)?) })
    }

    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// What a wire holds by while it has something of a client's in memory.
    pub fn held(&self) -> Held {
        self.shared.held()
    }

    /// What keeps the warehouse's tables in shape, within limits of its own.
    pub fn maintenance(&self, limits: &Limits) -> Result<Maintenance> {
        Maintenance::new(Arc::clone(&self.shared), limits)
    }

    /// What is known of the role that wants to log in.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn account(&self, role: &str) -> Result<Option<Account>> {
        let state = self.shared.catalog.fresh().await?;
        Ok(state.role(role).map(|role| Account::of(&state, role)))
    }

    /// The same of a role that has logged in, whatever it is called by now; `None` where it is gone.
    ///
    /// # Errors
    /// `57P03` while the catalog cannot be read.
    pub async fn account_of(&self, role: Oid) -> Result<Option<Account>> {
        let state = self.shared.catalog.fresh().await?;
        Ok(state.roles.get(&role).map(|role| Account::of(&state, role)))
    }

    /// Records a login that was refused, before it is answered.
    pub async fn audit_refused_login(
        &self,
        protocol: &str,
        role: &str,
        client: Option<SocketAddr>,
        reason: &str,
    ) -> Result<()> {
        self.refuse_login(protocol, role, client, (Kind::InvalidPassword, reason), None).await
    }

    async fn refuse_login(
        &self,
        protocol: &str,
        role: &str,
        client: Option<SocketAddr>,
        (kind, reason): (Kind, &str),
        authentication: Option<String>,
    ) -> Result<()> {
        let record = Record {
            kind: RecordKind::LoginRefused,
            role: role.to_owned(),
            role_id: None,
            protocol: protocol.to_owned(),
            client: client.map(|client| client.to_string()).unwrap_or_default(),
            authentication,
            session: String::new(),
            purpose: None,
            order_number: None,
            statement: None,
            parameters: Vec::new(),
        };
        let opened = self.shared.ledger.begin(record).await?;
        opened.complete(Completion {
            outcome: kind.sqlstate().to_owned(),
            tag: reason.to_owned(),
            ..Completion::default()
        });
        Ok(())
    }

    /// Opens a session. The role must exist; the wire has authenticated it.
    ///
    /// # Errors
    /// `28000` unknown or frozen role, `KH003` a third party without an agreement, `53300` as many sessions as the role may have, `22023` and `42704` a bad setting.
    pub async fn connect(self: &Arc<Self>, login: Login) -> Result<Session> {
        self.connect_at(login, None).await
    }

    /// `seat` is the client's own, where it has one.
    async fn connect_at(self: &Arc<Self>, login: Login, seat: Option<Seat>) -> Result<Session> {
        let Login { role, protocol, client, credential, .. } = &login;
        let (role, protocol, client) = (role.clone(), *protocol, *client);
        let how = Some(credential.how.to_string());
        match self.connect_inner(login, seat).await {
            Ok(session) => Ok(session),
            Err(error) => {
                let why = (error.kind(), error.message());
                match self.refuse_login(protocol, &role, client, why, how).await {
                    Ok(()) => Err(error),
                    Err(unwritten) => Err(unwritten),
                }
            }
        }
    }

    async fn connect_inner(self: &Arc<Self>, login: Login, seat: Option<Seat>) -> Result<Session> {
        let state = self.shared.catalog.fresh().await?;
        let credential = Arc::new(login.credential.clone());
        let is_its = |oid: Oid| credential.role.is_none_or(|of| of == oid);
        let role = state.role(&login.role);
        let role = role.filter(|role| role.login && is_its(role.oid)).ok_or_else(|| {
            Error::new(
                Kind::InvalidAuthorization,
                format!("role \"{}\" is not permitted to log in", login.role),
            )
        })?;
        let environment = self.shared.catalog.environment();
        let who = Principal::of(&state, role.oid);
        freeze::refuse_frozen_role(&state, &who)?;
        credential.check(&state, environment.now_ms())?;
        refuse_login_without(&state, &who, environment.now_ms())?;
        let seat = seat.map_or_else(|| self.shared.seats.take(role), Ok)?;
        let mut settings = Settings::default();
        settings.reset_all();
        let timeout_ms = self.shared.statement_timeout_ms.to_string();
        settings.set("statement_timeout", Some(&timeout_ms))?;
        settings.state("session_authorization", &role.name);
        settings.state("kho.authentication", &credential.how.to_string());
        for (name, value) in &login.settings {
            settings.set(name, Some(value))?;
        }
        purpose::refuse_unknown(&state, &settings)?;
        credential.refuse_purpose(&purpose::stated(&settings)?)?;
        settings.begin();
        let id = environment.new_id();
        let entry = record::of_session(RecordKind::Login, &login, role.oid, &id);
        let record = self.shared.ledger.begin(entry).await?;
        Ok(Session {
            engine: Arc::clone(self),
            role: role.oid,
            credential,
            id,
            settings,
            block: Block::None,
            of_several: false,
            saved: None,
            notices: Vec::new(),
            cursors: Cursors::default(),
            savepoints: Savepoints::default(),
            prepared: Prepared::default(),
            record: Some(record),
            act: None,
            seat,
            present: self.shared.activity.open(&login, role.oid, environment.now_ms()),
            copying: None,
            version: None,
            login,
        })
    }
}

impl Account {
    fn of(state: &State, role: &Role) -> Account {
        Account {
            oid: role.oid,
            name: role.name.clone(),
            login: role.login,
            verifier: role.verifier.clone(),
            valid_until_ms: role.valid_until_ms,
            connection_limit: role.connection_limit,
            administers: Principal::of(state, role.oid).is(KHO_ADMIN),
        }
    }
}

impl Session {
    /// Another session of the same client: by the same credential, with the settings as they are here.
    /// It is no further connection of the role's.
    ///
    /// # Errors
    /// As [`Engine::connect`].
    pub async fn beside(&mut self) -> Result<Session> {
        let seat = self.seat.clone();
        let mut session = self.engine.connect_at(self.login.clone(), Some(seat)).await?;
        session.settings = self.settings.clone();
        session.settings.begin();
        Ok(session)
    }

    /// What a setting stands at.
    ///
    /// # Errors
    /// `42704` where there is none of that name.
    pub fn setting(&self, name: &str) -> Result<&str> {
        self.settings.get(name)
    }

    /// What the ledger is told when an act begins.
    fn entry(&self, kind: RecordKind, statement: Option<&Statement>) -> Record {
        let Stated { purpose, order_number } = Stated::by(&self.settings);
        let statement = statement.map(|statement| self.recorded(statement));
        let entry = record::of_session(kind, &self.login, self.role, &self.id);
        Record { purpose, order_number, statement, ..entry }
    }

    /// Records a statement that is refused before it is run, before that is answered: one that does
    /// not parse (its text is not kept), or that was prepared and does not bind.
    ///
    /// # Errors
    /// `58030` where the ledger cannot be written: that is what the client is told then.
    pub async fn refuse(&mut self, statement: Option<&Statement>, error: Error) -> Error {
        self.refuse_with(statement, error, &Facts::default()).await
    }

    async fn refuse_with(
        &mut self,
        statement: Option<&Statement>,
        error: Error,
        facts: &Facts,
    ) -> Error {
        let entry = self.entry(RecordKind::StatementRefused, statement);
        match self.engine.shared.ledger.begin(entry).await {
            Ok(opened) => {
                record::failed(opened, &error, facts);
                error
            }
            Err(unwritten) => unwritten,
        }
    }

    /// Splits and parses what a client sent; an empty text gives no statement.
    pub fn parse(&self, text: &str) -> Result<Vec<Statement>> {
        parse::of_client(text)
    }

    /// What `statement` takes and gives. `parameters` are the types the client stated. `stop` ends
    /// it with `57014`.
    pub async fn describe(
        &mut self,
        statement: &Statement,
        parameters: &[Option<Type>],
        stop: &CancellationToken,
    ) -> Result<Description> {
        statement.plan().is_prepared();
        let facts = Facts::default();
        let id = self.engine.shared.catalog.environment().new_id();
        self.act = Some((id, facts.clone()));
        let described = self.describe_inner(statement, parameters, stop).await;
        self.act = None;
        match described {
            Ok(described) => Ok(described),
            Err(error) => {
                self.fail();
                Err(self.refuse_with(Some(statement), error, &facts).await)
            }
        }
    }

    /// Runs one statement: the whole path from bind to audit. `stop` ends it with `57014`.
    pub async fn run(
        &mut self,
        statement: &Statement,
        parameters: &[ScalarValue],
        stop: &CancellationToken,
    ) -> Result<Outcome> {
        let now_ms = self.engine.shared.catalog.environment().now_ms();
        let running = self.present.runs(statement.redacted(), stop, now_ms);
        self.version = None;
        let mut place = None;
        let result = self.run_recorded(statement, parameters, stop, &mut place).await;
        let running = (running, place);
        self.act = None;
        match &result {
            Ok(outcome) if self.block.is_none() => {
                self.savepoints.clear();
                self.cursors.end(!outcome.rolled_back());
            }
            Ok(_) => {}
            Err(_) => self.fail(),
        }
        self.present.stands(self.status());
        Ok(match result? {
            Outcome::Rows(rows) => Outcome::Rows(rows.keeping(running)),
            Outcome::CopyOut(rows, options) => Outcome::CopyOut(rows.keeping(running), options),
            Outcome::CopyIn(copy) => {
                self.copying = Some(running);
                Outcome::CopyIn(copy)
            }
            done => done,
        })
    }

    /// Commits what a `COPY … FROM STDIN` was fed.
    pub async fn finish_copy(&mut self, copy: &mut CopyIn) -> Result<Tag> {
        let result = self.finish_copy_inner(copy).await;
        if result.is_err() {
            self.fail();
        }
        self.copying = None;
        self.present.stands(self.status());
        result
    }

    /// Gives up a `COPY … FROM STDIN` because of `error`, which its record says.
    pub fn abort_copy(&mut self, mut copy: CopyIn, error: &Error) {
        if let Some((opened, facts)) = copy.record.take() {
            record::failed(opened, error, &facts);
        }
        drop(copy);
        self.fail();
    }

    /// Names the load that what is written next is, by its stream and its number in that, empty for
    /// none; gives what was named before. A wire that has them beside the statement says them so.
    ///
    /// # Errors
    /// `22023` for a number that is none; nothing is changed then.
    pub fn name_load(&mut self, load: [&str; 2]) -> Result<[String; 2]> {
        self.settings.name_load(load)
    }

    /// Whether the open block has taken `load`, which came whole: its own statements cannot tell it from
    /// another statement of the same load.
    pub fn has_taken(&mut self, load: &str) -> bool {
        self.block.transaction().is_some_and(|block| block.has_taken(load))
    }

    /// Notes that the open block has taken `load`.
    pub fn note_load(&mut self, load: String) {
        if let Some(block) = self.block.transaction() {
            block.note_load(load);
        }
    }

    /// The turn to make a table of this name: whoever makes it only where it is not there takes the
    /// turn before looking, and keeps it until the table is there. Roles wait for none but themselves:
    /// whether another makes a table is not for everybody to know, nor to hold up.
    ///
    /// # Errors
    /// `55P03` beyond `lock_timeout`, `57014` beyond `statement_timeout`.
    pub fn turn_to_make(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> impl Future<Output = Result<OwnedMutexGuard<()>>> + Send + use<> {
        let schemas = match schema {
            Some(schema) => vec![schema.to_owned()],
            None => self.settings.search_path(),
        };
        let shared = Arc::clone(&self.engine.shared);
        let key = format!("{:?}", (self.role, schemas, name));
        let lock = (self.settings.lock_timeout_ms(), Kind::LockNotAvailable, "lock");
        let statement = (self.settings.statement_timeout_ms(), Kind::QueryCanceled, "statement");
        let limits = [lock, statement].into_iter().filter(|(ms, ..)| *ms > 0);
        let limit = limits.min_by_key(|(ms, ..)| *ms);
        async move {
            let turn = shared.tables.turn_to_make(&key);
            let Some((ms, kind, what)) = limit else { return Ok(turn.await) };
            tokio::time::timeout(Duration::from_millis(ms), turn)
                .await
                .map_err(|_| Error::new(kind, format!("canceling statement due to {what} timeout")))
        }
    }

    /// Tells the session that its statement failed outside of it (an encoding error, a client
    /// that aborted its `COPY`): an open transaction block is failed by that.
    pub fn fail(&mut self) {
        match self.savepoints.depth() {
            0 => {
                self.block.fail();
                self.cursors.end(false);
            }
            _ => self.savepoints.keep_failed(self.block.suspend()),
        }
        self.copying = None;
        self.present.stands(self.status());
    }

    /// A simple query of several statements is one transaction: called before the first.
    pub fn begin_implicit(&mut self) {
        self.of_several = true;
        self.block.begin_implicit();
        self.saved.get_or_insert_with(|| Saved::of(&self.settings));
    }

    /// Called after the last statement of a simple query of several: commits, unless the
    /// statements themselves opened a block that is still open. After an error it rolls back.
    pub async fn end_implicit(&mut self, failed: bool) -> Result<()> {
        self.of_several = false;
        let committed = match self.block.end_implicit(failed) {
            Some(transaction) => self.commit_transaction(transaction).await,
            None => Ok(()),
        };
        // The statements themselves may have opened a block, which goes on.
        if self.block.is_none() {
            self.end_settings(!failed && committed.is_ok());
            self.cursors.end(!failed && committed.is_ok());
        }
        self.present.stands(self.status());
        committed
    }

    fn end_settings(&mut self, committed: bool) {
        if let Some(saved) = self.saved.take() {
            saved.end(&mut self.settings, committed);
        }
    }

    pub fn status(&self) -> TransactionStatus {
        self.block.status()
    }

    pub fn value_format(&self) -> ValueFormat {
        let digits = self.settings.get("extra_float_digits").ok().and_then(|it| it.parse().ok());
        ValueFormat {
            time_zone: self.settings.time_zone().to_owned(),
            extra_float_digits: digits.unwrap_or(1),
        }
    }

    /// How long it may leave a transaction block alone, in milliseconds; 0 is for ever.
    pub fn idle_in_transaction_ms(&self) -> u64 {
        self.settings.idle_in_transaction_ms()
    }

    /// How long the client may be silent now, in milliseconds, and what it is told when it was
    /// silent for longer; `None` is for ever.
    pub fn idle_limit_ms(&self) -> Option<(u64, Error)> {
        let (limit_ms, kind, message) = match self.status() {
            TransactionStatus::Idle => (
                self.settings.idle_session_ms(),
                Kind::IdleSession,
                "terminating connection due to idle-session timeout",
            ),
            TransactionStatus::InTransaction | TransactionStatus::Failed => (
                self.settings.idle_in_transaction_ms(),
                Kind::IdleInTransaction,
                "terminating connection due to idle-in-transaction timeout",
            ),
        };
        (limit_ms > 0).then(|| (limit_ms, Error::new(kind, message)))
    }

    /// The version that the table has by what was committed last; `None` where the last statement
    /// committed no rows, or is one of a block that is still open.
    pub fn committed_version(&self) -> Option<u64> {
        self.version
    }

    /// How long a statement that is taken up again may go on, in milliseconds; 0 is without end.
    pub fn statement_timeout_ms(&self) -> u64 {
        self.settings.statement_timeout_ms()
    }

    /// Settings that PostgreSQL reports (`ParameterStatus`) and that changed since the last call;
    /// the first call gives all of them.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        self.settings.take_reported()
    }

    /// The columns of a cursor that is open, for a client that asks for them by its name.
    pub fn cursor_columns(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.columns(name)
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    async fn describe_inner(
        &mut self,
        statement: &Statement,
        parameters: &[Option<Type>],
        stop: &CancellationToken,
    ) -> Result<Description> {
        self.refuse_in_failed_block(statement)?;
        let stated: Vec<Option<FieldRef>> = parameters.iter().map(parameter_field).collect();
        // What concerns the session alone looks at nothing, and begins no transaction.
        if is_own(statement.ast()) {
            let columns = dispatch::own_columns(&self.settings, statement)?;
            return Ok(Description::of(parameter_fields(&stated, &[]), columns));
        }
        let timeout_ms = self.settings.statement_timeout_ms();
        let limits = execute::Limits::new(stop, self.watch(), timeout_ms);
        let scope = self.scope().await?;
        if let Some((executed, types)) = self.prepared.executed(statement) {
            let fields: Vec<_> = types.iter().cloned().map(Some).collect();
            let fields: Vec<_> = fields.iter().map(parameter_field).collect();
            let bound = dispatch::bind_for_description(&scope, &self.settings, executed, &fields);
            let columns = limits.run(bound).await?.and_then(|(_, columns)| columns);
            return Ok(Description::of(parameter_fields(&stated, &[]), columns));
        }
        if let Some(name) = statement.fetches() {
            return Ok(Description::of(Vec::new(), self.cursor_columns(&name)));
        }
        let bound = dispatch::bind_for_description(&scope, &self.settings, statement, &stated);
        let (inferred, columns) = limits.run(bound).await?.unwrap_or_default();
        Ok(Description::of(parameter_fields(&stated, &inferred), columns))
    }

    /// Returns when the session's role is frozen, or what it came by has ended, with what its client
    /// is told.
    pub fn ended(&self) -> impl Future<Output = Error> + Send + use<> {
        self.watch().ended()
    }

    fn watch(&self) -> SessionWatch {
        SessionWatch::new(&self.engine.shared, self.role, &self.credential)
    }

    fn refuse_in_failed_block(&self, statement: &Statement) -> Result<()> {
        if self.status() == TransactionStatus::Failed && !statement.ends_block() {
            return Err(Error::new(
                Kind::InFailedTransaction,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// What the next statement sees.
    async fn scope(&mut self) -> Result<Scope> {
        let shared = Arc::clone(&self.engine.shared);
        // An open block, too, needs to know what holds by now.
        let mut latest = shared.catalog.fresh().await?;
        shared.usage.refresh(&latest).await;
        if self.block.is_new() {
            latest = settle(&shared, latest).await;
            self.block.begin_transaction(&shared, Arc::clone(&latest));
        }
        let (state, pins, block) = match self.block.transaction() {
            Some(transaction) => (transaction.state(), transaction.pins(), transaction.view()),
            None => {
                latest = settle(&shared, latest).await;
                (Arc::clone(&latest), Pins::default(), View::default())
            }
        };
        let role = state.roles.get(&self.role).ok_or_else(|| {
            Error::new(Kind::InvalidAuthorization, "the role of this session was dropped")
        })?;
        let environment = shared.catalog.environment();
        // What is only described has no record, and writes nothing.
        let (statement_id, facts) =
            self.act.clone().unwrap_or_else(|| (environment.new_id(), Facts::default()));
        let mut scope = Scope {
            who: self.credential.principal(&state, self.role),
            session: self.credential.principal(&state, self.role),
            credential: Arc::clone(&self.credential),
            within_policies: Vec::new(),
            explains: false,
            role: role.name.clone(),
            settings: self.settings.clone(),
            pins,
            block,
            reads: Reads::default(),
            asked: Arc::default(),
            sources: Arc::default(),
            order_seen: shared.tables.order_seen(),
            load: self.settings.load().ok().flatten(),
            memory: shared.statement_memory_of(&latest, self.role),
            as_of_ms: None,
            process_id: self.login.process_id,
            statement_id,
            facts,
            now_ms: environment.now_ms(),
            state: Arc::clone(&state),
            latest,
            shared: Arc::clone(&shared),
        };
        if let Some(as_of) = self.settings.as_of() {
            let session = shared.session_state(&scope)?;
            scope.as_of_ms = Some(bind::constant::instant_of_text(&scope, &session, as_of)?);
        }
        Ok(scope)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // An open block is given up, and with it what it wrote.
        self.block.fail();
        self.savepoints.clear();
        if let Some(record) = self.record.take() {
            record.complete(Completion { outcome: "00000".to_owned(), ..Completion::default() });
        }
    }
}

/// A plan with `$1`, `$2`, … replaced by their values.
pub(crate) fn with_parameters(plan: LogicalPlan, values: &[ScalarValue]) -> Result<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    let values = ParamValues::from(values.to_vec());
    plan.with_param_values(values).map_err(from_engine)
}

/// The fields of parameters: as stated, else as inferred.
fn parameter_fields(
    stated: &[Option<FieldRef>],
    inferred: &[Option<FieldRef>],
) -> Vec<Option<FieldRef>> {
    let fields = (0..stated.len().max(inferred.len())).map(|index| {
        let of = |fields: &[Option<FieldRef>]| fields.get(index).cloned().flatten();
        of(stated).or_else(|| of(inferred))
    });
    fields.collect()
}

fn parameter_field(of: &Option<Type>) -> Option<FieldRef> {
    of.as_ref().map(|of| Arc::new(of.to_field("", true)))
}

/// The fields of given values, so that a plan is made for their types.
pub(crate) fn value_fields(values: &[ScalarValue]) -> Vec<Option<FieldRef>> {
    let field = |value: &ScalarValue| match value.data_type() {
        arrow::datatypes::DataType::Null => None,
        of => Some(Arc::new(Field::new("", of, true))),
    };
    values.iter().map(field).collect()
}

/// Whether a statement only concerns the session itself.
pub(crate) fn is_own(ast: &Ast) -> bool {
    use sqlparser::ast::Statement as S;
    matches!(ast, Ast::Sql(statement) if matches!(
        **statement,
        S::Set(_) | S::ShowVariable { .. } | S::Reset(_) | S::Discard { .. }
            | S::StartTransaction { .. } | S::Commit { .. } | S::Rollback { .. }
            | S::Deallocate { .. } | S::Close { .. } | S::UNLISTEN { .. }
            | S::Savepoint { .. } | S::ReleaseSavepoint { .. }
    ))
}
