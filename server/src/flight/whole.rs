//! Requests whose bodies end where the client ended them, and whose messages are held within the memory
//! that there is.
//!
//! What it guarantees: a body that breaks off, by a client that cancels its call or is gone, ends with
//! an error, whatever the transport makes of it. The last message of each call counts as held, from its
//! first byte until the next one comes, since the transport takes all of its memory at once; where that is
//! not there, the body ends with `53200`.
//!
//! # Why
//! tonic takes a call that its client cancelled for one whose stream is at its end, and hyper does the
//! same for one kind of reset. A half of a load would be taken for the whole of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use kho_catalog::error::Result;
use kho_sql::session::{Engine, Held};
use tonic::Status;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::error::status;

/// Of a message.
const PREFIX_BYTES: usize = 5;

/// A service whose requests are whole, or fail.
#[derive(Clone)]
pub struct Whole<S> {
    service: S,
    engine: Arc<Engine>,
    /// The transport itself refuses what is larger.
    message_bytes: usize,
}

impl<S> Whole<S> {
    pub fn new(service: S, engine: Arc<Engine>, message_bytes: usize) -> Whole<S> {
        Whole { service, engine, message_bytes }
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
        let frames = Frames::new(self.engine.held(), self.message_bytes);
        let whole = |body| tonic::body::Body::new(WholeBody { body, is_over: false, frames });
        self.service.call(request.map(whole))
    }
}

struct WholeBody {
    body: tonic::body::Body,
    is_over: bool,
    frames: Frames,
}

/// Where one message ends and the next one begins, in gRPC's own form: a byte, four of the length, and as
/// many as that says.
struct Frames {
    held: Held,
    message_bytes: usize,
    prefix: [u8; PREFIX_BYTES],
    /// How much of it has come.
    prefix_bytes: usize,
    /// How much of the message is to come.
    left_bytes: usize,
}

impl Frames {
    fn new(held: Held, message_bytes: usize) -> Frames {
        Frames { held, message_bytes, prefix: [0; PREFIX_BYTES], prefix_bytes: 0, left_bytes: 0 }
    }

    fn pass(&mut self, mut data: &[u8]) -> Result<()> {
        while let Some((first, rest)) = data.split_first() {
            if self.left_bytes > 0 {
                let passed = self.left_bytes.min(data.len());
                self.left_bytes -= passed;
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
                self.held.hold(self.left_bytes.min(self.message_bytes))?;
            }
        }
        Ok(())
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
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
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
