//! Rows that left datasets: what the deletion log shows.
//!
//! # Why from here and not from the tables' logs
//! A table's own log goes with the table, can be rewritten by whoever reaches the files, and would
//! have to be read whole, for every table, for every question. The ledger is signed, outlives the
//! table and is read once. It cannot miss a removal: the word that rows are to go is durable before
//! the commit that takes them away, and without it that commit is not made. It cannot claim one
//! that was not: where the word after the commit is missing (a kill between the two), the table's
//! log is asked whether the commit is there, and where that is gone too the log says "unknown".

use std::collections::HashMap;

use futures::{Stream, StreamExt, stream};

use super::read::Source;
use super::record::{Event, Line, Removal};
use crate::error::Result;

/// A removal, and what is known of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub server: String,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    pub removal: Removal,
    /// `None` where the ledger does not say whether it was done.
    pub end: Option<Option<u64>>,
}

impl Source {
    /// What was removed by statements of one server. What was not done after all is left out.
    pub fn removals(&self, server: &str) -> impl Stream<Item = Result<Removed>> + Send + use<> {
        let lines = Box::pin(self.lines(server));
        let state = Some((lines, HashMap::<String, Removed>::new()));
        stream::unfold(state, |state| async move {
            let (mut lines, mut open) = state?;
            let given: Vec<Result<Removed>> = match lines.next().await {
                None => {
                    let left: Vec<_> = open.into_values().map(Ok).collect();
                    return Some((stream::iter(left), None));
                }
                Some(Err(error)) => return Some((stream::iter(vec![Err(error)]), None)),
                Some(Ok(line)) => take(line, &mut open).into_iter().map(Ok).collect(),
            };
            Some((stream::iter(given), Some((lines, open))))
        })
        .flatten()
    }
}

fn take(line: Line, open: &mut HashMap<String, Removed>) -> Vec<Removed> {
    let Line { server, time_ms, id, event, .. } = line;
    match event {
        Event::Removing(removal) => {
            open.insert(id, Removed { server, time_ms, removal, end: None });
            Vec::new()
        }
        Event::Removed { version } => {
            let ended = open.remove(&id).map(|it| Removed { end: Some(version), ..it });
            ended.into_iter().collect()
        }
        Event::Kept => {
            open.remove(&id);
            Vec::new()
        }
        Event::Abandoned => open.remove(&id).into_iter().collect(),
        Event::Opened(_) => open.drain().map(|(_, it)| it).collect(),
        Event::Begin(_) | Event::Complete(_) | Event::Releasing(_) => Vec::new(),
    }
}
