//! The gate that every call goes through, before anything of it but its metadata is read.
//!
//! What it guarantees: who is not known sends no message: what a message may hold is kept for clients.
//! What it does not: a handshake is let through, whose message is not read either.
//! On failure: the status of what the authentication says.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use kho_catalog::error::{Kind, Result};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tower_layer::Layer;

use super::Shared;
use super::authenticate;
use super::client::Client;
use super::error::{SQLSTATE, bug, status};
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
                let peer = request.extensions().get::<Peer>().cloned();
                match known(&shared, &metadata, peer).await {
                    Ok(known) => request.extensions_mut().insert(known),
                    Err(error) => return Ok(status(&error).into_http()),
                };
            }
            let mut response = inner.call(request).await?;
            tell_state(response.headers_mut());
            Ok(response)
        })
    }
}

async fn known(shared: &Shared, metadata: &MetadataMap, peer: Option<Peer>) -> Result<Known> {
    let peer = peer.ok_or_else(bug)?;
    let (client, renewed) = authenticate::known(shared, metadata, &peer).await?;
    peer.is_known.store(true, Ordering::Relaxed);
    Ok(Known { client, renewed })
}

/// What the transport refuses by itself has a SQLSTATE, too.
fn tell_state(headers: &mut http::HeaderMap) {
    let Some(code) = headers.get("grpc-status").filter(|code| code.as_bytes() != b"0") else {
        return;
    };
    if headers.contains_key(SQLSTATE) {
        return;
    }
    let kind = match Code::from_bytes(code.as_bytes()) {
        Code::OutOfRange | Code::ResourceExhausted => Kind::ProgramLimitExceeded,
        Code::Unimplemented => Kind::FeatureNotSupported,
        Code::Cancelled | Code::DeadlineExceeded => Kind::QueryCanceled,
        _ => Kind::ProtocolViolation,
    };
    headers.insert(SQLSTATE, http::HeaderValue::from_static(kind.sqlstate()));
}
