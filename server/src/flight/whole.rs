//! Requests whose bodies end where the client ended them.
//!
//! What it guarantees: a body that breaks off, by a client that cancels its call or is gone, ends with
//! an error, whatever the transport makes of it.
//!
//! # Why
//! tonic takes a call that its client cancelled for one whose stream is at its end, and hyper does the
//! same for one kind of reset. A half of a load would be taken for the whole of it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// A service whose requests are whole, or fail.
#[derive(Clone)]
pub struct Whole<S>(pub S);

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
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> S::Future {
        self.0.call(request.map(|body| tonic::body::Body::new(WholeBody { body, is_over: false })))
    }
}

struct WholeBody {
    body: tonic::body::Body,
    is_over: bool,
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
            Some(Ok(frame)) => Some(Ok(frame)),
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
