//! Connections: TLS and plain text on one port.
//!
//! What it guarantees: plain text is served to this machine only; a connection over which nobody makes
//! himself known in time is closed; a handshake that fails or takes too
//! long ends that connection and holds up no other; how many are in their handshake, and how many
//! there are, is bounded.
//! What it does not: it knows no client. A call says whose it is.
//! On failure: the connection ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use kho_sql::session::Held;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::Shared;
use crate::authenticate::certificate::Certificate;
use crate::entrance::watch_over;

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Accepting fails where there is no file handle left: it comes back in its own time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is known of a connection, for the calls that come over it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// No other connection of this server has it.
    pub number: u64,
    pub address: SocketAddr,
    /// What the client came with, which the handshake has verified.
    pub certificate: Option<Arc<Certificate>>,
    /// There as long as the connection is.
    pub alive: Arc<()>,
    /// Whether a call of somebody came over it.
    pub is_known: Arc<AtomicBool>,
    /// What the messages that come over it are held beside.
    pub held: Arc<Held>,
}

/// A connection that may carry calls.
pub struct Connection {
    stream: Channel,
    peer: Peer,
    /// When it is closed, if nobody is known over it then.
    expiry: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

enum Channel {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// The connections that come in, until `shutdown`.
pub fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let (ready, waiting) = mpsc::channel(1);
    tokio::spawn(shutdown.run_until_cancelled_owned(accept_into(listener, shared, ready)));
    futures::stream::unfold(waiting, |mut waiting| async move {
        waiting.recv().await.map(|connection| (Ok(connection), waiting))
    })
}

async fn accept_into(listener: TcpListener, shared: Arc<Shared>, ready: mpsc::Sender<Connection>) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    let startups = Arc::new(Semaphore::new(shared.limits.startups));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let startup = Arc::clone(&startups).acquire_owned().await;
        let (Ok(place), Ok(startup)) = (place, startup) else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (shared, ready) = (Arc::clone(&shared), ready.clone());
        tokio::spawn(async move {
            let limit = Duration::from_millis(shared.limits.startup_timeout_ms);
            let opened = tokio::time::timeout(limit, open(stream, address, &shared, place)).await;
            drop(startup);
            match opened {
                Ok(Ok(connection)) => {
                    metrics::counter!("kho_flight_connections_total").increment(1);
                    // Where nobody takes it, the server is stopping.
                    let _ = ready.send(connection).await;
                }
                Ok(Err(error)) => tracing::info!(%error, peer = %address, "a connection is closed"),
                Err(_) => tracing::info!(peer = %address, "a handshake took too long"),
            }
        });
    }
}

async fn open(
    stream: TcpStream,
    address: SocketAddr,
    shared: &Shared,
    place: OwnedSemaphorePermit,
) -> io::Result<Connection> {
    watch_over(&stream);
    let mut first = [0];
    // Left in place: it is the first byte of whatever comes.
    let starts_tls = stream.peek(&mut first).await? == 1 && first == [TLS_HANDSHAKE];
    let mut certificate = None;
    let stream = if starts_tls {
        let acceptor = shared.acceptor.as_ref().ok_or_else(|| refused("there is no TLS"))?;
        let stream = acceptor.current().accept(stream).await?;
        let own = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        certificate = own.and_then(|own| Certificate::read(own)).map(Arc::new);
        Channel::Encrypted(Box::new(stream))
    } else if address.ip().to_canonical().is_loopback() {
        Channel::Plain(stream)
    } else {
        return Err(refused("connections without encryption are accepted from this machine only"));
    };
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let (alive, is_known) = (Arc::new(()), Arc::default());
    let held = Arc::new(shared.entrance.engine.held());
    let peer = Peer { number, address, certificate, alive, is_known, held };
    let limit = Duration::from_millis(shared.limits.startup_timeout_ms);
    let expiry = Some(Box::pin(tokio::time::sleep(limit)));
    Ok(Connection { stream, peer, expiry, _place: place })
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(expiry) = &mut self.expiry
            && expiry.as_mut().poll(cx).is_ready()
        {
            self.expiry = None;
            if !self.peer.is_known.load(Ordering::Relaxed) {
                return Poll::Ready(Err(refused("nobody was known over the connection in time")));
            }
        }
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Channel::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Channel::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Channel::Encrypted(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Channel::Plain(stream) => stream.is_write_vectored(),
            Channel::Encrypted(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Channel::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Channel::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Channel::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
