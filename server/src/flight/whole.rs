//! Requests whose bodies end where the client ended them, and whose messages are held within the memory
//! that there is.
//!
//! What it guarantees: a body that breaks off, by a client that cancels its call or is gone, ends with
//! an error, whatever the transport makes of it. Of a message that is not small every byte counts as held
//! from when it has come until as much of the next one has; a connection's messages together are held
//! within the memory that one statement may have. Where that is not there, the body ends with `53200`, and
//! one that stops in the middle of a message ends soon.
//! What it does not: it believes no length that a client says. The transport sets as much of the address
//! space aside; memory is taken by what comes.
//!
//! # Why
//! tonic takes a call that its client cancelled for one whose stream is at its end, and hyper does the
//! same for one kind of reset. A half of a load would be taken for the whole of it.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use kho_catalog::error::{Error, Kind, Result};
use kho_sql::session::{Engine, Held};
use tokio::time::Sleep;
use tonic::Status;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::error::status;
use super::listener::Peer;

/// Of a message.
const PREFIX_BYTES: usize = 5;
/// Messages up to here are not counted: who has no memory left can still say so.
const SMALL_BYTES: usize = 64 << 10;
/// Within a message the next bytes come sooner than that.
const PAUSE: Duration = Duration::from_secs(30);

/// A service whose requests are whole, or fail.
#[derive(Clone)]
pub struct Whole<S> {
    service: S,
    engine: Arc<Engine>,
}

impl<S> Whole<S> {
    pub fn new(service: S, engine: Arc<Engine>) -> Whole<S> {
        Whole { service, engine }
    }
}

impl<S: NamedService> NamedService for Whole<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<tonic::body::Body>> for Whole<S>
where
    S: Service<http::Request<tonic::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> S::Future {
        let held = match request.extensions().get::<Peer>() {
            Some(peer) => peer.held.beside(),
            None => self.engine.held(),
        };
        let frames = Frames::new(held);
        let whole = |body| tonic::body::Body::new(WholeBody::new(body, frames, PAUSE));
        self.service.call(request.map(whole))
    }
}

struct WholeBody {
    body: tonic::body::Body,
    is_over: bool,
    frames: Frames,
    /// Until when the next bytes of a message must be there, and how long that is.
    pause: Option<Pin<Box<Sleep>>>,
    longest_pause: Duration,
}

impl WholeBody {
    fn new(body: tonic::body::Body, frames: Frames, longest_pause: Duration) -> WholeBody {
        WholeBody { body, is_over: false, frames, pause: None, longest_pause }
    }

    /// Whether the client has paused for too long, within a message.
    fn has_stopped(&mut self, context: &mut Context<'_>) -> bool {
        if !self.frames.is_within() {
            return false;
        }
        let longest = self.longest_pause;
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(longest)));
        pause.as_mut().poll(context).is_ready()
    }
}

/// Where one message ends and the next one begins, in gRPC's own form: a byte, four of the length, and as
/// many as that says.
struct Frames {
    held: Held,
    prefix: [u8; PREFIX_BYTES],
    /// How much of it has come.
    prefix_bytes: usize,
    /// How much of the message is to come.
    left_bytes: usize,
    /// How much of it has come.
    came_bytes: usize,
    /// Of the message before, which may be in use.
    last_bytes: usize,
}

impl Frames {
    fn new(held: Held) -> Frames {
        let prefix = [0; PREFIX_BYTES];
        Frames { held, prefix, prefix_bytes: 0, left_bytes: 0, came_bytes: 0, last_bytes: 0 }
    }

    fn is_within(&self) -> bool {
        self.left_bytes > 0 || self.prefix_bytes > 0
    }

    fn pass(&mut self, mut data: &[u8]) -> Result<()> {
        while let Some((first, rest)) = data.split_first() {
            if self.left_bytes > 0 {
                let passed = self.left_bytes.min(data.len());
                self.came(passed)?;
                data = data.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.prefix.get_mut(self.prefix_bytes) {
                *place = *first;
            }
            self.prefix_bytes += 1;
            data = rest;
            if let [_, length @ ..] = self.prefix
                && self.prefix_bytes == PREFIX_BYTES
            {
                self.prefix_bytes = 0;
                self.left_bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.last_bytes = std::mem::take(&mut self.came_bytes);
            }
        }
        Ok(())
    }

    fn came(&mut self, bytes: usize) -> Result<()> {
        self.left_bytes -= bytes;
        self.came_bytes += bytes;
        let held = match self.left_bytes {
            0 => self.came_bytes,
            _ => self.came_bytes.max(self.last_bytes),
        };
        self.held.hold(if held > SMALL_BYTES { held } else { 0 })
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending if self.has_stopped(context) => {
                self.is_over = true;
                let error = Error::new(Kind::ConnectionFailure, "a message stopped in its middle");
                return Poll::Ready(Some(Err(status(&error))));
            }
            Poll::Pending => return Poll::Pending,
        };
        self.pause = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let passed = frame.data_ref().map_or(Ok(()), |data| self.frames.pass(data));
                Some(passed.map(|()| frame).map_err(|error| {
                    self.is_over = true;
                    status(&error)
                }))
            }
            None if self.body.is_end_stream() => None,
            None | Some(Err(_)) => {
                self.is_over = true;
                Some(Err(Status::aborted("the client's stream broke off")))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
