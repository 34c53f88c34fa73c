//! The PostgreSQL wire, protocol 3: accepting, and what all its connections share.
//!
//! What it guarantees: one task for each connection, none of which can stop the server or another
//! one; how many there are is bounded, before and after the login; a stop lets running statements
//! end until a deadline and sends everyone else away with `57P01`.
//! What it does not: it knows no SQL; `kho_sql::session::Session::run` is the only way in. pgwire's
//! handlers and its decoder are not used (CRATES 3.2), its messages are.
//! On failure: of a connection, that connection ends; of accepting, it is tried again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kho_catalog::error::Result;
use kho_sql::session::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::authenticate::oidc::Oidc;
use crate::entrance::{Entrance, watch_over};
use crate::pgwire::cancel::Registry;
use crate::pgwire::connection::Ending;
use crate::tls::{Acceptor, Clients, Identity};

mod backend;
mod cancel;
mod connection;
mod copy_in;
mod extended;
pub mod frontend;
mod greeting;
mod rows;
mod simple;
pub mod startup;
pub mod value;
mod wire;

/// How much clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Clients that are logged in at one time.
    pub connections: usize,
    /// How many of these are kept for members of `kho_admin`.
    pub reserved: usize,
    /// Clients that are not logged in yet; further ones wait to be accepted.
    pub startups: usize,
    /// From accepting a client to its login.
    pub startup_timeout_ms: u64,
    /// One message, and so one statement's text or one row of a `COPY`.
    pub message_bytes: usize,
    /// Prepared statements of one connection, and likewise portals.
    pub prepared: usize,
    /// What the prepared statements and portals of one connection may hold together.
    pub prepared_bytes: usize,
    /// How long running statements may go on once the server stops.
    pub stop_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 100,
            reserved: 3,
            startups: 100,
            startup_timeout_ms: 15_000,
            message_bytes: 256 * 1024 * 1024,
            prepared: 4096,
            prepared_bytes: 512 * 1024 * 1024,
            stop_timeout_ms: 10_000,
        }
    }
}

/// Whose word on who a client is is taken, besides passwords.
#[derive(Default)]
pub struct Trusted {
    pub clients: Option<Clients>,
    pub oidc: Option<Oidc>,
}

/// What all connections of one server share.
pub struct Shared {
    entrance: Arc<Entrance>,
    tls: Option<Tls>,
    limits: Limits,
    registry: Arc<Registry>,
    startups: Arc<Semaphore>,
}

struct Tls {
    acceptor: Acceptor,
    /// What SCRAM binds a login to.
    end_point: Option<Vec<u8>>,
}

/// How long statements that were cancelled at the deadline of a stop may take to end.
const LAST_MOMENT: Duration = Duration::from_secs(5);
/// Accepting fails where there is no file handle left: it comes back in its own time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Shared {
    /// Without an identity, only clients on this machine are served.
    ///
    /// # Errors
    /// `F0000` where the identity, or what is to be trusted, cannot be used.
    pub fn new(
        engine: Arc<Engine>,
        identity: Option<&Identity>,
        trusted: Trusted,
        limits: Limits,
    ) -> Result<Arc<Shared>> {
        let Trusted { clients, oidc } = trusted;
        let tls = identity
            .map(|identity| -> Result<Tls> {
                let acceptor = Acceptor::new(identity, clients.as_ref(), &[b"postgresql"])?;
                Ok(Tls { acceptor, end_point: identity.end_point() })
            })
            .transpose()?;
        let mock_secret = match identity {
            Some(identity) => identity.derive_secret("kho mock authentication"),
            None => rand::random(),
        };
        let places = (limits.connections, limits.reserved);
        Ok(Arc::new(Shared {
            entrance: Arc::new(Entrance::new(engine, mock_secret, oidc, places)),
            tls,
            registry: Arc::new(Registry::default()),
            startups: Arc::new(Semaphore::new(limits.startups)),
            limits,
        }))
    }

    /// The door that other wires let their clients in by, too.
    pub fn entrance(&self) -> Arc<Entrance> {
        Arc::clone(&self.entrance)
    }
}

/// Serves clients until `shutdown`; returns when the last connection has ended.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    let ending = Ending { requested: shutdown, deadline: CancellationToken::new() };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = ending.requested.cancelled() => break,
            Some(ended) = connections.join_next() => reap(ended),
            accepted = accept(&listener, &shared) => {
                if let Some((stream, peer, permit)) = accepted {
                    let client = client(stream, peer, Arc::clone(&shared), ending.clone(), permit);
                    connections.spawn(client.instrument(tracing::info_span!("pgwire", %peer)));
                }
            }
        }
    }
    drop(listener);
    let stop_timeout = Duration::from_millis(shared.limits.stop_timeout_ms);
    if tokio::time::timeout(stop_timeout, drain(&mut connections)).await.is_err() {
        ending.deadline.cancel();
        if tokio::time::timeout(LAST_MOMENT, drain(&mut connections)).await.is_err() {
            tracing::warn!(connections = connections.len(), "statements did not stop in time");
            connections.shutdown().await;
        }
    }
}

/// The next client, once there is room for one more that is not logged in.
async fn accept(
    listener: &TcpListener,
    shared: &Shared,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&shared.startups).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn client(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    ending: Ending,
    startup: OwnedSemaphorePermit,
) {
    metrics::counter!("kho_pgwire_connections_total").increment(1);
    watch_over(&stream);
    let (reader, writer) = stream.into_split();
    let (reader, writer) = (Box::new(reader), Box::new(writer));
    connection::serve(reader, writer, peer, &shared, ending, startup).await;
}

async fn drain(connections: &mut JoinSet<()>) {
    while let Some(ended) = connections.join_next().await {
        reap(ended);
    }
}

fn reap(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        metrics::counter!("kho_pgwire_panics_total").increment(1);
        tracing::error!(%error, "a connection ended by a bug");
    }
}

#[cfg(test)]
mod tests;
