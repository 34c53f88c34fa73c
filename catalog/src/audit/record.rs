//! What a record of the ledger says.
//!
//! What is stored of it, and what of that is in the chain, is the business of [`super::stored`].

use serde::{Deserialize, Serialize};

use crate::state::Oid;

/// What begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub kind: RecordKind,
    /// The role's name; for a refused login the name that was given, which is then no part of the
    /// chain: people type passwords there.
    pub role: String,
    /// Its id in the catalog, which stays when it is renamed; `None` where nobody has logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<Oid>,
    /// `pgwire`, `flight`, `http` or `job`.
    pub protocol: String,
    /// By what the session was let in. It can name a person, and is kept apart from the chain.
    #[serde(skip)]
    pub authentication: Option<String>,
    /// Which session it was part of.
    pub session: String,
    /// The code that the session stated, and the order it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_number: Option<String>,
    /// Address and port; empty for the server's own acts. Kept apart from the chain.
    #[serde(skip)]
    pub client: String,
    /// The statement, a keyed hash in place of each literal; `None` where there is none, where it
    /// does not parse, and where it was erased. Kept apart from the chain.
    #[serde(skip)]
    pub statement: Option<String>,
    /// Keyed hashes of the values of `$1`, `$2`, …. Kept apart from the chain.
    #[serde(skip)]
    pub parameters: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A session: completed when the connection ends.
    Login,
    LoginRefused,
    Statement,
    /// A statement that was refused before it was to run: one that does not parse, or that was
    /// prepared and does not bind.
    StatementRefused,
    /// Start and stop of the server, and what it does by itself.
    Server,
}

impl RecordKind {
    pub const fn name(self) -> &'static str {
        match self {
            RecordKind::Login => "login",
            RecordKind::LoginRefused => "login_refused",
            RecordKind::Statement => "statement",
            RecordKind::StatementRefused => "statement_refused",
            RecordKind::Server => "server",
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The SQLSTATE; `00000` for success.
    pub outcome: String,
    /// The command's tag, without the count.
    pub tag: String,
    /// Rows returned or changed.
    pub rows: u64,
    /// What was returned, as the engine held it: the size of values, whatever the wire made of it.
    #[serde(default)]
    pub bytes_out: u64,
    /// What of that counts against limits of a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Released>,
    /// The datasets it was about, with what was read of each.
    #[serde(default)]
    pub datasets: Vec<Touched>,
    /// Names of the row policies that decided which rows it saw.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Names of the masks that decided which values it saw.
    #[serde(default)]
    pub masks: Vec<String>,
    /// By what right: `owner schema.name`, `grant SELECT on schema.name`.
    #[serde(default)]
    pub decided_by: Vec<String>,
}

/// What left datasets by one act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The id of the role that logged in, which stays when it is renamed.
    pub role: Oid,
    /// For the client: rows, and the bytes of their values.
    #[serde(default)]
    pub rows: u64,
    #[serde(default)]
    pub bytes: u64,
    /// To be written elsewhere in the warehouse; told only where it counts for agreements.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_rows: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_bytes: u64,
    /// The agreements with a quota under which it was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreements: Vec<Oid>,
}

/// One dataset that an act was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// `schema.name`, as it was called then.
    pub dataset: String,
    /// Its id in the catalog, which stays when it is renamed.
    pub relation: Oid,
    /// The version read; `None` where only a name was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The columns read, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
}

/// Rows that are about to leave a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The id of the statement, in the ledger and in the table's commit.
    pub act: String,
    pub role: String,
    /// Its id in the catalog, which stays when it is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<Oid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_number: Option<String>,
    /// `DELETE`, `TRUNCATE`, `MERGE`, `DROP TABLE`, …
    pub operation: String,
    pub dataset: String,
    pub relation: Oid,
    /// Where its table is: `tables/<dataset id>/<generation>`.
    pub location: String,
    pub rows: u64,
    pub version_before: u64,
}

/// One line of the ledger as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The server whose chain it is in.
    pub server: String,
    /// Counts the lines of one server, without gaps.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// Joins a beginning and its end.
    pub id: String,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line of each run of a server. What was open before it, is so no more.
    Opened(Opening),
    Begin(Record),
    Complete(Completion),
    /// Durable before an act has released so much altogether: what counts where its end is missing.
    Releasing(Released),
    /// Whoever held the record vanished without a word.
    Abandoned,
    /// Durable before the commit that takes the rows away.
    Removing(Removal),
    /// The commit was made, as this version; `None` where it has none (a table that is gone).
    Removed {
        version: Option<u64>,
    },
    /// The commit was not made.
    Kept,
}

/// How a run of a server began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The records from the first to the last of these were signed for and then lost, with the
    /// disk that they lay on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<(u64, u64)>,
}

impl Event {
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Opened(_) => "opened",
            Event::Begin(_) => "begin",
            Event::Complete(_) => "complete",
            Event::Releasing(_) => "releasing",
            Event::Abandoned => "abandoned",
            Event::Removing(_) => "removing",
            Event::Removed { .. } => "removed",
            Event::Kept => "kept",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
