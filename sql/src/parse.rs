//! From text to statements.

/// One parsed statement; cheap to clone.
#[derive(Clone, Debug)]
pub struct Statement {}

impl Statement {
    /// Whether running it gives rows (`SELECT`, `SHOW`, `EXPLAIN`, …).
    pub fn gives_rows(&self) -> bool {
        false
    }
}
