//! Arrow Flight SQL: accepting, and what all its calls share.
//!
//! What it guarantees: every call is authenticated before anything of it is looked at; how many
//! clients there are is bounded together with the other wires; a call that panics ends alone; a stop
//! lets running calls end until a deadline.
//! What it does not: it knows no SQL; `kho_sql::session::Session` is the only way in.
//! On failure: of a call, a status with the SQLSTATE; of a connection, that connection ends.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use kho_catalog::error::Result;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::entrance::Entrance;
use crate::flight::client::Clients;
use crate::flight::gate::Gate;
use crate::flight::service::Service;
use crate::flight::ticket::Sealer;
use crate::flight::whole::Whole;
use crate::tls::{self, Acceptor, Identity};

mod about;
mod authenticate;
pub mod bare;
mod cancel;
mod client;
mod error;
mod gate;
pub mod ingest;
mod listener;
pub mod metadata;
pub mod name;
pub mod options;
pub mod plain;
mod prepared;
mod put;
mod recent;
pub mod run;
mod service;
mod statement;
mod stream;
mod ticket;
mod together;
mod transaction;
pub mod whole;

/// How much clients may ask for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections whose client is not known yet; further ones wait to be accepted.
    pub startups: usize,
    /// Connections at one time, whoever they are of.
    pub connections: usize,
    /// From accepting a connection to the end of its TLS handshake.
    pub startup_timeout_ms: u64,
    /// One message.
    pub message_bytes: usize,
    /// How long a bearer token holds.
    pub token_lifetime_ms: u64,
    /// How long running calls may go on once the server stops.
    pub stop_timeout_ms: u64,
}

/// What all calls of one server share.
pub struct Shared {
    entrance: Arc<Entrance>,
    acceptor: Option<Acceptor>,
    clients: Arc<Clients>,
    sealer: Sealer,
    limits: Limits,
    /// Who still runs something is cancelled now.
    deadline: CancellationToken,
    /// What goes on when its call is given up.
    tasks: TaskTracker,
}

/// Clients send no more of a message than this before it is taken.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Calls of one connection at one time.
const STREAMS: u32 = 256;
/// What a client may say of itself with a call.
const HEADER_BYTES: u32 = 64 << 10;
/// A client whose machine or network is gone says nothing; it is asked after this much silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How long calls that were cancelled at the deadline of a stop may take to end.
const LAST_MOMENT: Duration = Duration::from_secs(5);

impl Shared {
    /// Without an identity, only clients on this machine are served.
    ///
    /// # Errors
    /// `F0000` where the identity, or what is to be trusted, cannot be used.
    pub fn new(
        entrance: Arc<Entrance>,
        identity: Option<&Identity>,
        authorities: Option<&tls::Clients>,
        limits: Limits,
    ) -> Result<Arc<Shared>> {
        let acceptor = identity.map(|it| Acceptor::new(it, authorities, &[b"h2"])).transpose()?;
        // Of this start alone: what is held under it does not outlive it either.
        let secret: [u8; 32] = rand::random();
        Ok(Arc::new(Shared {
            clients: Arc::new(Clients::new(
                &entrance,
                Duration::from_millis(limits.token_lifetime_ms),
                limits.message_bytes,
            )),
            entrance,
            acceptor,
            sealer: Sealer::new(&secret)?,
            limits,
            deadline: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }
}

/// Serves clients until `shutdown`; returns when the last call has ended.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, shutdown: CancellationToken) {
    let service = FlightServiceServer::new(Service::new(Arc::clone(&shared)))
        .max_decoding_message_size(shared.limits.message_bytes)
        .max_encoding_message_size(usize::MAX);
    let router = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_AFTER))
        .http2_keepalive_timeout(Some(ANSWERED_WITHIN))
        .layer(Gate::new(Arc::clone(&shared)))
        .add_service(Whole::new(service, Arc::clone(&shared.entrance.engine)));
    let accepted = listener::accept(listener, Arc::clone(&shared), shutdown.clone());
    let serving = router.serve_with_incoming_shutdown(accepted, shutdown.clone().cancelled_owned());
    let sweeping = Arc::clone(&shared.clients).sweep(shutdown.clone());
    let stop = async {
        shutdown.cancelled().await;
        tokio::time::sleep(Duration::from_millis(shared.limits.stop_timeout_ms)).await;
        shared.deadline.cancel();
        tokio::time::sleep(LAST_MOMENT).await;
    };
    let work = async {
        tokio::select! {
            served = serving => {
                if let Err(error) = served {
                    tracing::error!(%error, "Flight is not served any more");
                }
            }
            // It goes on for as long as calls may come.
            () = async { sweeping.await; std::future::pending().await } => {}
        }
        // Commits whose client is gone are commits.
        shared.tasks.close();
        shared.tasks.wait().await;
    };
    tokio::select! {
        () = work => {}
        () = stop => tracing::warn!("calls did not stop in time"),
    }
    shared.clients.end_all();
}
