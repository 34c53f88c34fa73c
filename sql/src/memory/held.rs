//! Memory that a wire holds for a client, out of what there is for statements.
//!
//! What it guarantees: it is told before it is taken, and given back when this is dropped.
//! On failure: `53200`, which says what setting to raise.

use std::sync::Arc;

use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryPool, MemoryReservation, UnboundedMemoryPool,
};
use kho_catalog::error::{Error, Kind, Result};

use crate::errors::from_engine;

/// So many bytes, of one client.
#[derive(Debug)]
pub struct Held(MemoryReservation);

impl Held {
    pub(super) fn of(pool: &Arc<dyn MemoryPool>) -> Held {
        Held(MemoryConsumer::new("a message").register(pool))
    }

    /// What is held by where there is no server, and so no limit.
    pub fn without_limit() -> Held {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        Held::of(&pool)
    }

    /// What is held out of the same room: what one holds the other lacks.
    pub fn beside(&self) -> Held {
        Held(self.0.new_empty())
    }

    /// How much is held.
    pub fn bytes(&self) -> usize {
        self.0.size()
    }

    /// Holds `bytes` from now on, in place of what was held before.
    ///
    /// # Errors
    /// `53200` where they are not there; then as many are held as before.
    pub fn hold(&self, bytes: usize) -> Result<()> {
        self.0.try_resize(bytes).map_err(|refused| {
            // The engine speaks of a query, which this is none.
            let error = from_engine(refused);
            let hint = error.hint().unwrap_or_default().to_owned();
            Error::new(Kind::OutOfMemory, "there is not enough memory for what was sent")
                .with_detail(error.detail().unwrap_or_default())
                .with_hint(hint)
        })
    }
}
