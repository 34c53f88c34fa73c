//! What a record of the ledger says, and the line it is stored as.

use serde::{Deserialize, Serialize};

/// The form written today.
pub(super) const FORMAT: u32 = 1;

/// What begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub kind: RecordKind,
    /// The role's name; for a refused login the name that was given.
    pub role: String,
    /// `pgwire`, `flight`, `http` or `job`.
    pub protocol: String,
    /// Address and port; empty for the server's own acts.
    pub client: String,
    /// Which session it was part of.
    pub session: String,
    /// The statement, no literal in it; `None` where there is none or it does not parse.
    pub statement: Option<String>,
    /// The datasets it is about, as `schema.name`, where that is known at the beginning.
    pub datasets: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A session: completed when the connection ends.
    Login,
    LoginRefused,
    Statement,
    /// A statement that was refused before it could be understood.
    StatementRefused,
    /// Start and stop of the server, and what it does by itself.
    Server,
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
    pub versions_read: Vec<TableVersion>,
    pub version_written: Option<TableVersion>,
}

/// One version of one dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// `schema.name`.
    pub dataset: String,
    pub version: u64,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The server whose journal it is in.
    #[serde(skip)]
    pub server: String,
    /// Counts the lines of one server, without gaps.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// Joins a beginning and its end.
    pub id: String,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Begin(Record),
    Complete(Completion),
    /// Whoever held the record vanished without a word.
    Abandoned,
}

/// The first line of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u32,
    pub server: String,
    /// The sequence of the segment's first line. A line of an earlier segment with this sequence
    /// or a higher one is void: it was written, but could not be made durable.
    pub first_sequence: u64,
}
