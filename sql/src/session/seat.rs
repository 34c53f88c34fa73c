//! How many clients of each role there are, and the limit of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::{Oid, Role};

/// The clients of one server, counted by role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats(Arc<Mutex<HashMap<Oid, u32>>>);

/// One client's place; dropping the last copy makes it free.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    _taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    seats: Seats,
    role: Oid,
}

impl Seats {
    /// # Errors
    /// `53300` where the role has as many clients as its `CONNECTION LIMIT` allows.
    pub(super) fn take(&self, role: &Role) -> Result<Seat> {
        let mut open = self.lock();
        let count = open.entry(role.oid).or_default();
        if role.connection_limit.is_some_and(|limit| *count >= limit) {
            let message = format!("too many connections for role \"{}\"", role.name);
            return Err(Error::new(Kind::TooManyConnections, message));
        }
        *count += 1;
        Ok(Seat { _taken: Arc::new(Taken { seats: self.clone(), role: role.oid }) })
    }

    /// How many clients a role has.
    pub(crate) fn of(&self, role: Oid) -> u32 {
        self.lock().get(&role).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Oid, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut open = self.seats.lock();
        if let Some(count) = open.get_mut(&self.role) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.role);
            }
        }
    }
}
