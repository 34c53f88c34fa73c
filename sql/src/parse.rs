//! From text to statements.

/// One parsed statement; cheap to clone.
#[derive(Clone, Debug)]
pub struct Statement {}

impl Statement {
    /// Whether running it gives rows (`SELECT`, `SHOW`, `EXPLAIN`, …).
    pub fn gives_rows(&self) -> bool {
        false
    }

    /// The prepared statement that a `DEALLOCATE name` names. One that was prepared by the wire's
    /// `Parse` is known to the wire alone, which drops it; psycopg deallocates that way.
    pub fn deallocates(&self) -> Option<&str> {
        None
    }
}
