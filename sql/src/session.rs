//! One connection's state, and the only way in: [`Session::run`].

use std::net::SocketAddr;
use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use kho_catalog::error::{Error, Result};
use kho_catalog::types::Type;
use tokio_util::sync::CancellationToken;

use crate::copy::CopyIn;
use crate::outcome::{Description, Notice, Outcome, Tag};
use crate::parse::Statement;

/// What all sessions of one server share: the catalog, the ledger, memory.
pub struct Engine {}

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
}

/// What the wire must know of a role to let its owner in, or to refuse.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub login: bool,
    /// PostgreSQL's form; see [`crate::scram`].
    pub verifier: Option<String>,
    /// Milliseconds since the epoch after which the password no longer works.
    pub valid_until_ms: Option<i64>,
    /// Enforced by [`Engine::connect`].
    pub connection_limit: Option<u32>,
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

pub struct Session {}

impl Engine {
    /// Opens a session. The role must exist; the wire has authenticated it.
    ///
    /// # Errors
    /// `28000` unknown role, `53300` too many connections, `22023` a bad setting.
    pub async fn connect(self: &Arc<Self>, _login: Login) -> Result<Session> {
        Err(Error::unsupported("not wired yet"))
    }

    /// The account of `role`; `None` where there is no such role.
    pub fn account(&self, _role: &str) -> Result<Option<Account>> {
        Ok(None)
    }

    /// Records that somebody failed to log in as `role`; durable when it returns.
    pub async fn audit_refused_login(
        &self,
        _role: &str,
        _client: Option<SocketAddr>,
        _reason: &str,
    ) -> Result<()> {
        Ok(())
    }
}

impl Session {
    /// Splits and parses what a client sent; an empty text gives no statement.
    pub fn parse(&self, _text: &str) -> Result<Vec<Statement>> {
        Err(Error::unsupported("not wired yet"))
    }

    /// What `statement` takes and gives. `parameters` are the types the client stated.
    pub async fn describe(
        &mut self,
        _statement: &Statement,
        _parameters: &[Option<Type>],
    ) -> Result<Description> {
        Err(Error::unsupported("not wired yet"))
    }

    /// Runs one statement: the whole path from bind to audit. `stop` ends it with `57014`.
    pub async fn run(
        &mut self,
        _statement: &Statement,
        _parameters: &[ScalarValue],
        _stop: &CancellationToken,
    ) -> Result<Outcome> {
        Err(Error::unsupported("not wired yet"))
    }

    /// Commits what a `COPY … FROM STDIN` was fed.
    pub async fn finish_copy(&mut self, _copy: CopyIn) -> Result<Tag> {
        Err(Error::unsupported("not wired yet"))
    }

    /// Tells the session that its statement failed outside of it (an encoding error, a client
    /// that aborted its `COPY`): an open transaction block is failed by that.
    pub fn fail(&mut self) {}

    /// A simple query of several statements is one transaction: called before the first.
    pub fn begin_implicit(&mut self) {}

    /// Called after the last statement of a simple query of several: commits, unless the
    /// statements themselves opened a block that is still open. After an error it rolls back.
    pub async fn end_implicit(&mut self, _failed: bool) -> Result<()> {
        Ok(())
    }

    pub fn status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }

    pub fn value_format(&self) -> ValueFormat {
        ValueFormat { time_zone: "UTC".to_owned(), extra_float_digits: 1 }
    }

    /// Settings that PostgreSQL reports (`ParameterStatus`) and that changed since the last call;
    /// the first call gives all of them.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }
}
