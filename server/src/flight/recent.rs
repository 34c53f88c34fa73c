//! What a client said last, parsed.
//!
//! What it is: a query is told of by one call and run by the next, by its text. Its statement is kept
//! between them, and with it what was found out when it was bound ([`kho_sql`] says when that still
//! holds, and authorizes each run anew).
//! What it guarantees: it is of one client, it is few statements, and none of them is long.
//! What it does not: what is not kept is parsed and bound again.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kho_sql::parse::Statement;

/// A client that has several queries under way tells of them one after the other.
const MOST: usize = 8;
/// A text that is longer takes longer to run than to parse.
const LONGEST_BYTES: usize = 16 << 10;

/// The statements, the last one at the end.
#[derive(Default)]
pub struct Recent(Mutex<VecDeque<(String, Statement)>>);

impl Recent {
    pub fn get(&self, text: &str) -> Option<Statement> {
        self.lock().iter().find(|(of, _)| of == text).map(|(_, statement)| statement.clone())
    }

    /// Keeps `statement`, in place of the one that was kept longest.
    pub fn put(&self, text: String, statement: Statement) {
        if text.len() > LONGEST_BYTES {
            return;
        }
        let mut kept = self.lock();
        kept.retain(|(of, _)| *of != text);
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back((text, statement));
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Statement)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
