//! Transactions that a client names by an id.
//!
//! What it guarantees: what runs in one is a block of the PostgreSQL wire, in a session of its own; calls
//! of one transaction come one after the other; it is of the client that began it.
//! What it does not: `BEGIN` as a statement is another block, that of the client's own session.
//! On failure: `25P01` for an id of nobody; a transaction that had failed is rolled back, and who wanted
//! it committed is told so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::TransactionStatus;
use uuid::Uuid;

use super::client::{Shared, Turn};
use super::run;
use super::service::Call;

/// A block, and the names of its savepoints.
pub struct Transaction {
    session: Shared,
    savepoints: Mutex<HashMap<Uuid, String>>,
    used: Mutex<Instant>,
}

/// Savepoints of one transaction.
const SAVEPOINTS: usize = 1024;

/// How a transaction or a savepoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `COMMIT`, or `RELEASE`.
    Keep,
    /// `ROLLBACK`.
    Undo,
}

impl End {
    /// What the protocol calls it.
    ///
    /// # Errors
    /// `22023` for something else.
    pub fn of(action: i32) -> Result<End> {
        match action {
            1 => Ok(End::Keep),
            2 => Ok(End::Undo),
            other => {
                let message = format!("there is no way {other} to end a transaction");
                Err(Error::new(Kind::InvalidParameterValue, message))
            }
        }
    }
}

impl Transaction {
    pub fn session(&self) -> Shared {
        *lock(&self.used) = Instant::now();
        Arc::clone(&self.session)
    }

    /// Whether nothing was said in it for longer than its settings allow, and no rows of it are on their
    /// way; or whether it is over, by a statement. What its client does besides does not keep it.
    pub fn is_idle_for_too_long(&self) -> bool {
        let mut used = lock(&self.used);
        if Arc::strong_count(&self.session) > 1 {
            *used = Instant::now();
            return false;
        }
        let Some(session) = self.session.try_take() else { return false };
        if session.status() == TransactionStatus::Idle {
            return true;
        }
        let limit = session.idle_limit_ms();
        limit.is_some_and(|(limit_ms, _)| used.elapsed() > Duration::from_millis(limit_ms))
    }
}

impl Call {
    /// `BeginTransaction`; gives its id.
    ///
    /// # Errors
    /// `53300` where the role has too many sessions, `54000` where the client has too many transactions.
    pub async fn begin(&self) -> Result<Uuid> {
        let begun = self.with_session(Uuid::new_v4(), None, |session, stop| {
            Box::pin(async move {
                let mut beside = session.beside().await?;
                run::done(&mut beside, "BEGIN", stop).await?;
                Ok(beside)
            })
        });
        let (session, _) = begun.await?;
        let transaction = Transaction {
            session: Turn::of(session),
            savepoints: Mutex::default(),
            used: Mutex::new(Instant::now()),
        };
        let id = Uuid::new_v4();
        self.client.transactions.put(id, 0, Arc::new(transaction))?;
        Ok(id)
    }

    /// `EndTransaction`.
    ///
    /// # Errors
    /// `25P01`; `25P02` where it had failed and was to be committed; what the commit says.
    pub async fn end_transaction(&self, id: Uuid, end: End) -> Result<()> {
        let client = Arc::clone(&self.client);
        let ended = self.with_session(Uuid::new_v4(), Some(id), move |session, stop| {
            Box::pin(async move {
                let had_failed = session.status() == TransactionStatus::Failed;
                let said = match end {
                    End::Keep => run::done(session, "COMMIT", stop).await.map(drop),
                    End::Undo => run::done(session, "ROLLBACK", stop).await.map(drop),
                };
                // Whatever became of it, it is over; also where nobody waits for that any more.
                client.transactions.take(id);
                match (said, end) {
                    (Ok(()), End::Keep) if had_failed => Err(Error::new(
                        Kind::InFailedTransaction,
                        "the transaction had failed: it was rolled back",
                    )),
                    (said, _) => said,
                }
            })
        });
        ended.await.map(drop)
    }

    /// `BeginSavepoint`; gives its id.
    ///
    /// # Errors
    /// `25P01`, `54000`.
    pub async fn begin_savepoint(&self, transaction: Uuid) -> Result<Vec<u8>> {
        let of = self.client.transactions.get(transaction).ok_or_else(no_savepoint)?;
        if lock(&of.savepoints).len() >= SAVEPOINTS {
            return Err(Error::new(Kind::ProgramLimitExceeded, "too many savepoints"));
        }
        // The client's own names may be one another's; ids never are.
        let id = Uuid::new_v4();
        let name = format!("flight {id}");
        self.say_in(transaction, format!("SAVEPOINT \"{name}\"")).await?;
        lock(&of.savepoints).insert(id, name);
        Ok([transaction.as_bytes().as_slice(), id.as_bytes()].concat())
    }

    /// `EndSavepoint`.
    ///
    /// # Errors
    /// `25P01` for an id of nobody; what the session says.
    pub async fn end_savepoint(&self, id: &[u8], end: End) -> Result<()> {
        let (transaction, id) = id.split_at_checked(16).ok_or_else(no_savepoint)?;
        let ids = Uuid::from_slice(transaction).ok().zip(Uuid::from_slice(id).ok());
        let (transaction, id) = ids.ok_or_else(no_savepoint)?;
        let of = self.client.transactions.get(transaction).ok_or_else(no_savepoint)?;
        let name = lock(&of.savepoints).get(&id).cloned().ok_or_else(no_savepoint)?;
        match end {
            End::Keep => {
                self.say_in(transaction, format!("RELEASE SAVEPOINT \"{name}\"")).await?;
                lock(&of.savepoints).remove(&id);
            }
            End::Undo => {
                self.say_in(transaction, format!("ROLLBACK TO SAVEPOINT \"{name}\"")).await?;
            }
        }
        Ok(())
    }

    async fn say_in(&self, transaction: Uuid, text: String) -> Result<()> {
        let said = self.with_session(Uuid::new_v4(), Some(transaction), move |session, stop| {
            Box::pin(async move { run::done(session, &text, stop).await.map(drop) })
        });
        said.await.map(drop)
    }
}

fn no_savepoint() -> Error {
    Error::new(Kind::NoActiveTransaction, "there is no such savepoint of this client")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
