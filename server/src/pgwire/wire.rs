//! The bytes of one connection: whole messages in, whole messages out, both bounded.
//!
//! What it guarantees: nothing is sent but whole messages; at most one message, or
//! [`READ_AHEAD_BYTES`] of pipelined ones, is held unread; while the server works for the client it
//! keeps reading, so that it notices at once that the client is gone.
//! What it does not: it does not time out; whoever waits does.
//! On failure: [`Stop`] says whether the statement or the connection is over.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt as _;
use kho_catalog::error::{Error, Kind};
use kho_sql::outcome::Deadline;
use pgwire::messages::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::pgwire::frontend::{Frame, take_frame};

/// What is sent, once so much is waiting to be sent.
pub const FLUSH_BYTES: usize = 64 * 1024;
/// How much may be read before its turn while a statement runs.
pub const READ_AHEAD_BYTES: usize = 1024 * 1024;

const READ_BYTES: usize = 16 * 1024;
/// A buffer that grew beyond this for one message is given back after it.
const KEPT_BYTES: usize = 1024 * 1024;
/// How long a statement may take to end once its client is gone, before it is dropped.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long and how much of what a refused client still sends is passed over, so that it gets to
/// read why: closing at once would reset the connection under the message.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Why work for a client stopped.
#[derive(Debug)]
pub enum Stop {
    /// The statement failed; the connection goes on.
    Failed(Error),
    /// The client is told, and the connection ends.
    Fatal(Error),
    /// There is nobody left to tell.
    Gone,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        tracing::debug!(%error, "the connection broke");
        Stop::Gone
    }
}

/// One connection's two directions.
pub struct Wire {
    reader: Reader,
    writer: Writer,
    inbound: BytesMut,
    /// Whole messages that wait to be sent.
    pub out: BytesMut,
    limit_bytes: usize,
    at_end: bool,
}

impl Wire {
    pub fn new(reader: Reader, writer: Writer, limit_bytes: usize) -> Wire {
        let (inbound, out) = (BytesMut::new(), BytesMut::new());
        Wire { reader, writer, inbound, out, limit_bytes, at_end: false }
    }

    /// The most bytes a message may have from now on.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// The directions themselves, for what comes before there are messages; nothing of them was
    /// read ahead as long as [`Wire::next`] was not called.
    pub fn directions(&mut self) -> (&mut Reader, &mut Writer) {
        (&mut self.reader, &mut self.writer)
    }

    /// The next message. Everything that waits is sent before it is waited for. Dropping the future
    /// loses nothing.
    ///
    /// # Errors
    /// `Fatal` where the stream of messages is lost, `Gone` at its end.
    pub async fn next(&mut self) -> Result<Frame, Stop> {
        loop {
            let frame = take_frame(&mut self.inbound, self.limit_bytes).map_err(Stop::Fatal)?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            self.flush().await?;
            if self.at_end || !self.read().await {
                return Err(Stop::Gone);
            }
        }
    }

    /// What was read before its turn.
    pub fn unread(&self) -> &[u8] {
        &self.inbound
    }

    /// Reads ahead while something else is going on; returns only when the client is gone.
    pub async fn watch(&mut self) {
        while !self.at_end && self.inbound.len() < self.read_ahead_bytes() {
            self.read().await;
        }
        if !self.at_end {
            std::future::pending::<()>().await;
        }
    }

    /// Does `work` while watching; where the client goes, `stop` is given to the work and it has a
    /// moment to end well.
    ///
    /// # Errors
    /// `Gone`; what the work said is lost then. `Fatal` where the work hit a bug: what it worked on
    /// is not to be trusted any more, but nobody else is concerned.
    pub async fn attend<T>(
        &mut self,
        stop: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, Stop> {
        let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
        tokio::select! {
            biased;
            done = &mut work => return done.map_err(|_| Stop::Fatal(bug())),
            () = self.watch() => {}
        }
        stop.cancel();
        if tokio::time::timeout(FAREWELL, work).await.is_err() {
            tracing::warn!("a statement whose client is gone did not stop in time and was dropped");
        }
        Err(Stop::Gone)
    }

    /// Appends a message.
    ///
    /// # Errors
    /// `Fatal` where it cannot be written down: half of it may be in the buffer.
    pub fn put(&mut self, message: &impl Message) -> Result<(), Stop> {
        message.encode(&mut self.out).map_err(|error| {
            Stop::Fatal(Error::internal("a message cannot be encoded").with_source(error))
        })
    }

    /// Sends what waits, reading ahead meanwhile: a client that writes before it reads must not
    /// make both sides wait. Dropping the future loses nothing.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let may_read = !self.at_end && self.inbound.len() < self.read_ahead_bytes();
            let Wire { reader, writer, inbound, out, at_end, .. } = self;
            inbound.reserve(if may_read { READ_BYTES } else { 0 });
            tokio::select! {
                biased;
                written = writer.write_buf(out) => {
                    if written? == 0 {
                        return Err(io::ErrorKind::WriteZero.into());
                    }
                }
                read = reader.read_buf(inbound), if may_read => {
                    *at_end = !matches!(read, Ok(1..));
                }
            }
        }
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        self.writer.flush().await
    }

    /// Sends what waits if it is enough to be worth it; stops waiting when `stop` says so, or when
    /// the time of the statement is over.
    ///
    /// # Errors
    /// `57014` when stopped, `Gone` where the connection broke.
    pub async fn flush_if_full(
        &mut self,
        stop: &CancellationToken,
        deadline: &Deadline,
    ) -> Result<(), Stop> {
        if self.out.len() < FLUSH_BYTES {
            return Ok(());
        }
        tokio::select! {
            biased;
            sent = self.flush() => Ok(sent?),
            () = stop.cancelled() => Err(canceled().into()),
            error = deadline.passed() => Err(error.into()),
        }
    }

    /// Sends what waits and closes, passing over what the client still sends without looking at it.
    pub async fn close(mut self) {
        let goodbye = async {
            self.flush().await?;
            self.writer.shutdown().await?;
            let mut passed_over = 0;
            while !self.at_end && passed_over < LINGER_BYTES {
                self.inbound.clear();
                self.read().await;
                passed_over += self.inbound.len();
            }
            io::Result::Ok(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(LINGER, goodbye).await {
            tracing::debug!(%error, "the connection broke while it was closed");
        }
    }

    /// Before the login the limit of a message is far lower, and so is what may be pipelined.
    fn read_ahead_bytes(&self) -> usize {
        READ_AHEAD_BYTES.min(self.limit_bytes)
    }

    /// Reads once; whether there was something. An error counts as the end.
    async fn read(&mut self) -> bool {
        self.inbound.reserve(READ_BYTES);
        let read = self.reader.read_buf(&mut self.inbound).await;
        self.at_end = !matches!(read, Ok(1..));
        !self.at_end
    }
}

/// What a statement that panicked says; the panic hook has the rest.
pub fn bug() -> Error {
    metrics::counter!("kho_pgwire_panics_total").increment(1);
    Error::internal("the statement ran into a bug of the server")
        .with_hint("The server's log says more; please report it.")
}

/// What a cancelled statement says.
pub fn canceled() -> Error {
    Error::new(Kind::QueryCanceled, "canceling statement due to user request")
}
