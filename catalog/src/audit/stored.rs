//! How a line of the ledger is stored: what of it is chained, and what lies beside the chain.
//!
//! What it is: a segment of the journal is a header and rows, each a JSON object on a line of its
//! own. A row is a *link* of the chain, or the *body* of the link that follows it. What could
//! identify a person (client address, statement, hashes of parameters, a name that was refused) is
//! in the body; the link holds a salted commitment to it.
//! What it guarantees: the hash of a link is SHA-256 over its bytes as stored, and each names the
//! hash of the one before, the first one that of its server's name: none can be changed, left out,
//! put elsewhere or put into another server's chain. A body can be erased and the chain holds.
//! What it does not: it tells no lawful erasure from another. That, too, leaves a mark and is
//! counted by whoever verifies.
//! On failure: `XX001`, with the number of the record.
//!
//! # Why bodies travel with the links at first
//! In one file one sync makes both durable, and neither is ever there without the other. They are
//! parted when a segment is sealed: links go into a Delta table, bodies into objects beside it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::{Event, Line, Opening, RecordKind};
use crate::error::{Error, Kind, Result};

/// The form written today. Format 1 had no chain.
pub(super) const FORMAT: u32 = 2;

/// The first line of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u32,
    pub server: String,
    /// The sequence of the segment's first link. A link of an earlier segment with this sequence
    /// or a higher one is void: it was written, but could not be made durable.
    pub first_sequence: u64,
}

/// A link of the chain.
#[derive(Debug, Serialize, Deserialize)]
struct Link {
    sequence: u64,
    time_ms: i64,
    id: String,
    /// The hash of the link before.
    previous: String,
    /// SHA-256 over salt and body, where there is a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commitment: Option<String>,
    #[serde(flatten)]
    event: Event,
}

/// What lies beside the chain.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// The sequence of the link that commits to it.
    body: u64,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    client: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authentication: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<String>,
}

/// What is left of a body that was erased.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Erased {
    erased: u64,
}

/// Where a chain has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The sequence of the next link: how many there are.
    pub next: u64,
    /// The hash of the last link.
    pub hash: String,
}

impl Head {
    /// The head of a chain without a link.
    pub(super) fn genesis(server: &str) -> Head {
        Head { next: 0, hash: digest(format!("kho ledger {FORMAT} {server}").as_bytes()) }
    }
}

/// A row as stored: its bytes, without the line end, and what they are.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub bytes: Vec<u8>,
    pub what: What,
}

/// Whether a row is a link or a body, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Link(u64),
    Body(u64),
}

/// A link together with the row before it, its body or what is left of that.
#[derive(Clone, Debug)]
pub(super) struct Linked {
    pub sequence: u64,
    pub link: Vec<u8>,
    pub body: Option<Vec<u8>>,
    /// What the sealed table says beside the link.
    pub beside: Option<Beside>,
}

/// Columns of the sealed table that repeat what a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub time_ms: i64,
    pub id: String,
    pub event: String,
}

/// A link that was read and understood.
#[derive(Debug)]
pub(super) struct Read {
    pub line: Line,
    pub previous: String,
    pub erased: bool,
}

/// Appends the rows of one event to `bytes`, as the next after `head`, and returns the head then.
pub(super) fn append(
    bytes: &mut Vec<u8>,
    head: &Head,
    (time_ms, id, event): (i64, &str, &Event),
    salt: impl FnOnce() -> String,
) -> Result<Head> {
    let mut event = event.clone();
    let body = body_of(&mut event, head.next, salt);
    let mut commitment = None;
    if let Some(body) = body {
        let row = serde_json::to_vec(&body)?;
        commitment = Some(digest(&row));
        bytes.extend(row);
        bytes.push(b'\n');
    }
    let link = Link {
        sequence: head.next,
        time_ms,
        id: id.to_owned(),
        previous: head.hash.clone(),
        commitment,
        event,
    };
    let row = serde_json::to_vec(&link)?;
    let next = Head { next: head.next.saturating_add(1), hash: digest(&row) };
    bytes.extend(row);
    bytes.push(b'\n');
    Ok(next)
}

/// Takes what is not to be chained out of an event.
fn body_of(event: &mut Event, sequence: u64, salt: impl FnOnce() -> String) -> Option<Body> {
    let Event::Begin(record) = event else { return None };
    let role =
        matches!(record.kind, RecordKind::LoginRefused).then(|| std::mem::take(&mut record.role));
    let body = Body {
        body: sequence,
        salt: String::new(),
        role,
        client: std::mem::take(&mut record.client),
        authentication: record.authentication.take(),
        statement: record.statement.take(),
        parameters: std::mem::take(&mut record.parameters),
    };
    let empty = Body { body: sequence, ..Body::default() };
    (body != empty).then(|| Body { salt: salt(), ..body })
}

/// What a row is, by how it begins; a row that is neither is broken.
pub(super) fn row(bytes: &[u8]) -> Option<Row> {
    #[derive(Deserialize)]
    struct Sequence {
        sequence: u64,
    }
    let what = if bytes.starts_with(b"{\"body\":") {
        What::Body(serde_json::from_slice::<Body>(bytes).ok()?.body)
    } else if bytes.starts_with(b"{\"erased\":") {
        What::Body(serde_json::from_slice::<Erased>(bytes).ok()?.erased)
    } else {
        What::Link(serde_json::from_slice::<Sequence>(bytes).ok()?.sequence)
    };
    Some(Row { bytes: bytes.to_vec(), what })
}

/// The mark that an erased body leaves.
pub(super) fn erased(sequence: u64) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Erased { erased: sequence })?)
}

impl Linked {
    /// Understands a link of `server` with its body. What does not fit together is `XX001`.
    pub(super) fn read(&self, server: &str) -> Result<Read> {
        let changed = |what: &str| corrupted(server, self.sequence, what);
        let link: Link = serde_json::from_slice(&self.link)
            .map_err(|error| changed("does not parse").with_source(error))?;
        if link.sequence != self.sequence {
            return Err(changed("says that it is another one"));
        }
        if self.beside.as_ref().is_some_and(|beside| *beside != Beside::of(&link)) {
            return Err(changed("differs from the columns beside it"));
        }
        let mut event = link.event;
        let erased = self.fill(server, link.commitment.as_deref(), &mut event)?;
        let line = Line {
            server: server.to_owned(),
            sequence: link.sequence,
            time_ms: link.time_ms,
            id: link.id,
            event,
        };
        Ok(Read { line, previous: link.previous, erased })
    }

    /// The line, if it tells of something released. Nothing of that has a body.
    pub(super) fn of_release(&self, server: &str) -> Result<Option<Line>> {
        #[derive(Deserialize)]
        struct Event {
            event: String,
        }
        let changed = || corrupted(server, self.sequence, "does not parse");
        let event = serde_json::from_slice::<Event>(&self.link);
        let Event { event } = event.map_err(|error| changed().with_source(error))?;
        if !matches!(event.as_str(), "complete" | "releasing") {
            return Ok(None);
        }
        self.read(server).map(|read| Some(read.line))
    }

    /// What the sealed table is to say beside the link.
    pub(super) fn said_beside(&self, server: &str) -> Result<Beside> {
        let link: Link = serde_json::from_slice(&self.link).map_err(|error| {
            corrupted(server, self.sequence, "does not parse").with_source(error)
        })?;
        Ok(Beside::of(&link))
    }

    /// Puts the body into `event`; says whether it was erased.
    fn fill(&self, server: &str, commitment: Option<&str>, event: &mut Event) -> Result<bool> {
        let changed = |what: &str| corrupted(server, self.sequence, what);
        let (commitment, bytes) = match (commitment, &self.body) {
            (None, None) => return Ok(false),
            (None, Some(_)) => return Err(changed("has a body that it did not commit to")),
            (Some(_), None) => return Err(changed("lacks its body")),
            (Some(commitment), Some(bytes)) => (commitment, bytes),
        };
        if bytes.as_slice() == erased(self.sequence)? {
            return Ok(true);
        }
        if digest(bytes) != commitment {
            return Err(changed("has another body than it committed to"));
        }
        let body: Body = serde_json::from_slice(bytes)
            .map_err(|error| changed("has a body that does not parse").with_source(error))?;
        let Event::Begin(record) = event else {
            return Err(changed("has a body and no place for it"));
        };
        record.client = body.client;
        record.authentication = body.authentication;
        record.statement = body.statement;
        record.parameters = body.parameters;
        if let Some(role) = body.role {
            record.role = role;
        }
        Ok(false)
    }
}

impl Read {
    /// Whether it says that all from the number `first` up to itself was lost.
    pub(super) fn tells_of_loss(&self, first: u64) -> bool {
        let Event::Opened(Opening { lost: Some((from, to)) }) = &self.line.event else {
            return false;
        };
        *from <= first && to.saturating_add(1) == self.line.sequence
    }
}

impl Beside {
    fn of(link: &Link) -> Beside {
        let event = link.event.name().to_owned();
        Beside { time_ms: link.time_ms, id: link.id.clone(), event }
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What is wrong with one record.
pub(super) fn corrupted(server: &str, sequence: u64, what: &str) -> Error {
    let message = format!("audit record {sequence} of server {server} {what}");
    Error::new(Kind::DataCorrupted, message)
}
