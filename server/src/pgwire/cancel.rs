//! Cancel requests: which connections there are, and what stops the statement each one runs.
//!
//! What it guarantees: only who has the connection's secret stops its statement; secrets are
//! compared in constant time; a request stops what runs when it arrives, never what comes later.
//! What it does not: it answers nothing, as the protocol has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

/// The connections of one server.
#[derive(Default)]
pub struct Registry {
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    last_process_id: i32,
    by_process_id: HashMap<i32, Arc<Backend>>,
}

/// A connection's place in the registry; it leaves it when dropped.
pub struct Registration {
    registry: Arc<Registry>,
    backend: Arc<Backend>,
}

struct Backend {
    process_id: i32,
    secret: Vec<u8>,
    running: Mutex<Option<CancellationToken>>,
}

impl Registry {
    /// Gives a connection its number and its secret: 4 bytes in protocol 3.0, more since 3.2.
    pub fn register(self: &Arc<Registry>, minor: u16) -> Registration {
        let secret: [u8; 32] = rand::random();
        let length = if minor >= 2 { secret.len() } else { 4 };
        let mut connections = lock(&self.connections);
        let process_id = connections.free_process_id();
        let backend = Arc::new(Backend {
            process_id,
            secret: secret.into_iter().take(length).collect(),
            running: Mutex::new(None),
        });
        connections.by_process_id.insert(process_id, Arc::clone(&backend));
        Registration { registry: Arc::clone(self), backend }
    }

    /// Stops what the connection is running now, if the secret is right.
    pub fn cancel(&self, process_id: i32, secret: &[u8]) {
        let backend = lock(&self.connections).by_process_id.get(&process_id).cloned();
        let right = backend.filter(|backend| backend.secret.ct_eq(secret).into());
        match right.and_then(|backend| lock(&backend.running).clone()) {
            Some(running) => running.cancel(),
            None => tracing::debug!(process_id, "a cancel request found nothing to cancel"),
        }
    }
}

impl Registration {
    pub fn process_id(&self) -> i32 {
        self.backend.process_id
    }

    pub fn secret(&self) -> &[u8] {
        &self.backend.secret
    }

    /// From now on a cancel request cancels `running`.
    pub fn runs(&self, running: &CancellationToken) {
        *lock(&self.backend.running) = Some(running.clone());
    }

    /// From now on a cancel request cancels nothing.
    pub fn rests(&self) {
        *lock(&self.backend.running) = None;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.registry.connections).by_process_id.remove(&self.backend.process_id);
    }
}

impl Connections {
    /// The next positive number that is not in use.
    fn free_process_id(&mut self) -> i32 {
        loop {
            self.last_process_id = self.last_process_id.checked_add(1).unwrap_or(1);
            if !self.by_process_id.contains_key(&self.last_process_id) {
                return self.last_process_id;
            }
        }
    }
}

/// What is locked here is whole at every moment, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
