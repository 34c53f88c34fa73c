//! Clients that have logged in: what each keeps between its calls.
//!
//! What it is: a [`Client`] has one session for what it says without a transaction's id, as a
//! connection to the PostgreSQL wire has; a session for each transaction it began; and what it was
//! promised: prepared statements, and rows that were not fetched yet.
//! What it guarantees: all of it is bounded; it ends with the credential or the role, when it is asked
//! whether it would be let in anew and would not, when the client says so, when it was silent for as long
//! as a token holds, or soon after its connection is gone. What one client keeps no other can reach.
//! What it does not: it authenticates nobody.
//! On failure: `53300` for one client too many, `54000` for one thing too many.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use kho_catalog::error::{Error, Kind, Result};
use kho_catalog::state::Oid;
use kho_sql::session::{Credential, Engine, Login, Session, TransactionStatus};
use tokio::sync::{Mutex as SessionMutex, MutexGuard as Taken, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::listener::Peer;
use super::prepared::Prepared;
use super::recent::Recent;
use super::statement::Held;
use super::transaction::Transaction;
use crate::authenticate::VerifierDigest;
use crate::entrance::Entrance;

/// A session that calls take turns with.
pub type Shared = Arc<Turn>;

/// A session, and which of its blocks has failed by rows that came late: whoever takes the next turn
/// is told, so that rows wait for nobody.
pub struct Turn {
    session: SessionMutex<Session>,
    /// Blocks begun so far.
    block: AtomicU64,
    failed: AtomicU64,
}

/// No block has this number.
const NO_BLOCK: u64 = 0;
/// What a client may keep of each kind.
const TRANSACTIONS: usize = 16;
/// Prepared statements of one client.
pub const PREPARED: usize = 1024;
const HELD: usize = 256;
/// How long rows wait to be fetched.
pub const HELD_FOR: Duration = Duration::from_secs(300);
/// How long a client may be without a connection before it is taken to be gone.
const RECONNECTS_WITHIN: Duration = Duration::from_secs(60);
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// Process ids of the PostgreSQL wire are below.
const FIRST_PROCESS_ID: i32 = 1_000_000_000;

/// By what a client was let in: also what its password was checked against, where it was one.
pub type By = (Credential, Option<VerifierDigest>);

/// Who is logged in, and what is open for them.
pub struct Client {
    pub id: Uuid,
    pub role: Oid,
    /// What the password was checked against that it came by.
    pub password: Option<VerifierDigest>,
    /// When it logged in.
    pub admitted_ms: i64,
    /// When all that it runs is to stop.
    pub ended: CancellationToken,
    pub transactions: Kept<Arc<Transaction>>,
    pub prepared: Kept<Arc<Prepared>>,
    pub held: Kept<Held>,
    pub recent: Recent,
    main: Shared,
    running: Mutex<HashMap<Uuid, BTreeMap<u64, CancellationToken>>>,
    started: AtomicU64,
    calls: AtomicUsize,
    seen: Mutex<Seen>,
    _place: OwnedSemaphorePermit,
}

struct Seen {
    at: Instant,
    over: Weak<()>,
}

/// Things of one kind that a client keeps, by their ids.
pub struct Kept<T> {
    what: &'static str,
    most: usize,
    most_bytes: usize,
    things: Mutex<Things<T>>,
}

struct Things<T> {
    by_id: HashMap<Uuid, Thing<T>>,
    /// Whether the client has ended: nothing is kept for it any more.
    closed: bool,
}

struct Thing<T> {
    since: Instant,
    bytes: usize,
    thing: T,
}

/// All clients of one server.
pub struct Clients {
    entrance: Arc<Entrance>,
    lifetime: Duration,
    /// What one client may keep of each kind.
    bytes: usize,
    by_id: Mutex<HashMap<Uuid, Arc<Client>>>,
    /// Those that prove who they are with every call.
    by_proof: Mutex<HashMap<[u8; 32], Uuid>>,
    last_process_id: AtomicI32,
}

/// A call or a stream of rows that a client is busy with, as long as it lives.
pub struct Busy(Arc<Client>);

/// A statement that runs, as long as it lives.
pub struct Running {
    client: Arc<Client>,
    ids: Vec<Uuid>,
    number: u64,
    pub stop: CancellationToken,
}

impl Clients {
    pub fn new(entrance: &Arc<Entrance>, lifetime: Duration, bytes: usize) -> Clients {
        Clients {
            entrance: Arc::clone(entrance),
            lifetime,
            bytes,
            by_id: Mutex::default(),
            by_proof: Mutex::default(),
            last_process_id: AtomicI32::new(FIRST_PROCESS_ID),
        }
    }

    /// Lets a client in, who has proved to be `role`.
    ///
    /// # Errors
    /// `53300` where there is no place; what [`Engine::connect`] says.
    pub async fn admit(
        self: &Arc<Self>,
        role: &str,
        (credential, password): By,
        peer: &Peer,
        settings: Vec<(String, String)>,
        deadline: &CancellationToken,
    ) -> Result<Arc<Client>> {
        let place = match self.entrance.place(role).await {
            Err(error) if error.kind() == Kind::TooManyConnections && self.make_room() => {
                self.entrance.place(role).await?
            }
            place => place?,
        };
        let login = Login {
            role: role.to_owned(),
            protocol: "flight",
            client: Some(peer.address),
            settings,
            process_id: self.last_process_id.fetch_add(1, Ordering::Relaxed),
            credential,
        };
        let of = login.credential.role;
        let engine: &Arc<Engine> = &self.entrance.engine;
        let session = match engine.connect(login.clone()).await {
            Err(error) if error.kind() == Kind::TooManyConnections && self.make_room() => {
                engine.connect(login).await?
            }
            session => session?,
        };
        let ended = session.ended();
        let client = Arc::new(Client {
            id: Uuid::new_v4(),
            role: of.ok_or_else(|| Error::internal("a login without a role"))?,
            password,
            admitted_ms: chrono::Utc::now().timestamp_millis(),
            ended: deadline.child_token(),
            transactions: Kept::new("transactions", TRANSACTIONS, self.bytes),
            prepared: Kept::new("prepared statements", PREPARED, self.bytes),
            held: Kept::new("results that were not fetched", HELD, self.bytes),
            recent: Recent::default(),
            main: Turn::of(session),
            running: Mutex::default(),
            started: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            seen: Mutex::new(Seen { at: Instant::now(), over: Arc::downgrade(&peer.alive) }),
            _place: place,
        });
        lock(&self.by_id).insert(client.id, Arc::clone(&client));
        metrics::gauge!("kho_flight_clients").increment(1);
        let (clients, watched) = (Arc::downgrade(self), (client.id, client.ended.clone()));
        tokio::spawn(async move {
            let (id, over) = watched;
            if let Some(error) = over.run_until_cancelled(ended).await
                && let Some(clients) = clients.upgrade()
            {
                tracing::info!(?error, "a client is sent away");
                clients.end(id);
            }
        });
        Ok(client)
    }

    pub fn get(&self, id: Uuid) -> Option<Arc<Client>> {
        lock(&self.by_id).get(&id).cloned()
    }

    /// The client that has given this proof before.
    pub fn of_proof(&self, proof: &[u8; 32]) -> Option<Arc<Client>> {
        let id = lock(&self.by_proof).get(proof).copied()?;
        self.get(id)
    }

    /// Knows `client` by its proof from now on. Another one that gave the same at the same moment is
    /// the one that stays.
    pub fn remember(&self, proof: [u8; 32], client: Arc<Client>) -> Arc<Client> {
        let first = {
            let mut by_proof = lock(&self.by_proof);
            let first = by_proof.get(&proof).and_then(|id| self.get(*id));
            if first.is_none() {
                by_proof.insert(proof, client.id);
            }
            first
        };
        if first.is_some() {
            self.end(client.id);
        }
        first.unwrap_or(client)
    }

    /// Ends a client, and all that it runs.
    pub fn end(&self, id: Uuid) {
        let ended = lock(&self.by_id).remove(&id);
        if let Some(client) = ended {
            lock(&self.by_proof).retain(|_, of| *of != id);
            metrics::gauge!("kho_flight_clients").decrement(1);
            client.end();
        }
    }

    pub fn end_all(&self) {
        let all: Vec<Uuid> = lock(&self.by_id).keys().copied().collect();
        all.into_iter().for_each(|id| self.end(id));
    }

    /// Ends what has come to its end, until `shutdown`.
    pub async fn sweep(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEPT_EVERY);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let all: Vec<Arc<Client>> = lock(&self.by_id).values().cloned().collect();
            for client in all {
                client.held.renew(Held::is_used);
                client.held.retain(|_, _, age| age <= HELD_FOR);
                client.transactions.retain(|_, it, _| !it.is_idle_for_too_long());
                if client.is_over(self.lifetime, RECONNECTS_WITHIN) {
                    self.end(client.id);
                }
            }
        }
    }

    /// Where there is no place for one more: ends those whose connection is gone, or that have nothing
    /// open and said nothing for a while; whether there were any.
    fn make_room(&self) -> bool {
        let all: Vec<Arc<Client>> = lock(&self.by_id).values().cloned().collect();
        let gone = all.iter().filter(|client| {
            client.is_over(self.lifetime, Duration::ZERO) || client.has_nothing_open()
        });
        gone.map(|client| self.end(client.id)).count() > 0
    }
}

impl Turn {
    pub fn of(session: Session) -> Shared {
        let block = u64::from(session.status() != TransactionStatus::Idle);
        let (block, failed) = (AtomicU64::new(block), AtomicU64::new(NO_BLOCK));
        Arc::new(Turn { session: SessionMutex::new(session), block, failed })
    }

    /// The session, once it is this call's turn.
    pub async fn take(&self) -> Taken<'_, Session> {
        let mut session = self.session.lock().await;
        // Once: a savepoint may bring the block back.
        let block = self.block.load(Ordering::SeqCst);
        let failed =
            self.failed.compare_exchange(block, NO_BLOCK, Ordering::SeqCst, Ordering::SeqCst);
        if failed.is_ok() && session.status() == TransactionStatus::InTransaction {
            session.fail();
        }
        session
    }

    /// The same where nobody has it.
    pub fn try_take(&self) -> Option<Taken<'_, Session>> {
        self.session.try_lock().ok()
    }

    /// Counts a block that a turn has begun.
    pub fn has_begun(&self, before: TransactionStatus, session: &Session) {
        if before == TransactionStatus::Idle && session.status() != TransactionStatus::Idle {
            self.block.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The block that is open, or was the last.
    pub fn block(&self) -> u64 {
        self.block.load(Ordering::SeqCst)
    }

    /// The rows of a statement of this block have failed.
    pub fn fail(&self, block: u64) {
        self.failed.fetch_max(block, Ordering::SeqCst);
    }
}

impl Client {
    /// A session for a call: that of a transaction, or the client's own.
    ///
    /// # Errors
    /// `25P01` for a transaction that is none of this client's.
    pub fn session(&self, transaction: Option<Uuid>) -> Result<Shared> {
        let Some(id) = transaction else { return Ok(Arc::clone(&self.main)) };
        let transaction = self.transactions.get(id).ok_or_else(|| {
            Error::new(Kind::NoActiveTransaction, "there is no such transaction of this client")
        })?;
        Ok(transaction.session())
    }

    /// A call that came over `peer`.
    pub fn busy(self: &Arc<Self>, peer: Option<&Peer>) -> Busy {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut seen = lock(&self.seen);
        seen.at = Instant::now();
        if let Some(peer) = peer {
            seen.over = Arc::downgrade(&peer.alive);
        }
        Busy(Arc::clone(self))
    }

    /// A statement that starts, under `id`; it stops with the client.
    pub fn runs(self: &Arc<Self>, id: Uuid) -> Running {
        let stop = self.ended.child_token();
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let running = Running { client: Arc::clone(self), ids: Vec::new(), number, stop };
        running.also_as(id)
    }

    /// Stops what runs under `id`; whether something did.
    pub fn cancel(&self, id: Uuid) -> bool {
        let held = self.held.take(id).is_some();
        let running = lock(&self.running).get(&id).cloned().unwrap_or_default();
        running.values().for_each(CancellationToken::cancel);
        !running.is_empty() || held
    }

    fn end(&self) {
        self.ended.cancel();
        self.held.close();
        self.recent.clear();
        self.prepared.close();
        self.transactions.close();
    }

    /// For how long nothing was heard of it; `None` while a call of it goes on, or rows do.
    fn silent(&self) -> Option<Duration> {
        let is_idle = self.calls.load(Ordering::Relaxed) == 0;
        is_idle.then(|| lock(&self.seen).at.elapsed())
    }

    fn has_nothing_open(&self) -> bool {
        let in_block = match self.main.try_take() {
            Some(session) => session.status() != TransactionStatus::Idle,
            None => true,
        };
        let is_silent = self.silent().is_some_and(|silent| silent >= RECONNECTS_WITHIN);
        is_silent && !in_block && self.transactions.is_empty()
    }

    fn is_over(&self, lifetime: Duration, reconnects_within: Duration) -> bool {
        let Some(silent) = self.silent() else { return false };
        let is_gone = lock(&self.seen).over.strong_count() == 0;
        let limit = self.main.try_take().and_then(|session| session.idle_limit_ms());
        let limit = limit.map(|(limit_ms, _)| Duration::from_millis(limit_ms));
        silent > lifetime
            || (is_gone && silent >= reconnects_within)
            || limit.is_some_and(|limit| silent > limit)
    }
}

impl<T> Kept<T> {
    fn new(what: &'static str, most: usize, most_bytes: usize) -> Kept<T> {
        let things = Mutex::new(Things { by_id: HashMap::new(), closed: false });
        Kept { what, most, most_bytes, things }
    }

    /// Keeps a thing of this size, in place of what is kept under the same id.
    ///
    /// # Errors
    /// `54000` for one too many, or too large; `28000` where the client has ended.
    pub fn put(&self, id: Uuid, bytes: usize, thing: T) -> Result<()> {
        let mut things = lock(&self.things);
        if things.closed {
            return Err(Error::new(Kind::InvalidAuthorization, "the client has ended"));
        }
        let others = || things.by_id.iter().filter(|(of, _)| **of != id).map(|(_, it)| it.bytes);
        let held = others().fold(bytes, usize::saturating_add);
        if others().count() >= self.most || held > self.most_bytes {
            let message = format!("this client keeps too many {}", self.what);
            return Err(Error::new(Kind::ProgramLimitExceeded, message)
                .with_hint("Close, end or fetch those that are no longer needed."));
        }
        things.by_id.insert(id, Thing { since: Instant::now(), bytes, thing });
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.things).by_id.is_empty()
    }

    pub fn take(&self, id: Uuid) -> Option<T> {
        lock(&self.things).by_id.remove(&id).map(|it| it.thing)
    }

    /// Begins to count the age of some anew.
    fn renew(&self, is_used: impl Fn(&T) -> bool) {
        for thing in lock(&self.things).by_id.values_mut().filter(|it| is_used(&it.thing)) {
            thing.since = Instant::now();
        }
    }

    /// Forgets what is not to be kept, by its age.
    pub fn retain(&self, keep: impl Fn(&Uuid, &T, Duration) -> bool) {
        let mut things = lock(&self.things);
        things.by_id.retain(|id, it| keep(id, &it.thing, it.since.elapsed()));
    }

    /// Forgets everything, for good.
    fn close(&self) {
        let forgotten = {
            let mut things = lock(&self.things);
            things.closed = true;
            std::mem::take(&mut things.by_id)
        };
        drop(forgotten);
    }
}

impl<T: Clone> Kept<T> {
    pub fn get(&self, id: Uuid) -> Option<T> {
        lock(&self.things).by_id.get(&id).map(|it| it.thing.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        lock(&self.0.seen).at = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Running {
    /// The same statement, which goes by another id, too.
    pub fn also_as(mut self, id: Uuid) -> Running {
        let mut running = lock(&self.client.running);
        running.entry(id).or_default().insert(self.number, self.stop.clone());
        drop(running);
        self.ids.push(id);
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = lock(&self.client.running);
        for id in &self.ids {
            if let Some(of) = running.get_mut(id) {
                of.remove(&self.number);
                if of.is_empty() {
                    running.remove(id);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
