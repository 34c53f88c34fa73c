//! The gate that every call goes through, before anything of it but its metadata is read.
//!
//! What it guarantees: who is not known sends no message: what a message may hold is kept for clients.
//! What it does not: a handshake is let through, whose message is not read either.
//! On failure: the status of what the authentication says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tower_layer::Layer;

use super::Shared;
use super::authenticate;
use super::client::Client;
use super::error::{bug, status};
use super::listener::Peer;

const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// Whose a call is.
#[derive(Clone)]
pub struct Known {
    pub client: Arc<Client>,
    /// A bearer token that the client is to use from now on.
    pub renewed: Option<String>,
}

/// The gate of one server.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

/// What is behind it.
#[derive(Clone)]
pub struct Behind<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl Gate {
    pub fn new(shared: Arc<Shared>) -> Gate {
        Gate { shared }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Behind<S>;

    fn layer(&self, inner: S) -> Behind<S> {
        Behind { inner, shared: Arc::clone(&self.shared) }
    }
}

impl<S> Service<http::Request<Body>> for Behind<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that is ready is the one to be called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if request.uri().path() != HANDSHAKE {
                let metadata = MetadataMap::from_headers(request.headers().clone());
                let known = match request.extensions().get::<Peer>() {
                    Some(peer) => authenticate::known(&shared, &metadata, peer).await,
                    None => Err(bug()),
                };
                match known {
                    Ok((client, renewed)) => {
                        if let Some(peer) = request.extensions().get::<Peer>() {
                            peer.is_known.store(true, Ordering::Relaxed);
                        }
                        request.extensions_mut().insert(Known { client, renewed });
                    }
                    Err(error) => return Ok(status(&error).into_http()),
                }
            }
            inner.call(request).await
        })
    }
}
