//! What a role and all of them together may use up: how it is counted, and what happens beyond.
//!
//! Limits of a role are set by `kho.set_role_limit` and shown in `kho.role_limits`; those of a server
//! are in its configuration. What they mean:
//! - The limits of the role that logged in and of every role that it belongs to all hold, and so do
//!   those of the server: the tightest counts. Owners and `kho_admin` have no exemption. Each role
//!   that logs in is counted by itself, by its id: a limit of a group is one of each of its members.
//! - A change holds within a second, in sessions that are open, too, and for what they run.
//! - `concurrent_statements` counts what one server runs for a role: more are refused at once
//!   (`53400`), none waits. A query counts from its start until its last row was taken or it was
//!   closed, a portal and a cursor between fetches, too; what takes rows of it counts nothing of its
//!   own, nor does what concerns the session alone (`SET`, `COMMIT`, `CLOSE`, …) and
//!   `CALL kho.cancel`.
//! - `statement_time` is the whole time of a statement, with that in which the client reads; as with
//!   PostgreSQL's `statement_timeout`, which can only be tighter, a client that comes back for more
//!   rows has it anew. What is computed ahead meanwhile has it for each batch.
//! - `memory` is what the running statements of a role hold together on one server: operators spill
//!   first, then the statement fails with `53200`. Another limit binds what is asked for from the
//!   next statement of the role on.
//! - `rows_…` and `bytes_…` count what leaves for the client of statements that read a dataset, of
//!   `RETURNING`, `COPY … TO`, cursors and `EXPLAIN ANALYZE`, too. The row that would go beyond is
//!   not given, those before it are; then comes `53400`. A write whose `RETURNING` would go beyond
//!   is not done. Bytes are the ledger's: the size of the values as the engine holds them. What is
//!   left out: the catalogs, and what reads nothing at all.
//! - `…_per_day` is of a day of UTC, over all servers and restarts, see [`usage`]. What is used up
//!   refuses a statement before it begins.
//! - The quota of an agreement is counted for all whom it serves together: rows of every statement
//!   that reads the dataset under it, those that the client gets and those that are written
//!   elsewhere in the warehouse. Where several agreements hold, all count and the tightest holds.

pub(crate) mod bound;
pub(crate) mod bytes;
pub(crate) mod meter;
pub(crate) mod running;
pub(crate) mod usage;

use kho_catalog::error::{Error, Kind};
use kho_catalog::limit::Limit;
use kho_catalog::state::State;

/// What holds for every role of one server; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfServer {
    pub concurrent_statements: u32,
    pub statement_time_ms: u64,
    pub rows_per_statement: u64,
}

/// The setting of a server's limit, as messages name it.
pub(crate) const CONCURRENT_STATEMENTS: &str = "limits.concurrent_statements";
pub(crate) const STATEMENT_TIME: &str = "limits.statement_time_ms";

/// A refusal that names the limit and its value, and whom to ask.
pub(crate) fn refusal(state: &State, limit: Limit, message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigurationLimitExceeded, message)
        .with_detail(format!("The {} is {}.", limit.shown(state), limit.value))
        .with_hint("Ask a member of kho_admin, who can change it with kho.set_role_limit.")
}

/// The same for a limit of the server.
pub(crate) fn refusal_of_server(setting: &str, value: u64, message: &str) -> Error {
    Error::new(Kind::ConfigurationLimitExceeded, message)
        .with_detail(format!("The setting {setting} of this server is {value}."))
        .with_hint("Try again when less is running, or ask who runs the server.")
}
