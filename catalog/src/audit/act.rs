//! Acts: a beginning and its end as one.
//!
//! What it is: [`Source::acts`] joins the lines of one server as they come.
//! What it guarantees: each act comes once, when it ended, or at the end of the chain where it runs
//! still. Memory is bounded by the acts that may be open at one time: a new run of the server ends
//! all of the one before.
//! What it does not: it puts them in no order of time.

use std::collections::HashMap;

use futures::{Stream, StreamExt, stream};

use super::read::Source;
use super::record::{Completion, Event, Line, Record, RecordKind};
use crate::error::Result;

/// What was asked, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub server: String,
    /// The number of its beginning.
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    pub id: String,
    pub record: Record,
    pub end: End,
}

/// How an act ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every act is completed")]
pub enum End {
    Completed {
        time_ms: i64,
        completion: Completion,
    },
    /// Whoever it was for went away.
    Abandoned {
        time_ms: i64,
    },
    /// The server ended without a word on it.
    Unknown,
    /// Not ended yet.
    Running,
}

impl Source {
    /// What was asked of one server.
    pub fn acts(&self, server: &str) -> impl Stream<Item = Result<Act>> + Send + use<> {
        let lines = Box::pin(self.lines(server));
        let state = Some((lines, HashMap::<String, Act>::new()));
        stream::unfold(state, |state| async move {
            let (mut lines, mut open) = state?;
            let given: Vec<Result<Act>> = match lines.next().await {
                None => {
                    let mut left: Vec<Act> = open.into_values().collect();
                    left.sort_by_key(|act| act.sequence);
                    return Some((
                        stream::iter(left.into_iter().map(Ok).collect::<Vec<_>>()),
                        None,
                    ));
                }
                Some(Err(error)) => return Some((stream::iter(vec![Err(error)]), None)),
                Some(Ok(line)) => take(line, &mut open).into_iter().map(Ok).collect(),
            };
            Some((stream::iter(given), Some((lines, open))))
        })
        .flatten()
    }
}

/// What a line ends.
fn take(line: Line, open: &mut HashMap<String, Act>) -> Vec<Act> {
    let Line { server, sequence, time_ms, id, event } = line;
    let mut ended =
        |id: &str, end: End| open.remove(id).map(|act| Act { end, ..act }).into_iter().collect();
    match event {
        Event::Begin(record) => {
            let end = End::Running;
            open.insert(id.clone(), Act { server, sequence, time_ms, id, record, end });
            Vec::new()
        }
        Event::Complete(completion) => ended(&id, End::Completed { time_ms, completion }),
        Event::Abandoned => ended(&id, End::Abandoned { time_ms }),
        Event::Opened(opening) => {
            let mut cut: Vec<Act> = open.drain().map(|(_, act)| act).collect();
            cut.sort_by_key(|act| act.sequence);
            cut.iter_mut().for_each(|act| act.end = End::Unknown);
            let lost = opening.lost.map(|lost| Act {
                server,
                sequence,
                time_ms,
                id,
                record: loss(lost),
                end: End::Completed { time_ms, completion: Completion::default() },
            });
            cut.extend(lost);
            cut
        }
        Event::Removing(_) | Event::Removed { .. } | Event::Kept | Event::Releasing(_) => {
            Vec::new()
        }
    }
}

/// What a server says that came back without its disk.
fn loss((first, last): (u64, u64)) -> Record {
    Record {
        kind: RecordKind::Server,
        role: String::new(),
        role_id: None,
        protocol: String::new(),
        session: String::new(),
        purpose: None,
        order_number: None,
        client: String::new(),
        authentication: None,
        statement: Some(format!("records {first} to {last} were lost with their disk")),
        parameters: Vec::new(),
    }
}
